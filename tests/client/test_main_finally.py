"""MainFinally in real processes with real signals: the end always runs, the outcome is that of the work."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import textwrap
import threading
from dataclasses import dataclass, field

import pytest

from tests.client.programs import environment
from yamabiko.client import MainFinally

PROGRAM = """
import os, signal, sys, time
from yamabiko.client import MainFinally

def say(text):
    print(text, flush=True)

def strike(name):
    os.kill(os.getpid(), getattr(signal, name))

class Program:
    def on_main(self):
        {main}
    def on_except(self, error):
        say(f"except {{error}}")
        {on_except}
    def on_finally(self):
        {on_finally}
        say("end")
        return 1

{before}
try:
    code = MainFinally.run(Program())
finally:
    {after}
sys.exit(code)
"""


@dataclass
class Ended:
    code: int
    said: list[str]
    errors: str


def run_program(main, *, on_except="pass", on_finally="pass", before="", after="pass") -> Ended:
    parts = {"main": main, "on_except": on_except, "on_finally": on_finally, "before": before, "after": after}
    indented = {
        name: textwrap.indent(textwrap.dedent(text).strip(), indent(name)).lstrip() for name, text in parts.items()
    }
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(**indented)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        # Coverage's own handler for SIGTERM would change what is tested.
        env={name: value for name, value in environment().items() if not name.startswith("COVERAGE")},
    )
    return Ended(process.returncode, process.stdout.split("\n")[:-1], process.stderr)


def indent(part: str) -> str:
    return {"before": "", "after": "    "}.get(part, "        ")


@dataclass
class Recorded:
    """A program of this process: what it does is given, what happened is written down."""

    main: object = None
    handled: object = None
    end: object = None
    happened: list[str] = field(default_factory=list)

    def on_main(self):
        self.happened.append("main")
        return self._do(self.main)

    def on_except(self, error):
        self.happened.append(f"except {error}")
        return self._do(self.handled)

    def on_finally(self):
        self.happened.append("end")
        return self._do(self.end)

    def _do(self, act):
        if isinstance(act, BaseException):
            raise act
        return act() if callable(act) else act


@pytest.mark.parametrize(("returned", "code"), [(0, 0), (3, 3), (None, 0)])
def test_the_outcome_of_the_work_decides_and_not_what_the_end_returns(returned, code):
    program = Recorded(main=returned, end=1)
    assert MainFinally.run(program) == code
    assert program.happened == ["main", "end"]


@pytest.mark.parametrize(("handled", "code"), [(None, 1), (4, 4), (0, 0)])
def test_an_exception_is_a_failure_unless_on_except_says_otherwise(handled, code):
    program = Recorded(main=ValueError("broken"), handled=handled, end=0)
    assert MainFinally.run(program) == code
    assert program.happened == ["main", "except broken", "end"]


def test_an_exception_of_on_except_passes_through_after_the_end():
    program = Recorded(main=ValueError("first"), handled=KeyError("second"))
    with pytest.raises(KeyError) as caught:
        MainFinally.run(program)
    assert isinstance(caught.value.__context__, ValueError)
    assert program.happened[-1] == "end"


def test_an_exception_of_the_end_passes_through_and_does_not_hide_that_of_the_work():
    program = Recorded(main=SystemExit(7), end=OSError("cannot clean up"))
    with pytest.raises(OSError, match="cannot clean up") as caught:
        MainFinally.run(program)
    assert isinstance(caught.value.__context__, SystemExit)


@pytest.mark.parametrize("ending", [SystemExit(7), KeyboardInterrupt(), GeneratorExit()])
def test_the_end_runs_on_every_way_out_and_the_way_out_is_kept(ending):
    program = Recorded(main=ending)
    with pytest.raises(type(ending)) as caught:
        MainFinally.run(program)
    assert caught.value is ending
    assert program.happened == ["main", "end"]


def test_the_callers_handlers_are_back_afterwards():
    def own(_number, _frame):
        pass

    former = {number: signal.signal(number, own) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for outcome in (0, ValueError(), SystemExit(3)):
            with contextlib.suppress(SystemExit):
                MainFinally.run(Recorded(main=outcome))
            assert [signal.getsignal(number) for number in former] == [own, own]
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def test_outside_the_main_thread_it_runs_without_signals():
    results = []
    program = Recorded(main=5)
    thread = threading.Thread(target=lambda: results.append(MainFinally.run(program)))
    thread.start()
    thread.join(10)
    assert results == [5]
    assert program.happened == ["main", "end"]


def test_where_no_signal_can_be_set_the_end_still_runs(monkeypatch):
    def cannot(_number, _handler):
        raise OSError("not on this platform")

    monkeypatch.setattr(signal, "signal", cannot)
    program = Recorded(main=ValueError("broken"))
    assert MainFinally.run(program) == 1
    assert program.happened == ["main", "except broken", "end"]


def test_sigterm_during_the_work_runs_the_end_and_exits_with_1():
    ended = run_program("strike('SIGTERM'); time.sleep(20)")
    assert (ended.code, ended.said) == (1, ["end"])
    assert ended.errors == ""


def test_a_closed_terminal_window_runs_the_end_too():
    ended = run_program("strike('SIGHUP'); time.sleep(20)")
    assert (ended.code, ended.said) == (1, ["end"])


def test_ctrl_c_during_the_work_runs_the_end_and_reaches_the_caller():
    ended = run_program("strike('SIGINT'); time.sleep(20)")
    assert ended.said == ["end"]
    assert "KeyboardInterrupt" in ended.errors


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_no_signal_stops_the_end(name):
    ended = run_program("return 4", on_finally=f"strike('{name}'); say('cleaned up')")
    assert (ended.code, ended.said) == (4, ["cleaned up", "end"])


def test_a_second_ctrl_c_cannot_stop_the_end_that_the_first_one_began():
    ended = run_program("strike('SIGINT'); time.sleep(20)", on_finally="strike('SIGINT'); say('cleaned up')")
    assert ended.said == ["cleaned up", "end"]


def test_sigterm_while_an_exception_is_handled_still_runs_the_end():
    ended = run_program("raise ValueError('broken')", on_except="strike('SIGTERM'); time.sleep(20)")
    assert (ended.code, ended.said) == (1, ["except broken", "end"])


def test_the_callers_own_sigterm_handler_serves_during_the_work():
    ended = run_program(
        "strike('SIGTERM'); return 6", before="signal.signal(signal.SIGTERM, lambda *_: say('own handler'))"
    )
    assert (ended.code, ended.said) == (6, ["own handler", "end"])


def test_the_default_of_sigterm_is_back_for_the_caller():
    ended = run_program("return 0", after="strike('SIGTERM')")
    assert (ended.code, ended.said) == (-signal.SIGTERM, ["end"])


def test_asyncio_inside_the_work_still_handles_ctrl_c_itself():
    ended = run_program(
        """
        import asyncio
        async def work():
            try:
                strike('SIGINT')
                await asyncio.sleep(20)
            except asyncio.CancelledError:
                say('cancelled')
                raise
        asyncio.run(work())
        """
    )
    assert ended.said == ["cancelled", "end"]
