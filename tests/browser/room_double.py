"""A room without a server: speaks the room protocol, and does what a page has to survive."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import BrowserContext, WebSocketRoute


class RoomDouble:
    """Let it `answer` a context: every socket of its pages then ends here."""

    def __init__(self, *, epoch: str = "first", keeps_history: bool = True) -> None:
        self.epoch = epoch
        self.keeps_history = keeps_history
        self.published: list[dict[str, Any]] = []
        self.received: list[dict[str, Any]] = []
        self.asked: list[dict[str, str]] = []  # the query of each connection, in order
        self.sockets: list[WebSocketRoute] = []
        self.members: list[dict[str, str]] = []
        self.on_message: Callable[[RoomDouble, dict[str, Any]], None] = accept

    def answer(self, context: BrowserContext) -> BrowserContext:
        context.route_web_socket(lambda url: True, self.connected)
        return context

    def connected(self, socket: WebSocketRoute) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(socket.url).query).items()}
        self.asked.append(query)
        self.sockets.append(socket)
        socket.on_message(lambda text: self.heard(json.loads(text)))
        epoch, _, offset = query.get("since", ":0").rpartition(":")
        for publication in self.published if self.keeps_history else ():
            if epoch != self.epoch or publication["offset"] > int(offset):
                self.tell(payload=publication)
        self.tell(presence={"joined": self.members or [{"client": "page"}]})

    def heard(self, message: dict[str, Any]) -> None:
        self.received.append(message)
        self.on_message(self, message)

    def publish(self, message: Any, user: str = "") -> dict[str, Any]:
        publication = self.keep(message, user)
        self.tell(payload=publication)
        return publication

    def keep(self, message: Any, user: str = "") -> dict[str, Any]:
        """Publish while the page is not there to hear it."""
        publication = {"type": "send_message", "message": message} | self.place(len(self.published) + 1)
        self.published.append(publication | ({"user": user} if user else {}))
        return self.published[-1]

    def acknowledge(self, message_id: str, offset: int) -> None:
        self.tell(ack={"id": message_id} | self.place(offset))

    def place(self, offset: int) -> dict[str, Any]:
        return {"offset": offset, "epoch": self.epoch} if self.keeps_history else {}

    def tell(self, **frame: Any) -> None:
        self.sockets[-1].send(json.dumps(frame))

    def close(self, code: int, reason: str = "") -> None:
        self.sockets[-1].close(code=code, reason=reason)


def accept(room: RoomDouble, message: dict[str, Any]) -> None:
    publication = room.publish(message["message"])
    room.acknowledge(message["id"], publication.get("offset", 0))


def ignore(room: RoomDouble, message: dict[str, Any]) -> None:
    """Hear it, and never answer."""


def refuse(room: RoomDouble, message: dict[str, Any]) -> None:
    room.tell(error={"code": 400, "message": "not today", "id": message["id"]})
