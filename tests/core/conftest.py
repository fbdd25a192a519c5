"""A house without an event loop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.core.fakes import House


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.torn_down()
