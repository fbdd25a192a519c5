"""Clients of the JavaScript SDK, all in one Node.js process; see js/driver.js."""

from __future__ import annotations

import asyncio
import fcntl
import json
import shutil
import subprocess
import threading
from itertools import count
from pathlib import Path
from typing import Any

from tests.conftest import report_missing
from tests.sdk.clients import PATIENCE_SECONDS, Said, SdkClient, SdkError, ToConnect, Tokens

FOLDER = Path(__file__).parent / "js"
INSTALLED = FOLDER / "node_modules" / ".package-lock.json"
INSTALL = ("install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts")
INSTALL_SECONDS = 50


def install() -> None:
    """Have npm fetch the SDK into a folder that git ignores, unless it is there; one process does, others wait."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        report_missing("needs node and npm on the PATH: apt install nodejs npm")
    with (FOLDER / "package.json").open() as package:
        fcntl.flock(package, fcntl.LOCK_EX)
        if INSTALLED.exists() and INSTALLED.stat().st_mtime >= (FOLDER / "package.json").stat().st_mtime:
            return
        try:
            subprocess.run(
                [npm, *INSTALL], cwd=FOLDER, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=True
            )
            INSTALLED.touch()
        except subprocess.TimeoutExpired:
            report_missing(f"needs the packages of {FOLDER / 'package.json'}, and npm did not get them in time")
        except subprocess.CalledProcessError as error:
            report_missing(
                f"needs the packages of {FOLDER / 'package.json'}, and npm says: {error.stderr.splitlines()[:2]}"
            )


class NodeProcess:
    """The process that JavaScript clients live in. It serves any number of event loops, one after the other."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["node", "driver.js"], cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._clients: dict[int, JavaScriptClient] = {}
        self._numbers = count()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def add(self, client: JavaScriptClient) -> int:
        number = next(self._numbers)
        self._clients[number] = client
        return number

    def discard(self, number: int) -> None:
        self._clients.pop(number, None)

    def tell(self, line: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()

    def end(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            client = self._clients.get(told["client"])
            if client is not None and not client.loop.is_closed():
                client.loop.call_soon_threadsafe(client.take, told)


class JavaScriptClient(SdkClient):
    def __init__(self, to_connect: ToConnect, *, protobuf: bool, process: NodeProcess) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()
        self._process = process
        self._number = process.add(self)
        self._questions: dict[int, asyncio.Future[Any]] = {}
        self._ids = count(1)
        self._ask("make", protobuf=protobuf, **vars(to_connect))

    def take(self, told: dict[str, Any]) -> None:
        """Take a line of the process: an answer or an event."""
        if "event" in told:
            self.hear(told["event"], told["room"], told["said"])
            return
        question = self._questions.pop(told["id"])
        if question.done():
            return
        if "error" in told:
            question.set_exception(SdkError(**told["error"]))
        else:
            question.set_result(told["result"])

    async def connect(self) -> None:
        await self._ask("connect")

    async def disconnect(self) -> None:
        await self._ask("disconnect")
        self._process.discard(self._number)

    async def subscribe(
        self,
        room: str,
        *,
        token: str = "",
        tokens: Tokens | None = None,
        join_leave: bool = False,
        has_state: bool = False,
    ) -> None:
        await self._ask("subscribe", room=room, token=token, tokens=tokens, join_leave=join_leave, has_state=has_state)

    async def give_state(self, room: str, position: Said) -> None:
        await self._ask("give_state", room=room, position=position)

    async def unsubscribe(self, room: str) -> None:
        await self._ask("unsubscribe", room=room)

    async def publish(self, room: str, data: Any) -> None:
        await self._ask("publish", room=room, data=data)

    async def rpc(self, method: str, data: Any = None) -> Any:
        return await self._ask("rpc", method=method, data=data)

    async def history(self, room: str, *, limit: int = 0, since: Said | None = None, reverse: bool = False) -> Said:
        page: Said = await self._ask("history", room=room, limit=limit, since=since, reverse=reverse)
        return page

    async def presence(self, room: str) -> dict[str, Said]:
        present: dict[str, Said] = await self._ask("presence", room=room)
        return present

    async def presence_stats(self, room: str) -> dict[str, int]:
        counts: dict[str, int] = await self._ask("presence_stats", room=room)
        return counts

    def _ask(self, verb: str, **options: Any) -> asyncio.Future[Any]:
        number = next(self._ids)
        self._questions[number] = self.loop.create_future()
        self._process.tell({"id": number, "client": self._number, "do": verb, "with": options})
        return self._questions[number]
