from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.test import override_settings

from yamabiko.brokers.channels import ChannelsBroker
from yamabiko.brokers.memory import MemoryBroker
from yamabiko.brokers.redis import RedisBroker
from yamabiko.brokers.redis import broker as redis_broker
from yamabiko.brokers.sqlite import SqliteBroker
from yamabiko.core.errors import ConfigurationError
from yamabiko.core.interfaces import Broker
from yamabiko.django import brokers
from yamabiko.django.application import name_of
from yamabiko.django.brokers import make_broker
from yamabiko.django.service import service


def test_one_process_has_one_service() -> None:
    assert service() is service()


def test_new_settings_make_a_new_service() -> None:
    before = service()
    with override_settings(YAMABIKO={"PING_INTERVAL_SECONDS": 60}):
        inside = service()
        assert inside is not before
    assert service() is not inside


def test_a_new_channel_layer_makes_a_new_service() -> None:
    before = service()
    with override_settings(CHANNEL_LAYERS={}):
        assert service() is not before


def broker_of(url: str) -> Broker:
    with override_settings(YAMABIKO={"BROKER": url}):
        return make_broker()


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("memory://", MemoryBroker),
        ("redis://127.0.0.1:1/0", RedisBroker),
        ("rediss://user:secret@127.0.0.1:1/0", RedisBroker),
        ("redis+sentinel://127.0.0.1:1,127.0.0.1:2/main", RedisBroker),
        ("redis+cluster://127.0.0.1:1", RedisBroker),
        ("channels://default", ChannelsBroker),
        ("channels://", ChannelsBroker),
    ],
)
def test_the_broker_is_the_one_that_the_url_names(url: str, kind: type) -> None:
    assert type(broker_of(url)) is kind


def test_a_file_is_kept_in_memory_while_tests_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(broker_of("sqlite:///rooms.sqlite3"), MemoryBroker)
    monkeypatch.setattr(brokers, "is_testing", lambda: False)
    assert isinstance(broker_of("sqlite:///rooms.sqlite3"), SqliteBroker)


def test_a_channel_layer_in_memory_is_no_broker_for_several_processes() -> None:
    assert not broker_of("channels://default").is_shared


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("carrier-pigeon://loft", "not carrier-pigeon://..."),
        ("memory", "not ://..."),
        ("sqlite://rooms.sqlite3", "sqlite:///rooms.sqlite3"),
        ("sqlite:///", "sqlite:///rooms.sqlite3"),
        ("channels://nobody", "needs a layer 'nobody' in CHANNEL_LAYERS"),
    ],
)
def test_a_url_that_names_no_broker_says_what_was_expected(url: str, expected: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        broker_of(url)
    assert expected in str(told.value)


def test_channels_that_is_not_installed_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (brokers, redis_broker):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    for url, extra in (("channels://default", "channels"), ("redis://127.0.0.1", "redis")):
        with pytest.raises(ConfigurationError, match=rf"pip install 'yamabiko\[{extra}\]'"):
            broker_of(url)


@pytest.mark.parametrize(
    ("user", "name"),
    [(User(username="alice"), "alice"), (AnonymousUser(), ""), (None, ""), (object(), "")],
)
def test_users_are_known_by_their_user_names(user: Any, name: str) -> None:
    assert name_of(user) == name
