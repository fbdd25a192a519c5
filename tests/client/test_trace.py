"""`--trace` shows the wire and no secret."""

from __future__ import annotations

from tests.client.programs import run


async def test_the_trace_shows_handshake_frames_and_close(room):
    finished = await run("--port", str(room.port), "--trace", text="hello\n")
    trace = [line for line in finished.notes if line.startswith(("> ", "< "))]
    assert trace[0] == "> GET /websock1/"
    assert "< HTTP 101 Switching Protocols" in trace
    assert any(line.startswith('> {"message": "hello", "id": ') for line in trace)
    assert any(line.startswith('< {"payload": ') for line in trace)
    assert any(line.startswith('< {"ack": ') for line in trace)
    assert trace[-2:] == ["> close 1000", "< close 1000"]
    assert finished.out == ["hello"]


async def test_the_trace_masks_secrets_of_headers_urls_and_frames(room):
    room.publish({"user": {"api_token": "SECRET1", "Password": ["SECRET2"]}, "note": "plain"})
    finished = await run(
        *["--url", f"ws://user:SECRET3@127.0.0.1:{room.port}/?token=SECRET4&a=b", "--trace", "--history", "1"],
        *["--header", "Authorization: Bearer SECRET5", "--header", "X-Api-Key: SECRET6"],
        YAMABIKO_COOKIE="sessionid=SECRET7; theme=SECRET8",
    )
    everything = "\n".join(finished.notes)
    assert "SECRET" not in everything
    assert "> GET /?token=***&a=b&history=1" in finished.notes
    assert "> Cookie: sessionid=***; theme=***" in finished.notes
    assert any('"api_token": "***"' in line and '"note": "plain"' in line for line in finished.notes)
    assert room.handshakes[0].headers.get_all("Authorization")[-1] == "Bearer SECRET5"


async def test_the_trace_of_a_refused_handshake_shows_the_answer(room):
    room.refusals = [(403, "{}", {"Set-Cookie": "sessionid=SECRET", "X-Shown": "yes"})]
    finished = await run("--port", str(room.port), "--trace")
    assert "< HTTP 403 Forbidden" in finished.notes
    assert "< X-Shown: yes" in finished.notes
    assert "< Set-Cookie: ***" in finished.notes


async def test_the_trace_cannot_drive_the_terminal(room):
    room.publish("\x1b[2J")
    room.refusals = [(503, "", {"X-Odd": "caf\xe9"})]
    finished = await run("--port", str(room.port), "--trace", "--history", "1")
    assert finished.code == 0
    assert "\x1b" not in "".join(finished.notes)
