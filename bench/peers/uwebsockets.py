"""uWebSockets (C++), its own publish and subscribe, driven by Python through socketify."""

from __future__ import annotations

from bench.peers.peer import DEFLATE, PLAIN, PROGRAMS, Peer, distribution_version, lacks_python, python_with

PEER = Peer(
    name="uwebsockets",
    title="uWebSockets (C++), socketify",
    server=lambda place: [
        python_with("socketify") or "python3",
        str(PROGRAMS / "uwebsockets.py"),
        str(place.port),
        str(int(place.kind == DEFLATE)),
    ],
    says={kind: ["--path", "/{room}"] for kind in (PLAIN, DEFLATE)},
    missing=lambda: lacks_python("socketify"),
    version=lambda: f"socketify {distribution_version('socketify', 'socketify')}",
)
