"""Stands for the listener before a broker is started."""

from __future__ import annotations

from yamabiko.core.messages import PresenceChanged, Publication


class Nobody:
    """Takes what a broker brings, and does nothing with it."""

    def deliver(self, room: str, publication: Publication) -> None: ...

    def missed(self) -> None: ...

    def presence_changed(self, room: str, changed: PresenceChanged) -> None: ...

    def heard(self, message: bytes) -> None: ...
