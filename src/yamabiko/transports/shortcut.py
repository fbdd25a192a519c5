"""The shortest way for what is sent most: texts below 64 KiB, each in one whole frame. All else is for the parser."""

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
IN_TWO_BYTES = 126
"""Says that two more bytes tell the size."""


def short_texts(data: bytes) -> tuple[list[bytes], bytes]:
    """Split off the texts that `data` begins with, if it begins with a frame; return them, and the rest."""
    texts: list[bytes] = []
    start = 0
    while len(data) - start >= 2 + MASK_BYTES and data[start] == FIN_TEXT:
        size, mask = data[start + 1] - MASKED, start + 2
        if size == IN_TWO_BYTES:
            size, mask = data[start + 2] << 8 | data[start + 3], start + 4
            if size <= LONGEST:  # could have been said in one: let the parser judge
                break
        elif not 0 <= size <= LONGEST:
            break
        payload, end = mask + MASK_BYTES, mask + MASK_BYTES + size
        if end > len(data):
            break
        texts.append(apply_mask(data[payload:end], data[mask:payload]))
        start = end
    return texts, data[start:]


def wire_size(frame: Frame) -> int:
    """Return the bytes that a frame took as its client sent it, masked and by no extension changed."""
    size = len(frame.data)
    extended = 0 if size <= LONGEST else 2 if size < 65536 else 8
    return 2 + extended + MASK_BYTES + size
