"""What peers of the SDK protocol see of publications and members."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import Raw

from yamabiko.core.errors import BadRequest
from yamabiko.core.messages import Failed, Member, Position, PresenceChanged, Publication
from yamabiko.core.sdk.messages import NONE, ClientInfo, Extras, Reply
from yamabiko.core.sdk.views import client_info, publication_of, replies_of


def test_a_publication_has_what_was_published_with_it():
    extras = msgspec.json.encode(Extras(ClientInfo("42", "6f", Raw(b'{"a":1}')), {"a": "b"}))
    seen = publication_of(Publication(b'"x"', Position("e", 7), "Miko", extras))
    assert (bytes(seen.data), seen.offset, seen.tags, seen.delta) == (b'"x"', 7, {"a": "b"}, False)
    assert (seen.info.user, seen.info.client, bytes(seen.info.conn_info)) == ("42", "6f", b'{"a":1}')


def test_a_publication_of_the_server_without_history_is_its_data_alone():
    assert msgspec.json.encode(publication_of(Publication(b"0"))) == b'{"data":0}'


def test_a_member_is_its_client_its_user_and_what_is_said_of_them():
    seen = client_info(Member("6f", "42", "Miko", Raw(b"1"), Raw(b"2")))
    assert (seen.client, seen.user, bytes(seen.conn_info), bytes(seen.chan_info)) == ("6f", "42", b"1", b"2")


def test_of_a_member_nothing_is_said_in_nothing():
    seen = client_info(Member("6f", info=Raw(b"")))
    assert seen.conn_info is NONE
    assert seen.chan_info is NONE
    assert msgspec.json.encode(seen) == b'{"client":"6f"}'


def test_who_left_is_told_after_who_joined():
    changed = PresenceChanged(joined=(Member("a"), Member("b")), left=(Member("c"),))
    pushes = [reply.push for reply in replies_of(changed, "room:1")]
    assert [push.channel for push in pushes] == ["room:1"] * 3
    assert [(push.join or push.leave).info.client for push in pushes] == ["a", "b", "c"]
    assert [push.join is None for push in pushes] == [False, False, True]


def test_a_reply_is_itself():
    reply = Reply(id=1)
    assert list(replies_of(reply, "")) == [reply]


def test_what_only_the_room_protocol_knows_is_no_reply():
    with pytest.raises(TypeError, match="Failed"):
        replies_of(Failed(BadRequest()), "room:1")
