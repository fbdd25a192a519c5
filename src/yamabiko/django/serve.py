"""`yamabiko serve`: the site and its rooms, from the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from socket import socket

import click
from uvicorn.importer import ImportFromStringError, import_from_string

from yamabiko.core.errors import ConfigurationError
from yamabiko.django import settings
from yamabiko.django.site_server import SiteServer, has_rooms
from yamabiko.django.workers import DID_NOT_START, Site, Workers
from yamabiko.transports.server import config, listening_socket


@click.command()
@click.argument("application")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all of IPv4.")
@click.option(
    "--port",
    default=8000,
    type=click.IntRange(0, 65535),
    show_default=True,
    help="Port to listen on; 0 for any free one.",
)
@click.option("--app-dir", default=".", type=click.Path(exists=True, file_okay=False), help="Folder to import from.")
@click.option(
    "--tls-certificate",
    type=click.Path(exists=True, dir_okay=False),
    help="Certificate chain, for https and wss.",
)
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False), help="Its private key, if in another file.")
@click.option(
    "--trusted-proxies",
    default="127.0.0.1,::1",
    show_default=True,
    help="Addresses whose X-Forwarded-For and X-Forwarded-Proto headers are believed.",
)
@click.option(
    "--compress/--no-compress",
    default=False,
    show_default=True,
    help="Deflate frames for peers that offer it (permessage-deflate); costs memory, and secrets may leak by length.",
)
@click.option(
    "--workers",
    default=1,
    type=click.IntRange(1, 1024),
    show_default=True,
    help="Processes on this port; more than one needs a BROKER that several can share, such as redis://.",
)
@click.option("--access-log/--no-access-log", default=True, show_default=True, help="One line for each HTTP request.")
def serve(
    application: str,
    host: str,
    port: int,
    app_dir: str,
    tls_certificate: str | None,
    tls_key: str | None,
    trusted_proxies: str,
    compress: bool,
    workers: int,
    access_log: bool,
) -> None:
    """Serve an ASGI APPLICATION, for example mysite.asgi:application."""
    site = Site(
        application,
        Path(app_dir).resolve(),
        {
            "ssl_certfile": tls_certificate,
            "ssl_keyfile": tls_key,
            "forwarded_allow_ips": trusted_proxies,
            "access_log": access_log,
            "ws_per_message_deflate": compress,
        },
    )
    scheme = "https" if tls_certificate else "http"
    try:
        server = _server_of(site)
        server.check_settings(workers)
        listener = listening_socket(host, port)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    shown_port = listener.getsockname()[1]
    if workers > 1:
        _greet(scheme, host, shown_port)
        sys.exit(Workers(_work, site, listener, workers).run())
    server.when_started(lambda: _greet(scheme, host, shown_port))
    try:
        server.run(sockets=[listener])
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("Stopped.")
    if not server.started:
        sys.exit(DID_NOT_START)


def _server_of(site: Site) -> SiteServer:
    """Return a server for `site`, which is imported. Raises ConfigurationError."""
    sys.path.insert(0, str(site.app_dir))
    application = _loaded(site.application)
    grace = {"timeout_graceful_shutdown": settings.shutdown_timeout_seconds()} if has_rooms() else {}
    return SiteServer(config(application, **grace, **site.options))


def _work(site: Site, listener: socket) -> None:
    """Serve as one of several processes."""
    server = _server_of(site)
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        return
    if not server.started:
        sys.exit(DID_NOT_START)


def _loaded(application: str) -> object:
    """Import "module:name". Raises ConfigurationError in words of whoever typed it; errors inside stay theirs."""
    try:
        return import_from_string(application)
    except ModuleNotFoundError as error:
        if error.name is None or not application.startswith(error.name):
            raise
        raise ConfigurationError(f"there is no module {error.name!r}, which {application!r} names") from error
    except ImportFromStringError as error:
        raise ConfigurationError(f"expected module:name, for example mysite.asgi:application: {error}") from error


def _greet(scheme: str, host: str, port: int) -> None:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    target = f"--url {scheme.replace('http', 'ws')}://{shown}:{port}/websock1/"
    if scheme == "http":
        target = f"--port {port}" if shown == "127.0.0.1" else f"--host {shown.strip('[]')} --port {port}"
    click.echo(f"Open  {scheme}://{shown}:{port}/")
    click.echo(f"Type  {_command()} connect {target}    in another terminal; Ctrl+C here stops the server")


def _command() -> str:
    """Return how this program was called, as another terminal in this folder would."""
    called = Path(sys.argv[0])
    if called.name != "yamabiko":
        return "python -m yamabiko"
    try:
        return str(called.resolve().relative_to(Path.cwd()))
    except ValueError:
        return "yamabiko"
