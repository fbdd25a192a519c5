"""Redis or Valkey as a helper of those who need one."""

from __future__ import annotations

import shutil

from bench.peers.peer import Place


def redis_program() -> str | None:
    return shutil.which("redis-server") or shutil.which("valkey-server")


def redis(place: Place) -> list[str]:
    options = ["--port", str(place.helper_port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    return [redis_program() or "redis-server", *options, "--dir", str(place.folder), "--loglevel", "warning"]


def lacks_redis() -> str | None:
    if redis_program() is None:
        return "redis-server is not on the PATH (Debian: apt install redis-server)"
    return None
