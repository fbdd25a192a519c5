"""sqlite:// under a real server: what was acknowledged survives a kill, and clients go on where they were."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.running import PATIENCE_SECONDS, ROOT, SERVE, Servers, environment, start
from tests.servers.visitors import visit

pytest_plugins = ["tests.servers.fixtures"]
pytestmark = pytest.mark.server


@pytest.fixture
def durable(tmp_path: Path) -> str:
    return json.dumps({"BROKER": f"sqlite:///{tmp_path / 'rooms.sqlite3'}"})


@pytest.fixture
def short_folder() -> Iterator[str]:
    """A folder for local lines: the path of a socket has 108 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="yl") as folder:
        yield folder


async def test_what_was_acknowledged_before_a_kill_is_there_after_it(servers: Servers, durable: str, room: str):
    acknowledged: list[dict[str, object]] = []
    async with servers.meanwhile(SERVE, SITE_YAMABIKO=durable) as server, visit(server, f"kept/{room}") as visitor:
        for number in range(500):
            await visitor.say(number, f"id{number}")
            if number >= 50:
                acknowledged.append(await visitor.ack())
        server.signal(signal.SIGKILL)
        await asyncio.to_thread(server.process.wait, PATIENCE_SECONDS)
    last = acknowledged[-1]
    async with servers.meanwhile(SERVE, SITE_YAMABIKO=durable) as server:
        # Two are left out, so that what follows them must come.
        since = f"?since={last['epoch']}:{int(str(last['offset'])) - 2}"
        async with visit(server, f"kept/{room}", since) as visitor:
            again = [await visitor.payload() for _ in range(2)]
            assert [payload["offset"] for payload in again] == [int(str(last["offset"])) - 1, last["offset"]]
            assert {payload["epoch"] for payload in again} == {last["epoch"]}


async def test_a_message_that_is_sent_again_after_a_kill_is_published_once(servers: Servers, durable: str, room: str):
    async with servers.meanwhile(SERVE, SITE_YAMABIKO=durable) as server, visit(server, f"kept/{room}") as visitor:
        await visitor.say("hello", "the same")
        first = await visitor.ack()
        server.signal(signal.SIGKILL)
        await asyncio.to_thread(server.process.wait, PATIENCE_SECONDS)
    async with (
        servers.meanwhile(SERVE, SITE_YAMABIKO=durable) as server,
        visit(server, f"kept/{room}", "?history=10") as visitor,
    ):
        await visitor.say("hello", "the same")
        assert await visitor.ack() == first


def test_a_second_server_on_the_same_file_does_not_start_and_says_why(servers: Servers, durable: str):
    with servers.new(SERVE, SITE_YAMABIKO=durable):
        second = start(SERVE, SITE_DATABASE=":memory:", SITE_YAMABIKO=durable)
        try:
            assert second.wait() == 1
            (line,) = second.printed
            assert "another process" in line
            assert "redis://" in line
        finally:
            second.end()


def shell(program: str, **variables: str) -> str:
    """Run a program in another process of the site; return what it prints."""
    ended = subprocess.run(
        [sys.executable, "-c", f"import django; django.setup(); import yamabiko; {program}"],
        cwd=ROOT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


async def test_a_shell_speaks_and_reads_while_the_server_has_the_file_and_when_it_has_not(
    servers: Servers, durable: str, room: str, short_folder: str
):
    database = servers._variables["SITE_DATABASE"]
    variables = {"SITE_DATABASE": database, "SITE_YAMABIKO": durable, "TMPDIR": short_folder}
    say = f"print(yamabiko.publish('kept/{room}', %r).offset)"
    read = f"print([kept.message for kept in yamabiko.history('kept/{room}').messages])"
    assert await asyncio.to_thread(shell, say % "before", **variables) == "1"
    async with (
        servers.meanwhile(SERVE, SITE_YAMABIKO=durable, TMPDIR=short_folder) as server,
        visit(server, f"kept/{room}", "?history=10") as visitor,
    ):
        assert await visitor.message() == "before"
        assert await asyncio.to_thread(shell, say % "during", **variables) == "2"
        assert await visitor.message() == "during"
        assert await asyncio.to_thread(shell, read, **variables) == "['before', 'during']"
    assert await asyncio.to_thread(shell, say % "after", **variables) == "3"
    assert await asyncio.to_thread(shell, read, **variables) == "['before', 'during', 'after']"


def operate(*words: str, cwd: Path, expect: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(
        [sys.executable, "-m", "yamabiko", *words],
        cwd=cwd,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert ended.returncode == expect, ended.stderr
    return ended


def test_an_operator_publishes_and_looks_into_a_room(servers: Servers, durable: str, tmp_path: Path):
    variables = {"SITE_DATABASE": servers._variables["SITE_DATABASE"], "SITE_YAMABIKO": durable}
    first = operate("publish", "kept/ops", "山彦\033[2J", cwd=tmp_path, **variables).stdout.strip()
    operate("publish", "kept/ops", '{"n": [1, 2]}', "--json", cwd=tmp_path, **variables)
    again = operate("publish", "kept/ops", "once", "--idempotency-key", "k", cwd=tmp_path, **variables).stdout
    assert operate("publish", "kept/ops", "once", "--idempotency-key", "k", cwd=tmp_path, **variables).stdout == again
    lines = operate("history", "kept/ops", cwd=tmp_path, **variables).stdout.splitlines()
    assert [line.split("\t")[2] for line in lines] == ["山彦␛[2J", '{"n":[1,2]}', "once"]
    assert lines[0].startswith(f"{first}\t")
    newest = operate("history", "kept/ops", "--reverse", "--limit", "1", "--json", cwd=tmp_path, **variables).stdout
    assert json.loads(newest) == {"position": again.strip(), "user": "", "message": "once"}
    since = operate("history", "kept/ops", "--since", first, "--limit", "1", cwd=tmp_path, **variables).stdout
    assert since == lines[1] + "\n"


MISTAKES = {
    "no such room": (["history", "nowhere"], "nowhere", 1),
    "a room that keeps nothing": (["history", "open/a"], "keeps no history", 1),
    "no position": (["history", "kept/a", "--since", "yesterday"], "epoch:offset", 2),
    "no JSON": (["publish", "kept/a", "{", "--json"], "JSON", 2),
    "no settings": (["history", "kept/a", "--settings", "nowhere.settings"], "nowhere", 2),
}


@pytest.mark.parametrize(("words", "part", "code"), MISTAKES.values(), ids=MISTAKES.keys())
def test_an_operators_mistake_is_one_line(tmp_path: Path, words: list[str], part: str, code: int):
    told = operate(*words, cwd=tmp_path, expect=code, SITE_DATABASE=":memory:").stderr
    assert part in told
    assert len(told.splitlines()) == 1
