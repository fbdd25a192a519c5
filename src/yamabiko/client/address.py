"""Where to go: from host, port and room, or a whole URL, to the URL and the headers of the handshake."""

from __future__ import annotations

import ipaddress
import unicodedata
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from yamabiko.client.masking import masked_url

ROOM_NAME_BYTES = 255
DEFAULT_PORTS = {"ws": 80, "wss": 443}
SCHEMES = {"ws": "http", "wss": "https"}
# The handshake writes these itself; a second one makes servers refuse it.
HEADERS_OF_THE_HANDSHAKE = {"host", "connection", "upgrade", "content-length", "transfer-encoding"}


class BadAddress(ValueError):
    """The address cannot be used; the message says what was expected and what came."""


@dataclass(frozen=True)
class Address:
    url: str
    headers: list[tuple[str, str]] = field(default_factory=list)

    def with_query(self, parameters: dict[str, str]) -> str:
        """Return the URL with `parameters` in place of any `since` and `history` it had."""
        parts = urlsplit(self.url)
        kept = parse_qsl(parts.query, keep_blank_values=True)
        if parameters:
            kept = [(name, value) for name, value in kept if name not in {"since", "history"}]
        query = urlencode([*kept, *parameters.items()], safe=":")
        return urlunsplit(parts._replace(query=query))

    @property
    def origin(self) -> str | None:
        """Return the Origin to send, or None: servers demand one together with a cookie."""
        names = {name.lower() for name, _ in self.headers}
        return origin_of(self.url) if "cookie" in names and "origin" not in names else None

    @property
    def is_local(self) -> bool:
        return is_loopback(urlsplit(self.url).hostname or "")


def room_url(host: str, port: int, room: str | None) -> str:
    path = "/websock1/" if room is None else f"/rooms/{quote(checked_room(room), safe='/')}/"
    return f"ws://{bracketed(host)}:{port}{path}"


def bracketed(host: str) -> str:
    bare = checked_host(host).removeprefix("[").removesuffix("]")
    if ":" not in bare:
        return bare
    try:
        return f"[{ipaddress.IPv6Address(bare)}]"
    except ValueError as error:
        raise BadAddress(f"expected a name or an address, got {host!r}; the port goes into --port") from error


def checked_host(host: str) -> str:
    if not host or any(character in "/@?#\\" or character.isspace() for character in host):
        raise BadAddress(f"expected a name or an address, got {host!r}; a whole URL goes into --url")
    return host


def checked_room(room: str) -> str:
    name = unicodedata.normalize("NFC", room)
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise BadAddress("the room's name is not valid Unicode text") from error
    if not 0 < size <= ROOM_NAME_BYTES:
        raise BadAddress(f"expected a room name of 1 to {ROOM_NAME_BYTES} bytes of UTF-8, got {size}")
    return name


def checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in SCHEMES and parts.hostname and parts.port != 0 and not parts.fragment
        is_whole = (parts.username is None) == (parts.password is None)
    except ValueError:
        is_usable = is_whole = False
    if not (is_usable and is_whole and url.isprintable() and " " not in url):
        raise BadAddress(f"expected a URL as ws://host:port/path/ or wss://..., got {masked_url(url)!r}")
    return url


def label_of(url: str) -> str:
    """Return a short name of the room at `url`, for people."""
    path = unquote(urlsplit(url).path).strip("/")
    return "room1" if path == "websock1" else path.removeprefix("rooms/") or urlsplit(url).netloc.rpartition("@")[2]


def origin_of(url: str) -> str:
    """Return scheme, host and port as a browser on that server's own page would send them."""
    parts = urlsplit(url)
    host = bracketed(parts.hostname or "")
    port = "" if parts.port in {None, DEFAULT_PORTS[parts.scheme]} else f":{parts.port}"
    return f"{SCHEMES[parts.scheme]}://{host}{port}"


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parsed_header(line: str) -> tuple[str, str]:
    name, colon, value = (part.strip() for part in line.partition(":"))
    is_name = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    if not (colon and is_name):
        # The line may hold a secret, so it is not repeated.
        raise BadAddress("expected a header as 'Name: value'")
    if not (value.isascii() and value.isprintable()):
        raise BadAddress(f"expected printable ASCII in the value of the header {name}")
    if name.lower() in HEADERS_OF_THE_HANDSHAKE or name.lower().startswith("sec-websocket-"):
        raise BadAddress(f"the header {name} belongs to the handshake itself and cannot be set")
    return name, value
