"""`yamabiko connect`: the command line of the guest."""

from __future__ import annotations

import click
from click.core import ParameterSource

from yamabiko.client.address import Address, BadAddress, checked_url, parsed_header, room_url
from yamabiko.client.bookmark import WHOLE_HISTORY
from yamabiko.client.main_finally import MainFinally
from yamabiko.client.usage import OneLineErrors


@click.command(
    cls=OneLineErrors,
    epilog="Leave with Ctrl+C or Ctrl+D. Exit code: 0 you left, or all input was published; "
    "1 lost and not coming back, or a line of piped input was not published; 2 wrong usage.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Server's name or address.")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="Server's port.")
@click.option("--room", metavar="NAME", help="Room to visit, as chat/lobby. [default: room1 of the demo]")
@click.option("--url", help="Whole address instead of host, port and room: ws://... or wss://...")
@click.option(
    "--history",
    type=click.IntRange(0, WHOLE_HISTORY),
    metavar="N",
    help="Begin with the newest N messages. [default: 10 at a prompt, 0 with piped input]",
)
@click.option("--trace", is_flag=True, help="Show handshakes and frames on standard error, secrets masked.")
@click.option(
    "--cookie",
    envvar="YAMABIKO_COOKIE",
    show_envvar=True,
    metavar="TEXT",
    help="Come as a signed-in user: sessionid=... Others on the machine see options, not the environment.",
)
@click.option("--header", "headers", multiple=True, metavar="LINE", help="Send a header, as 'Name: value'; repeatable.")
@click.pass_context
def connect(
    context: click.Context,
    host: str,
    port: int,
    room: str | None,
    url: str | None,
    history: int | None,
    trace: bool,
    cookie: str | None,
    headers: tuple[str, ...],
) -> int:
    """Visit a room: type lines, see everybody's.

    Piped input is sent line by line, and the program ends when all of it is published.
    """
    forbid_beside_url(context, url)
    try:
        lines = [*headers, *([f"Cookie: {cookie}"] if cookie else [])]
        address = Address(
            checked_url(url) if url else room_url(host, port, room), [parsed_header(line) for line in lines]
        )
    except BadAddress as error:
        raise click.UsageError(f"{error}.", context) from error
    return visit(address, history=history, is_traced=trace)


def visit(address: Address, *, history: int | None, is_traced: bool) -> int:
    # Here, because the WebSocket and prompt libraries would make --help slow.
    from yamabiko.client.guest import Guest, Wishes

    try:
        return MainFinally.run(Guest(Wishes(address, history, is_traced)))
    except KeyboardInterrupt:
        return 0


def forbid_beside_url(context: click.Context, url: str | None) -> None:
    if url is None:
        return
    for name in ("host", "port", "room"):
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"--url is a whole address: leave out --{name}.", context)
