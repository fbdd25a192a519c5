"""Which names a room may have."""

from __future__ import annotations

import unicodedata

from yamabiko.core.errors import UnknownRoom

LONGEST_BYTES = 255
_JOINERS = frozenset("\u200c\u200d")  # which some scripts and emoji are written with
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def exact_room_name(text: str) -> str:
    """Return `text` if it is a room's name as it stands, so that those who sent it know it again.

    Raises UnknownRoom, also for what is not in form NFC.
    """
    name = room_name(text)
    if name != text:
        raise UnknownRoom("a room's name is in Unicode's form NFC")
    return name


def room_name(text: str) -> str:
    """Return `text` as a room's name: Unicode in form NFC, 1 to 255 bytes of UTF-8.

    Raises UnknownRoom for other lengths and for characters that no one sees or that reorder text around them.
    """
    name = unicodedata.normalize("NFC", text)
    if any(unicodedata.category(character) in _FORBIDDEN_CATEGORIES for character in name if character not in _JOINERS):
        raise UnknownRoom(
            "a room's name has no control characters, line separators or surrogates, and none that cannot be seen or "
            "change the direction of text"
        )
    size = len(name.encode())
    if not 1 <= size <= LONGEST_BYTES:
        raise UnknownRoom(f"a room's name has 1 to {LONGEST_BYTES} bytes of UTF-8; this one has {size}")
    return name
