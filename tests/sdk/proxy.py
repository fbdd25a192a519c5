"""The network between clients and servers: it can be cut, mended, and lead somewhere else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.loopback import serving

CHUNK_BYTES = 65536
PATIENCE_SECONDS = 10


class Network:
    """A TCP proxy on a port of its own. While it is cut, connections are reset as soon as they are made."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.is_cut = False
        self._leads_to = port
        self._pieces_from_clients = 0
        self._has_passed = asyncio.Condition()
        self._lets_clients_speak = asyncio.Event()
        self._lets_clients_speak.set()
        self._links: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/connection/websocket"

    def cut(self) -> None:
        """Reset all connections; neither side says goodbye."""
        self.is_cut = True
        for link in tuple(self._links):
            link.transport.abort()

    def mend(self, port: int = 0) -> None:
        """Let clients through again, to another server if its port is given."""
        self.is_cut = False
        self._leads_to = port or self._leads_to

    def silence_clients(self) -> None:
        """Keep what clients say from now on, while they still hear the server."""
        self._lets_clients_speak.clear()

    def let_clients_speak(self) -> None:
        self._lets_clients_speak.set()

    async def client_has_spoken(self, times: int) -> None:
        """Wait until clients have said something so many times more."""
        until = self._pieces_from_clients + times
        async with asyncio.timeout(PATIENCE_SECONDS), self._has_passed:
            await self._has_passed.wait_for(lambda: self._pieces_from_clients >= until)

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_cut:
            writer.transport.abort()
            return
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._leads_to)
        self._links |= {writer, there_writer}
        try:
            if not self.is_cut:
                await asyncio.gather(_copy(self._spoken(reader), there_writer), _copy(_read(there_reader), writer))
        finally:
            self._links -= {writer, there_writer}
            writer.transport.abort()
            there_writer.transport.abort()

    async def _spoken(self, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
        async for data in _read(reader):
            await self._lets_clients_speak.wait()
            yield data
            async with self._has_passed:
                self._pieces_from_clients += 1
                self._has_passed.notify_all()


async def _read(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while data := await reader.read(CHUNK_BYTES):
        yield data


async def _copy(pieces: AsyncIterator[bytes], writer: asyncio.StreamWriter) -> None:
    async for data in pieces:
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof() and not writer.is_closing():
        writer.write_eof()


@asynccontextmanager
async def network(port: int) -> AsyncIterator[Network]:
    """Lead to the server on a port for as long as the block lasts."""
    made = Network(port)
    async with serving(made.pass_on) as made.port:
        yield made
