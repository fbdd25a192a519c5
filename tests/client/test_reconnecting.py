"""The guest after a break: it comes back, loses nothing, shows nothing twice, publishes nothing twice."""

from __future__ import annotations

import json

import pytest

from tests.client.programs import piped, run
from tests.client.server_double import room_double


def error_body(code: int, message: str) -> str:
    return json.dumps({"error": {"code": code, "message": message}})


async def test_after_a_break_it_resumes_after_the_last_message_seen_and_says_so(room):
    async with piped("--port", str(room.port)) as guest:
        await room.guests(1)
        room.publish("seen")
        await guest.shows("seen")
        room.drop_connections()
        await room.guests(0)
        room.publish("missed")
        await guest.shows("missed")
        await guest.notes_that("reconnected; resuming after message 1")
    assert guest.out == ["seen", "missed"]
    assert room.query() == {"since": "kQzT:1"}
    assert any("not connected (the connection broke)" in note for note in guest.notes)


async def test_a_message_whose_acknowledgement_was_lost_is_sent_again_and_published_once(room):
    room.drop_after = "two"
    finished = await run("--port", str(room.port), text="one\ntwo\nthree\n")
    assert finished.code == 0
    assert room.messages == ["one", "two", "three"]
    ids = [frame["id"] for frame in room.frames if frame["message"] == "two"]
    assert len(ids) == 2
    assert len(set(ids)) == 1
    assert finished.out == ["one", "two", "three"]


async def test_lines_typed_while_away_are_published_after_the_return(room):
    async with piped("--port", str(room.port)) as guest:
        await room.guests(1)
        await room.shut()
        guest.type("said in the dark\n")
        await guest.notes_that("not connected")
        await room.open()
        assert (await guest.finish()).code == 0
    assert room.messages == ["said in the dark"]


async def test_what_was_seen_already_is_not_shown_again(room):
    async with piped("--port", str(room.port)) as guest:
        await room.guests(1)
        for text in ("one", "two"):
            room.publish(text)
        for offset in (1, 2):
            payload = {"type": "send_message", "message": "again", "offset": offset, "epoch": "kQzT"}
            room.send({"payload": payload})
        room.publish("three")
        await guest.shows("three")
    assert guest.out == ["one", "two", "three"]


async def test_a_gap_is_told_in_one_line(room):
    async with piped("--port", str(room.port)) as guest:
        await room.guests(1)
        room.publish("1")
        await guest.shows("1")
        room.drop_connections()
        await room.guests(0)
        for number in range(2, 6):
            room.publish(str(number))
        room.forgotten = 3
        await guest.notes_that("messages were missed: the room goes on after 3")
        await guest.shows("5")
    assert guest.out == ["1", "4", "5"]


async def test_after_a_gap_with_nothing_behind_it_the_next_visit_goes_on_from_there(room):
    async with piped("--port", str(room.port)) as guest:
        await room.guests(1)
        room.publish("1")
        await guest.shows("1")
        room.messages, room.users, room.forgotten = ["gone"] * 9, [None] * 9, 9
        room.drop_connections()
        await guest.notes_that("messages were missed: the room goes on after 9")
        room.drop_connections()
        await guest.notes_that("reconnected; resuming after message 9")
    assert room.query() == {"since": "kQzT:9"}


async def test_a_new_epoch_is_followed_from_its_beginning(room):
    async with piped("--port", str(room.port)) as guest:
        await room.guests(1)
        for _ in range(3):
            room.publish("old")
        await guest.shows("old")
        room.epoch, room.messages, room.users = "NEW", [], []
        room.drop_connections()
        await room.guests(0)
        room.publish("new 1")
        await guest.notes_that("the room began anew meanwhile")
        await guest.shows("new 1")
        room.drop_connections()
        await room.guests(0)
        room.publish("new 2")
        await guest.shows("new 2")
    assert room.query() == {"since": "NEW:1"}


async def test_a_room_that_was_empty_at_first_is_read_from_its_beginning_after_a_break(room):
    async with piped("--port", str(room.port), "--history", "5") as guest:
        await room.guests(1)
        room.drop_connections()
        await room.guests(0)
        room.publish("first words")
        await guest.shows("first words")
    assert room.query() == {"history": "300"}


async def test_where_nothing_tells_the_position_it_does_not_claim_to_have_resumed(room):
    async with piped("--port", str(room.port)) as guest:
        await room.guests(1)
        room.drop_connections()
        await guest.notes_that("reconnected; whether anything was published meanwhile is not known")
    assert room.query() == {}


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 3001, 3008, 3012, 4000, 4499])
async def test_it_comes_back_after_a_close_that_invites_it(code):
    async with room_double() as room, piped("--port", str(room.port)) as guest:
        await room.guests(1)
        await room.close_connections(code, "bye")
        await guest.notes_that("reconnected")
        assert any(f"{code} (bye)" in note for note in guest.notes)


@pytest.mark.parametrize("code", [1008, 1009, 3500, 3507, 3999, 4500, 4999])
async def test_it_ends_with_1_after_a_final_close_and_says_the_reason(code):
    async with room_double() as room, piped("--port", str(room.port)) as guest:
        await room.guests(1)
        await room.close_connections(code, "not\x1b[2J you")
        await guest.notes_that(f"closed by the server with {code} (not␛[2J you)")
        assert await guest.exit_code() == 1
        assert len(room.handshakes) == 1


async def test_a_final_close_says_how_many_messages_were_not_confirmed(room):
    room.is_answering = False
    async with piped("--port", str(room.port)) as guest:
        guest.type("one\n")
        await room.until(lambda: room.messages == ["one"])
        await room.close_connections(3503, "force disconnect")
        await guest.notes_that("closed by the server with 3503")
        await guest.notes_that("not confirmed by the server: 1 message")
        assert await guest.exit_code() == 1


@pytest.mark.parametrize(
    ("status", "hint"), [(401, "sign in"), (403, "another user"), (404, "check the name of the room"), (400, "")]
)
async def test_a_refused_handshake_is_final_and_the_servers_reason_is_told(room, status, hint):
    room.refusals = [(status, error_body(103, "members \x1b[2J only"), {})]
    finished = await run("--port", str(room.port), text="never\n")
    assert finished.code == 1
    assert f"refused: HTTP {status}" in finished.notes[0]
    assert "members ␛[2J only" in finished.notes[0]
    assert hint in finished.notes[0]


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_a_handshake_refused_for_now_is_tried_again(status):
    async with room_double(refusals=[(status, error_body(111, "too many"), {})]) as room:
        finished = await run("--port", str(room.port), text="hello\n")
        assert (finished.code, room.messages) == (0, ["hello"])
        assert "too many" in finished.notes[0]


async def test_it_stays_away_as_long_as_the_server_asks(room):
    room.refusals = [(503, "", {"Retry-After": "1"})]
    async with piped("--port", str(room.port)) as guest:
        await guest.notes_that("503")
        await room.until(lambda: len(room.handshakes) == 2)
        assert (await guest.finish()).code == 0


async def test_a_server_that_nobody_started_ends_it_with_1_and_one_helpful_line(room):
    await room.shut()
    finished = await run("--port", str(room.port), text="hello\n")
    assert finished.code == 1
    assert finished.out == []
    assert "is the server running?" in finished.notes[0]
    assert not any("Traceback" in note for note in finished.notes)


async def test_a_name_that_does_not_exist_ends_it_with_1():
    finished = await run("--host", "no-such-host.invalid")
    assert finished.code == 1
    assert "no-such-host.invalid" in finished.notes[0]


async def test_a_server_that_stays_away_is_told_once_and_waited_for(room):
    async with piped("--port", str(room.port)) as guest:
        await room.guests(1)
        room.refusals = [(503, "", {})] * 2
        room.drop_connections()
        await guest.notes_that("reconnected")
    assert sum("503" in note for note in guest.notes) == 1
