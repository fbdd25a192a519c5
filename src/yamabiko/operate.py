"""`yamabiko history` and `yamabiko publish`: an operator looks into a room and speaks in one."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click
import msgspec

from yamabiko.client.printable import printable
from yamabiko.client.usage import OneLineErrors
from yamabiko.core.errors import YamabikoError
from yamabiko.core.messages import Position


def in_a_site(command: Callable[..., None]) -> Callable[..., None]:
    """Set up Django before the command runs, and tell its errors in one line."""

    @click.option("--settings", default="", help="Settings module of the site; otherwise DJANGO_SETTINGS_MODULE.")
    @click.option(
        "--app-dir", default=".", type=click.Path(exists=True, file_okay=False), help="Folder to import from."
    )
    @wraps(command)
    def run(settings: str, app_dir: str, **options: Any) -> None:
        _set_up(settings, app_dir)
        try:
            command(**options)
        except (YamabikoError, ValueError) as error:
            raise click.ClickException(str(error)) from error

    return run


def _set_up(settings: str, app_dir: str) -> None:
    import django

    sys.path.insert(0, str(Path(app_dir).resolve()))
    name = settings or os.environ.get("DJANGO_SETTINGS_MODULE", "")
    if not name:
        raise click.UsageError("name the site's settings: --settings mysite.settings, or DJANGO_SETTINGS_MODULE")
    os.environ["DJANGO_SETTINGS_MODULE"] = name
    try:
        django.setup()
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise
        raise click.UsageError(f"there is no module {error.name!r} here, which {name!r} names") from error


class PositionText(click.ParamType[Position]):
    name = "epoch:offset"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Position:
        match = re.fullmatch(r"([^:\s]+):([0-9]{1,18})", str(value))
        if match is None:
            self.fail(f"a position is epoch:offset, as this command prints it, not {value!r}", param, ctx)
        return Position(match[1], int(match[2]))


@click.command(cls=OneLineErrors)
@click.argument("room")
@click.option("--since", type=PositionText(), help="Only what comes after this position.")
@click.option("--limit", default=100, type=click.IntRange(0), show_default=True, help="At most so many messages.")
@click.option("--reverse", is_flag=True, help="The newest first.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@in_a_site
def history(room: str, since: Position | None, limit: int, reverse: bool, as_json: bool) -> None:
    """Print what ROOM has kept: position, publisher and message, one message a line."""
    import yamabiko

    page = yamabiko.history(room, since=since, limit=limit, reverse=reverse)
    for kept in page.messages:
        position = f"{kept.position.epoch}:{kept.position.offset}"
        if as_json:
            fields = {"position": position, "user": kept.user, "message": kept.message}
            click.echo(msgspec.json.encode(fields).decode())
        else:
            click.echo(f"{position}\t{printable(kept.user)}\t{printable(_one_line(kept.message))}")
    if not page.is_whole:
        click.echo("some messages right after that position are no longer kept", err=True)


@click.command(cls=OneLineErrors)
@click.argument("room")
@click.argument("message")
@click.option("--json", "is_json", is_flag=True, help="MESSAGE is JSON; otherwise it is text.")
@click.option("--idempotency-key", default="", help="Publish once, however often this key is used.")
@in_a_site
def publish(room: str, message: str, is_json: bool, idempotency_key: str) -> None:
    """Publish MESSAGE into ROOM, and print its position if the room keeps it. `-` reads it from standard input."""
    import yamabiko

    text = sys.stdin.read().rstrip("\n") if message == "-" else message
    try:
        said = msgspec.json.decode(text) if is_json else text
    except msgspec.DecodeError as error:
        raise click.UsageError(f"MESSAGE is JSON with --json: {error}") from error
    position = yamabiko.publish(room, said, idempotency_key=idempotency_key)
    click.echo("published" if position is None else f"{position.epoch}:{position.offset}")


def _one_line(message: Any) -> str:
    return message if isinstance(message, str) else msgspec.json.encode(message).decode()
