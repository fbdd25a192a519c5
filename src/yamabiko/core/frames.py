"""A frame: one encoded message, made once and shared by all who get it."""

from __future__ import annotations

from functools import cached_property
from struct import pack

FIN_TEXT, FIN_BINARY = 0x81, 0x82


class Frame:
    """A payload (text in UTF-8, or binary) and, made on first use, the bytes of its complete WebSocket frame."""

    def __init__(self, payload: bytes, *, is_text: bool = True) -> None:
        self.payload = payload
        self.is_text = is_text

    def __len__(self) -> int:
        return len(self.payload)

    @cached_property
    def text(self) -> str:
        return self.payload.decode()

    @cached_property
    def wire(self) -> bytes:
        """Header and payload, unfragmented and unmasked as a server sends them (RFC 6455, section 5.2)."""
        return header(FIN_TEXT if self.is_text else FIN_BINARY, len(self.payload)) + self.payload


def header(first_byte: int, length: int) -> bytes:
    if length < 126:
        return pack("!BB", first_byte, length)
    if length < 65536:
        return pack("!BBH", first_byte, 126, length)
    return pack("!BBQ", first_byte, 127, length)
