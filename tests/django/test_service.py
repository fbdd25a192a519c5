from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.test import override_settings

from yamabiko.brokers.channels import ChannelsBroker
from yamabiko.brokers.memory import MemoryBroker
from yamabiko.core.errors import ConfigurationError
from yamabiko.django import service as service_module
from yamabiko.django.service import DjangoApplication, make_broker, service


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


def test_the_broker_is_the_one_that_the_url_names() -> None:
    assert isinstance(make_broker("memory://"), MemoryBroker)
    assert isinstance(make_broker("channels://default"), ChannelsBroker)
    assert isinstance(make_broker("channels://"), ChannelsBroker)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://127.0.0.1", "not redis://..."),
        ("memory", "not ://..."),
        ("channels://nobody", "needs a layer 'nobody' in CHANNEL_LAYERS"),
    ],
)
def test_a_url_that_names_no_broker_says_what_was_expected(url: str, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=r"channels://") as told:
        make_broker(url)
    assert expected in str(told.value)


def test_channels_that_is_not_installed_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'yamabiko\[channels\]'"):
        make_broker("channels://default")


@pytest.mark.parametrize(
    ("user", "name"),
    [(User(username="alice"), "alice"), (AnonymousUser(), ""), (None, ""), (object(), "")],
)
def test_users_are_known_by_their_user_names(user: Any, name: str) -> None:
    assert DjangoApplication().name_of(user) == name
