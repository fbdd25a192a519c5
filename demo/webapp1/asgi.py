import os

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application

import yamabiko

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp1.settings")

# First the application, then the routes: they import models, which need it.
django_application = get_asgi_application()

from webapp1.routing1 import websocket_urlpatterns  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": yamabiko.with_streams(django_application),
        "websocket": AuthMiddlewareStack(URLRouter(websocket_urlpatterns)),
    }
)
