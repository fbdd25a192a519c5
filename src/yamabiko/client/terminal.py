"""A prompt at the bottom, whose half-typed line stays whole while messages arrive above it."""

from __future__ import annotations

from prompt_toolkit import PromptSession
from prompt_toolkit.patch_stdout import patch_stdout

from yamabiko.client.printable import printable
from yamabiko.client.visit import Visit


class Terminal:
    """Reads a prompt. An entered line vanishes, and appears once: when the room has published it."""

    is_answerable = False

    def __init__(self, label: str) -> None:
        self.label = printable(label)

    async def read(self, visit: Visit) -> None:
        session: PromptSession[str] = PromptSession(
            lambda: self.prompt(visit), erase_when_done=True, interrupt_exception=EOFError
        )
        with patch_stdout(raw=True):
            while True:
                try:
                    # SIGINT is listened to by the visit, which knows how to leave.
                    entered = await session.prompt_async(handle_sigint=False, set_exception_handler=False)
                except EOFError:
                    return visit.ask_to_leave()
                say_lines(visit, entered)

    def prompt(self, visit: Visit) -> str:
        if visit.link.is_open:
            return f"{self.label}> "
        waiting = f", {len(visit.outbox)} waiting" if visit.outbox else ""
        return f"{self.label} (not connected{waiting})> "


def say_lines(visit: Visit, entered: str) -> None:
    """Say each line of what was entered: a paste may hold several."""
    for line in entered.splitlines():
        if line.strip():
            say_or_tell(visit, line)


def say_or_tell(visit: Visit, line: str) -> None:
    try:
        # What the keyboard gave that is not Unicode cannot be sent.
        visit.say_now(line.encode(errors="replace").decode())
    except OverflowError as error:
        visit.screen.note(f"not sent: {error}")
