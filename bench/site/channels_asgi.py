"""Channels' own way: a consumer that joins a group and sends what it receives to the group."""

import json
import os
from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bench.site.settings")
django_application = get_asgi_application()


class GroupConsumer(AsyncWebsocketConsumer):
    for_users_only = False

    async def connect(self) -> None:
        if self.for_users_only and not self.scope["user"].is_authenticated:
            await self.close()
            return
        self.group = f"room-{self.scope['url_route']['kwargs']['number']}"
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        if hasattr(self, "group"):
            await self.channel_layer.group_discard(self.group, self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        message = json.loads(text_data or "{}")["message"]
        await self.channel_layer.group_send(self.group, {"type": "send_message", "message": message})

    async def send_message(self, event: dict[str, Any]) -> None:
        await self.send(text_data=json.dumps({"payload": event}))


class UsersConsumer(GroupConsumer):
    for_users_only = True


routes = URLRouter(
    [path("plain/<int:number>/", GroupConsumer.as_asgi()), path("users/<int:number>/", UsersConsumer.as_asgi())]
)
application = ProtocolTypeRouter({"http": django_application, "websocket": AuthMiddlewareStack(routes)})
