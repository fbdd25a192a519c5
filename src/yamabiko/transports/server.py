"""Our server: uvicorn as a library, with sockets that can be adopted and an end that lets members go in batches."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import re
import socket
from typing import Any

import uvicorn
from uvicorn.config import LOGGING_CONFIG

from yamabiko.core.errors import ConfigurationError
from yamabiko.transports.adopted import AdoptedSocket
from yamabiko.transports.streams import open_streams
from yamabiko.transports.uvicorn import RoomWebSocketProtocol

CLOSED_AT_A_TIME = 100
BETWEEN_BATCHES_SECONDS = 0.02
GRACE_SECONDS = 30
"""How long requests under way may take once the server is to end, unless the site says otherwise."""
SECRET_IN_QUERY = re.compile(r"([?&](?:cf_connect|api_key|token)=)[^&\s]*")


class RoomServer(uvicorn.Server):
    """uvicorn's server, whose end is gentle."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does, then spare the collector what has been loaded: it is there to stay.

        A full collection walks over every object and holds up all rooms; without these it has those of peers alone.
        """
        await super().startup(sockets)
        gc.collect()
        gc.freeze()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no new connections, close members in batches to spread their return, then end as uvicorn does."""
        for server in self.servers:
            server.close()
        adopted = [peer for peer in self.server_state.connections if isinstance(peer, AdoptedSocket)]
        members = [*adopted, *open_streams]
        for start in range(0, len(members), CLOSED_AT_A_TIME):
            for member in members[start : start + CLOSED_AT_A_TIME]:
                member.shutdown()
            await asyncio.sleep(BETWEEN_BATCHES_SECONDS)
        await super().shutdown(sockets)


def config(application: Any, **options: Any) -> uvicorn.Config:
    """Return uvicorn's configuration for `application` (ASGI, or "module:name") with our sockets in it.

    uvicorn negotiates compression by default, a context of 40 KB for each socket; ours has it off.
    """
    settings: dict[str, Any] = {
        "ws": RoomWebSocketProtocol,
        "ws_per_message_deflate": False,
        "log_config": log_config(),
        "timeout_graceful_shutdown": GRACE_SECONDS,
    }
    return uvicorn.Config(application, **(settings | options))


class SecretsFilter(logging.Filter):
    """Hides what may be a secret in the queries of uvicorn's access log."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                SECRET_IN_QUERY.sub(r"\1***", value) if isinstance(value, str) else value for value in record.args
            )
        return True


def log_config() -> dict[str, Any]:
    """Return uvicorn's logging, without the lines about itself and with ours, and without secrets in queries."""
    loggers, handlers = LOGGING_CONFIG["loggers"], LOGGING_CONFIG["handlers"]
    return {
        **LOGGING_CONFIG,
        "filters": {"secrets": {"()": SecretsFilter}},
        "handlers": {**handlers, "access": {**handlers["access"], "filters": ["secrets"]}},
        "loggers": {
            **loggers,
            "uvicorn": {**loggers["uvicorn"], "level": "WARNING"},
            "uvicorn.error": {"level": "WARNING"},
            "yamabiko": {"handlers": ["default"], "level": "INFO", "propagate": False},
        },
    }


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens on `host` and `port`; port 0 takes any free one.

    Raises ConfigurationError with one line that says what to do.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address[:2], family=family, backlog=2048)
    except socket.gaierror as error:
        raise ConfigurationError(f"{host!r} is no address of this machine: {error.strerror}") from error
    except OverflowError as error:
        raise ConfigurationError(f"a port is a number from 0 to 65535, not {port}") from error
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {reason}; free that port or choose another one"
        ) from error
    return listener
