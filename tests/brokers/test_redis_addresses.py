"""The URLs of a Redis, those that are none, and what none of them gives away."""

from __future__ import annotations

import importlib.util
import ssl

import pytest

from yamabiko.brokers.redis import RedisBroker
from yamabiko.brokers.redis.address import Address, address_of
from yamabiko.core.errors import ConfigurationError


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://", Address("", (("localhost", 6379),))),
        ("redis://cache", Address("", (("cache", 6379),))),
        ("redis://cache:1234/5", Address("", (("cache", 1234),), db=5)),
        ("redis://cache/?db=5", Address("", (("cache", 6379),), db=5)),
        ("redis://:pw@cache", Address("", (("cache", 6379),), password="pw")),
        ("redis://me:p%40w%2F@cache", Address("", (("cache", 6379),), user="me", password="p@w/")),
        ("redis://me:p@w@cache", Address("", (("cache", 6379),), user="me", password="p@w")),
        ("redis://[::1]:1234", Address("", (("::1", 1234),))),
        ("unix:///run/redis.sock?db=2", Address("unix", (("/run/redis.sock", 0),), db=2)),
        ("redis+unix://:pw@/run/redis.sock", Address("unix", (("/run/redis.sock", 0),), password="pw")),
        (
            "redis+sentinel://me:pw@a:1,b,[::1]/rooms/3",
            Address("sentinel", (("a", 1), ("b", 26379), ("::1", 26379)), "me", "pw", 3, "rooms"),
        ),
        ("redis+cluster://:pw@a,b:7001", Address("cluster", (("a", 6379), ("b", 7001)), password="pw")),
    ],
)
def test_a_url_names_servers_and_how_to_log_in(url, address):
    assert address_of(url) == address


@pytest.mark.parametrize("scheme", ["rediss", "rediss+cluster", "rediss+sentinel"])
def test_tls_checks_the_certificate_unless_it_is_told_not_to(scheme):
    strict = address_of(f"{scheme}://a/x" if "sentinel" in scheme else f"{scheme}://a").tls
    assert (strict.verify_mode, strict.check_hostname) == (ssl.CERT_REQUIRED, True)
    lax = address_of(f"{scheme}://a/{'x' if 'sentinel' in scheme else ''}?ssl_cert_reqs=none").tls
    assert (lax.verify_mode, lax.check_hostname) == (ssl.CERT_NONE, False)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://me:hunter2@a", "scheme"),
        ("redis+tls://me:hunter2@a", "scheme"),
        ("unixs://me:hunter2@/x", "scheme"),
        ("redis://me:hunter2@[::1", "no URL"),
        ("redis://me:hunter2@a:b", "no HOST"),
        ("redis://me:hunter2@a:99999", "65535"),
        ("redis://me:hunter2/@a", "DB is a number"),
        ("redis://me:hunter2#@a", "no HOST"),
        ("redis://me:hunter2@a,b", "several hosts"),
        ("redis://me:hunter2@a/b", "DB is a number"),
        ("redis://me:hunter2@a/1/2", "nothing follows"),
        ("redis://me:hunter2@a?color=red", "options are"),
        ("redis://me:hunter2@a?color", "no URL"),
        ("redis://me:hunter2@a?ssl_cert_reqs=none", "rediss://"),
        ("rediss://me:hunter2@a?ssl_cert_reqs=maybe", "required or none"),
        ("rediss://me:hunter2@a?ssl_ca_certs=/no/such/file", "no file"),
        ("redis+sentinel://me:hunter2@a", "SERVICE"),
        ("redis+cluster://me:hunter2@a/1", "only the DB 0"),
        ("redis+cluster://me:hunter2@a,,b", "no HOST"),
        ("redis+unix://me:hunter2@", "PATH"),
    ],
)
def test_a_url_that_cannot_be_used_is_told_what_was_expected_and_not_what_it_holds(url, reason):
    with pytest.raises(ConfigurationError, match=reason) as refusal:
        RedisBroker.from_url(url)
    assert "redis+sentinel://[USER:PASSWORD@]HOST" in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


def test_a_broker_shows_its_hosts_and_no_password():
    broker = RedisBroker.from_url("redis+cluster://me:hunter2@a:1,b:2")
    assert repr(broker) == "<RedisBroker at a:1, b:2>"
    assert "hunter2" not in repr(vars(broker))


@pytest.mark.parametrize("prefix", ["", "a{b", "a}b"])
def test_a_prefix_that_would_take_the_rooms_apart_is_refused(prefix):
    with pytest.raises(ConfigurationError, match="without braces"):
        RedisBroker.from_url("redis://a", prefix=prefix)


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_timeout_that_is_none_is_refused(seconds):
    with pytest.raises(ConfigurationError, match="seconds above 0"):
        RedisBroker.from_url("redis://a", timeout_seconds=seconds)


def test_without_its_client_the_broker_says_what_to_install(monkeypatch):
    monkeypatch.setattr("yamabiko.brokers.redis.broker.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'yamabiko\[redis\]'"):
        RedisBroker.from_url("redis://a")


def test_the_scripts_are_part_of_the_package():
    package = importlib.util.find_spec("yamabiko.brokers.redis")
    assert package.loader.get_resource_reader("yamabiko.brokers.redis").is_resource("publish.lua")
