"""Who a client is, by its token or its session, for how long, and what it may join by a token."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import jwt
import pytest

from tests.sdk.sites import KINDS, Join, Make, origin_of
from tests.sdk.tokens import ALICE, BOB, connection_token, subscription_token
from tests.servers.running import Running
from tests.servers.visitors import visit

pytest_plugins = ["tests.sdk.fixtures"]
pytestmark = pytest.mark.server

UNAUTHORIZED = 1
"""The code by which an SDK itself gives up."""


async def test_a_client_is_who_its_token_says(join: Join, kind: str, here: Running):
    assert await (await join(kind, here, token=connection_token(ALICE))).rpc("whoami") == "alice"
    assert await (await join(kind, here, token=connection_token(BOB))).rpc("whoami") == "bob"
    assert await (await join(kind, here, token=connection_token())).rpc("whoami") == ""


async def test_a_client_without_a_token_is_who_its_session_says(join: Join, kind: str, here: Running):
    session = {"Cookie": f"sessionid={here.session_key}", "Origin": origin_of(here)}
    assert await (await join(kind, here, headers=session)).rpc("whoami") == "alice"
    assert await (await join(kind, here)).rpc("whoami") == ""


async def test_a_token_counts_more_than_a_session(join: Join, kind: str, here: Running):
    session = {"Cookie": f"sessionid={here.session_key}", "Origin": origin_of(here)}
    assert await (await join(kind, here, headers=session, token=connection_token(BOB))).rpc("whoami") == "bob"


async def test_the_pages_of_other_sites_do_not_speak_for_a_session(make: Make, kind: str, here: Running):
    client = make(kind, here, headers={"Cookie": f"sessionid={here.session_key}", "Origin": "https://other.example"})
    await client.connect()
    await client.event("error")
    assert client.has_heard("connected") == []


WRONG = {
    "of another key": jwt.encode({"sub": ALICE}, "a secret that is known to nobody else", algorithm="HS256"),
    "not signed": jwt.encode({"sub": ALICE}, "", algorithm="none"),
    "for a room": subscription_token(ALICE, "open/a"),
    "of nobody here": connection_token("4711"),
    "no token": "山彦",
}


@pytest.mark.parametrize("token", WRONG.values(), ids=WRONG.keys())
async def test_a_token_that_cannot_be_trusted_ends_the_connection_for_good(
    make: Make, kind: str, here: Running, token: str
):
    client = make(kind, here, token=token)
    await client.connect()
    ended = await client.event("disconnected")
    assert (ended["code"], ended["reason"]) == (3500, "invalid token")


async def test_a_client_with_a_token_that_has_expired_comes_with_another(join: Join, kind: str, here: Running):
    client = await join(kind, here, token=connection_token(ALICE, seconds=-5), tokens=[connection_token(ALICE)])
    await client.event("token wanted")
    assert await client.rpc("whoami") == "alice"


async def test_a_client_with_no_other_token_than_an_expired_one_gives_up(make: Make, kind: str, here: Running):
    client = make(kind, here, token=connection_token(ALICE, seconds=-5), tokens=[])
    await client.connect()
    assert (await client.event("disconnected"))["code"] == UNAUTHORIZED


async def each(kinds: Any, do: Any) -> None:
    """Do what takes its time with clients of all kinds at once."""
    await asyncio.gather(*(do(kind) for kind in kinds))


async def test_a_connection_that_is_renewed_goes_on(join: Join, here: Running):
    async def renew(kind: str) -> None:
        # The second is asked for only where the server has told how long the first one lasts.
        tokens = [connection_token(ALICE, seconds=3.9), connection_token(ALICE)]
        client = await join(kind, here, token=connection_token(ALICE, seconds=1.9), tokens=tokens)
        await client.event("token wanted")
        await client.event("token wanted")
        assert await client.rpc("whoami") == "alice"
        assert len(client.has_heard("connecting")) == 1

    await each(KINDS, renew)


async def test_a_connection_that_is_not_renewed_ends_after_a_grace(join: Join, here: Running):
    async def outstay(kind: str) -> None:
        tokens = [None, connection_token(ALICE)]
        client = await join(kind, here, token=connection_token(ALICE, seconds=1), tokens=tokens)
        ended = await client.event("connecting", where=lambda said: said["code"] > 1)
        assert (ended["code"], ended["reason"]) == (3005, "connection expired")
        await client.connected()
        assert await client.rpc("whoami") == "alice"

    await each(KINDS, outstay)


async def test_a_token_opens_a_room_and_says_who_its_bearer_is_there(join: Join, kind: str, here: Running, room: str):
    client = await join(kind, here, token=connection_token(ALICE, b64info=base64.b64encode(b'{"n": "A"}').decode()))
    said = await client.enter(f"closed/{room}", token=subscription_token(ALICE, f"closed/{room}", data={"seat": 4}))
    assert said["data"] == {"seat": 4}
    await client.enter(f"crowd/{room}", token=subscription_token(ALICE, f"crowd/{room}", info={"role": "host"}))
    assert await client.presence(f"crowd/{room}") == {
        client.client: {"client": client.client, "user": ALICE, "conn_info": {"n": "A"}, "chan_info": {"role": "host"}}
    }


async def test_a_room_token_that_cannot_be_trusted_opens_nothing(join: Join, kind: str, here: Running, room: str):
    client = await join(kind, here, token=connection_token(ALICE))
    forged = jwt.encode({"sub": ALICE, "channel": f"open/{room}"}, "known to nobody else, as it should be")
    await client.subscribe(f"open/{room}", token=forged)
    assert (await client.event("unsubscribed", f"open/{room}"))["code"] == 103
    assert client.has_heard("disconnected") == []


@pytest.mark.parametrize("whose", ["another user's", "another room's"])
async def test_a_room_token_of_somebody_else_ends_the_connection(
    join: Join, kind: str, here: Running, room: str, whose: str
):
    client = await join(kind, here, token=connection_token(ALICE))
    stolen = subscription_token(BOB, f"open/{room}") if "user" in whose else subscription_token(ALICE, "open/other")
    await client.subscribe(f"open/{room}", token=stolen)
    assert (await client.event("disconnected"))["code"] == 3500


async def test_a_client_whose_room_token_has_expired_comes_with_another(
    join: Join, kind: str, here: Running, room: str
):
    room = f"closed/{room}"
    client = await join(kind, here, token=connection_token(ALICE))
    old, new = subscription_token(ALICE, room, seconds=-5), subscription_token(ALICE, room)
    await client.enter(room, token=old, tokens=[new])
    assert len(client.has_heard("token wanted", room)) == 1


async def test_a_subscription_that_is_renewed_goes_on(join: Join, here: Running, room: str):
    room = f"closed/{room}"

    async def renew(kind: str) -> None:
        client = await join(kind, here, token=connection_token(ALICE))
        tokens = [subscription_token(ALICE, room, seconds=3.9), subscription_token(ALICE, room)]
        await client.enter(room, token=subscription_token(ALICE, room, seconds=1.9), tokens=tokens)
        await client.event("token wanted", room)
        await client.event("token wanted", room)
        assert client.has_heard("unsubscribed", room) == []
        assert len(client.has_heard("subscribing", room)) == 1

    await each(KINDS, renew)


async def test_a_subscription_that_is_not_renewed_ends_after_a_grace(join: Join, here: Running, room: str):
    room = f"closed/{room}"

    async def outstay(kind: str) -> None:
        client = await join(kind, here, token=connection_token(ALICE))
        tokens = [None, subscription_token(ALICE, room)]
        await client.enter(room, token=subscription_token(ALICE, room, seconds=1), tokens=tokens)
        ended = await client.event("subscribing", room, where=lambda said: said["code"] > 1)
        assert (ended["code"], ended["reason"]) == (2501, "subscription expired")
        await client.event("subscribed", room)
        assert len(client.has_heard("connecting")) == 1

    await each(KINDS, outstay)


async def test_a_token_puts_its_bearer_into_rooms(join: Join, kind: str, here: Running, room: str):
    subs = {f"closed/{room}": {"data": {"seat": 4}, "info": {"role": "host"}}, f"crowd/{room}": {"info": "host"}}
    client = await join(kind, here, token=connection_token(ALICE, subs=subs))
    assert (await client.event("subscribed", f"closed/{room}"))["data"] == {"seat": 4}
    await client.event("subscribed", f"crowd/{room}")
    assert (await client.presence(f"crowd/{room}"))[client.client]["chan_info"] == "host"
    async with visit(here, f"crowd/{room}") as visitor:
        await visitor.say("hello")
        assert await client.messages(f"crowd/{room}", 1) == ["hello"]
