"""Clients of one room that each publish, wait for the acknowledgement, and publish again.

Prints one JSON object: acknowledged publications per second, and the CPU of server and load for each in microseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import struct
import time
from functools import partial
from typing import Any

import psutil

HANDSHAKE = (
    "GET /rooms/history/1/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
ACK = b'{"ack":'


class Publisher(asyncio.Protocol):
    def __init__(self, number: int, port: int) -> None:
        self._number = number
        self._port = port
        self._tail = b""
        self.is_open = asyncio.get_running_loop().create_future()
        self.acknowledged = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(HANDSHAKE.format(port=self._port).encode())

    def data_received(self, data: bytes) -> None:
        if not self.is_open.done():
            self.is_open.set_result(None)
            return
        if ACK in self._tail + data:
            self.acknowledged += 1
            self.publish()
        self._tail = data[-len(ACK) + 1 :]

    def publish(self) -> None:
        text = f'{{"message":"{self._number:070}","id":"{self._number}.{self.acknowledged}"}}'.encode()
        # Masked with zeros, a payload stays as it is.
        self._transport.write(struct.pack("!BB4x", 0x81, 0x80 | len(text)) + text)


def same(publisher: Publisher) -> Publisher:
    return publisher


async def main(port: int, pid: int, clients: int, seconds: float) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    publishers = [Publisher(number, port) for number in range(clients)]
    for publisher in publishers:
        await loop.create_connection(partial(same, publisher), "127.0.0.1", port)
        await publisher.is_open
    await asyncio.sleep(0.2)
    for publisher in publishers:
        publisher.publish()
    await asyncio.sleep(0.3)
    server, before, begin = psutil.Process(pid), sum(p.acknowledged for p in publishers), time.perf_counter()
    own, theirs = time.process_time(), sum(server.cpu_times()[:2])
    await asyncio.sleep(seconds)
    took, count = time.perf_counter() - begin, sum(p.acknowledged for p in publishers) - before
    return {
        "per_second": count / took,
        "server_cpu_us": (sum(server.cpu_times()[:2]) - theirs) / count * 1e6,
        "own_cpu_us": (time.process_time() - own) / count * 1e6,
    }


if __name__ == "__main__":
    import uvloop

    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0)
    chosen = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(main(chosen.port, chosen.pid, chosen.clients, chosen.seconds))))
