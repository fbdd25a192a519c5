"""Real PostgreSQL and MariaDB servers of a test session, each on a socket in a folder of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Debian keeps these off the PATH: one version of the server beside the other, and daemons where only root looks.
FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/sbin", "/usr/local/sbin")
UNPRIVILEGED = "nobody"
OWNER = "tester"


def database_program(name: str) -> str | None:
    """Return the path of a server's program, the newest where there are several."""
    found = [path for folder in FOLDERS for path in sorted(Path("/").glob(f"{folder[1:]}/{name}"))]
    return shutil.which(name) or (str(found[-1]) if found else None)


@contextmanager
def postgresql() -> Iterator[dict[str, Any]]:
    """Run a server; yield what Django's DATABASES has to say of it."""
    with own_folder() as folder:
        data = folder / "data"
        run("initdb", "-D", data, "-U", OWNER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        options = ["-k", str(folder), "-h", "", "-c", "fsync=off"]
        with server("postgres", "-D", data, *options, ready="ready to accept connections"):
            yield {"ENGINE": "django.db.backends.postgresql", "NAME": "postgres", "USER": OWNER, "HOST": str(folder)}


@contextmanager
def mysql() -> Iterator[dict[str, Any]]:
    """Run a MariaDB server; yield what Django's DATABASES has to say of it."""
    import pymysql

    pymysql.install_as_MySQLdb()
    with own_folder() as folder:
        data, line = folder / "data", folder / "socket"
        run("mariadb-install-db", "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal")
        options = [
            f"--socket={line}",
            f"--pid-file={folder / 'pid'}",
            "--skip-networking",
            "--innodb-lock-wait-timeout=5",
        ]
        with server("mariadbd", "--no-defaults", f"--datadir={data}", *options, ready="ready for connections"):
            # latin1 is what an old server has: nothing of ours may depend on it.
            with pymysql.connect(unix_socket=str(line), user="root") as connection, connection.cursor() as cursor:
                cursor.execute("CREATE DATABASE site CHARACTER SET latin1")
            yield {"ENGINE": "django.db.backends.mysql", "NAME": "site", "USER": "root", "HOST": str(line)}


@contextmanager
def own_folder() -> Iterator[Path]:
    """A short path, because a socket's may have 108 bytes at most, that an unprivileged server can write to."""
    folder = Path(tempfile.mkdtemp(prefix="yd"))
    if os.getuid() == 0:
        folder.chmod(0o755)
        shutil.chown(folder, UNPRIVILEGED)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def as_unprivileged() -> dict[str, Any]:
    """Return how to start a process that refuses to be root's."""
    if os.getuid() != 0:
        return {}
    import pwd  # which Windows has not

    return {"user": UNPRIVILEGED, "group": pwd.getpwnam(UNPRIVILEGED).pw_gid, "extra_groups": [], "cwd": "/"}


def run(name: str, *arguments: object) -> None:
    ended = subprocess.run(
        [str(database_program(name)), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=50,
        **as_unprivileged(),
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@contextmanager
def server(name: str, *arguments: object, ready: str) -> Iterator[None]:
    """Run a server from the line in which it says that it is ready."""
    process = subprocess.Popen(
        [str(database_program(name)), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **as_unprivileged(),
    )
    assert process.stdout is not None
    try:
        printed = []
        for line in process.stdout:
            printed.append(line)
            if ready in line:
                break
        else:
            raise RuntimeError(f"{name} did not start:\n{''.join(printed)}")
        yield
    finally:
        process.send_signal(signal.SIGQUIT)  # at once, and PostgreSQL takes its processes and memory with it
        process.wait(10)
        process.stdout.close()
