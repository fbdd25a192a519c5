"""How a shell or a task on the same machine speaks in rooms that one server has to itself, in memory or in a file.

With `memory://` and `sqlite://` a room is in the process that serves it. Each such process listens on a Unix socket
that other processes of the same site and user find and speak and read through. A site is known by its database, its
BROKER and its SECRET_KEY, so a test run never speaks in the rooms of a running server. Where there are no Unix sockets,
on Windows, there is no such line.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from stat import S_ISDIR

import msgspec
from django.db import DEFAULT_DB_ALIAS, connections
from django.utils.crypto import salted_hmac

from yamabiko.core.errors import NotAvailable, PublishFailed, YamabikoError
from yamabiko.core.messages import Position, Stream
from yamabiko.django import settings

logger = logging.getLogger("yamabiko")

ANSWER_SECONDS = 2.0
LONGEST_LINE = 16 * 1024 * 1024


class Speak(msgspec.Struct, tag="publish"):
    room: str
    data: msgspec.Raw
    key: str


class Read(msgspec.Struct, tag="read"):
    room: str
    since: Position | None
    limit: int
    reverse: bool


class Answer(msgspec.Struct):
    position: Position | None = None
    page: Stream | None = None
    error: str = ""


class LocalLine:
    """The listening end: hands each call, one line of JSON, to the node; answers with what it says or the error."""

    def __init__(
        self, publish: Callable[..., Awaitable[Position | None]], read: Callable[..., Awaitable[Stream]]
    ) -> None:
        self._publish = publish
        self._read = read
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
            call = msgspec.json.decode(line, type=Speak | Read)
            if isinstance(call, Speak):
                return Answer(await self._publish(call.room, bytes(call.data), key=call.key))
            return Answer(page=await self._read(call.room, since=call.since, limit=call.limit, reverse=call.reverse))
        except (YamabikoError, msgspec.MsgspecError) as error:
            return Answer(error=str(error) or type(error).__name__)


def publish_to_servers(room: str, data: bytes, key: str = "") -> list[Position | None]:
    """Publish in every running server of this site on this machine; return the positions, none if no server runs.

    Raises PublishFailed if a server did not take it.
    """
    answers = []
    for line in _open_lines(PublishFailed) if is_possible() else ():
        try:
            answers.append(_answer_on(line, Speak(room, msgspec.Raw(data), key)))
        except (OSError, msgspec.MsgspecError) as error:
            raise PublishFailed(
                f"a server of this site on this machine did not answer, and may have published it: {error!r}"
            ) from error
        if answers[-1].error:
            raise PublishFailed(f"the server did not take it: {answers[-1].error}")
    return [answer.position for answer in answers]


def read_from_server(room: str, since: Position | None, limit: int, reverse: bool) -> Stream | None:
    """Return a page of history from a running server of this site on this machine, None if no server runs.

    Raises NotAvailable if the server has none.
    """
    for line in _open_lines(NotAvailable) if is_possible() else ():
        try:
            answer = _answer_on(line, Read(room, since, limit, reverse))
        except (OSError, msgspec.MsgspecError) as error:
            raise NotAvailable(f"a server of this site on this machine did not answer: {error!r}") from error
        if answer.error:
            raise NotAvailable(f"the server says: {answer.error}")
        return answer.page
    return None


def _answer_on(line: socket.socket, call: Speak | Read) -> Answer:
    with line, line.makefile("rb") as answers:
        line.sendall(msgspec.json.encode(call) + b"\n")
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
