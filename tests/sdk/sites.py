"""How the sites of these tests are set up, and who connects to them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from tests.sdk.clients import SdkClient
from tests.sdk.proxy import Network
from tests.sdk.tokens import SECRET
from tests.servers.running import SERVE, Running, Servers

KINDS = ("js-json", "js-protobuf", "python-json", "python-protobuf")
"""Each SDK in each format."""

LeadTo = Callable[[int], Awaitable[Network]]
"""Takes the port of a server; returns a line to it that can be cut."""
Make = Callable[..., SdkClient]
"""Takes the kind of a client, a server or a network, and how to connect; returns a client that is not connected."""
Join = Callable[..., Awaitable[SdkClient]]
"""Does the same, and connects it."""
JoinAll = Callable[..., Awaitable[list[SdkClient]]]
"""Does the same with a client of each kind."""


def site(**more: Any) -> str:
    """Return the settings of a server in these tests."""
    return json.dumps({"TOKEN_SECRET": SECRET, "EXPIRY_GRACE_SECONDS": 1, "PRESENCE_LINGER_SECONDS": 15} | more)


def serving(servers: Servers, settings: str) -> AbstractAsyncContextManager[Running]:
    """Run a server that no other test uses."""
    return servers.meanwhile(SERVE, SITE_YAMABIKO=settings)


def url_of(where: Running | Network) -> str:
    return where.url if isinstance(where, Network) else f"ws://127.0.0.1:{where.port}/connection/websocket"


def origin_of(where: Running | Network) -> str:
    """Return the Origin that a page of this site has: a session counts only with one."""
    return f"http://127.0.0.1:{where.port}"
