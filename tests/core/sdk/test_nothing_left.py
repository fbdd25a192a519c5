"""What a closed connection leaves behind: nothing, whatever it was doing; and what a room costs its publishers."""

from __future__ import annotations

import gc
from collections import Counter

import pytest

from yamabiko.codecs.plain import PlainCodec
from yamabiko.codecs.sdk_json import SdkJsonCodec
from yamabiko.codecs.sdk_protobuf import SDK_PROTOBUF, SdkProtobufCodec
from yamabiko.codecs.sdk_schema import schema
from yamabiko.core.errors import NO_PONG, Close
from yamabiko.core.identity import Grant, Identity
from yamabiko.core.sdk import messages as sdk
from yamabiko.core.sdk.connection import SdkConnection

ENDS = {
    "says goodbye": lambda peer: peer.leaves(),
    "is lost": lambda peer: peer.leaves(is_lost=True),
    "does not answer": lambda peer: peer.connection.close(NO_PONG),
    "is thrown out": lambda peer: peer.connection.close(Close(3503, "force disconnect")),
    "breaks the rules": lambda peer: peer.says({"send": {}}),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_a_closed_connection_is_held_by_nobody(house, end):
    house.rules.presence = house.passing.presence = True
    house.application.tokens |= {
        "t": Identity(user="alice", id="1", name="alice", expires_in_seconds=3600.0, grants={"passing": Grant()}),
        "s": Grant(expires_in_seconds=3600.0),
    }
    peer = house.sdk_newcomer()
    peer.connects("t")
    peer.joins("room", token="s", join_leave=True)
    house.runtime.wind(1)
    assert connections_of(house) == 1
    end(peer)
    house.runtime.wind(20)
    assert house.is_empty
    assert len(house.node._presences) == 0
    del peer
    assert connections_of(house) == 0


def connections_of(house):
    """Count the connections of a house that somebody still holds."""
    gc.collect()
    return sum(type(each) is SdkConnection and each.node is house.node for each in gc.get_objects())


def test_time_stands_still_where_nobody_is(house):
    peer = house.sdk_peer("alice", "room")
    peer.leaves()
    house.runtime.wind(60)
    assert house.runtime._timers == []


def test_closing_twice_is_closing_once(house):
    peer = house.sdk_peer("alice", "room")
    peer.connection.close(NO_PONG)
    peer.connection.close(NO_PONG)
    peer.leaves()
    assert peer.closes == [3012]
    assert len(peer.pushes) == 1


def test_hooks_of_a_room_run_once_for_each_membership(house):
    peer = house.sdk_peer("alice", "room")
    peer.asks(unsubscribe={"channel": "room"})
    house.runtime.turn()
    peer.joins("room")
    peer.leaves()
    house.runtime.turn()
    assert house.rules.told == [("on_join", "alice"), ("on_leave", "alice")] * 2


class Counting:
    """Counts how often a codec encodes a publication."""

    def __init__(self, monkeypatch):
        self.encoded = Counter()
        for codec in (PlainCodec, SdkJsonCodec, SdkProtobufCodec):
            monkeypatch.setattr(codec, "encode", self._counting(codec.__name__, codec.encode))

    def _counting(self, name, encode):
        def counting(codec, event, room=""):
            if not isinstance(event, sdk.Reply):
                self.encoded[name] += 1
            return encode(codec, event, room)

        return counting


def test_a_thousand_members_of_three_kinds_cost_three_encodings(house, monkeypatch):
    json_peers = [house.sdk_peer("", "room") for _ in range(400)]
    plain = [house.member() for _ in range(300)]
    protobuf = [house.sdk_newcomer(codec=SDK_PROTOBUF) for _ in range(300)]
    for peer in protobuf:
        peer.sends(frame(sdk_command(connect=True)))
        peer.sends(frame(sdk_command(subscribe="room")))
    counting = Counting(monkeypatch)
    house.publish({"a": [1]})
    assert counting.encoded == {"PlainCodec": 1, "SdkJsonCodec": 1, "SdkProtobufCodec": 1}
    assert [each.messages for each in json_peers] == [[{"a": [1]}]] * 400
    assert [each.messages for each in plain] == [[{"a": [1]}]] * 300
    frames = {peer.transport.frames[-1].payload for peer in protobuf}
    assert len(frames) == 1
    assert b'{"a":[1]}' in frames.pop()


def sdk_command(*, connect=False, subscribe=""):
    command = schema().command(id=1)
    if connect:
        command.connect.SetInParent()
    else:
        command.subscribe.channel = subscribe
    return command.SerializeToString()


def frame(command):
    return bytes([len(command)]) + command
