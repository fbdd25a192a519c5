"""Install the peers beside the bench, into a folder that git ignores. Nothing of them is ever committed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from bench.peers.peer import INSTALLED, python_with

PYTHON_PEERS = [
    "channels>=4.3", "channels-redis>=4.3", "daphne", "django", "hiredis", "httptools", "python-socketio", "socketify",
    "uvicorn", "uvloop", "websockets",
]  # fmt: skip
NODE_PEERS = ["bufferutil", "socket.io", "ws"]
DEBIAN_PEERS = ["libnginx-mod-nchan", "nginx", "redis-server"]
MINUTES = 15


def install_peers() -> bool:
    """Install what can be; say what could not, and return whether that was nothing."""
    INSTALLED.mkdir(exist_ok=True)
    done = [_install_python_peers(), _install_node_peers(), _install_debian_peers()]
    python_with.cache_clear()
    return all(done)


def _install_python_peers() -> bool:
    environment = INSTALLED / "venv"
    if not (environment / "bin" / "python").exists() and not _ran([sys.executable, "-m", "venv", str(environment)]):
        return False
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    return _ran([*pip, *PYTHON_PEERS])


def _install_node_peers() -> bool:
    if shutil.which("npm") is None:
        print("npm is not on the PATH (Debian: apt install nodejs npm); without it ws and Socket.IO are missing")
        return False
    quietly = ["--no-package-lock", "--no-save", "--no-audit", "--no-fund", "--silent"]
    return _ran(["npm", "install", *quietly, "--prefix", str(INSTALLED), *NODE_PEERS])


def _install_debian_peers() -> bool:
    packages = " ".join(DEBIAN_PEERS)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"not installed, that takes an administrator: {packages} (Debian: sudo apt install {packages})")
        return False
    return _ran(["apt-get", "install", "--yes", "--quiet=2", "--no-install-recommends", *DEBIAN_PEERS])


def _ran(command: list[str]) -> bool:
    print(f"$ {' '.join(command)}", flush=True)
    try:
        return subprocess.run(command, timeout=MINUTES * 60, stdin=subprocess.DEVNULL).returncode == 0
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"  {error}")
        return False
