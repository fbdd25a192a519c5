"""A frame: one encoded message, made once, deflated once, and shared by all who get it."""

from __future__ import annotations

from functools import cached_property
from struct import pack
from zlib import Z_SYNC_FLUSH, compressobj

FIN_TEXT, FIN_BINARY, DEFLATED = 0x81, 0x82, 0x40
WINDOW_BITS = 12
"""The window that a shared deflated frame needs: 4 KB, of the 256 bytes to 32 KB that a peer may allow."""
SYNC_FLUSH_TAIL = b"\x00\x00\xff\xff"


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

    @cached_property
    def deflated_wire(self) -> bytes:
        """The same for peers that inflate (RFC 7692, without context takeover), if deflating makes it shorter."""
        deflater = compressobj(wbits=-WINDOW_BITS, memLevel=5)
        deflated = deflater.compress(self.payload) + deflater.flush(Z_SYNC_FLUSH)
        deflated = deflated.removesuffix(SYNC_FLUSH_TAIL)
        if len(deflated) >= len(self.payload):
            return self.wire
        first_byte = DEFLATED | (FIN_TEXT if self.is_text else FIN_BINARY)
        return header(first_byte, len(deflated)) + deflated


def header(first_byte: int, length: int) -> bytes:
    if length < 126:
        return pack("!BB", first_byte, length)
    if length < 65536:
        return pack("!BBH", first_byte, 126, length)
    return pack("!BBQ", first_byte, 127, length)
