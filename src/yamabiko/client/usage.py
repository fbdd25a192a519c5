"""Commands that answer wrong usage with one line and exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click


class OneLineErrors(click.Command):
    """A command (or group, as a mixin) whose callback returns the exit code; None is 0."""

    def main(  # type: ignore[override] # click's overloads tell its two modes apart, which callers do not need
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        *,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        try:
            code = super().main(args, prog_name, standalone_mode=False, **extra)
        except click.ClickException as error:
            if not standalone_mode:
                raise
            code = tell(error)
        except click.Abort:
            if not standalone_mode:
                raise
            code = 1
        return sys.exit(code) if standalone_mode else code


def tell(error: click.ClickException) -> int:
    """Write what is wrong on one line of standard error, and return the exit code."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return error.exit_code
    place = hint = ""
    if isinstance(error, click.UsageError):
        place, hint = f"{error.ctx.command_path}: " if error.ctx else "", " Try --help."
    click.echo(" ".join(f"{place}{error.format_message()}{hint}".split()), err=True)
    return error.exit_code
