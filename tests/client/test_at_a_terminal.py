"""The guest at a real pseudo-terminal: what stands on the screen is what a person sees."""

from __future__ import annotations

import signal

from tests.client.programs import seated


async def test_a_typed_line_is_published_and_appears_once(room):
    async with seated("--port", str(room.port)) as guest:
        await guest.has_last_line("room1>")
        guest.type("hello\r")
        await room.until(lambda: room.messages == ["hello"])
        await guest.until(lambda lines: lines[-2:] == ["hello", "room1>"])
        assert guest.lines.count("hello") == 1


async def test_a_half_typed_japanese_line_survives_messages_that_arrive(room):
    async with seated("--port", str(room.port)) as guest:
        await guest.has_last_line("room1>")
        guest.type("こんにちは、山び")
        await guest.shows("こんにちは、山び")
        for number in range(3):
            room.publish(f"やまびこ {number}", user="花子")
        await guest.until(
            lambda lines: (
                lines[-4:] == ["花子: やまびこ 0", "花子: やまびこ 1", "花子: やまびこ 2", "room1> こんにちは、山び"]
            )
        )
        guest.type("こ\r")
        await room.until(lambda: room.messages[-1] == "こんにちは、山びこ")


async def test_combining_characters_and_edits_in_the_middle_survive_too(room):
    async with seated("--port", str(room.port)) as guest:
        await guest.has_last_line("room1>")
        guest.type("かき\u3099く")
        await guest.shows("く")
        guest.type("\x1b[D")
        room.publish("above")
        await guest.shows("above")
        guest.type("え\r")
        await room.until(lambda: room.messages[-1] == "かき\u3099えく")


async def test_history_comes_first_at_a_prompt(room):
    for number in range(12):
        room.publish(f"old {number}")
    async with seated("--port", str(room.port)) as guest:
        await guest.until(lambda lines: lines[-2:] == ["old 11", "room1>"])
        assert "old 2" in guest.lines
        assert "old 1" not in guest.lines


async def test_names_are_bold_so_that_a_text_cannot_pose_as_a_user(room):
    async with seated("--port", str(room.port)) as guest:
        await room.guests(1)
        room.publish("hi", user="alice")
        room.publish("alice: hi")
        await guest.until(lambda lines: lines.count("alice: hi") == 2)
        assert guest.raw.count(b"\x1b[1malice\x1b[0m: hi") == 1


async def test_control_characters_never_drive_the_terminal(room):
    async with seated("--port", str(room.port)) as guest:
        await room.guests(1)
        room.publish("first")
        await guest.shows("first")
        room.publish("\x1b[2J\x1b[H\x1b]0;owned\x07\x9b31m\x08\x08\u202eend", user="\x1b[5meve")
        await guest.shows("end")
        assert "first" in guest.lines
        assert b"\x1b]0;" not in guest.raw
        assert b"\x1b[5m" not in guest.raw


async def test_several_pasted_lines_are_several_messages(room):
    async with seated("--port", str(room.port)) as guest:
        await guest.has_last_line("room1>")
        guest.type("\x1b[200~one\ntwo\x1b[201~\r")
        await room.until(lambda: room.messages == ["one", "two"])


async def test_an_empty_line_is_not_a_message(room):
    async with seated("--port", str(room.port)) as guest:
        await guest.has_last_line("room1>")
        guest.type("\r\rsomething\r")
        await room.until(lambda: room.messages == ["something"])


async def test_ctrl_c_leaves_with_the_closing_handshake_and_0(room):
    async with seated("--port", str(room.port)) as guest:
        await guest.has_last_line("room1>")
        guest.type("half\x03")
        assert await guest.exit_code() == 0
    assert room.closes == [1000]


async def test_ctrl_d_leaves_with_the_closing_handshake_and_0(room):
    async with seated("--port", str(room.port)) as guest:
        await guest.has_last_line("room1>")
        guest.type("\x04")
        assert await guest.exit_code() == 0
    assert room.closes == [1000]


async def test_sigterm_leaves_with_the_closing_handshake_and_0(room):
    async with seated("--port", str(room.port)) as guest:
        await guest.has_last_line("room1>")
        guest.process.send_signal(signal.SIGTERM)
        assert await guest.exit_code() == 0
    assert room.closes == [1000]


async def test_a_second_ctrl_c_cuts_the_wait_short_and_still_closes_properly(room):
    room.is_answering = False
    async with seated("--port", str(room.port)) as guest:
        await guest.has_last_line("room1>")
        guest.type("unanswered\r")
        await room.until(lambda: room.messages == ["unanswered"])
        guest.type("\x03")
        await guest.shows("waiting for the server to confirm 1 message")
        guest.type("\x03")
        assert await guest.exit_code() == 0
        await guest.shows("not confirmed by the server: 1 message")
    assert room.closes == [1000]


async def test_a_refused_line_is_told_above_the_prompt_and_is_no_failure_of_the_visit(room):
    room.refused_texts["bad"] = (400, "no bad words")
    async with seated("--port", str(room.port)) as guest:
        await guest.has_last_line("room1>")
        guest.type("bad\r")
        await guest.shows("not published: “bad”: no bad words (400)")
        guest.type("\x04")
        assert await guest.exit_code() == 0


async def test_the_prompt_says_when_there_is_no_connection_and_the_half_typed_line_survives(room):
    async with seated("--port", str(room.port)) as guest:
        await guest.has_last_line("room1>")
        guest.type("はんぶん")
        await guest.has_last_line("room1> はんぶん")
        await room.shut()
        await guest.has_last_line("room1 (not connected)> はんぶん")
        await room.open()
        await guest.has_last_line("room1> はんぶん")
        guest.type("\r")
        await room.until(lambda: room.messages == ["はんぶん"])


async def test_ctrl_c_while_there_is_no_connection_leaves_at_once(room):
    async with seated("--port", str(room.port)) as guest:
        await guest.has_last_line("room1>")
        await room.shut()
        await guest.has_last_line("room1 (not connected)>")
        guest.type("\x03")
        assert await guest.exit_code() == 0


async def test_a_final_close_takes_the_prompt_away_and_ends_with_1(room):
    async with seated("--port", str(room.port)) as guest:
        await guest.has_last_line("room1>")
        await room.close_connections(3503, "force disconnect")
        assert await guest.exit_code() == 1
        await guest.shows("closed by the server with 3503 (force disconnect)")
        assert not any(line.startswith("room1>") for line in guest.lines)


async def test_the_prompt_names_the_room(room):
    async with seated("--port", str(room.port), "--room", "chat/部屋") as guest:
        await guest.has_last_line("chat/部屋>")
    assert room.handshakes[0].path.startswith("/rooms/chat/%E9%83%A8%E5%B1%8B/")
