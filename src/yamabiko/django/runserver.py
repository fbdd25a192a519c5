"""Django's own runserver, its WSGI server replaced by our ASGI server: same options, checks, messages, reloads."""

from __future__ import annotations

import socket
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.management.base import CommandError
from django.core.management.commands.runserver import Command as DjangoCommand
from django.utils.module_loading import import_string

from yamabiko.core.errors import ConfigurationError
from yamabiko.django.site_server import SiteServer
from yamabiko.transports.server import config

if apps.is_installed("django.contrib.staticfiles"):
    from django.contrib.staticfiles.management.commands.runserver import Command as StaticFilesCommand

    Base: type[DjangoCommand] = StaticFilesCommand
else:
    Base = DjangoCommand


class AsgiServer:
    """What Django's runserver asks of a server class, done by ours."""

    address_family = socket.AF_INET

    def __init__(self, address: tuple[str, int], handler_class: object, *, ipv6: bool = False) -> None:
        family = socket.AF_INET6 if ipv6 else socket.AF_INET
        self._listener = socket.create_server(address, family=family, backlog=2048)
        self.server_port = self._listener.getsockname()[1]
        self._application: Any = None

    def set_app(self, application: Any) -> None:
        self._application = application

    def serve_forever(self) -> None:
        server = SiteServer(config(self._application, timeout_graceful_shutdown=2))
        try:
            server.run(sockets=[self._listener])
        except ConfigurationError as error:
            raise CommandError(str(error)) from error


class Command(Base):  # type: ignore[misc,valid-type]
    help = "Starts a development server for HTTP and WebSocket, over ASGI."
    server_cls = AsgiServer

    def run(self, **options: Any) -> None:
        # Django mixes a ThreadingMixIn into the server class otherwise.
        super().run(**{**options, "use_threading": False})

    def get_handler(self, *args: Any, **options: Any) -> Any:
        application = self._application()
        if options.get("use_static_handler") and (settings.DEBUG or options["insecure_serving"]):
            from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler

            return ASGIStaticFilesHandler(application)
        return application

    def _application(self) -> Any:
        """Return the project's ASGI application: ASGI_APPLICATION, or `application` in the asgi.py beside its urls."""
        path = getattr(
            settings, "ASGI_APPLICATION", None
        ) or f"{settings.ROOT_URLCONF.rpartition('.')[0]}.asgi.application".removeprefix(".")
        try:
            return import_string(path)
        except ImportError as error:
            raise CommandError(
                f"There is no ASGI application at {path!r} ({error}). "
                'Set ASGI_APPLICATION = "mysite.asgi.application" in your settings.'
            ) from error
