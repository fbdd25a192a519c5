"""A program built as the article builds its client talks to the demo site."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers.running import DEMO, Kind, Running, environment, serving
from tests.servers.visitors import visit

pytestmark = pytest.mark.server

CLIENT = Path(__file__).with_name("typing_client.py")


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Running]:
    with serving(DEMO, DATA_DIR=str(tmp_path), DJANGO_SETTINGS_MODULE="webapp1.settings") as demo:
        yield demo


@contextmanager
def client(demo: Running) -> Iterator[Running]:
    process = subprocess.Popen(
        [sys.executable, str(CLIENT), f"ws://127.0.0.1:{demo.port}/websock1/"],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    running = Running(Kind("client", (), ""), process)
    running.read()
    assert process.stdin is not None
    try:
        with process.stdin:
            yield running
    finally:
        running.end()


def typed(program: Running, line: str) -> None:
    stdin = program.process.stdin
    assert stdin is not None
    stdin.write(f"{line}\n")
    stdin.flush()


async def test_what_is_typed_comes_back_to_everyone_in_room1(demo: Running):
    async with visit(demo, "room1") as page:
        with client(demo) as program:
            typed(program, "hello")
            payload = json.loads(program.line("^received: (.*hello.*)")[1])["payload"]
            assert payload.items() >= {"type": "send_message", "message": "hello", "offset": 1}.items()
            assert await page.message() == "hello"
            await page.send("やっほー")
            assert "やっほー" in program.line("^received: (.*やっほー.*)")[1]
            program.signal(signal.SIGINT)
            assert await asyncio.to_thread(program.wait) == 0
    assert "closed: None None" in program.printed or "closed: 1000 " in program.printed, program.printed
