"""The load program counts every copy, and says so when one is wrong."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from typing import Any

import pytest

from bench.build import compiler, program
from bench.servers import free_port
from tests.bench.lying_server import lying_server
from tests.conftest import report_missing
from tests.loopback import serving

pytestmark = pytest.mark.server
FAULTS = ("lost", "doubled", "disordered", "misrouted")


@pytest.fixture(autouse=True, scope="module")
def _compiled() -> None:
    if compiler() is None:
        report_missing("needs a C compiler: apt install gcc libc6-dev zlib1g-dev")


async def load(port: int, *options: str) -> tuple[int, dict[str, Any], str]:
    """Run the load; return exit code, answer and what it complains of."""
    process = await asyncio.create_subprocess_exec(
        str(program("load")),
        *("--port", str(port), "--warm-up-connections", "0", "--settle", "0", "--warm-up", "0", "--patience", "0.5"),
        *options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, complaint = await asyncio.wait_for(process.communicate(), 20)
    return process.returncode or 0, json.loads(output) if output.startswith(b"{") else {}, complaint.decode()


@asynccontextmanager
async def floor() -> AsyncIterator[tuple[int, int]]:
    """Run the floor; yield its port and process id."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(str(program("floor")), str(port))
    try:
        async with asyncio.timeout(10):
            await until_it_listens(port)
        yield port, process.pid
    finally:
        process.terminate()
        await process.wait()


async def until_it_listens(port: int) -> None:
    while True:
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return


@asynccontextmanager
async def dripping(target: int, *, size: int) -> AsyncIterator[int]:
    """Pass bytes on to `target` and back, the way back in pieces of `size` bytes; yield the port."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, piece: int) -> None:
        while data := await reader.read(piece):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target_reader, target_writer = await asyncio.open_connection("127.0.0.1", target)
        with closing(target_writer):
            await asyncio.gather(pass_on(reader, target_writer, 65536), pass_on(target_reader, writer, size))

    async with serving(visit) as port:
        yield port


async def test_every_copy_of_an_honest_server_is_counted_once():
    async with lying_server("") as port:
        code, answer, _ = await load(port, "--members", "3", "--seconds", "0.2", "--in-flight", "4")
    assert code == 0
    assert answer["copies"] == answer["published"] * 3 > 0
    assert [answer[fault] for fault in (*FAULTS, "closed")] == [0] * 5


@pytest.mark.parametrize("lie", FAULTS)
async def test_one_wrong_copy_fails_the_load_and_is_named(lie):
    async with lying_server(lie) as port:
        code, answer, _ = await load(port, "--members", "3", "--together", "1", "--seconds", "0.2", "--in-flight", "4")
    assert code == 3
    assert {fault: answer[fault] for fault in FAULTS if answer[fault]} == {lie: 1}


async def test_pings_of_the_server_are_answered():
    async with lying_server("") as port:
        code, answer, _ = await load(port, "--members", "2", "--idle", "0.5")
    assert code == 0
    assert answer["pings"] >= 2
    assert answer["closed"] == 0


async def test_the_floor_fans_out_within_a_room_and_its_cost_is_seen():
    async with floor() as (port, pid):
        options = ["--members", "40", "--rooms", "8", "--path", "/{room}", "--in-flight", "16", "--bystander", "100"]
        code, answer, _ = await load(port, "--pid", str(pid), "--seconds", "0.3", *options)
    assert code == 0
    assert answer["copies"] == answer["published"] * 5 > 0
    assert answer["cpu_us_per_copy"] > 0
    assert answer["resident_kib_before"] > 0
    assert answer["bystander_ms_max"] > 0


@pytest.mark.parametrize("size", [1, 7, 130])
async def test_frames_are_read_however_the_network_cuts_them(size):
    async with floor() as (port, _), dripping(port, size=size) as dripping_port:
        code, answer, _ = await load(dripping_port, "--members", "3", "--seconds", "0.2", "--in-flight", "8")
    assert code == 0
    assert answer["copies"] == answer["published"] * 3 > 0


async def test_members_that_never_read_are_not_waited_for():
    async with floor() as (port, _):
        code, answer, _ = await load(
            port, "--members", "10", "--stalled", "20", "--seconds", "0.5", "--in-flight", "8", "--size", "4000"
        )
    assert code == 0
    assert answer["copies"] == answer["published"] * 8 > 0


async def test_a_refused_handshake_is_told_with_the_servers_own_words():
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 12\r\n\r\nno such room")
        await writer.drain()

    async with serving(refuse) as port:
        code, _, complaint = await load(port, "--members", "1")
    assert code == 1
    assert "404 Not Found" in complaint
    assert "no such room" in complaint


async def test_wrong_usage_is_told_with_all_options():
    code, _, complaint = await load(1, "--members", "1", "--rooms", "2")
    assert code == 2
    assert "expected 1 <= rooms <= members" in complaint
    assert "--in-flight" in complaint


def test_the_program_is_built_from_our_own_sources_only():
    assert os.access(program("load"), os.X_OK)
    assert program("load").parent.name == ".build"
