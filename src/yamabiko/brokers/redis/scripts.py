"""The Lua scripts, and the commands that run them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple

Word = str | bytes | int


class Request(NamedTuple):
    """A command for the server that has the slot of `tag`. One that runs a script has its `source`.

    With an `item`, commands that are alike are asked as one: the script takes any number of items, and answers a list.
    """

    tag: str
    command: tuple[Word, ...]
    source: str = ""
    item: tuple[Word, ...] = ()

    def words(self, run: str, *, with_source: bool = False) -> tuple[Word, ...]:
        """Return the command without item for a server in its `run`, with the source if it does not know the script."""
        if not self.source:
            return self.command
        return ("EVAL", self.source, *self.command[2:], run) if with_source else (*self.command, run)


class Script:
    """The scripts of these names as one: each may use what stands before it."""

    def __init__(self, *names: str) -> None:
        self.source = "\n".join(map(_text, names))
        self._digest = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def command(self, keys: Sequence[str], arguments: Sequence[Word]) -> tuple[Word, ...]:
        """Return the command that runs it; every script takes the run of the server after its arguments."""
        return ("EVALSHA", self._digest, len(keys), *keys, *arguments)


def _text(name: str) -> str:
    return files(__package__).joinpath(f"{name}.lua").read_text(encoding="utf-8")


PUBLISH = Script("clock", "numbering", "publish")
READ = Script("clock", "numbering", "read")
FORGET = Script("forget")
CHANGE = Script("clock", "presence", "change")
RENEW = Script("clock", "presence", "renew")
LOOK = Script("clock", "presence", "look")
LOSE = Script("clock", "lose")
RECLAIM = Script("clock", "reclaim")
