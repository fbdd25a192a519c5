"""`--trace`: every handshake and frame, with secrets masked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from yamabiko.client.masking import masked_header, masked_payload, masked_url


class Headers(Protocol):
    def raw_items(self) -> Iterable[tuple[str, str]]: ...


class Trace:
    """Writes a line for what is sent (`> `) and for what is received (`< `)."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self.write = write

    def request(self, path: str, headers: Headers) -> None:
        self.write(f"> GET {masked_url(path)}")
        self._headers(">", headers)

    def response(self, status: int, phrase: str, headers: Headers) -> None:
        self.write(f"< HTTP {status} {phrase}")
        self._headers("<", headers)

    def sent(self, payload: str) -> None:
        self.write(f"> {masked_payload(payload)}")

    def received(self, payload: str | bytes) -> None:
        if isinstance(payload, str):
            self.write(f"< {masked_payload(payload)}")
        else:
            self.write(f"< binary frame of {len(payload)} bytes")

    def closed(self, code: int, reason: str, *, by_server: bool) -> None:
        self.write(f"{'<' if by_server else '>'} close {code} {reason}".rstrip())

    def _headers(self, direction: str, headers: Headers) -> None:
        for name, value in headers.raw_items():
            self.write(f"{direction} {name}: {masked_header(name, value)}")


SILENT = Trace(lambda _line: None)
