"""The runtime owns its tasks."""

from __future__ import annotations

import asyncio

import pytest

from yamabiko.transports.runtime import AsyncioRuntime


async def test_finished_waits_for_tasks_and_for_those_that_they_start():
    runtime, done = AsyncioRuntime(), []

    async def first() -> None:
        await asyncio.sleep(0)
        runtime.spawn(second())

    async def second() -> None:
        await asyncio.sleep(0)
        done.append("second")

    runtime.spawn(first())
    await runtime.finished(within_seconds=5)
    assert done == ["second"]


async def test_a_task_that_fails_is_logged(caplog: pytest.LogCaptureFixture):
    async def fail() -> None:
        raise ZeroDivisionError("as asked")

    runtime = AsyncioRuntime()
    runtime.spawn(fail())
    await runtime.finished(within_seconds=5)
    await asyncio.sleep(0)
    assert "a background task failed" in caplog.text
    assert "as asked" in caplog.text


async def test_what_does_not_end_in_time_is_cancelled_and_named(caplog: pytest.LogCaptureFixture):
    async def wait_for_ever() -> None:
        await asyncio.Event().wait()

    runtime = AsyncioRuntime()
    runtime.spawn(wait_for_ever())
    await runtime.finished(within_seconds=0.01)
    assert "wait_for_ever" in caplog.text
