"""`ws` and Socket.IO on Node."""

from __future__ import annotations

import json
import shutil

from bench.peers.peer import DEFLATE, INSTALLED, PLAIN, PROGRAMS, Peer, Place, version_line
from bench.peers.python_socketio import SOCKET_IO_SAYS

MODULES = INSTALLED / "node_modules"


def run(script: str, place: Place) -> list[str]:
    return ["node", str(PROGRAMS / script), str(place.port), str(int(place.kind == DEFLATE))]


def lacks(module: str) -> str | None:
    if shutil.which("node") is None:
        return "node is not on the PATH (Debian: apt install nodejs npm)"
    if not (MODULES / module).exists():
        return f"{module} for Node is missing; python -m bench --install-peers installs it"
    return None


def version(module: str) -> str:
    package = json.loads((MODULES / module / "package.json").read_text(encoding="utf-8"))
    return f"{package['version']}, Node {version_line('node', '--version')}"


def on_node(name: str, module: str, title: str, script: str, says: list[str]) -> Peer:
    return Peer(
        name=name,
        title=title,
        server=lambda place: run(script, place),
        environment=lambda place: {"NODE_PATH": str(MODULES), "NODE_ENV": "production"},
        says={PLAIN: says, DEFLATE: says},
        missing=lambda: lacks(module),
        version=lambda: version(module),
    )


WS = on_node("ws", "ws", "ws on Node", "ws.js", ["--path", "/{room}"])
SOCKET_IO = on_node("socket.io", "socket.io", "Socket.IO on Node", "socket_io.js", SOCKET_IO_SAYS)
