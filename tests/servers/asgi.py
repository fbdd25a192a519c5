"""The test site as real servers run it: rooms alone and in Channels' routing, and sockets that are no rooms."""

import asyncio
import json
import os
from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import path

django_application = get_asgi_application()

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402

from yamabiko import RoomConsumer, with_rooms  # noqa: E402


class EchoConsumer(AsyncWebsocketConsumer):
    """An ordinary Channels consumer."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data=text_data, bytes_data=bytes_data)


class LobbyConsumer(RoomConsumer):
    room_name = "open/lobby"


alone = with_rooms(django_application)
in_channels = ProtocolTypeRouter(
    {
        "http": django_application,
        "websocket": AuthMiddlewareStack(
            URLRouter(
                [
                    path("channels/echo/", EchoConsumer.as_asgi()),
                    path("channels/lobby/", LobbyConsumer.as_asgi()),
                    path("channels/rooms/<path:room>/", RoomConsumer.as_asgi()),
                ]
            )
        ),
    }
)
go_on = asyncio.Event()


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"].startswith("/channels/") if scope["type"] == "websocket" else False:
        await in_channels(scope, receive, send)
    elif scope["type"] == "websocket" and scope["path"].startswith("/late/"):
        await alone({**scope, "path": scope["path"].removeprefix("/late")}, receive, waiting_after_accept(send))
    elif scope["type"] == "http" and scope["path"] == "/tasks/":
        await answer([task.get_coro().__qualname__ for task in asyncio.all_tasks()], send)
    elif scope["type"] == "http" and scope["path"] == "/pid/":
        await answer(os.getpid(), send)
    elif scope["type"] == "http" and scope["path"] == "/endless/":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"on", "more_body": True})
        await asyncio.Event().wait()
    elif scope["type"] == "http" and scope["path"] == "/go-on/":
        go_on.set()
        await answer([], send)
    else:
        await alone(scope, receive, send)


def waiting_after_accept(send: Any) -> Any:
    """Return a `send` that takes its time between accepting a socket and going on, as a middleware may."""

    async def send_and_wait(message: Any) -> None:
        await send(message)
        if message["type"] == "websocket.accept":
            await go_on.wait()
            go_on.clear()

    return send_and_wait


async def answer(value: object, send: Any) -> None:
    body = json.dumps(value).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
