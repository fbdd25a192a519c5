"""The command line: what may be asked, and what wrong usage is answered."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

from tests.client.programs import GUEST, environment, piped, run
from tests.client.server_double import room_double

YAMABIKO = ("-m", "yamabiko")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--port", "99999"], "--port"),
        (["--port", "zero"], "--port"),
        (["--history", "301"], "--history"),
        (["--nonsense"], "--nonsense"),
        (["stray"], "stray"),
        (["--host", "ws://x/"], "--url"),
        (["--host", ""], "name or an address"),
        (["--host", "1:2"], "--port"),
        (["--room", ""], "room name"),
        (["--room", "é" * 128], "255"),
        (["--url", "http://x/"], "ws://"),
        (["--url", "ws:///x"], "ws://"),
        (["--url", "ws://x:99999/"], "ws://"),
        (["--url", "ws://x/#part"], "ws://"),
        (["--url", "ws://x/", "--room", "a"], "--room"),
        (["--header", "no colon"], "Name: value"),
        (["--header", "Upgrade: x"], "Upgrade"),
        (["--cookie", "a=b\r\nX: y"], "Cookie"),
    ],
)
@pytest.mark.parametrize("program", [GUEST, (*YAMABIKO, "connect")])
def test_wrong_usage_is_one_line_and_exit_code_2(program, arguments, named):
    finished = subprocess.run(
        [sys.executable, *program, *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=environment(),
    )
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert finished.stderr.count("\n") == 1
    assert named in finished.stderr


async def test_an_unknown_subcommand_is_wrong_usage_too():
    finished = await run("shout", program=YAMABIKO)
    assert (finished.code, len(finished.notes)) == (2, 1)


async def test_help_lists_the_subcommands_without_importing_them():
    program = (
        "-c",
        "import sys; from yamabiko.cli import main; main.main(['--help'], standalone_mode=False);"
        "print(*{'asyncio', 'websockets', 'prompt_toolkit', 'django', 'uvicorn'} & set(sys.modules))",
    )
    finished = await run(program=program)
    assert finished.code == 0
    assert [line.split()[0] for line in finished.out if line.startswith("  ") and line[2] not in " -"][1:] == [
        "connect",
        "history",
        "publish",
        "serve",
    ]
    assert finished.out[-1] == ""


async def test_help_of_connect_imports_neither_asyncio_nor_its_libraries():
    program = (
        "-c",
        "import sys; from yamabiko.cli import main; main.main(['connect', '--help'], standalone_mode=False);"
        "print(*{'asyncio', 'websockets', 'prompt_toolkit', 'django'} & set(sys.modules))",
    )
    finished = await run(program=program)
    assert "--trace" in "\n".join(finished.out)
    assert finished.out[-1] == ""


async def test_the_version_is_that_of_the_package():
    finished = await run("--version", program=YAMABIKO)
    assert finished.out[0].endswith(version("yamabiko"))


async def test_a_room_name_is_percent_encoded_and_composed(room):
    await run("--port", str(room.port), "--room", "か\u3099/a b?#%")
    assert room.handshakes[0].path == "/rooms/%E3%81%8C/a%20b%3F%23%25/"


async def test_a_url_keeps_its_own_query(room):
    room.publish("old")
    url = f"ws://127.0.0.1:{room.port}/somewhere/?presence=1&history=9"
    await run("--url", url, "--history", "1")
    assert room.handshakes[0].path == "/somewhere/?presence=1&history=1"


async def test_without_a_cookie_no_origin_is_sent(room):
    await run("--port", str(room.port))
    assert "Origin" not in room.handshakes[0].headers


async def test_a_cookie_comes_from_the_environment_with_the_origin_of_the_url(room):
    await run("--port", str(room.port), YAMABIKO_COOKIE="sessionid=abc")
    headers = room.handshakes[0].headers
    assert headers["Cookie"] == "sessionid=abc"
    assert headers["Origin"] == f"http://127.0.0.1:{room.port}"


async def test_headers_can_be_repeated_and_an_own_origin_is_kept(room):
    await run(
        *["--port", str(room.port), "--header", "X-One: 1", "--header", "X-Two: 2"],
        *["--header", "Origin: https://elsewhere.test", "--cookie", "a=b"],
    )
    headers = room.handshakes[0].headers
    assert (headers["X-One"], headers["X-Two"]) == ("1", "2")
    assert headers.get_all("Origin") == ["https://elsewhere.test"]


@pytest.mark.parametrize("host", ["::1", "[::1]"])
async def test_ipv6_hosts_work(host):
    async with room_double(host="::1") as room:
        finished = await run("--host", host, "--port", str(room.port), "--cookie", "a=b", text="hello\n")
        assert (finished.code, room.messages) == (0, ["hello"])
        assert room.handshakes[0].headers["Origin"] == f"http://[::1]:{room.port}"


async def test_an_http_page_at_the_address_is_told_as_such(room):
    room.refusals = [(200, "<html>", {})]
    finished = await run("--port", str(room.port))
    assert finished.code == 1
    assert "no WebSocket is served there" in finished.notes[0]


async def test_it_leaves_on_signals_where_the_loop_cannot_listen_to_them_as_on_windows(room):
    program = (
        "-c",
        "import asyncio, sys\n"
        "def cannot(*_): raise NotImplementedError\n"
        "asyncio.SelectorEventLoop.add_signal_handler = cannot\n"
        "from yamabiko.client.command import connect\n"
        "connect.main(sys.argv[1:])",
    )
    async with piped("--port", str(room.port), program=program) as guest:
        await room.guests(1)
        guest.process.send_signal(2)
        assert await guest.exit_code() == 0
    assert room.closes == [1000]


async def test_an_error_of_the_client_itself_is_one_line_and_still_says_goodbye(room):
    program = (
        "-c",
        "import sys\n"
        "from yamabiko.client.visit import Visit\n"
        "async def broken(*_): raise ValueError('impossible')\n"
        "Visit.all_is_said = broken\n"
        "from yamabiko.client.command import connect\n"
        "connect.main(sys.argv[1:])",
    )
    async with piped("--port", str(room.port), program=program) as guest:
        await room.guests(1)
        finished = await guest.finish()
    assert finished.code == 1
    assert "please report it: ValueError: impossible" in finished.notes[-1]
    assert room.closes == [1000]
