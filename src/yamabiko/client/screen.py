"""What the guest shows: publications on standard output, everything else on standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import TextIO

from yamabiko.client.printable import printable
from yamabiko.client.wire import Presence, Publication

BOLD = "\x1b[1m{}\x1b[0m"
DIM = "\x1b[2m{}\x1b[0m"
PLAIN = "{}"
QUOTE_CHARACTERS = 60


class Screen:
    """Writes one line per publication and one per note. Only its own styles ever reach the terminal."""

    def __init__(self, *, is_styled: bool, on_reader_gone: Callable[[], None] = lambda: None) -> None:
        self.name_style = BOLD if is_styled else PLAIN
        self.note_style = DIM if is_styled else PLAIN
        self.on_reader_gone = on_reader_gone

    def show(self, publication: Publication) -> None:
        line = message_line(publication.message)
        if publication.user is not None:
            line = f"{self.name_style.format(printable(publication.user))}: {line}"
        self._write(line)

    def note(self, text: str) -> None:
        self.trace(f"yamabiko: {text}")

    def trace(self, line: str) -> None:
        try:
            write_line(sys.stderr, self.note_style.format(printable(line)))
        except BrokenPipeError:
            forget(sys.stderr)

    def _write(self, line: str) -> None:
        try:
            write_line(sys.stdout, line)
        except BrokenPipeError:
            forget(sys.stdout)
            self.on_reader_gone()


def message_line(message: object) -> str:
    """Return a message on one line: text as it is, anything else as compact JSON."""
    if isinstance(message, str):
        return printable(message)
    return printable(json.dumps(message, ensure_ascii=False, separators=(",", ":")))


def presence_line(presence: Presence) -> str:
    groups = [("here", presence.joined), ("gone", presence.left)]
    return "; ".join(f"{word}: {', '.join(names)}" for word, names in groups if names)


def quoted(text: str) -> str:
    """Return the beginning of a message, for a line that speaks about it."""
    short = text if len(text) <= QUOTE_CHARACTERS else text[: QUOTE_CHARACTERS - 3] + "..."
    return f"“{short}”"


def tolerate_any_text() -> None:
    """Let a console that cannot encode a character show a question mark instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def write_line(stream: TextIO | None, line: str) -> None:
    # Python has None for a stream that was closed before the program began.
    if stream is not None:
        stream.write(line + "\n")
        stream.flush()


def forget(stream: TextIO) -> None:
    """Send what is still to be written nowhere, so that the interpreter does not fail on it at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
