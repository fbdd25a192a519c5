"""Our server with a Django site in it: its rooms live and end with the server."""

from __future__ import annotations

import socket
from collections.abc import Callable

from django.apps import apps

from yamabiko.django.service import service
from yamabiko.transports.server import RoomServer


class SiteServer(RoomServer):
    """Serves any ASGI application; where that is a Django site with Yamabiko installed, the site's rooms too."""

    _greet: Callable[[], None] | None = None

    def when_started(self, greet: Callable[[], None]) -> None:
        self._greet = greet

    def check_settings(self) -> None:
        """Raise ConfigurationError for settings that the rooms cannot work with."""
        if has_rooms():
            service()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if has_rooms():
            service().serve()
        await super().startup(sockets)
        if self._greet is not None:
            self._greet()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if has_rooms():
            await service().close()


def has_rooms() -> bool:
    return apps.ready and apps.is_installed("yamabiko")
