"""Ctrl+C, SIGTERM and a closed window as events of the running loop, on every platform."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from yamabiko.client.main_finally import ENDING_SIGNALS


@contextlib.contextmanager
def ending_signals_call(action: Callable[[], object]) -> Iterator[None]:
    """Call `action` on the running loop at each ending signal; put the former handlers back afterwards.

    A signal that is ignored stays ignored: that is how nohup and background jobs ask to be left alone.
    """
    loop = asyncio.get_running_loop()

    # Not loop.add_signal_handler: it does not exist on Windows, and this works everywhere.
    def handle(_number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(action)

    former = {}
    # ValueError: outside the main thread nobody can listen to signals.
    with contextlib.suppress(ValueError):
        for number in ENDING_SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                former[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
