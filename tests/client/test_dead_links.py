"""A server that is there but silent: noticed, and never waited for without end."""

from __future__ import annotations

import signal

from tests.client.programs import piped


def impatient(**seconds: float) -> tuple[str, str]:
    """Return the program with shorter times: what is claimed here does not depend on them."""
    changes = "\n".join(f"link.{name.upper()}_SECONDS = {value}" for name, value in seconds.items())
    run = "import sys\nfrom yamabiko.client.command import connect\nconnect.main(sys.argv[1:])"
    return ("-c", f"from yamabiko.client import link\n{changes}\n{run}")


def fall_silent(room):
    for connection in room.connections:
        connection.transport.pause_reading()


async def test_a_server_that_no_longer_answers_pings_is_left_and_visited_again(room):
    program = impatient(ping_interval=0.1, pong_timeout=0.1, close_timeout=0.1)
    async with piped("--port", str(room.port), program=program) as guest:
        await room.guests(1)
        fall_silent(room)
        await guest.notes_that("not connected (the server no longer answers)")
        await guest.notes_that("reconnected")


async def test_a_server_that_never_answers_the_close_does_not_keep_the_guest(room):
    async with piped("--port", str(room.port), program=impatient(close_timeout=0.2)) as guest:
        await room.guests(1)
        fall_silent(room)
        guest.process.send_signal(signal.SIGTERM)
        assert await guest.exit_code() == 0


async def test_a_server_that_never_answers_the_handshake_does_not_keep_a_guest_who_wants_to_leave(room):
    room.is_greeting = False
    async with piped("--port", str(room.port)) as guest:
        await room.until(lambda: room.handshakes)
        guest.process.send_signal(signal.SIGINT)
        assert await guest.exit_code() == 0


async def test_a_handshake_that_takes_too_long_is_tried_again(room):
    room.is_greeting = False
    async with piped("--port", str(room.port), program=impatient(open_timeout=0.1)) as guest:
        await guest.notes_that("timed out during opening handshake")
        room.is_greeting = True
        await guest.notes_that("connected to")
