"""A house without an event loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.core.fakes import House


@pytest.fixture
def make_house() -> Iterator[Callable[..., House]]:
    """Make houses that are torn down in the end."""
    houses: list[House] = []

    def make(**options: object) -> House:
        houses.append(House(**options))
        return houses[-1]

    yield make
    for house in houses:
        house.torn_down()


@pytest.fixture
def house(make_house: Callable[..., House]) -> House:
    return make_house()
