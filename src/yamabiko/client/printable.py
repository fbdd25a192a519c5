"""Text from elsewhere, made harmless for a terminal and for one line of output."""

from __future__ import annotations

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
LINE_BREAK = "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}"

C0 = {code: chr(0x2400 + code) for code in range(0x20)}
C1 = dict.fromkeys(range(0x80, 0xA0), REPLACEMENT)
BIDI = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)], REPLACEMENT)
SURROGATES = dict.fromkeys(range(0xD800, 0xE000), REPLACEMENT)
SPACES = {
    ord("\t"): " ",
    ord("\n"): LINE_BREAK,
    0x85: LINE_BREAK,
    0x2028: LINE_BREAK,
    0x2029: LINE_BREAK,
}
HARMLESS = str.maketrans({**C0, 0x7F: "\N{SYMBOL FOR DELETE}", **C1, **BIDI, **SURROGATES, **SPACES})


def printable(text: str) -> str:
    """Return `text` on one line, with every character that could drive a terminal shown instead of obeyed.

    Line breaks become a visible mark, control characters their pictures, bidirectional overrides and
    lone surrogates a replacement character. Combining and wide characters stay as they are.
    """
    return text.replace("\r\n", "\n").translate(HARMLESS)
