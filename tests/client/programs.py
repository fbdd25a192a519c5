"""The guest as a real process: with pipes, or at a real pseudo-terminal whose screen can be read."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import struct
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pyte

SOURCE = Path(__file__).parents[2] / "src"
PATIENCE_SECONDS = 20
GUEST = ("-m", "yamabiko.client")


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PATH", "HOME", "COVERAGE"))}
    return {
        **kept,
        "PYTHONPATH": str(SOURCE),
        "PYTHONUTF8": "1",
        "TERM": "xterm",
        # Nobody here answers the question where the cursor is.
        "PROMPT_TOOLKIT_NO_CPR": "1",
        **more,
    }


@dataclass
class Finished:
    code: int
    out: list[str]
    notes: list[str]


class Piped:
    """A guest that reads and writes pipes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.out: list[str] = []
        self.notes: list[str] = []

    def type(self, text: str) -> None:
        self.process.stdin.write(text.encode())

    @property
    def unread_bytes(self) -> int:
        """Return how much of what was typed waits outside the guest (and outside the pipe's own buffer)."""
        return self.process.stdin.transport.get_write_buffer_size()

    def end_input(self) -> None:
        self.process.stdin.close()

    async def shows(self, part: str) -> None:
        await self._wait_for(part, self.process.stdout, self.out)

    async def notes_that(self, part: str) -> None:
        await self._wait_for(part, self.process.stderr, self.notes)

    async def _wait_for(self, part: str, stream: asyncio.StreamReader, lines: list[str]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while line := await stream.readline():
                lines.append(line.decode().rstrip("\n"))
                if part in lines[-1]:
                    return
        raise AssertionError(f"{part!r} never came; the output ended with {lines[-5:]}")

    async def finish(self, text: str = "") -> Finished:
        """Write the rest of the input, end it, and wait for the exit."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            if not self.process.stdin.is_closing():
                self.type(text)
                self.end_input()
            out, notes = await self.process.communicate()
        return Finished(
            self.process.returncode,
            self.out + out.decode().splitlines(),
            self.notes + notes.decode().splitlines(),
        )

    async def exit_code(self) -> int:
        """Wait for the exit with the input still open."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.process.wait()


@asynccontextmanager
async def piped(*arguments: str, program: tuple[str, ...] = GUEST, **env: str) -> AsyncIterator[Piped]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *program,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(**env),
    )
    guest = Piped(process)
    try:
        yield guest
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def run(*arguments: str, text: str = "", program: tuple[str, ...] = GUEST, **env: str) -> Finished:
    async with piped(*arguments, program=program, **env) as guest:
        return await guest.finish(text)


class Seated:
    """A guest at a terminal of 80 columns and 24 lines."""

    def __init__(self, process: asyncio.subprocess.Process, descriptor: int) -> None:
        self.process = process
        self.descriptor = descriptor
        self.raw = b""
        self._screen = pyte.Screen(80, 24)
        self._stream = pyte.ByteStream(self._screen)
        self._changed = asyncio.Event()
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self.descriptor, 65536)
        except OSError:  # Linux says EIO when the other end is gone.
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self.descriptor)
        self.raw += data
        self._stream.feed(data)
        self._changed.set()

    def type(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    @property
    def lines(self) -> list[str]:
        # pyte leaves an empty cell after a wide character; nothing is shown there.
        return [line.rstrip() for line in self._screen.display if line.strip()]

    async def until(self, is_shown) -> None:
        """Wait until `is_shown(lines)` holds for the lines on the screen."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not is_shown(self.lines):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError("the screen stayed:\n" + "\n".join(self.lines)) from None

    async def shows(self, part: str) -> None:
        await self.until(lambda lines: any(part in line for line in lines))

    async def has_last_line(self, line: str) -> None:
        await self.until(lambda lines: lines and lines[-1] == line.rstrip())

    async def exit_code(self) -> int:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.process.wait()


def sit_down() -> None:
    """Make the terminal on standard input the one whose Ctrl+C reaches this process."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@asynccontextmanager
async def seated(*arguments: str, **env: str) -> AsyncIterator[Seated]:
    descriptor, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *GUEST,
        *arguments,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment(**env),
        start_new_session=True,
        preexec_fn=sit_down,
    )
    os.close(terminal)
    guest = Seated(process, descriptor)
    try:
        yield guest
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
