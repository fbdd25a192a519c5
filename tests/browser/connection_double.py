"""A server that is none: speaks the SDK protocol, and does what a page's connection has to survive."""

import json
from collections.abc import Callable
from typing import Any

from playwright.sync_api import BrowserContext, WebSocketRoute

Request = dict[str, Any]
Answer = Request | Callable[[Request], Request | None] | None


class ConnectionDouble:
    """Let it `answer` a context. `replies` says, by kind of command, what is answered; None answers nothing."""

    def __init__(self, **replies: Answer) -> None:
        self.replies: dict[str, Answer] = {
            "connect": {"client": "c1", "version": "1", "ping": 25, "pong": True},
            "subscribe": {"recoverable": True, "positioned": True, "epoch": "first", "offset": 7},
        } | replies
        self.asked: list[tuple[str, Request]] = []
        self.pongs = 0
        self.sockets: list[WebSocketRoute] = []

    def answer(self, context: BrowserContext) -> BrowserContext:
        context.route_web_socket(lambda url: True, self.connected)
        return context

    def connected(self, socket: WebSocketRoute) -> None:
        self.sockets.append(socket)
        socket.on_message(lambda text: [self.heard(json.loads(line)) for line in text.split("\n")])

    def heard(self, command: Request) -> None:
        if not command:
            self.pongs += 1
            return
        number = command.pop("id")
        ((kind, request),) = command.items()
        self.asked.append((kind, request))
        answer = self.replies.get(kind, {})
        result = answer(request) if callable(answer) else answer
        if result is not None:
            self.tell({"id": number, **(result if "error" in result else {kind: result})})

    def requests(self, kind: str) -> list[Request]:
        return [request for asked, request in self.asked if asked == kind]

    def publish(self, room: str, *offsets: int) -> None:
        """Publish `{"n": offset}` for each, in one frame."""
        self.tell(*[{"push": {"channel": room, "pub": publication(offset)}} for offset in offsets])

    def push(self, room: str = "", **push: Any) -> None:
        self.tell({"push": {"channel": room, **push}})

    def ping(self) -> None:
        self.tell({})

    def tell(self, *replies: Request) -> None:
        self.sockets[-1].send("\n".join(json.dumps(reply) for reply in replies))

    def close(self, code: int = 4000, reason: str = "") -> None:
        self.sockets[-1].close(code=code, reason=reason)


def publication(offset: int) -> Request:
    return {"data": {"n": offset}, "offset": offset}


def person(client: str, user: str = "") -> Request:
    return {"client": client, "user": user, "conn_info": {"name": f"name of {user}"}} if user else {"client": client}


def error(code: int, message: str, *, temporary: bool = False) -> Request:
    return {"error": {"code": code, "message": message, "temporary": temporary}}
