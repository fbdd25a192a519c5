"""The guest between programs: lines in, publications out, an honest exit code."""

from __future__ import annotations

import asyncio
import json
import signal
import sys

from tests.client.programs import environment, piped, run
from tests.client.server_double import room_double


async def test_piped_lines_are_published_in_order_and_the_program_ends_with_0(room):
    finished = await run("--port", str(room.port), text="一\ntwo\n\nfour\n")
    assert (finished.code, room.messages) == (0, ["一", "two", "", "four"])
    assert room.closes == [1000]


async def test_the_last_line_needs_no_line_break(room):
    await run("--port", str(room.port), text="one\r\ntwo")
    assert room.messages == ["one", "two"]


async def test_own_publications_are_printed_before_the_program_ends(room):
    finished = await run("--port", str(room.port), text="one\ntwo\n")
    assert finished.out == ["one", "two"]


async def test_empty_input_connects_and_ends_with_0(room):
    assert (await run("--port", str(room.port))).code == 0
    assert len(room.handshakes) == 1


async def test_the_program_waits_until_every_line_is_acknowledged(room):
    room.is_answering = False
    async with piped("--port", str(room.port)) as guest:
        guest.type("one\n")
        guest.end_input()
        await room.until(lambda: room.messages == ["one"])
        assert guest.process.returncode is None
        room.release_acks()
        assert await guest.exit_code() == 0


async def test_a_large_file_is_sent_a_bounded_number_of_lines_at_a_time(room):
    room.is_answering = False
    async with piped("--port", str(room.port)) as guest:
        guest.type("".join(f"{number}\n" for number in range(1000)))
        guest.end_input()
        await room.until(lambda: room.most_unanswered == 64)
        room.release_acks()
        assert (await guest.finish()).code == 0
    assert room.most_unanswered == 64
    assert room.messages == [str(number) for number in range(1000)]


async def test_a_large_file_waits_on_the_disk_and_not_in_memory(room):
    room.is_answering = False
    async with piped("--port", str(room.port)) as guest:
        guest.type("a line of some length\n" * 200_000)
        await room.until(lambda: room.most_unanswered == 64)
        room.send({"payload": {"message": "a sign of life"}})
        await guest.shows("a sign of life")
        assert guest.unread_bytes > 4_000_000


async def test_a_refused_line_is_told_and_makes_the_exit_code_1_but_the_others_are_published(room):
    room.refused_texts["bad"] = (400, "no bad words")
    finished = await run("--port", str(room.port), text="good\nbad\nbetter\n")
    assert finished.code == 1
    assert room.messages == ["good", "better"]
    assert "yamabiko: not published: “bad”: no bad words (400)" in finished.notes


async def test_a_line_that_is_not_utf8_is_told_and_not_sent(room):
    async with piped("--port", str(room.port)) as guest:
        guest.process.stdin.write(b"one\n\xff\xfe\nthree\n")
        finished = await guest.finish()
    assert finished.code == 1
    assert room.messages == ["one", "three"]
    assert "yamabiko: line 2 is not sent: not UTF-8 at byte 1" in finished.notes


async def test_publications_are_one_line_each_with_the_user_where_one_is_known(room):
    async with piped("--port", str(room.port)) as guest:
        await room.guests(1)
        room.publish("two\nlines", user="花子")
        room.publish({"text": "日本", "n": [1, None]})
        room.publish("last")
        await guest.shows("last")
    assert guest.out == ["花子: two↵lines", '{"text":"日本","n":[1,null]}', "last"]


async def test_notes_go_to_standard_error_only(room):
    finished = await run("--port", str(room.port), text="one\n")
    assert finished.notes == [f"yamabiko: connected to ws://127.0.0.1:{room.port}/websock1/"]
    assert finished.out == ["one"]


async def test_history_can_be_asked_for_and_is_printed_without_any_input(room):
    for number in range(5):
        room.publish(f"message {number}")
    finished = await run("--port", str(room.port), "--history", "2")
    assert finished.out == ["message 3", "message 4"]


async def test_sigterm_leaves_with_the_closing_handshake_and_0(room):
    async with piped("--port", str(room.port)) as guest:
        await room.guests(1)
        guest.process.send_signal(signal.SIGTERM)
        assert await guest.exit_code() == 0
    assert room.closes == [1000]


async def test_sigint_leaves_with_the_closing_handshake_and_0(room):
    async with piped("--port", str(room.port)) as guest:
        await room.guests(1)
        guest.process.send_signal(signal.SIGINT)
        assert await guest.exit_code() == 0
    assert room.closes == [1000]


async def test_leaving_with_unconfirmed_lines_says_how_many_and_is_a_failure_for_a_script(room):
    room.is_answering = False
    async with piped("--port", str(room.port)) as guest:
        guest.type("one\ntwo\n")
        await room.until(lambda: room.messages == ["one", "two"])
        guest.process.send_signal(signal.SIGTERM)
        await guest.notes_that("waiting for the server to confirm 2 messages")
        guest.process.send_signal(signal.SIGTERM)
        finished = await guest.finish()
    assert finished.code == 1
    assert finished.notes[-1] == "yamabiko: not confirmed by the server: 2 messages"
    assert room.closes == [1000]


async def test_leaving_waits_a_moment_for_the_last_acknowledgements(room):
    room.is_answering = False
    async with piped("--port", str(room.port)) as guest:
        guest.type("one\n")
        await room.until(lambda: room.messages == ["one"])
        guest.process.send_signal(signal.SIGTERM)
        room.release_acks()
        assert (await guest.finish()).code == 0


async def test_a_reader_that_goes_away_ends_the_program_without_a_traceback(room):
    async with piped("--port", str(room.port)) as guest:
        await room.guests(1)
        guest.process._transport.get_pipe_transport(1).close()
        for _ in range(3):
            room.publish("hello")
        await room.until(lambda: room.closes)
        finished = await guest.finish()
    assert finished.code == 0
    assert not [note for note in finished.notes if "Traceback" in note or "Error" in note]


async def test_a_room_without_history_needs_no_positions():
    async with room_double(keeps_history=False) as room:
        finished = await run("--port", str(room.port), text="one\n")
        assert (finished.code, room.messages) == (0, ["one"])


async def test_frames_that_the_guest_does_not_know_disturb_nothing(room):
    async with piped("--port", str(room.port)) as guest:
        await room.guests(1)
        for frame in [{"novelty": 1}, [], 7, "text", {"payload": 3}, {"ack": {}}, {"presence": 1}, {}]:
            room.send(frame)
        room.publish("still here")
        await guest.shows("still here")
    assert guest.out == ["still here"]


async def test_every_publish_has_its_own_id_of_at_most_64_bytes(room):
    await run("--port", str(room.port), text="one\none\n")
    ids = [frame["id"] for frame in room.frames]
    assert len(set(ids)) == 2
    assert all(len(publication_id.encode()) <= 64 for publication_id in ids)


async def test_a_message_cannot_drive_what_reads_the_output(room):
    async with piped("--port", str(room.port)) as guest:
        await room.guests(1)
        room.publish("\x1b]0;owned\x07\x9b2J\u202egnp.exe", user="a\x1b[31m")
        room.send({"error": {"code": 107, "message": "\x1b[2J"}})
        await guest.shows("owned")
        await guest.notes_that("107")
    assert not set("".join(guest.out + guest.notes)) & set("\x1b\x07\x9b\u202e")


async def test_sent_frames_are_the_protocols_json(room):
    await run("--port", str(room.port), text='{"message": "not a frame"}\n')
    assert room.messages == ['{"message": "not a frame"}']
    assert json.dumps(sorted(room.frames[0])) == '["id", "message"]'


async def test_closed_standard_error_disturbs_nothing(room):
    async with piped("--port", str(room.port), "--trace") as guest:
        await guest.notes_that("connected")
        guest.process._transport.get_pipe_transport(2).close()
        assert (await guest.finish("one\n")).code == 0
    assert room.messages == ["one"]
    assert room.closes == [1000]


async def test_a_program_started_without_standard_streams_still_visits_the_room(room):
    shell = f"exec '{sys.executable}' -m yamabiko.client --port {room.port} <&- >&- 2>&-"
    process = await asyncio.create_subprocess_exec("sh", "-c", shell, env=environment())
    async with asyncio.timeout(20):
        assert await process.wait() == 0
    assert room.closes == [1000]
