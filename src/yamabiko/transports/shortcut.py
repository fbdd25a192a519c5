"""The shortest way for what is sent most: short texts, each in one whole frame. All else is for the parser."""

from __future__ import annotations

from websockets.frames import Frame

from yamabiko.core.frames import FIN_TEXT

try:
    from websockets.speedups import apply_mask
except ImportError:  # where websockets was built without its C part
    from websockets.utils import apply_mask

MASKED = 0x80
MASK_BYTES = 4
LONGEST = 125
"""The longest payload that needs no more than two bytes of header (RFC 6455, section 5.2)."""


def short_texts(data: bytes) -> tuple[list[bytes], bytes]:
    """Split off the short texts that `data` begins with, if it begins with a frame; return them, and the rest."""
    texts: list[bytes] = []
    start = 0
    while len(data) - start >= 2 + MASK_BYTES and data[start] == FIN_TEXT:
        size = data[start + 1] - MASKED
        payload, end = start + 2 + MASK_BYTES, start + 2 + MASK_BYTES + size
        if not 0 <= size <= LONGEST or end > len(data):
            break
        texts.append(apply_mask(data[payload:end], data[start + 2 : payload]))
        start = end
    return texts, data[start:]


def wire_size(frame: Frame) -> int:
    """Return the bytes that a frame took as its client sent it, masked and by no extension changed."""
    size = len(frame.data)
    extended = 0 if size <= LONGEST else 2 if size < 65536 else 8
    return 2 + extended + MASK_BYTES + size
