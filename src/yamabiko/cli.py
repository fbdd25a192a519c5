"""The `yamabiko` command. Subcommands are imported when they are run, so that --help answers at once."""

from __future__ import annotations

from importlib import import_module

import click

from yamabiko.client.usage import OneLineErrors

# name: (where the command lives, what --help says of it)
SUBCOMMANDS = {
    "connect": ("yamabiko.client.command:connect", "Visit a room: type lines, see everybody's."),
    "history": ("yamabiko.operate:history", "Print what a room has kept."),
    "publish": ("yamabiko.operate:publish", "Publish a message into a room."),
    "serve": ("yamabiko.django.serve:serve", "Serve an ASGI application with rooms."),
}


class LazyGroup(OneLineErrors, click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in SUBCOMMANDS:
            return None
        module, _, name = SUBCOMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in SUBCOMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="yamabiko", message="%(prog)s %(version)s")
def main() -> None:
    """Yamabiko: rooms over WebSocket that do not lose messages."""
