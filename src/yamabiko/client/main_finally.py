"""A program whose end always runs: after success, an exception, Ctrl+C or SIGTERM."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Protocol

Handler = Callable[[int, FrameType | None], Any] | int

# SIGHUP is a closed terminal window, SIGBREAK is Ctrl+Break; not every platform has each.
ENDING_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
]


class Program(Protocol):
    """What `MainFinally.run` runs."""

    def on_main(self) -> int | None:
        """Do the work and return the exit code; None is 0."""

    def on_except(self, error: Exception) -> int | None:
        """Tell of an exception that left `on_main`, and return the exit code; None is 1."""

    def on_finally(self) -> object:
        """Clean up. What is returned does not matter: the outcome is that of the work."""


class MainFinally:
    """Runs a program's `on_main`, and its `on_finally` whatever happens.

    >>> sys.exit(MainFinally.run(Program()))
    """

    @classmethod
    def run(cls, target: Program) -> int:
        """Return the exit code of `on_main`, or that of `on_except` if an `Exception` left it.

        SIGTERM (and a closed terminal window) leaves `on_main` as `SystemExit(1)`, Ctrl+C as
        `KeyboardInterrupt`. Both pass through to the caller, after `on_finally`; so does an exception that
        `on_except` or `on_finally` raises. While `on_finally` runs, these signals are ignored. Afterwards
        the caller's handlers are back.

        Outside the main thread Python cannot set signal handlers: there, exceptions alone are covered.
        """
        with caller_handlers_put_back():
            try:
                try:
                    listen()
                    return outcome_of(target)
                finally:
                    ignore_ending_signals()
            finally:
                # Again, because a Ctrl+C may have struck between the end of the work and the line above.
                ignore_ending_signals()
                target.on_finally()


def outcome_of(target: Program) -> int:
    try:
        return or_else(target.on_main(), 0)
    except Exception as error:
        return or_else(target.on_except(error), 1)


def or_else(code: int | None, default: int) -> int:
    return default if code is None else code


def leave_with_failure(_signal_number: int, _frame: FrameType | None) -> None:
    sys.exit(1)


def listen() -> None:
    """Turn signals that would end the process without another line of Python into `SystemExit`."""
    for number in ENDING_SIGNALS:
        if signal.getsignal(number) is signal.SIG_DFL:
            set_handler(number, leave_with_failure)


def ignore_ending_signals() -> None:
    for number in ENDING_SIGNALS:
        set_handler(number, signal.SIG_IGN)


def set_handler(number: int, handler: Handler) -> None:
    # ValueError: not the main thread, or a signal that this platform cannot catch.
    with contextlib.suppress(ValueError, OSError):
        # A handler that was not installed from Python could never be put back: leave it alone.
        if signal.getsignal(number) is not None:
            signal.signal(number, handler)


@contextlib.contextmanager
def caller_handlers_put_back() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if handler is not None:
                set_handler(number, handler)
