"""Publications and members of rooms as peers of the SDK protocol see them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from yamabiko.core.messages import Delta, Event, Member, PresenceChanged, Publication
from yamabiko.core.sdk import messages as sdk_messages
from yamabiko.core.sdk.messages import NONE, ClientInfo, Extras, Join, Leave, Push, Reply

_extras_of = msgspec.json.Decoder(Extras).decode


def publication_of(publication: Publication) -> sdk_messages.Publication:
    extras = _extras_of(publication.extras) if publication.extras else Extras()
    return sdk_messages.Publication(
        data=msgspec.Raw(publication.data),
        info=extras.info,
        offset=publication.position.offset if publication.position is not None else 0,
        tags=extras.tags,
    )


def with_data(publication: Publication, data: bytes) -> Publication:
    """Return the same publication with other data."""
    return Publication(data, publication.position, publication.user, publication.extras)


def client_info(member: Member) -> ClientInfo:
    # Only NONE itself is left out when it is encoded; another empty Raw would leave a hole in the JSON.
    return ClientInfo(member.user, member.client, member.info or NONE, member.room_info or NONE)


def replies_of(event: Event | Reply, room: str) -> Sequence[Reply]:
    """Return what a peer in `room` is sent for an event: itself, or pushes, those who joined before those who left.

    Raises TypeError for the events of the room protocol alone.
    """
    match event:
        case Reply():
            return (event,)
        case Publication():
            return (Reply(push=Push(channel=room, pub=publication_of(event))),)
        case Delta(publication=publication, changes=changes):
            pub = publication_of(with_data(publication, changes))
            pub.delta = True
            return (Reply(push=Push(channel=room, pub=pub)),)
        case PresenceChanged():
            joins = [Push(channel=room, join=Join(client_info(member))) for member in event.joined]
            leaves = [Push(channel=room, leave=Leave(client_info(member))) for member in event.left]
            return [Reply(push=push) for push in (*joins, *leaves)]
    raise TypeError(f"the SDK protocol has no {type(event).__name__}")
