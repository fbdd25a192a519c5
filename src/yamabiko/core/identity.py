"""Who a connection belongs to, and what it was granted beside what Room classes allow."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from yamabiko.core.messages import NOTHING


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A right to be in one room, whatever its Room class says of joining.

    `info` is told to the others of this member, `data` to the member itself, both JSON. After `expires_in_seconds` it
    ends, unless it is renewed; None never ends.
    """

    info: msgspec.Raw = NOTHING
    data: msgspec.Raw = NOTHING
    expires_in_seconds: float | None = None


NO_GRANTS: Mapping[str, Grant] = MappingProxyType({})


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """A user, as the application knows it; `id` and `name` are empty for someone unknown.

    `info` is JSON that is told to others of this connection. It ends after `expires_in_seconds`, unless it is renewed;
    None never ends. It is subscribed to the rooms of `grants` from the beginning.
    """

    user: object
    id: str = ""
    name: str = ""
    info: msgspec.Raw = NOTHING
    expires_in_seconds: float | None = None
    grants: Mapping[str, Grant] = NO_GRANTS
