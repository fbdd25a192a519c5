"""The load and the floor, built on the spot from our own C."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from bench.failures import BenchError

HERE = Path(__file__).parent
BUILT = HERE / ".build"
FLAGS = ["-O2", "-Wall", "-Wextra", "-Wno-unused-function"]
ZLIB = ["-DWITH_ZLIB"]


def compiler() -> str | None:
    return shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc") or shutil.which("clang")


def compiler_version() -> str:
    version = subprocess.run([compiler() or "cc", "--version"], capture_output=True, text=True, timeout=30, check=True)
    return version.stdout.splitlines()[0]


@cache
def program(name: str) -> Path:
    """Return the program made of NAME.c, built anew when a source is newer. Raises BenchError without a compiler."""
    built = BUILT / name
    sources = [HERE / f"{name}.c", *(HERE / "native").glob("*.h")]
    if not built.exists() or built.stat().st_mtime < max(source.stat().st_mtime for source in sources):
        _compile(HERE / f"{name}.c", built)
    return built


@cache
def can_inflate() -> bool:
    """Whether the load was built with zlib, which only --deflate needs."""
    return b"built without zlib" not in program("load").read_bytes()


def _compile(source: Path, built: Path) -> None:
    command = compiler()
    if command is None:
        raise BenchError("a C compiler is needed to build the load (Debian: apt install gcc libc6-dev zlib1g-dev)")
    built.parent.mkdir(exist_ok=True)
    unfinished = built.with_suffix(f".{os.getpid()}")
    base = [command, *FLAGS, "-o", str(unfinished), str(source)]
    with_zlib = subprocess.run([*base, *ZLIB, "-lz"], capture_output=True, text=True, timeout=120)
    if with_zlib.returncode:
        without = subprocess.run(base, capture_output=True, text=True, timeout=120)
        if without.returncode:
            raise BenchError(f"{source.name} does not compile:\n{without.stderr}")
    unfinished.replace(built)
