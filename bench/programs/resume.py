"""Clients that all come back at once, each having missed messages, while a bystander talks in another room.

Prints one JSON object: seconds until all are live, and the bystander's waiting times in milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from functools import partial
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
BYSTANDER_PAUSE_SECONDS = 0.02
PATIENCE_SECONDS = 120
MARK = b'"offset":'


class Returning(asyncio.Protocol):
    """One client: counts what it missed until it has it all. A publication is known by its offset."""

    def __init__(self, request: bytes, missed: int, has_all: asyncio.Future[None]) -> None:
        self._request = request
        self._left = missed
        self._has_all = has_all
        self._tail = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        data = self._tail + data
        self._left -= data.count(MARK)
        self._tail = data[-len(MARK) + 1 :]
        if self._left <= 0 and not self._has_all.done():
            self._has_all.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._has_all.done():
            self._has_all.set_exception(exc or ConnectionError("closed before it had everything"))


async def main(port: int, clients: int, missed: int) -> dict[str, Any]:
    async with connect(f"ws://127.0.0.1:{port}/rooms/history/1/", compression=None) as publisher:
        since = await published(publisher, 1)
        await published(publisher, missed)
        async with connect(f"ws://127.0.0.1:{port}/rooms/plain/1/", compression=None) as bystander:
            quiet = await waits(bystander, asyncio.create_task(asyncio.sleep(1)))
            begin = time.perf_counter()
            coming = asyncio.create_task(come_back(port, clients, missed, since))
            busy = await waits(bystander, coming)
            seconds = coming.result() - begin
    return {
        "clients": clients,
        "missed": missed,
        "seconds": seconds,
        "bystander_quiet_ms_p99": percentile(quiet, 0.99),
        "bystander_ms_p50": percentile(busy, 0.5),
        "bystander_ms_p99": percentile(busy, 0.99),
        "bystander_ms_max": max(busy),
    }


async def published(publisher: ClientConnection, count: int) -> str:
    """Publish so many messages; return the position of the last as epoch:offset."""
    for number in range(count):
        await publisher.send(json.dumps({"message": f"{number:0100}"}))
        payload = json.loads(await publisher.recv())["payload"]
    return f"{payload['epoch']}:{payload['offset']}"


async def come_back(port: int, clients: int, missed: int, since: str) -> float:
    """Connect all at once; return when the last has everything."""
    loop = asyncio.get_running_loop()
    request = HANDSHAKE.format(path=f"/rooms/history/1/?since={since}", port=port).encode()
    futures = [loop.create_future() for _ in range(clients)]
    links = []
    for future in futures:
        _, client = await loop.create_connection(partial(Returning, request, missed, future), "127.0.0.1", port)
        links.append(client)
    await asyncio.gather(*futures)
    end = time.perf_counter()
    for client in links:
        client.transport.abort()
    return end


async def waits(bystander: ClientConnection, during: asyncio.Task[Any]) -> list[float]:
    """Talk every 20 ms until `during` is done; return how many ms each message took there and back."""
    taken = []
    while not during.done():
        begin = time.perf_counter()
        await bystander.send("hello")
        await bystander.recv()
        taken.append((time.perf_counter() - begin) * 1000)
        await asyncio.sleep(BYSTANDER_PAUSE_SECONDS)
    return taken


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


if __name__ == "__main__":
    import uvloop

    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--clients", type=int, default=5000)
    parser.add_argument("--missed", type=int, default=100)
    chosen = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        work = main(chosen.port, chosen.clients, chosen.missed)
        print(json.dumps(runner.run(asyncio.wait_for(work, PATIENCE_SECONDS))))
