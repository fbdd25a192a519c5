"""Publishes into one room of a log without end, and prints the position of each publication that was acknowledged."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

from yamabiko.brokers.sqlite import SqliteBroker
from yamabiko.core.messages import History

HISTORY = History(size=1_000_000, ttl=timedelta(hours=1))
PUBLISHERS = 16


async def publish_without_end(broker: SqliteBroker, publisher: int) -> None:
    number = 0
    while True:
        number += 1
        data = b"[%d,%d]" % (publisher, number)
        position = await broker.publish("room", data, history=HISTORY, user="alice", key=f"{publisher}/{number}")
        print(position.offset, position.epoch, data.decode(), flush=True)


async def main(path: Path) -> None:
    broker = SqliteBroker(path)
    await asyncio.gather(*(publish_without_end(broker, publisher) for publisher in range(PUBLISHERS)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
