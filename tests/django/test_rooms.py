from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from django.urls import converters, register_converter
from django.urls.converters import StringConverter

import yamabiko
from yamabiko import Room, register
from yamabiko.core.errors import UnknownRoom
from yamabiko.django.rooms import Registry, registry

LONGEST_NAME = "山" * 85


def new_room_class(pattern: str, name: str = "NewRoom", **attributes: Any) -> type[Room]:
    return register(pattern)(type(name, (Room,), attributes))


@pytest.mark.parametrize(
    ("pattern", "name", "kwargs"),
    [
        ("lobby", "lobby", {}),
        ("chat/<name>", "chat/a b", {"name": "a b"}),
        ("chat/<str:name>", "chat/山彦", {"name": "山彦"}),
        ("chat/<slug:name>", "chat/off-topic_2", {"name": "off-topic_2"}),
        ("chat/<name>", "chat/ALICE", {"name": "ALICE"}),
        ("room<int:number>", "room007", {"number": 7}),
        ("team/<uuid:team>", f"team/{UUID(int=7)}", {"team": UUID(int=7)}),
        ("files/<path:path>", "files/a/b.txt", {"path": "a/b.txt"}),
        ("<slug:team>/<int:number>", "blue/12", {"team": "blue", "number": 12}),
        ("部屋/<str:名>", "部屋/寄席", {"名": "寄席"}),
        ("<path:anything>", LONGEST_NAME, {"anything": LONGEST_NAME}),
        ("price (<int:euros>)?", "price (5)?", {"euros": 5}),
    ],
)
def test_patterns_are_those_of_djangos_path(
    only_new_rooms: Registry, pattern: str, name: str, kwargs: dict[str, Any]
) -> None:
    room_class = new_room_class(pattern)
    room = only_new_rooms.room(name)
    assert (type(room), room.name, room.kwargs) == (room_class, name, kwargs)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("lobby", "lobby/"),
        ("lobby", "the lobby"),
        ("lobby", "Lobby"),
        ("lobby", "lobby2"),
        ("room<int:number>", "room"),
        ("room<int:number>", "room-1"),
        ("room<int:number>", "rooms1"),
        ("chat/<slug:name>", "chat/"),
        ("chat/<slug:name>", "chat/a/b"),
        ("chat/<slug:name>", "chat/山"),
        ("chat/<str:name>", "chat/a/b"),
        ("chat.<slug:name>", "chat-a"),
    ],
)
def test_a_name_that_no_pattern_matches_is_no_room(only_new_rooms: Registry, pattern: str, name: str) -> None:
    new_room_class(pattern)
    with pytest.raises(UnknownRoom, match="no Room class is registered for"):
        only_new_rooms.room(name)


@pytest.mark.parametrize("name", ["", "a\nb", "a\0", "\u202eabc", "\ud800", LONGEST_NAME + "a"])
def test_a_name_that_cannot_be_is_no_room_whatever_the_patterns(only_new_rooms: Registry, name: str) -> None:
    new_room_class("<path:anything>")
    with pytest.raises(UnknownRoom):
        only_new_rooms.room(name)


def test_two_spellings_of_one_name_are_one_room(only_new_rooms: Registry) -> None:
    new_room_class("<str:name>")
    assert only_new_rooms.room("Cafe\u0301").name == only_new_rooms.room("Caf\u00e9").name == "Caf\u00e9"


class EvenConverter(StringConverter):
    regex = "[0-9]+"

    def to_python(self, value: str) -> int:
        if int(value) % 2:
            raise ValueError("odd")
        return int(value)


@pytest.fixture
def _even_numbers() -> Iterator[None]:
    register_converter(EvenConverter, "even")
    yield
    del converters.REGISTERED_CONVERTERS["even"]
    converters.get_converters.cache_clear()


@pytest.mark.usefixtures("_even_numbers")
def test_a_projects_own_converters_work_and_may_refuse_a_name(only_new_rooms: Registry) -> None:
    new_room_class("pair/<even:number>")
    assert only_new_rooms.room("pair/4").kwargs == {"number": 4}
    with pytest.raises(UnknownRoom):
        only_new_rooms.room("pair/3")


@pytest.mark.usefixtures("_even_numbers")
def test_what_a_converter_refuses_goes_to_the_next_pattern(only_new_rooms: Registry) -> None:
    new_room_class("pair/<even:number>", "Even")
    new_room_class("pair/<int:number>", "Odd")
    assert type(only_new_rooms.room("pair/3")).__name__ == "Odd"


def test_the_first_pattern_that_matches_has_the_room(only_new_rooms: Registry) -> None:
    new_room_class("chat/help", "Help")
    new_room_class("chat/<slug:name>", "Chat")
    new_room_class("chat/<slug:name>", "Late")
    assert type(only_new_rooms.room("chat/help")).__name__ == "Help"
    assert type(only_new_rooms.room("chat/other")).__name__ == "Chat"


def test_a_class_may_have_several_patterns() -> None:
    assert type(registry.room("room1")) is type(registry.room("kept/1"))


def test_register_returns_the_class_itself(only_new_rooms: Registry) -> None:
    class MyRoom(Room):
        pass

    assert register("mine")(MyRoom) is MyRoom


@pytest.mark.parametrize("wrong", [object, lambda: None, Room("a", {}), None])
def test_only_room_classes_can_be_registered(only_new_rooms: Registry, wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"register\('chat'\) is for a subclass of yamabiko.Room, not"):
        register("chat")(wrong)
    assert only_new_rooms.entries == []


def test_register_without_a_pattern_says_how_it_is_written() -> None:
    with pytest.raises(TypeError, match='@register\\("chat/<slug:name>"\\)'):
        register(Room)


@pytest.mark.parametrize("pattern", ["chat/<nothing:name>", "chat/<slug:a b>", "chat/<slug: name>"])
def test_a_pattern_that_django_does_not_take_is_refused_where_it_is_written(
    only_new_rooms: Registry, pattern: str
) -> None:
    with pytest.raises(ImproperlyConfigured):
        new_room_class(pattern)


async def test_a_room_begins_closed() -> None:
    room = Room("a", {})
    assert not await room.can_join(AnonymousUser())
    assert not await room.can_publish(AnonymousUser())
    assert (room.history, room.presence, room.changes_messages) == (None, False, False)


async def test_without_hooks_messages_are_published_as_they_are() -> None:
    message = {"a": [1]}
    assert await Room("a", {}).on_publish(AnonymousUser(), message) is message


def test_messages_are_looked_into_only_where_a_class_or_its_mixin_says_on_publish() -> None:
    class Loud:
        async def on_publish(self, user: Any, message: Any) -> Any:
            return message.upper()

    class LoudRoom(Loud, Room):
        pass

    class QuietRoom(Room):
        pass

    assert LoudRoom.changes_messages
    assert not QuietRoom.changes_messages


@pytest.mark.parametrize(
    ("pattern", "group", "name", "expected"),
    [
        ("chat/<slug:name>", "chat_{name}", "chat/lobby", "chat_lobby"),
        ("room<int:number>", "room-{number}", "room7", "room-7"),
        ("<slug:name>", "all.{room}", "lobby", "all.lobby"),
        ("chat/<slug:room>", "chat_{room}", "chat/lobby", "chat_chat/lobby"),
    ],
)
def test_the_channels_group_is_filled_in(
    only_new_rooms: Registry, pattern: str, group: str, name: str, expected: str
) -> None:
    new_room_class(pattern, channels_group=group)
    assert only_new_rooms.room(name).group == expected


def test_names_that_channels_does_not_take_are_hashed_to_groups_of_their_own(only_new_rooms: Registry) -> None:
    new_room_class("<path:name>")
    names = ["chat/lobby", "chat/Lobby", "山彦", "a" * 100, "a" * 101]
    groups = [only_new_rooms.room(name).group for name in names]
    assert len(set(groups)) == len(names)
    assert all(group.startswith("yamabiko-") and len(group) < 100 for group in groups)


def test_a_room_cannot_be_named_so_that_its_group_is_another_rooms(only_new_rooms: Registry) -> None:
    new_room_class("private/<slug:name>")
    new_room_class("<slug:name>")
    group = only_new_rooms.room("private/board").group
    assert only_new_rooms.room(group).group != group


@pytest.fixture
def new_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the folder of an app that nothing has imported yet."""
    folder = tmp_path / "newcomer"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for module in [name for name in sys.modules if name.partition(".")[0] == "newcomer"]:
        del sys.modules[module]


def test_rooms_py_of_every_installed_app_is_found(only_new_rooms: Registry, new_app: Path) -> None:
    (new_app / "rooms.py").write_text(
        "from yamabiko import Room, register\n@register('newcomer')\nclass NewcomersRoom(Room): pass\n"
    )
    with override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, "newcomer"]):
        assert type(only_new_rooms.room("newcomer")).__name__ == "NewcomersRoom"


def test_an_app_without_rooms_py_is_an_app(new_app: Path) -> None:
    with override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, "newcomer"]):
        assert apps.is_installed("newcomer")


def test_a_mistake_in_rooms_py_is_not_swallowed(new_app: Path) -> None:
    (new_app / "rooms.py").write_text("import no_such_module_anywhere\n")
    with (
        pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"),
        override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, "newcomer"]),
    ):
        pass
    assert not apps.is_installed("newcomer")


def test_rooms_of_the_tests_own_site_were_found() -> None:
    assert registry.room("open/porch").name == "open/porch"
    with pytest.raises(UnknownRoom):
        yamabiko.publish("nobody/has/this", "hello")
