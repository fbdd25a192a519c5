"""`manage.py runserver`: which application it serves, and what it says where there is none."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.contrib.staticfiles.management.commands.runserver import Command as StaticFilesCommand
from django.core.management import CommandError, get_commands, load_command_class
from django.test import override_settings

from tests.site.asgi import application

WITH_STATIC_FILES = {"use_static_handler": True, "insecure_serving": False}


@pytest.fixture
def command() -> Any:
    return load_command_class(get_commands()["runserver"], "runserver")


def test_runserver_is_ours_and_keeps_the_options_for_static_files(command: Any) -> None:
    assert get_commands()["runserver"] == "yamabiko"
    assert isinstance(command, StaticFilesCommand)
    given = vars(command.create_parser("manage.py", "runserver").parse_args(["--nostatic", "--insecure", "[::1]:0"]))
    assert (given["use_static_handler"], given["insecure_serving"], given["addrport"]) == (False, True, "[::1]:0")


@pytest.mark.parametrize(
    ("debug", "options", "is_served"),
    [
        (True, WITH_STATIC_FILES, True),
        (True, WITH_STATIC_FILES | {"use_static_handler": False}, False),
        (False, WITH_STATIC_FILES, False),
        (False, WITH_STATIC_FILES | {"insecure_serving": True}, True),
        (True, {}, False),
    ],
)
def test_static_files_are_served_as_djangos_runserver_would(
    command: Any, debug: bool, options: dict[str, bool], is_served: bool
) -> None:
    with override_settings(DEBUG=debug):
        handler = command.get_handler(**options)
    assert isinstance(handler, ASGIStaticFilesHandler) == is_served
    assert (handler.application if is_served else handler) is application


def test_asgi_application_names_the_application(command: Any) -> None:
    with override_settings(ASGI_APPLICATION="tests.site.asgi.django_application"):
        assert command.get_handler() is sys.modules["tests.site.asgi"].django_application


@pytest.mark.parametrize("unset", [None, ""])
def test_without_asgi_application_it_is_the_one_beside_the_urls(command: Any, unset: str | None) -> None:
    with override_settings(ASGI_APPLICATION=unset, ROOT_URLCONF="tests.site.urls"):
        assert command.get_handler() is application


@pytest.mark.parametrize("path", ["nowhere.asgi.application", "tests.site.asgi.nothing", "nodots", "tests..asgi.a"])
def test_an_application_that_is_not_there_is_told_with_the_setting(command: Any, path: str) -> None:
    with override_settings(ASGI_APPLICATION=path), pytest.raises(CommandError) as told:
        command.get_handler()
    assert str(told.value).startswith(f"There is no ASGI application at {path!r} (")
    assert 'Set ASGI_APPLICATION = "mysite.asgi.application"' in str(told.value)


@pytest.mark.parametrize("urls", ["nowhere.urls", "urls"])
def test_urls_without_an_application_beside_them_are_told_with_the_setting(command: Any, urls: str) -> None:
    with override_settings(ASGI_APPLICATION=None, ROOT_URLCONF=urls), pytest.raises(CommandError) as told:
        command.get_handler()
    assert 'Set ASGI_APPLICATION = "mysite.asgi.application"' in str(told.value)


@pytest.fixture
def flat_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "asgi.py").write_text("async def application(scope, receive, send): ...\n", encoding="utf-8")
    yield
    sys.modules.pop("asgi", None)


@pytest.mark.usefixtures("flat_project")
def test_a_project_without_a_package_has_its_application_beside_its_urls_too(command: Any) -> None:
    with override_settings(ASGI_APPLICATION=None, ROOT_URLCONF="urls"):
        assert command.get_handler() is sys.modules["asgi"].application


def test_a_port_that_is_taken_is_an_oserror_as_django_expects(command: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        command.server_cls(taken.getsockname(), None)


@pytest.mark.parametrize(("address", "ipv6"), [("127.0.0.1", False), ("::1", True)])
def test_the_port_is_known_before_the_server_starts(command: Any, address: str, ipv6: bool) -> None:
    if ipv6 and not socket.has_ipv6:
        pytest.fail("this machine has no IPv6")
    server = command.server_cls((address, 0), None, ipv6=ipv6)
    try:
        assert server.server_port > 0
    finally:
        server._listener.close()
