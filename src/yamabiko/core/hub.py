"""The rooms that have members in this process."""

from __future__ import annotations

from yamabiko.core.interfaces import Broker, Rules, Runtime
from yamabiko.core.messages import History, Publication
from yamabiko.core.room import LocalRoom


class Hub:
    def __init__(self, broker: Broker, runtime: Runtime) -> None:
        self.rooms: dict[str, LocalRoom] = {}
        self._broker = broker
        self._runtime = runtime

    def room(self, name: str, rules: Rules, history: History | None) -> LocalRoom:
        """Return the room here; `rules` and `history` are used if nobody was in it."""
        room = self.rooms.get(name)
        if room is None:
            room = self.rooms[name] = LocalRoom(name, rules, history, self._broker, self._runtime)
        return room

    def deliver(self, name: str, publication: Publication) -> None:
        """Pass a publication to the members here; one for a room without members is dropped."""
        room = self.rooms.get(name)
        if room is not None:
            room.deliver(publication)

    def look_for_missed(self) -> None:
        """Have every room with a history ask for what it may have missed."""
        for room in self.rooms.values():
            room.look_for_missed()

    def forget_if_empty(self, room: LocalRoom) -> bool:
        """Return whether `room` was here and is no longer, because its last member has left."""
        if not room.is_empty or self.rooms.get(room.name) is not room:
            return False
        del self.rooms[room.name]
        return True
