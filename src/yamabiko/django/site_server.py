"""Our server with a Django site in it: its rooms live and end with the server."""

from __future__ import annotations

import socket
from collections.abc import Callable

from django.apps import apps

from yamabiko.core.errors import ConfigurationError
from yamabiko.django import settings
from yamabiko.django.service import service
from yamabiko.transports.server import RoomServer


class SiteServer(RoomServer):
    """Serves any ASGI application; where that is a Django site with Yamabiko installed, the site's rooms too."""

    _greet: Callable[[], None] | None = None

    def when_started(self, greet: Callable[[], None]) -> None:
        self._greet = greet

    def check_settings(self, workers: int = 1) -> None:
        """Raise ConfigurationError for settings that the rooms cannot work with in so many processes."""
        if not has_rooms():
            return
        broker = service().node.broker
        if workers > 1 and not broker.is_shared:
            raise ConfigurationError(
                f"{workers} processes cannot share the BROKER of these settings, {settings.broker_scheme()}://, which "
                "one process has to itself; several need redis:// (or a channels:// layer that is on Redis)"
            )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if has_rooms():
            await service().open()
        await super().startup(sockets)
        if self._greet is not None:
            self._greet()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if has_rooms():
            await service().close()


def has_rooms() -> bool:
    return apps.ready and apps.is_installed("yamabiko")
