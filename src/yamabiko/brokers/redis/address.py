"""The URLs that name a Redis: what they may say, and what a wrong one is told. No text here holds a password."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

from yamabiko.core.errors import ConfigurationError

SHAPES = """\
redis://[USER:PASSWORD@]HOST[:PORT][/DB], redis+unix:///PATH[?db=DB], \
redis+sentinel://[USER:PASSWORD@]HOST[:PORT],HOST[:PORT]/SERVICE[/DB] or \
redis+cluster://[USER:PASSWORD@]HOST[:PORT],HOST[:PORT]; rediss:// and so on for TLS; \
in USER and PASSWORD write %2F for /, %23 for # and so on"""
PORTS = {"": 6379, "sentinel": 26379, "cluster": 6379, "unix": 0}
OPTIONS = {"ssl_ca_certs", "ssl_cert_reqs", "db"}
HOST = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.%]+)\]|(?P<name>[^:\[\]@\s]+))(?::(?P<port>\d+))?")


@dataclass(frozen=True)
class Address:
    """`kind` is "" for one server, or sentinel, cluster, unix. The hosts of a Unix socket are its path and port 0."""

    kind: str
    hosts: tuple[tuple[str, int], ...]
    user: str = ""
    password: str = field(default="", repr=False)
    db: int = 0
    service: str = ""
    tls: ssl.SSLContext | None = field(default=None, repr=False, compare=False)


def address_of(url: str) -> Address:
    """Return what `url` names. Raises ConfigurationError, which says what was expected."""
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        _refuse("it is no URL")
    scheme = re.fullmatch(r"redis(?P<tls>s?)(?:\+(?P<kind>sentinel|cluster|unix))?|(?P<path>unix)", parts.scheme)
    if scheme is None:
        _refuse("its scheme is none of these")
    if unknown := set(options) - OPTIONS:
        _refuse(f"the options are {', '.join(sorted(OPTIONS))}, not {', '.join(sorted(unknown))}")
    if not scheme["tls"] and any(option.startswith("ssl_") for option in options):
        _refuse("it has options for TLS, which a rediss:// URL has")
    kind = "unix" if scheme["path"] else scheme["kind"] or ""
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    service, db = _service_and_db(kind, parts.path, options)
    return Address(
        kind,
        ((parts.path, 0),) if kind == "unix" else _hosts(hosts, kind),
        unquote(user),
        unquote(password),
        db,
        service,
        _tls(options) if scheme["tls"] else None,
    )


def _service_and_db(kind: str, path: str, options: dict[str, str]) -> tuple[str, int]:
    words = [] if kind == "unix" else [unquote(word) for word in path.split("/") if word]
    service = words.pop(0) if kind == "sentinel" and words else ""
    if kind == "sentinel" and not service:
        _refuse("the SERVICE that Sentinel watches is missing")
    if kind == "unix" and not path:
        _refuse("the PATH of the socket is missing")
    db = options.get("db", words.pop(0) if words else "0")
    if words or not re.fullmatch(r"\d{1,4}", db):
        _refuse("the DB is a number, and nothing follows it")
    if kind == "cluster" and int(db):
        _refuse("a cluster has only the DB 0")
    return service, int(db)


def _hosts(text: str, kind: str) -> tuple[tuple[str, int], ...]:
    hosts = [_host(each, PORTS[kind]) for each in text.split(",")] if text else [("localhost", PORTS[kind])]
    if len(hosts) > 1 and not kind:
        _refuse("there are several hosts: are they Sentinels, or nodes of a cluster?")
    return tuple(hosts)


def _host(text: str, default_port: int) -> tuple[str, int]:
    found = HOST.fullmatch(text)
    if found is None:
        _refuse("one of its hosts is no HOST[:PORT]")
    port = int(found["port"] or default_port)
    if not 0 < port < 65536:
        _refuse("a PORT is from 1 to 65535")
    return found["six"] or found["name"], port


def _tls(options: dict[str, str]) -> ssl.SSLContext:
    """Return what checks the server's certificate and name; `ssl_cert_reqs=none` trusts any."""
    authorities = options.get("ssl_ca_certs")
    if authorities is not None and not Path(authorities).is_file():
        _refuse("ssl_ca_certs is no file")
    try:
        context = ssl.create_default_context(cafile=authorities)
    except ssl.SSLError:
        _refuse("ssl_ca_certs is a file without certificates")
    wish = options.get("ssl_cert_reqs", "required")
    if wish not in ("required", "none"):
        _refuse("ssl_cert_reqs is required or none")
    if wish == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _refuse(reason: str) -> NoReturn:
    raise ConfigurationError(f"the URL of Redis cannot be used, {reason}; expected {SHAPES}")


def texts(hosts: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{host}:{port}" if port else host for host, port in hosts)
