"""With memory:// the rooms are in the server's process; a shell on the same machine speaks in them all the same."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.django.conftest import LiveSite
from yamabiko import PublishFailed, publish
from yamabiko.django import local_line
from yamabiko.django.service import service

REPOSITORY = Path(__file__).parents[2]

Shell = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def temporary_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short path, because a socket's may have 108 bytes at most."""
    folder = tempfile.mkdtemp(prefix="yl")
    monkeypatch.setattr(tempfile, "tempdir", folder)
    yield Path(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database(temporary_folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the site a database that other processes could share."""
    name = str(temporary_folder / "db.sqlite3")
    monkeypatch.setattr(local_line, "_database", lambda: name)
    return name


@pytest.fixture
def shell(temporary_folder: Path, database: str) -> Shell:
    """Return a function that runs a program in another process of the same site."""

    def run(program: str, *more_settings: str) -> subprocess.CompletedProcess[str]:
        lines = [
            "from tests.settings import *",
            f"DATABASES = {{'default': {{'ENGINE': 'django.db.backends.sqlite3', 'NAME': {database!r}}}}}",
            *more_settings,
        ]
        (temporary_folder / "shell_settings.py").write_text("\n".join(lines), encoding="utf-8")
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", f"import django; django.setup(); import yamabiko; {program}"],
            env=os.environ
            | {
                "PYTHONPATH": os.pathsep.join([str(temporary_folder), str(REPOSITORY), str(REPOSITORY / "src")]),
                "DJANGO_SETTINGS_MODULE": "shell_settings",
                "TMPDIR": str(temporary_folder),
            },
            capture_output=True,
            text=True,
            timeout=50,
        )

    return run


@pytest.fixture
def server(database: str, live_site: LiveSite) -> Iterator[LiveSite]:
    """The site with a server's life: its line ends with it."""
    yield live_site
    live_site.run(service().close())


def test_another_process_speaks_in_the_servers_rooms(server: LiveSite, shell: Shell) -> None:
    member = server.member("kept/a")
    ended = shell("print(yamabiko.publish('kept/a', {'from': 'a shell'}).offset)")
    assert (ended.stdout, ended.stderr) == ("1\n", "")
    assert server.hear(member) == {"from": "a shell"}


def test_a_process_of_another_site_does_not(server: LiveSite, shell: Shell) -> None:
    member = server.member("open/a")
    ended = shell("yamabiko.publish('open/a', 'foreign')", "SECRET_KEY = 'of another site'")
    assert "nobody hears it" in ended.stderr
    publish("open/a", "ours")
    assert server.hear(member) == "ours"


def test_without_a_server_it_is_told_that_nobody_hears(shell: Shell) -> None:
    ended = shell("print(yamabiko.publish('kept/a', 'hello').offset)")
    assert ended.returncode == 0
    assert "published in 'kept/a', but nobody hears it" in ended.stderr


def test_the_folder_is_the_users_alone_and_left_empty(server: LiveSite, temporary_folder: Path, database: str) -> None:
    server.member("open/a")
    (folder,) = (path for path in temporary_folder.iterdir() if path.is_dir())
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(list(folder.iterdir())) == 1
    server.run(service().close())
    assert list(folder.iterdir()) == []


def test_the_line_of_a_killed_server_is_cleared_away(database: str, temporary_folder: Path) -> None:
    left = Path(local_line._path(0))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(left))
    assert publish("kept/a", "hello") is not None
    assert not left.exists()


def test_a_database_in_memory_is_shared_with_nobody() -> None:
    assert not local_line.is_possible()


def test_a_folder_that_is_open_to_others_does_not_stop_the_server(
    server: LiveSite, temporary_folder: Path, database: str
) -> None:
    """Another user of this machine can make it first; that must cost the shell's way in, not the site."""
    folder = local_line._folder()
    folder.mkdir()
    folder.chmod(0o777)
    member = server.member("open/a")
    server.run(service().publish("open/a", b'"hello"'))
    assert server.hear(member) == "hello"


def test_a_machine_without_a_writable_temporary_folder_can_serve(
    server: LiveSite, temporary_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Containers with a read-only file system have none."""
    monkeypatch.setattr(tempfile, "tempdir", str(temporary_folder / "missing"))
    server.member("open/a")


def test_a_server_that_does_not_answer_is_not_waited_for_for_ever(
    database: str, temporary_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped process still takes connections."""
    monkeypatch.setattr(local_line, "ANSWER_SECONDS", 0.05)
    with ThreadPoolExecutor(1) as threads, socket.socket(socket.AF_UNIX) as stopped:
        stopped.bind(str(local_line._path(0)))
        stopped.listen()
        problem = threads.submit(publish, "kept/a", "hello").exception(timeout=2)
    assert problem is None or isinstance(problem, PublishFailed)
