"""The `websockets` library with its own broadcast(), on uvloop."""

from __future__ import annotations

from bench.peers.peer import DEFLATE, PLAIN, PROGRAMS, Peer, distribution_version, lacks_python, python_with

PEER = Peer(
    name="websockets",
    title="websockets.broadcast, uvloop",
    server=lambda place: [
        python_with("websockets", "uvloop") or "python3",
        str(PROGRAMS / "broadcast.py"),
        str(place.port),
        str(int(place.kind == DEFLATE)),
    ],
    says={kind: ["--path", "/{room}"] for kind in (PLAIN, DEFLATE)},
    missing=lambda: lacks_python("websockets", "uvloop"),
    version=lambda: distribution_version("websockets", "websockets"),
)
