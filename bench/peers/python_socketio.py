"""python-socketio on uvicorn; and what a load must say to any Socket.IO server (protocol 5, Engine.IO 4)."""

from __future__ import annotations

from bench.peers.peer import DEFLATE, PLAIN, PROGRAMS, Peer, distribution_version, lacks_python, python_with

MODULES = ("socketio", "uvicorn", "uvloop", "httptools", "websockets")
SOCKET_IO_SAYS = [
    *("--path", "/socket.io/?EIO=4&transport=websocket"),
    *("--say", "40", "--await", "40{"),
    *("--say", '42["join",{room}]', "--await", '42["joined"'),
    *("--message", '42["say",{room},"{text}"]'),
    *("--answer", "2=3"),
]

PEER = Peer(
    name="python-socketio",
    title="python-socketio, uvicorn",
    server=lambda place: [
        python_with(*MODULES) or "python3",
        str(PROGRAMS / "socket_io.py"),
        str(place.port),
        str(int(place.kind == DEFLATE)),
    ],
    says={PLAIN: SOCKET_IO_SAYS, DEFLATE: SOCKET_IO_SAYS},
    missing=lambda: lacks_python(*MODULES),
    version=lambda: distribution_version("python-socketio", *MODULES),
)
