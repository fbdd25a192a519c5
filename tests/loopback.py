"""Servers on loopback that say what a test wants, and of which nothing is left open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(talk: Talk) -> AsyncIterator[int]:
    """Have `talk` answer every connection for as long as the block lasts; yield the port.

    What it raises fails the block, but for a connection that breaks.
    """
    talks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Know a connection from its first moment: its task may be cancelled before it has begun."""
        if server.is_serving():
            talks[asyncio.create_task(run(reader, writer))] = writer
        else:
            writer.transport.abort()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for talking, writer in talks.items():
            talking.cancel()
            writer.transport.abort()
        outcomes = await asyncio.gather(*talks, return_exceptions=True)
        await asyncio.gather(*(writer.wait_closed() for writer in talks.values()), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
