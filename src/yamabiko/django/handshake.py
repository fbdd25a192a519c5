"""Who knocks, from which page, at which host: what a handshake must show before a room is even looked for."""

from __future__ import annotations

import logging
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest
from django.http.cookie import parse_cookie

from yamabiko.core.errors import PermissionDenied
from yamabiko.django import settings

logger = logging.getLogger("yamabiko")

DEFAULT_PORTS = {"http": "80", "https": "443"}
OF_SCRIPTS = ("empty", "websocket")
"""What browsers say that scripts ask for. Links, images, videos and the like are asked for by what others may write."""


class HandshakeRequest(HttpRequest):
    """A WebSocket's handshake as Django sees requests, so that its own rules for hosts, proxies and cookies apply."""

    def __init__(self, scope: Any) -> None:
        super().__init__()
        self.method = "GET"
        self.path = self.path_info = scope["path"]
        self._scope_scheme = "https" if scope.get("scheme") in ("wss", "https") else "http"
        self.META = {
            "REMOTE_ADDR": (scope.get("client") or ("",))[0],
            "QUERY_STRING": scope.get("query_string", b"").decode("latin-1"),
        }
        server = scope.get("server") or ("unknown", 0)
        self.META |= {"SERVER_NAME": server[0], "SERVER_PORT": str(server[1])}
        for name, value in scope["headers"]:
            if b"_" in name:  # would pass for the header with a hyphen, which a proxy has checked
                continue
            key = f"HTTP_{name.decode('latin-1').upper().replace('-', '_')}"
            text = value.decode("latin-1")
            between = "; " if key == "HTTP_COOKIE" else ","
            self.META[key] = f"{self.META[key]}{between}{text}" if key in self.META else text
        self.COOKIES = parse_cookie(self.META.get("HTTP_COOKIE", ""))

    def _get_scheme(self) -> str:
        return self._scope_scheme

    @property
    def origin(self) -> str | None:
        return self.META.get("HTTP_ORIGIN")


def check_host_and_origin(request: HandshakeRequest) -> None:
    """Let in what comes from our own pages or from programs. Raises PermissionDenied, and logs what came from where.

    A browser always sends the Origin of the page, and the visitor's cookies with it: other sites' pages must not speak
    for their visitors. A program without an Origin must not rest on cookies either (OWASP WebSocket cheat sheet).
    Where a browser sends no Origin, for an EventSource, it says in headers that no page can forge who asks for what
    (W3C Fetch Metadata).
    """
    try:
        host = request.get_host()
    except DisallowedHost as error:
        raise _refused(request, "host", request.META.get("HTTP_HOST", ""), "add it to ALLOWED_HOSTS") from error
    wanted = request.META.get("HTTP_SEC_FETCH_DEST", "empty")
    if wanted not in OF_SCRIPTS:
        raise _refused(request, "destination", wanted, "only scripts may connect")
    origin = request.origin
    if origin is None:
        site, mode = request.META.get("HTTP_SEC_FETCH_SITE", "none"), request.META.get("HTTP_SEC_FETCH_MODE")
        if (site, mode) == ("same-origin", "cors"):
            return
        if site != "none":
            raise _refused(request, "origin", "none", f"a browser's request, site {site[:200]!r}, names its origin")
        if django_settings.SESSION_COOKIE_NAME in request.COOKIES:
            raise _refused(request, "origin", "none", "a handshake with a session cookie names its origin")
        return
    own = f"{request.scheme}://{host}"
    if _full(origin) != _full(own) and _full(origin) not in map(_full, settings.allowed_origins()):
        raise _refused(request, "origin", origin, f"expected {own}, or add it to YAMABIKO['ALLOWED_ORIGINS']")


def _full(origin: str) -> str:
    """Return an origin in lower case and with its port, so that https://a and https://a:443 are one.

    So is wss://a, which some programs send; no browser does.
    """
    scheme, _, host = origin.lower().partition("://")
    scheme = {"ws": "http", "wss": "https"}.get(scheme, scheme)
    port = DEFAULT_PORTS.get(scheme)
    has_port = ":" in host.rpartition("]")[2]
    return f"{scheme}://{host}" if has_port or port is None else f"{scheme}://{host}:{port}"


def _refused(request: HandshakeRequest, what: str, value: str, advice: str) -> PermissionDenied:
    logger.warning(
        "refused a WebSocket: %s %r is not allowed; path %r, address %r; %s",
        what, value[:200], request.path[:200], request.META["REMOTE_ADDR"], advice,
    )  # fmt: skip
    return PermissionDenied(f"this {what} is not allowed")
