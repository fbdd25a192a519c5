"""How a shell or a task on the same machine speaks in rooms that one server has to itself, in memory or in a file.

With `memory://` and `sqlite://` a room is in the process that serves it. Each such process listens on a Unix socket
that other processes of the same site and user find, and through which they have their wishes fulfilled. A site is known
by its database, its BROKER and its SECRET_KEY, so a test run never speaks in the rooms of a running server. Where there
are no Unix sockets, on Windows, there is no such line.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISDIR
from typing import Any, TypeVar

import msgspec
from django.db import DEFAULT_DB_ALIAS, connections
from django.utils.crypto import salted_hmac

from yamabiko.core.errors import NotAvailable, PublishFailed, Refusal, YamabikoError, refusal_of
from yamabiko.core.messages import NOTHING
from yamabiko.core.node import Node
from yamabiko.django import settings
from yamabiko.django.wishes import AnyWish, Publish, Wish, decoded_answer

logger = logging.getLogger("yamabiko")
T = TypeVar("T")

ANSWER_SECONDS = 2.0
LONGEST_LINE = 16 * 1024 * 1024


class Answer(msgspec.Struct, omit_defaults=True):
    """What a wish was answered, or the text of its error with the code of the Refusal it was, 0 for PublishFailed."""

    answer: msgspec.Raw = NOTHING
    error: str = ""
    code: int = 0


class LocalLine:
    """The listening end: hands each wish, one line of JSON, to the node; answers with what it says or the error."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._server: asyncio.Server | None = None
        self._path = Path()

    async def open(self) -> None:
        """Begin to listen. A machine that has no safe place for the socket is told of in the log, and goes without."""
        try:
            self._path = _path(os.getpid())
            self._path.unlink(missing_ok=True)  # left by a killed process that had our number
            self._server = await asyncio.start_unix_server(self._answer, self._path, limit=LONGEST_LINE)
        except OSError as error:
            logger.warning("other processes of this machine cannot speak in these rooms: %s", error)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self._answer_to(await reader.readline())
                writer.write(msgspec.json.encode(answer) + b"\n")
                await writer.drain()
        except (OSError, ValueError) as error:
            logger.debug("a call on the local line broke off: %r", error)
        finally:
            writer.close()

    async def _answer_to(self, line: bytes) -> Answer:
        try:
            wish = msgspec.json.decode(line, type=AnyWish)
            return Answer(msgspec.Raw(msgspec.json.encode(await wish.fulfil(self._node))))
        except Refusal as refusal:
            return Answer(error=refusal.message, code=refusal.code)
        except (YamabikoError, msgspec.MsgspecError) as error:
            return Answer(error=str(error) or type(error).__name__)


def ask_servers(wish: Wish[T]) -> list[T]:
    """Have every running server of this site on this machine fulfil a wish; return the answers, none if none runs.

    Raises what the server did; PublishFailed for a publish, NotAvailable for any other wish, that got no answer.
    """
    failure = PublishFailed if isinstance(wish, Publish) else NotAvailable
    return [_ask(line, wish, failure) for line in (_open_lines(failure) if is_possible() else ())]


def _ask(line: socket.socket, wish: Wish[T], failure: type[YamabikoError]) -> T:
    try:
        answer = _answer_on(line, wish)
        if not answer.error:
            return decoded_answer(wish, bytes(answer.answer))
    except (OSError, msgspec.MsgspecError) as error:
        text = f"a server of this site on this machine did not answer, and may have done it: {error!r}"
        raise (PublishFailed(text, may_be_published=True) if failure is PublishFailed else failure(text)) from error
    if isinstance(wish, Publish) and answer.code in (0, NotAvailable.code):
        raise PublishFailed(f"the server did not take it: {answer.error}")
    raise refusal_of(answer.code, answer.error)


def _answer_on(line: socket.socket, wish: Wish[Any]) -> Answer:
    with line, line.makefile("rb") as answers:
        line.sendall(msgspec.json.encode(wish) + b"\n")
        return msgspec.json.decode(answers.readline(), type=Answer)


def _open_lines(failure: type[YamabikoError]) -> Iterator[socket.socket]:
    for path in _paths():
        line = socket.socket(socket.AF_UNIX)
        line.settimeout(ANSWER_SECONDS)
        try:
            line.connect(str(path))
        except ConnectionRefusedError:  # of a server that was killed
            line.close()
            path.unlink(missing_ok=True)
        except FileNotFoundError:  # of a server that has just ended
            line.close()
        except OSError as error:
            line.close()
            raise failure(f"a server of this site on this machine cannot be reached: {error!r}") from error
        else:
            yield line


def is_possible() -> bool:
    """Tell whether other processes can be of the same site at all: not those of a database in memory."""
    name = _database()
    return hasattr(socket, "AF_UNIX") and bool(name) and ":memory:" not in name and "mode=memory" not in name


def _paths() -> list[Path]:
    folder, prefix = _folder(), _prefix()
    if not folder.exists() or not _is_private(folder):
        return []
    return [path for path in folder.iterdir() if path.name.startswith(prefix)]


def _path(process: int) -> Path:
    folder = _folder()
    folder.mkdir(mode=0o700, exist_ok=True)
    if not _is_private(folder):
        raise PermissionError(f"{folder} is open to others")
    return folder / f"{_prefix()}{process}"


def _is_private(folder: Path) -> bool:
    status = folder.lstat()  # a link could be turned elsewhere after this look
    return S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / f"yamabiko-{os.getuid()}"


def _prefix() -> str:
    rooms = f"{_database()}\n{settings.broker_url()}"
    return f"site-{salted_hmac('yamabiko.site', rooms).hexdigest()[:16]}-"


def _database() -> str:
    if DEFAULT_DB_ALIAS not in connections:
        return ""
    return str(connections[DEFAULT_DB_ALIAS].settings_dict.get("NAME") or "")
