"""Lines from a file or another program: each is said, and the visit ends when all are answered."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from yamabiko.client.visit import Visit

CHUNK_BYTES = 65536
# Many times what a room takes; only here so that a file without line breaks does not fill the memory.
LONGEST_LINE_BYTES = 1024 * 1024


@dataclass(frozen=True)
class UnusableLine:
    """A line that cannot be a message, and why."""

    reason: str


Batch = list[str | UnusableLine]


class Lines:
    """Cuts chunks of bytes into lines of text, `\\n` and `\\r\\n` alike."""

    def __init__(self, longest_bytes: int = LONGEST_LINE_BYTES) -> None:
        self.longest_bytes = longest_bytes
        self._count = 0
        self._rest = b""
        self._is_too_long = False

    def cut(self, chunk: bytes) -> Iterator[str | UnusableLine]:
        """Yield the lines that `chunk` completes."""
        *whole, rest = (self._rest + chunk).split(b"\n")
        self._rest = rest
        for line in whole:
            yield self._line(line)
        if len(rest) > self.longest_bytes:
            self._rest, self._is_too_long = b"", True

    def last(self) -> Iterator[str | UnusableLine]:
        """Yield what came after the last line break, if anything did."""
        if self._rest or self._is_too_long:
            yield self._line(self._rest)

    def _line(self, line: bytes) -> str | UnusableLine:
        self._count += 1
        is_too_long, self._is_too_long = self._is_too_long or len(line) > self.longest_bytes, False
        if is_too_long:
            return UnusableLine(f"line {self._count} is not sent: longer than {self.longest_bytes} bytes")
        if self._count == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        try:
            return line.removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            return UnusableLine(f"line {self._count} is not sent: not UTF-8 at byte {error.start + 1}")


class Pipe:
    """Reads a descriptor in a thread, because a regular file or a Windows pipe cannot be waited for."""

    is_answerable = True

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    async def read(self, visit: Visit) -> None:
        loop = asyncio.get_running_loop()
        batches: asyncio.Queue[Batch | None] = asyncio.Queue()
        taken = threading.Semaphore(0)
        threading.Thread(target=self._read_in_thread, args=(loop, batches, taken), daemon=True).start()
        while (batch := await batches.get()) is not None:
            await say_all(visit, batch)
            taken.release()
        await visit.all_is_said()

    def _read_in_thread(
        self,
        loop: asyncio.AbstractEventLoop,
        batches: asyncio.Queue[Batch | None],
        taken: threading.Semaphore,
    ) -> None:
        """Hand over one batch at a time, so that a large file waits on the disk and not in memory."""
        # RuntimeError: the loop is closed because the visit is over; nobody waits for the rest.
        with contextlib.suppress(RuntimeError):
            for batch in self._batches():
                loop.call_soon_threadsafe(batches.put_nowait, batch)
                taken.acquire()
            loop.call_soon_threadsafe(batches.put_nowait, None)

    def _batches(self) -> Iterator[Batch]:
        lines = Lines()
        try:
            # Not sys.stdin: the interpreter aborts at exit when a thread holds its lock.
            while chunk := os.read(self.descriptor, CHUNK_BYTES):
                yield list(lines.cut(chunk))
        except OSError as error:
            yield [UnusableLine(f"the input cannot be read further: {error.strerror}")]
        yield list(lines.last())


async def say_all(visit: Visit, lines: Batch) -> None:
    for line in lines:
        if isinstance(line, UnusableLine):
            visit.failures += 1
            visit.screen.note(line.reason)
        else:
            await visit.say(line)
