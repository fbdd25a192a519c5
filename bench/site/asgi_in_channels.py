"""Yamabiko as a route of Channels, behind its auth stack."""

import os

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bench.site.settings")
django_application = get_asgi_application()

from yamabiko import RoomConsumer  # noqa: E402

routes = URLRouter([path("rooms/<path:room>/", RoomConsumer.as_asgi())])
application = ProtocolTypeRouter({"http": django_application, "websocket": AuthMiddlewareStack(routes)})
