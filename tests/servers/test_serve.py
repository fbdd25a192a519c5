"""`yamabiko serve` as a person meets it in a terminal."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.running import APPLICATION, PATIENCE_SECONDS, SERVE, Servers, environment
from tests.servers.visitors import get

pytest_plugins = ["tests.servers.fixtures"]
pytestmark = pytest.mark.server


def refused(*arguments: str, cwd: Path) -> list[str]:
    """Return what a server printed that would not start."""
    ended = subprocess.run(
        [sys.executable, "-m", "yamabiko", "serve", *arguments],
        cwd=cwd,
        env=environment(SITE_DATABASE=":memory:"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert ended.returncode not in (0, None)
    return ended.stdout.splitlines()


def test_a_taken_port_is_one_clear_line(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (line,) = refused(APPLICATION, "--port", str(port), cwd=tmp_path)
    assert re.search(rf"127\.0\.0\.1:{port}.*in use.*choose another", line)


MISTAKES = {
    "no such module": (["nowhere.asgi:application"], "nowhere"),
    "no such name in it": (["tests.servers.asgi:nothing"], "nothing"),
    "no colon": (["tests.servers.asgi"], "module:name"),
    "no such host": ([APPLICATION, "--host", "no such host", "--port", "0"], "no such host"),
    "another machine's address": ([APPLICATION, "--host", "192.0.2.1", "--port", "0"], "192.0.2.1"),
    "no such port": ([APPLICATION, "--port", "70000"], "65535"),
}


@pytest.mark.parametrize(("arguments", "part"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_line_that_names_it(tmp_path: Path, arguments: list[str], part: str):
    (line,) = refused(*arguments, cwd=tmp_path)
    assert part in line


def test_wrong_usage_shows_no_traceback(tmp_path: Path):
    printed = refused(APPLICATION, "--port", "eighty", cwd=tmp_path)
    assert "'eighty' is not a valid integer" in printed[-1]


async def test_two_lines_say_what_to_open_and_what_to_type(servers: Servers):
    async with servers.meanwhile(SERVE) as server:
        assert server.port > 0
        command = re.escape(server.line("^Type  (.*) connect --port ")[1])
        assert command
        server.line(f"^Type  .* connect --port {server.port}  ")
        assert len(server.printed) == 2, server.printed
        assert await get(server, "/hello/") == (200, b"hello")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl+C", "SIGTERM"])
def test_it_ends_when_asked_to_without_a_traceback(servers: Servers, number: signal.Signals):
    with servers.new(SERVE) as server:
        server.signal(number)
        code = server.wait()
        assert code == (0 if number == signal.SIGINT else -signal.SIGTERM)
        assert not [line for line in server.printed if "Traceback" in line or "ERROR" in line]
