"""The floor: a C loop with one send() per copy."""

from __future__ import annotations

from bench.build import compiler, compiler_version, program
from bench.peers.peer import PLAIN, Peer

PEER = Peer(
    name="floor",
    title="floor: a C loop, one send() per copy",
    server=lambda place: [str(program("floor")), str(place.port)],
    says={PLAIN: ["--path", "/{room}"]},
    missing=lambda: None if compiler() else "a C compiler is missing",
    version=compiler_version,
)
