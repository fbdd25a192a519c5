from __future__ import annotations

import subprocess
import sys

import pytest
from django.conf import settings as django_settings
from django.test import override_settings

from tests.django.peers import aknock
from tests.site.asgi import application
from yamabiko.core.errors import ConfigurationError
from yamabiko.core.sdk.limits import SdkLimits
from yamabiko.django import settings
from yamabiko.django.service import service
from yamabiko.transports.limits import Limits


def test_without_settings_everything_has_its_default() -> None:
    with override_settings():
        del django_settings.YAMABIKO
        assert_defaults()


def test_an_empty_dict_leaves_every_default() -> None:
    assert_defaults()


def assert_defaults() -> None:
    assert settings.broker_url() == "memory://"
    assert settings.allowed_origins() == frozenset()
    assert settings.limits() == Limits(65_536, 1_048_576, 25, 8, 1)
    assert settings.api_keys() == ()
    assert (settings.token_audience(), settings.token_issuer(), settings.token_ttl_seconds()) == ("", "", 900)
    assert (settings.position_check_seconds(), settings.presence_linger_seconds()) == (40, 15)
    assert settings.shutdown_timeout_seconds() == 30


def test_the_default_limits_are_those_of_the_transports() -> None:
    assert settings.limits() == Limits()


def test_the_default_limits_of_the_sdk_protocol_are_those_of_the_core() -> None:
    assert settings.sdk_limits() == SdkLimits()


def test_what_is_set_reaches_the_limits_of_the_sdk_protocol() -> None:
    given = {
        "MAX_ROOMS_PER_CONNECTION": 1,
        "MAX_HISTORY_READ": 2,
        "MAX_RECOVERED": 3,
        "MAX_CALLS_PER_CONNECTION": 4,
        "CONNECT_TIMEOUT_SECONDS": 0.5,
        "EXPIRY_GRACE_SECONDS": 6,
        "PING_INTERVAL_SECONDS": 70,
        "PONG_TIMEOUT_SECONDS": 7,
    }
    with override_settings(YAMABIKO=given):
        assert settings.sdk_limits() == SdkLimits(
            rooms=1,
            history_read=2,
            recovered=3,
            calls=4,
            answer_bytes=524_288,
            connect_timeout_seconds=0.5,
            expiry_grace_seconds=6,
            ping_interval_seconds=70,
            pong_timeout_seconds=7,
        )


def test_a_lost_client_may_be_gone_at_once() -> None:
    with override_settings(YAMABIKO={"PRESENCE_LINGER_SECONDS": 0}):
        assert settings.presence_linger_seconds() == 0


def test_both_api_keys_are_good_while_they_are_changed() -> None:
    with override_settings(YAMABIKO={"API_KEY": "new-key-new-key-!", "API_KEY_PREVIOUS": "old-key-old-key-~"}):
        assert settings.api_keys() == ("new-key-new-key-!", "old-key-old-key-~")


def test_without_an_api_key_the_previous_one_opens_nothing() -> None:
    with override_settings(YAMABIKO={"API_KEY_PREVIOUS": "old-key-old-key-~"}):
        assert settings.api_keys() == ()


def test_settings_are_not_read_when_the_package_is_imported() -> None:
    program = """
import django.conf
import yamabiko, yamabiko.django.settings
from yamabiko import History, publish
assert not django.conf.settings.configured
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=30)


def test_override_settings_takes_effect_at_once_and_ends_with_its_block() -> None:
    with override_settings(YAMABIKO={"MAX_MESSAGE_BYTES": 10}):
        assert settings.limits().message_bytes == service().limits.message_bytes == 10
    assert settings.limits().message_bytes == service().limits.message_bytes == 65_536


async def test_an_origin_that_is_allowed_later_is_let_in_from_then_on() -> None:
    elsewhere = [("origin", "https://elsewhere.example")]
    assert (await aknock(application, headers=elsewhere)).status == 403
    with override_settings(YAMABIKO={"ALLOWED_ORIGINS": ["https://elsewhere.example"]}):
        assert (await aknock(application, headers=elsewhere)).status == 101
    assert (await aknock(application, headers=elsewhere)).status == 403


def test_other_settings_leave_the_service_alone() -> None:
    before = service()
    with override_settings(DEBUG=True):
        assert service() is before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ALLOWED_ORIGINS", "https://www.example.com"),
        ("ALLOWED_ORIGINS", ["https://*.example.com"]),
        ("ALLOWED_ORIGINS", ["*"]),
        ("ALLOWED_ORIGINS", ["www.example.com"]),
        ("ALLOWED_ORIGINS", ["wss://www.example.com"]),
        ("ALLOWED_ORIGINS", ["https://www.example.com/"]),
        ("ALLOWED_ORIGINS", ["https://www.example.com/page"]),
        ("ALLOWED_ORIGINS", ["null"]),
        ("ALLOWED_ORIGINS", ["https://"]),
        ("ALLOWED_ORIGINS", ["https://[::1"]),
        ("ALLOWED_ORIGINS", [None]),
        ("MAX_MESSAGE_BYTES", 0),
        ("MAX_MESSAGE_BYTES", True),
        ("MAX_MESSAGE_BYTES", "64"),
        ("MAX_BACKLOG_BYTES", -1),
        ("PING_INTERVAL_SECONDS", 2.5),
        ("PONG_TIMEOUT_SECONDS", None),
        ("WRITE_TIMEOUT_SECONDS", 0),
        ("SHUTDOWN_TIMEOUT_SECONDS", -1),
        ("TOKEN_AUDIENCE", ["chat"]),
        ("TOKEN_ISSUER", None),
        ("TOKEN_TTL_SECONDS", 0),
        ("MAX_ROOMS_PER_CONNECTION", 0),
        ("MAX_HISTORY_READ", -1),
        ("MAX_RECOVERED", 1.5),
        ("MAX_CALLS_PER_CONNECTION", True),
        ("CONNECT_TIMEOUT_SECONDS", 0),
        ("EXPIRY_GRACE_SECONDS", float("inf")),
        ("POSITION_CHECK_SECONDS", "40"),
        ("PRESENCE_LINGER_SECONDS", -0.5),
        ("PRESENCE_LINGER_SECONDS", False),
        ("PRESENCE_LINGER_SECONDS", float("nan")),
    ],
)
def test_a_value_that_cannot_be_is_told_with_what_was_expected(key: str, value: object) -> None:
    with override_settings(YAMABIKO={key: value}), pytest.raises(ConfigurationError) as told:
        settings.setting(key)
    assert str(told.value) == f"YAMABIKO[{key!r}] is {settings.KEYS[key].expected}, not {value!r}"


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("BROKER", None, "NoneType"),
        ("BROKER", b"redis://:hunter2@127.0.0.1", "bytes"),
        ("TOKEN_SECRET", "hunter2-hunter2-hunter2-hunter2", "a text of 31 bytes"),
        ("TOKEN_SECRET", b"hunter2" * 5, "bytes"),
        ("TOKEN_SECRET_PREVIOUS", "hunter2", "a text of 7 bytes"),
        ("TOKEN_PUBLIC_KEY", "hunter2", "a text of 7 bytes"),
        ("TOKEN_PUBLIC_KEY_PREVIOUS", b"-----BEGIN hunter2", "bytes"),
        ("API_KEY", "hunter2-hunter2", "a text of 15 bytes"),
        ("API_KEY", "hunter2 hunter2 hunter2", "a text of 23 bytes"),
        ("API_KEY_PREVIOUS", "hunter2-hunter2-\u00fc", "a text of 18 bytes"),
        ("API_KEY_PREVIOUS", ["hunter2-hunter2-hunter2"], "list"),
    ],
)
def test_a_secret_that_cannot_be_is_told_without_showing_it(key: str, value: object, shown: str) -> None:
    with override_settings(YAMABIKO={key: value}), pytest.raises(ConfigurationError) as told:
        settings.setting(key)
    assert str(told.value) == f"YAMABIKO[{key!r}] is {settings.KEYS[key].expected}, not {shown}"
    assert "hunter2" not in str(told.value)


def test_a_secret_is_measured_in_bytes() -> None:
    with override_settings(YAMABIKO={"TOKEN_SECRET": "\u5c71\u5f66" * 6}):
        assert settings.setting("TOKEN_SECRET") == "\u5c71\u5f66" * 6


@pytest.mark.parametrize(
    "origin", ["https://www.example.com", "http://localhost:8000", "https://[2001:db8::1]:8443", "https://Example.com"]
)
def test_full_origins_are_taken(origin: str) -> None:
    with override_settings(YAMABIKO={"ALLOWED_ORIGINS": (origin,)}):
        assert settings.allowed_origins() == {origin.lower()}


def test_a_pong_must_be_due_before_the_next_ping() -> None:
    times = {"PING_INTERVAL_SECONDS": 5, "PONG_TIMEOUT_SECONDS": 5}
    with override_settings(YAMABIKO=times), pytest.raises(ConfigurationError, match="shorter than PING_INTERVAL"):
        settings.limits()


def test_a_message_that_would_be_more_than_a_member_may_be_behind_is_refused() -> None:
    sizes = {"MAX_MESSAGE_BYTES": 600_000, "MAX_BACKLOG_BYTES": 1_000_000}
    with override_settings(YAMABIKO=sizes), pytest.raises(ConfigurationError, match="at most half of MAX_BACKLOG"):
        settings.limits()


def test_settings_are_a_dict() -> None:
    with override_settings(YAMABIKO=["BROKER"]), pytest.raises(ConfigurationError, match="is a dict, not list"):
        settings.broker_url()


def test_a_comma_after_the_settings_shows_no_secret() -> None:
    with override_settings(YAMABIKO=({"TOKEN_SECRET": "hunter2"},)), pytest.raises(ConfigurationError) as told:
        settings.broker_url()
    assert str(told.value) == "settings.YAMABIKO is a dict, not tuple"
