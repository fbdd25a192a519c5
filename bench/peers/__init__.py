"""Everybody who is measured, in the order in which tables show them."""

from __future__ import annotations

from bench.peers import channels, floor, nchan, node, python_socketio, uwebsockets, websockets_broadcast, yamabiko_site
from bench.peers.peer import Peer

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        floor.PEER,
        yamabiko_site.PEER,
        yamabiko_site.IN_CHANNELS,
        uwebsockets.PEER,
        nchan.PEER,
        node.WS,
        websockets_broadcast.PEER,
        node.SOCKET_IO,
        python_socketio.PEER,
        *channels.PEERS,
        yamabiko_site.BY_SDK,
        yamabiko_site.ON_SQLITE,
        yamabiko_site.ON_REDIS,
    )
}
