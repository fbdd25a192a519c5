"""What each method of the HTTP API does and answers; every answer is one that the OpenAPI document describes."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from time import time
from typing import Any

import pytest
from django.test import AsyncClient, override_settings

from tests.core.fakes import FakeTransport
from tests.django.api_contract import KEY, SETTINGS, check_answer
from yamabiko import apublish
from yamabiko.codecs.sdk_json import SDK_JSON
from yamabiko.core import orders
from yamabiko.core.errors import NotAvailable, PublishFailed
from yamabiko.core.identity import Identity
from yamabiko.core.sdk.connection import SdkConnection
from yamabiko.django.api.messages import MOST_CHANNELS, MOST_COMMANDS
from yamabiko.django.service import service

PATIENCE_SECONDS = 10


@pytest.fixture(autouse=True)
def _with_api() -> Iterator[None]:
    with override_settings(ROOT_URLCONF="yamabiko.urls", YAMABIKO=SETTINGS):
        yield


@pytest.fixture(autouse=True)
async def _at_home(_with_api: None) -> AsyncIterator[None]:
    """Have the rooms on the test's own loop."""
    service().serve()
    service().node.application = Acquainted(service().node.application)
    yield
    await service().close()


async def post(method: str, request: Any) -> Any:
    body = json.dumps(request)
    response = await AsyncClient().post(f"/api/{method}", body, "application/json", headers={"X-API-Key": KEY})
    assert response.status_code == 200
    return response.json()


async def ask(method: str, /, **request: Any) -> Any:
    """Return the result of a request, or the code of its error."""
    answer = await post(method, request)
    check_answer(method, 200, answer)
    if method == "batch" and "replies" in answer:
        return answer["replies"]
    return answer["result"] if "result" in answer else answer["error"]["code"]


class Acquainted:
    """The site's application, to which visitors say themselves who they are."""

    def __init__(self, application: Any) -> None:
        self._application = application

    def __getattr__(self, name: str) -> Any:
        return getattr(self._application, name)

    async def identify(self, visitor: Identity, token: str) -> Identity:
        return visitor


class Member(FakeTransport):
    """A client of the SDK protocol: who it is, and what it has been sent."""

    def __init__(self, user: str, name: str) -> None:
        super().__init__()
        identity = Identity(user=None, id=user, name=name)
        self.connection: SdkConnection = service().node.connect_sdk(SDK_JSON, identity)
        self._has_news = asyncio.Event()

    def write(self, *frames: Any) -> None:
        super().write(*frames)
        self._has_news.set()

    def close(self, close: Any) -> None:
        super().close(close)
        self._has_news.set()

    async def says(self, **command: Any) -> Member:
        await self.connection.receive(json.dumps({"id": 1, **command}))
        return self

    async def joins(self, room: str) -> Member:
        return await self.says(subscribe={"channel": room})

    def pushes(self, kind: str) -> list[Any]:
        """Return the pushes of a kind so far."""
        sent = [json.loads(line) for frame in self.frames for line in frame.payload.splitlines()]
        return [each["push"] for each in sent if kind in each.get("push", {})]

    async def pushed(self, kind: str, number: int = 1) -> list[Any]:
        """Return the first pushes of a kind, as soon as there are so many."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(found := self.pushes(kind)) < number:
                self._has_news.clear()
                await self._has_news.wait()
        return found

    @property
    def client(self) -> str:
        return self.connection.client

    @property
    def is_closed_with(self) -> tuple[int, str] | None:
        return (self.closes[0].code, self.closes[0].reason) if self.closes else None


async def connected(user: str, *, name: str = "") -> Member:
    member = Member(user, name)
    await member.connection.go_live(member)
    return await member.says(connect={})


async def joined(room: str, user: str = "1", **options: Any) -> Member:
    return await (await connected(user, **options)).joins(room)


async def kept(room: str) -> list[Any]:
    history = await ask("history", channel=room, limit=-1)
    return [publication["data"] for publication in history["publications"]]


async def test_a_publication_reaches_members_and_history() -> None:
    member = await joined("kept/a")
    first = await ask("publish", channel="kept/a", data={"text": "山\u2028"}, tags={"kind": "a"})
    second = await ask("publish", channel="kept/a", data=None)
    assert (first["offset"], second["offset"], len(first["epoch"]) > 0) == (1, 2, True)
    pushes = await member.pushed("pub", 2)
    assert [push["pub"] for push in pushes] == [
        {"data": {"text": "山\u2028"}, "offset": 1, "tags": {"kind": "a"}},
        {"data": None, "offset": 2},
    ]
    assert await ask("history", channel="kept/a", limit=-1) == {
        "publications": [
            {"data": {"text": "山\u2028"}, "offset": 1, "tags": {"kind": "a"}},
            {"data": None, "offset": 2},
        ],
        **second,
    }


async def test_without_history_a_publication_has_no_position() -> None:
    member = await joined("open/a")
    assert await ask("publish", channel="open/a", data=1) == {}
    assert (await member.pushed("pub"))[0]["pub"] == {"data": 1}


async def test_a_publication_may_skip_history() -> None:
    member = await joined("kept/a")
    assert await ask("publish", channel="kept/a", data=1, skip_history=True) == {}
    assert (await member.pushed("pub"))[0]["pub"] == {"data": 1}
    assert await kept("kept/a") == []


async def test_data_stays_as_it_came_on_one_line() -> None:
    member = await joined("open/a")
    body = b'{"channel": "open/a", "data": {"b" : 1.50,\r\n"a":[ 1e2 ]}}'
    await AsyncClient().generic("POST", "/api/publish", body, headers={"X-API-Key": KEY})
    await member.pushed("pub")
    assert b'"data":{"b":1.50,"a":[1e2]}' in member.frames[-1].payload


async def test_data_may_come_in_base64() -> None:
    assert (await ask("publish", channel="kept/a", b64data=b64encode(b'{"a": 1}').decode()))["offset"] == 1
    await ask("publish", channel="kept/a", data=1, b64data=b64encode(b"2").decode())
    await ask("publish", channel="kept/a", data=3, b64data="")
    await ask("publish", channel="kept/a", data=4, b64data=None)
    assert await kept("kept/a") == [{"a": 1}, 2, 3, 4]


@pytest.mark.parametrize(
    "text", ["", "e30", "é", "e30=\n", b64encode(b"no JSON").decode(), b64encode(b"\xff").decode()]
)
async def test_base64_that_is_no_json_is_107(text: str) -> None:
    assert await ask("publish", channel="kept/a", b64data=text) == 107


async def test_what_clients_may_not_publish_backends_may_not_either() -> None:
    deep: Any = 1
    for _ in range(65):
        deep = [deep]
    assert await ask("publish", channel="kept/a", data=deep) == 107
    assert await ask("publish", channel="kept/a", data="\0") == 107
    assert await ask("publish", channel="kept/a", data=1, tags={"a": "\0"}) == 107
    assert await kept("kept/a") == []


async def test_a_message_too_large_for_members_is_107(settings: Any) -> None:
    half = service().limits.backlog_bytes // 2
    assert (await ask("publish", channel="kept/a", data="x" * (half - 2)))["offset"] == 1
    assert await ask("publish", channel="kept/a", data="x" * (half - 1)) == 107
    assert await ask("publish", channel="kept/a", data="x" * (half - 10), tags={"a": "bcd"}) == 107


async def test_the_same_key_publishes_once_and_is_nobody_elses() -> None:
    first = await ask("publish", channel="kept/a", data=1, idempotency_key="k")
    assert await ask("publish", channel="kept/a", data=2, idempotency_key="k") == first
    await apublish("kept/a", 3, idempotency_key="k")
    await apublish("kept/a", 4, idempotency_key="api:k")
    await ask("publish", channel="kept/a", data=5, idempotency_key="")
    await ask("publish", channel="kept/b", data=6, idempotency_key="k")
    assert (await kept("kept/a"), await kept("kept/b")) == ([1, 3, 4, 5], [6])


@pytest.mark.parametrize("key", ["a\nb", "\0", "\x7f", "k" * 256, "山" * 86])
async def test_a_key_that_cannot_be_is_107(key: str) -> None:
    assert await ask("publish", channel="kept/a", data=1, idempotency_key=key) == 107


async def test_versions_are_not_offered_and_deltas_have_no_effect() -> None:
    assert await ask("publish", channel="kept/a", data=1, version=1) == 108
    assert await ask("broadcast", channels=["kept/a"], data=1, version=1) == 108
    assert await ask("publish", channel="kept/a", data=1, version=0, version_epoch="x", delta=True, more=[1]) != 108
    assert await kept("kept/a") == [1]


CHANNEL_METHODS = ["publish", "presence", "presence_stats", "history", "history_remove", "subscribe", "unsubscribe"]


@pytest.mark.parametrize("method", CHANNEL_METHODS)
async def test_a_room_must_be_one(method: str) -> None:
    async def refusal(channel: str) -> Any:
        return await ask(method, channel=channel, user="1", data=1)

    assert await refusal("nowhere") == 102
    impossible = ["a" * 256, "a\0", "e\u0301", "\u202e"] + ([""] if method != "unsubscribe" else [])
    assert [await refusal(channel) for channel in impossible] == [107] * len(impossible)


async def test_a_broadcast_is_answered_room_by_room() -> None:
    first = (await ask("publish", channel="kept/b", data=0))["epoch"]
    answers = (await ask("broadcast", channels=["open/a", "kept/b", "nowhere", "", "kept/b"], data=1))["responses"]
    assert [answer.get("result", answer.get("error", {}).get("code")) for answer in answers] == [
        {},
        {"offset": 2, "epoch": first},
        102,
        107,
        {"offset": 3, "epoch": first},
    ]


async def test_a_broadcast_with_a_key_publishes_once_in_each_room() -> None:
    for _ in range(2):
        await ask("broadcast", channels=["kept/a", "kept/b"], data=1, idempotency_key="k")
    assert (await kept("kept/a"), await kept("kept/b")) == ([1], [1])


async def test_a_broadcast_has_at_least_one_room_and_not_too_many() -> None:
    assert await ask("broadcast", channels=[], data=1) == 107
    assert await ask("broadcast", channels=["open/a"] * (MOST_CHANNELS + 1), data=1) == 107
    answer = await post("broadcast", {"channels": ["open/a"] * MOST_CHANNELS, "data": 1})
    assert answer == {"result": {"responses": [{"result": {}}] * MOST_CHANNELS}}
    assert await ask("broadcast", channels=["open/a"]) == 107


async def test_history_is_read_in_pages_from_a_position() -> None:
    for number in range(1, 6):
        await ask("publish", channel="kept/a", data=number)
    top = await ask("history", channel="kept/a")
    assert top["publications"] == []
    assert top["offset"] == 5

    async def read(**request: Any) -> list[Any]:
        answer = await ask("history", channel="kept/a", **request)
        assert (answer["offset"], answer["epoch"]) == (5, top["epoch"])
        return [publication["data"] for publication in answer["publications"]]

    assert await read(limit=0) == []
    assert await read(limit=None, since=None, reverse=None) == []
    assert await read(limit=2) == [1, 2]
    assert await read(limit=-1) == [1, 2, 3, 4, 5]
    assert await read(limit=-1, reverse=True) == [5, 4, 3, 2, 1]
    assert await read(limit=2, since={"offset": 2, "epoch": top["epoch"]}) == [3, 4]
    assert await read(limit=2, since={"offset": 3}) == [4, 5]
    assert await read(limit=2, since={"offset": 3}, reverse=True) == [2, 1]
    assert await ask("history", channel="kept/a", limit=1, since={"offset": 1, "epoch": "other"}) == 112


@pytest.mark.parametrize(
    "wrong", [{"limit": -2}, {"limit": 2**31}, {"since": {"offset": -1}}, {"since": {"offset": 2**53}}]
)
async def test_numbers_out_of_range_are_107(wrong: Any) -> None:
    assert await ask("history", channel="kept/a", **wrong) == 107


async def test_history_tells_which_client_published() -> None:
    member = await joined("kept/a", "7", name="bo")
    await member.says(publish={"channel": "kept/a", "data": 1})
    [publication] = (await ask("history", channel="kept/a", limit=1))["publications"]
    assert publication == {"data": 1, "offset": 1, "info": {"user": "7", "client": member.client}}


async def test_what_is_removed_from_history_is_gone_and_numbering_goes_on() -> None:
    before = await ask("publish", channel="kept/a", data=1)
    assert await ask("history_remove", channel="kept/a") == {}
    assert await kept("kept/a") == []
    assert await ask("publish", channel="kept/a", data=2) == {"offset": 2, "epoch": before["epoch"]}


async def test_where_nothing_is_kept_or_told_it_is_not_available() -> None:
    assert await ask("history", channel="open/a") == 108
    assert await ask("history_remove", channel="open/a") == 108
    assert await ask("presence", channel="open/a") == 108
    assert await ask("presence_stats", channel="open/a") == 108


async def test_presence_tells_who_is_there() -> None:
    assert await ask("presence", channel="kept/a") == {"presence": {}}
    assert await ask("presence_stats", channel="kept/a") == {"num_clients": 0, "num_users": 0}
    first, second, unknown = await connected("1"), await connected("1"), await connected("")
    await ask("subscribe", user="1", channel="kept/a", client=first.client, info={"seat": 3})
    await first.pushed("subscribe")
    await second.joins("kept/a")
    await unknown.joins("kept/a")
    assert (await ask("presence", channel="kept/a"))["presence"] == {
        first.client: {"user": "1", "client": first.client, "chan_info": {"seat": 3}},
        second.client: {"user": "1", "client": second.client},
        unknown.client: {"user": "", "client": unknown.client},
    }
    assert await ask("presence_stats", channel="kept/a") == {"num_clients": 3, "num_users": 2}


async def test_all_connections_of_a_user_are_subscribed_or_one() -> None:
    first, second, other = await connected("1"), await connected("1"), await connected("2")
    assert await ask("subscribe", user="1", channel="closed/a", data={"why": "won"}) == {}
    assert await first.pushed("subscribe") == [{"channel": "closed/a", "subscribe": {"data": {"why": "won"}}}]
    await second.pushed("subscribe")
    assert await ask("subscribe", user="1", channel="open/b", client=second.client, data=None) == {}
    assert (await second.pushed("subscribe", 2))[1] == {"channel": "open/b", "subscribe": {}}
    assert await ask("subscribe", user="1", channel="open/c", client=other.client) == {}
    assert [sorted(member.connection.rooms) for member in (first, second, other)] == [
        ["closed/a"],
        ["closed/a", "open/b"],
        [],
    ]


async def test_what_is_told_may_come_in_base64() -> None:
    member = await connected("1")
    data, info = b64encode(b'{"a": \n1}').decode(), b64encode(b'"seat 3"').decode()
    await ask("subscribe", user="1", channel="kept/a", b64data=data, b64info=info)
    assert (await member.pushed("subscribe"))[0]["subscribe"]["data"] == {"a": 1}
    [present] = (await ask("presence", channel="kept/a"))["presence"].values()
    assert present["chan_info"] == "seat 3"
    for name in ("b64data", "b64info"):
        assert await ask("subscribe", user="1", channel="kept/a", **{name: "no base64"}) == 107
        assert await ask("subscribe", user="1", channel="kept/a", **{name.removeprefix("b64"): "\0"}) == 107


async def test_what_was_missed_follows_a_subscription_that_says_since_when() -> None:
    positions = [await ask("publish", channel="kept/a", data=number) for number in range(3)]
    member = await connected("1")
    await ask("subscribe", user="1", channel="kept/a", recover_since=positions[0])
    assert [push["pub"]["data"] for push in await member.pushed("pub", 2)] == [1, 2]


async def test_a_subscription_lasts_until_its_time_and_not_if_that_is_over() -> None:
    heard = listen()
    assert await ask("subscribe", user="1", channel="kept/a", expire_at=1) == 110
    for expire_at in (int(time()) + 100, 0, None):
        await ask("subscribe", user="1", channel="kept/a", expire_at=expire_at)
    given = [order.expires_in_seconds for order in heard]
    assert given[0] == pytest.approx(100, abs=5)
    assert given[1:] == [None, None]


def listen() -> list[Any]:
    """Return what is ordered of all nodes from now on."""
    heard: list[Any] = []
    obey = service().node.users.obey

    def hear_and_obey(order: orders.UserOrder, now: float) -> None:
        heard.append(order)
        obey(order, now)

    service().node.users.obey = hear_and_obey
    return heard


async def test_a_user_is_taken_out_of_a_room_or_all_rooms() -> None:
    member, other = await connected("1"), await joined("open/a", "2")
    for room in ("open/a", "open/b", "kept/c"):
        await member.joins(room)
    assert await ask("unsubscribe", user="1", channel="open/a") == {}
    assert (await member.pushed("unsubscribe"))[0]["channel"] == "open/a"
    assert await ask("unsubscribe", user="1", channel="") == {}
    await member.pushed("unsubscribe", 3)
    assert (member.connection.rooms, list(other.connection.rooms)) == ({}, ["open/a"])


async def test_a_user_is_disconnected_with_a_code_and_some_clients_stay() -> None:
    first, second, third, other = await connected("1"), await connected("1"), await connected("1"), await connected("2")
    assert await ask("disconnect", user="1", client=first.client) == {}
    await first.pushed("disconnect")
    later = {"code": 4000, "reason": "come back later"}
    assert await ask("disconnect", user="1", whitelist=[second.client], disconnect=later) == {}
    assert (await third.pushed("disconnect"))[0]["disconnect"] == later
    assert [member.is_closed_with for member in (first, second, third, other)] == [
        (3503, "force disconnect"),
        None,
        (4000, "come back later"),
        None,
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"code": 2999},
        {"code": 5000},
        {"code": 0},
        {},
        {"code": 4000, "reason": "x" * 33},
        {"code": 4000, "reason": "é"},
    ],
)
async def test_a_code_or_reason_that_no_close_frame_can_have_is_107(wrong: Any) -> None:
    member = await connected("1")
    assert await ask("disconnect", user="1", disconnect=wrong) == 107
    assert member.is_closed_with is None


async def test_a_user_is_refreshed_until_a_time_or_for_ever_or_ends() -> None:
    heard = listen()
    member = await connected("1")
    assert await ask("refresh", user="1", expire_at=int(time()) + 100) == {}
    [push] = await member.pushed("refresh")
    assert push["refresh"]["expires"] is True
    assert push["refresh"]["ttl"] == pytest.approx(100, abs=5)
    await ask("refresh", user="1")
    assert (await member.pushed("refresh", 2))[1]["refresh"] == {}
    await ask("refresh", user="1", client="another")
    assert member.is_closed_with is None
    await ask("refresh", user="1", expired=True)
    assert (await member.pushed("disconnect"))[0]["disconnect"]["code"] == 3005
    await ask("refresh", user="1", expire_at=1)
    assert (heard[-1].expired, heard[-1].expires_in_seconds) == (True, None)


@pytest.mark.parametrize("method", ["subscribe", "unsubscribe", "disconnect", "refresh"])
async def test_whose_connections_are_meant_must_be_said(method: str) -> None:
    request = {"channel": "open/a"}
    member = await joined("open/b", "")
    assert await ask(method, user="", **request) == 107
    assert await ask(method, **request) == 107
    assert await ask(method, user=1, **request) == 107
    assert await ask(method, user="1", session="s", **request) == 108
    assert await ask(method, user="nobody", **request) == {}
    assert await ask(method, user="1", client="nobody", session="", **request) == {}
    assert list(member.connection.rooms) == ["open/b"]


async def test_channels_are_rooms_with_members() -> None:
    for room in ("open/a", "open/b", "kept/a"):
        await joined(room)
    await joined("open/a", "2")
    assert await ask("channels") == {
        "channels": {"open/a": {"num_clients": 2}, "open/b": {"num_clients": 1}, "kept/a": {"num_clients": 1}}
    }
    assert list((await ask("channels", pattern="kept/*"))["channels"]) == ["kept/a"]
    assert await ask("channels", pattern="nothing") == {"channels": {}}
    assert await ask("channels", pattern="*" * 256) == 107


async def test_info_tells_of_the_nodes() -> None:
    await joined("open/a")
    await (await joined("open/a")).joins("open/b")
    [node] = (await ask("info"))["nodes"]
    assert node.pop("uptime") >= 0
    assert all(isinstance(node.pop(name), str) for name in ("uid", "name", "version"))
    assert node == {"num_clients": 2, "num_users": 1, "num_subs": 3, "num_channels": 2}


async def test_there_are_no_extensions_to_call() -> None:
    assert await ask("rpc", method="roll", params={"sides": 6}) == 104
    assert await ask("rpc", method="") == 107


async def test_a_batch_is_answered_command_by_command_in_order() -> None:
    replies = await ask(
        "batch",
        commands=[
            {"publish": {"channel": "kept/a", "data": 1}},
            {"publish": {"channel": "nowhere", "data": 1}},
            {"history": {"channel": "kept/a", "limit": 1}, "presence": None},
            {"presence": {"channel": "kept/a"}},
            {"rpc": {"method": "x"}},
            {"info": {}},
        ],
    )
    assert [next(iter(reply)) for reply in replies] == ["publish", "error", "history", "presence", "error", "info"]
    assert replies[0]["publish"]["offset"] == replies[2]["history"]["offset"] == 1
    assert [replies[at]["error"]["code"] for at in (1, 4)] == [102, 104]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ({"publish": {"channel": 1}}, 107),
        ({"publish": {}, "info": {}}, 107),
        ({"publish": []}, 107),
        ({"publish": None}, 107),
        ({}, 107),
        ({"nothing": {}}, 104),
        ({"batch": {"commands": [{"publish": {"channel": "kept/a", "data": "nested"}}]}}, 104),
    ],
)
@pytest.mark.parametrize("parallel", [False, True])
async def test_a_command_that_cannot_be_spoils_no_other(command: Any, code: int, parallel: bool) -> None:
    good = {"publish": {"channel": "kept/a", "data": 1}}
    replies = await ask("batch", commands=[good, command, good], parallel=parallel)
    assert replies[1]["error"]["code"] == code
    assert "publish" in replies[0]
    assert "publish" in replies[2]
    assert await kept("kept/a") == [1, 1]


async def test_a_batch_in_parallel_is_answered_in_order_too() -> None:
    commands = [{"publish": {"channel": f"kept/{number}", "data": number}} for number in range(120)]
    replies = await ask("batch", commands=commands, parallel=True)
    assert [reply["publish"]["offset"] for reply in replies] == [1] * 120
    assert await kept("kept/119") == [119]


@pytest.mark.parametrize(("parallel", "order"), [(False, "12 12 12"), (None, "12 12 12"), (True, "111 222")])
async def test_commands_wait_for_one_another_unless_they_are_parallel(
    parallel: bool | None, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, steps = service().node.broker, ""
    publish = broker.publish

    async def publish_in_two_steps(*args: Any, **options: Any) -> Any:
        nonlocal steps
        steps += "1"
        await asyncio.sleep(0)
        steps += "2"
        return await publish(*args, **options)

    monkeypatch.setattr(broker, "publish", publish_in_two_steps)
    await ask("batch", commands=[{"publish": {"channel": "kept/a", "data": 1}}] * 3, parallel=parallel)
    assert steps == order.replace(" ", "")


async def test_a_batch_that_is_too_large_does_nothing() -> None:
    command = {"publish": {"channel": "kept/a", "data": 1}}
    assert await ask("batch", commands=[command] * (MOST_COMMANDS + 1)) == 107
    assert await kept("kept/a") == []
    assert len((await post("batch", {"commands": [{"info": {}}] * MOST_COMMANDS}))["replies"]) == MOST_COMMANDS
    assert await ask("batch", commands=[]) == []


async def test_text_that_is_no_utf_8_in_a_batch_is_told() -> None:
    body = b'{"commands": [{"presence": {"channel": "\xff"}}, {"info": {}}]}'
    response = await AsyncClient().generic("POST", "/api/batch", body, headers={"X-API-Key": KEY})
    first, second = response.json()["replies"]
    assert (first["error"]["code"], list(second)) == (107, ["info"])


@pytest.fixture
def outage(_at_home: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the broker be as it is while nothing answers."""

    def failing(error: Exception) -> Any:
        async def fail(*args: Any, **options: Any) -> Any:
            raise error

        return fail

    broker = service().node.broker
    monkeypatch.setattr(broker, "publish", failing(PublishFailed("the broker cannot be reached")))
    for part, name in (
        (broker, "read"),
        (broker, "forget"),
        (broker, "tell_nodes"),
        (broker.presence, "present"),
        (broker.presence, "count"),
    ):
        monkeypatch.setattr(part, name, failing(NotAvailable("the broker cannot be reached")))


OUTAGE_REQUESTS = [
    ("publish", {"channel": "kept/a", "data": 1}),
    ("history", {"channel": "kept/a", "limit": 1}),
    ("history_remove", {"channel": "kept/a"}),
    ("presence", {"channel": "kept/a"}),
    ("presence_stats", {"channel": "kept/a"}),
    ("subscribe", {"user": "1", "channel": "kept/a"}),
    ("unsubscribe", {"user": "1"}),
    ("disconnect", {"user": "1"}),
    ("refresh", {"user": "1"}),
    ("channels", {}),
]


@pytest.mark.usefixtures("outage")
@pytest.mark.parametrize(("method", "request_"), OUTAGE_REQUESTS)
async def test_while_the_broker_cannot_be_reached_it_is_error_100(
    method: str, request_: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert await ask(method, **request_) == 100
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.usefixtures("outage")
async def test_while_the_broker_cannot_be_reached_each_room_of_a_broadcast_says_so() -> None:
    answers = (await ask("broadcast", channels=["kept/a", "open/b", "nowhere"], data=1))["responses"]
    assert [answer["error"]["code"] for answer in answers] == [100, 100, 102]
