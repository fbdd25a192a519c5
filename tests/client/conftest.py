from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.client.server_double import RoomDouble, room_double


@pytest.fixture
async def room() -> AsyncIterator[RoomDouble]:
    async with room_double() as room:
        yield room
