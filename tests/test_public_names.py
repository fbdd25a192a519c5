"""What `yamabiko` offers: every name is there, is explained, and costs nothing before it is used."""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import yamabiko

REPOSITORY = Path(__file__).parents[1]
PUBLIC_NAMES = [
    "ConnectionConsumer",
    "History",
    "HistoryPage",
    "Kept",
    "NotAvailable",
    "Position",
    "PresenceStats",
    "Present",
    "PublishFailed",
    "Refused",
    "Room",
    "RoomConsumer",
    "YamabikoError",
    "adisconnect",
    "ahistory",
    "apresence",
    "apresence_stats",
    "apublish",
    "asend",
    "asubscribe",
    "aunsubscribe",
    "disconnect",
    "history",
    "presence",
    "presence_stats",
    "publish",
    "register",
    "rpc",
    "send",
    "subscribe",
    "subscription_token",
    "token",
    "unsubscribe",
    "with_rooms",
    "with_streams",
]
HOOKS = ["can_join", "can_publish", "on_publish", "on_join", "on_leave"]


def run(program: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == 0, ended.stderr


def test_these_are_the_public_names() -> None:
    assert yamabiko.__all__ == PUBLIC_NAMES
    assert set(PUBLIC_NAMES) <= set(dir(yamabiko))


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_every_name_is_what_it_is_called(name: str) -> None:
    assert getattr(yamabiko, name).__name__ == name


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_every_name_is_explained(name: str) -> None:
    value = getattr(yamabiko, name)
    assert value.__doc__
    assert value.__doc__.strip().endswith(".")


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_of_a_room_is_explained_and_async(name: str) -> None:
    hook = getattr(yamabiko.Room, name)
    assert hook.__doc__
    assert inspect.iscoroutinefunction(hook)


def test_type_checkers_are_told_the_same_names() -> None:
    tree = ast.parse(Path(yamabiko.__file__).read_text(encoding="utf-8"))
    told = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module != "typing"]
    names = [alias.asname for node in told for alias in node.names if alias.asname]
    assert sorted(names) == PUBLIC_NAMES


def test_another_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="module 'yamabiko' has no attribute 'join'"):
        _ = yamabiko.join
    with pytest.raises(ImportError, match="cannot import name 'join'"):
        exec("from yamabiko import join")


def test_importing_the_package_imports_neither_django_nor_an_event_loop() -> None:
    run("import sys, yamabiko; assert not {'django', 'asyncio', 'msgspec'} & set(sys.modules)")


def test_names_of_the_core_are_had_without_django() -> None:
    run(
        "import sys; from yamabiko import History, Position, PublishFailed, Refused, YamabikoError;"
        "assert 'django' not in sys.modules"
    )


def test_room_classes_are_had_before_django_is_set_up() -> None:
    run("from yamabiko import Room, register")


def test_everything_is_had_before_the_settings_are_known() -> None:
    """publish is imported by models.py, which Django loads before the apps are ready."""
    run("import django.conf; from yamabiko import publish, apublish; assert not django.conf.settings.configured")


def test_an_asgi_module_may_import_with_rooms_before_it_sets_django_up() -> None:
    """As every asgi.py does: imports at the top, get_asgi_application() below."""
    run(
        "import os; os.environ['DJANGO_SETTINGS_MODULE'] = 'tests.settings'\n"
        "from django.core.asgi import get_asgi_application\n"
        "from yamabiko import with_rooms\n"
        "application = with_rooms(get_asgi_application())"
    )


def test_a_star_import_brings_them_all() -> None:
    run(
        "import django.conf; django.conf.settings.configure(\n"
        "    INSTALLED_APPS=['yamabiko', 'django.contrib.auth', 'django.contrib.contenttypes']); django.setup()\n"
        f"from yamabiko import *; assert {set(PUBLIC_NAMES)!r} <= set(globals())"
    )
