"""Every system check by its id: what brings it, what it says, what it advises."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from django.conf import settings
from django.core.checks import CheckMessage, run_checks
from django.test import modify_settings, override_settings

from yamabiko import History, Room, register
from yamabiko.django.rooms import Registry

SECRET = "a-random-text-of-well-over-thirty-two-bytes"
REPOSITORY = Path(__file__).parents[2]


def found() -> dict[str, CheckMessage]:
    return {message.id: message for message in run_checks(tags=["yamabiko"])}


def only() -> CheckMessage:
    messages = run_checks(tags=["yamabiko"])
    assert len(messages) == 1, messages
    return messages[0]


def test_a_good_project_has_no_findings() -> None:
    assert found() == {}


def test_every_finding_says_what_to_do(only_new_rooms: Registry) -> None:
    @register("a")
    class Room1(Room):
        history = 100
        presence = "yes"

        def can_publish(self, user: Any) -> bool:
            return True

        async def on_publish(self, message: Any) -> Any:
            return message

    register("a")(type("Room2", (Room,), {}))
    with override_settings(YAMABIKO={"BROKR": ""}):
        messages = run_checks(tags=["yamabiko"])
    assert Counter(message.id for message in messages) == Counter(
        ["yamabiko.E002", "yamabiko.E011", "yamabiko.E012", "yamabiko.E013", "yamabiko.E014", "yamabiko.E015"]
        + ["yamabiko.W010"] * 2
    )
    assert all(message.hint for message in messages)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["memory://"], "settings.YAMABIKO is a dict, not list"),
        ({"MAX_MESSAGE_BYTES": "64k"}, "YAMABIKO['MAX_MESSAGE_BYTES'] is a number of bytes from 1, not '64k'"),
        ({"PING_INTERVAL_SECONDS": 3}, "not 8 to 3"),
        ({"BROKER_TIMEOUT_SECONDS": 0}, "YAMABIKO['BROKER_TIMEOUT_SECONDS'] is a number of seconds above 0, not 0"),
        ({"PREFIX": "a b"}, "YAMABIKO['PREFIX'] is 1 to 64 letters, digits or any of . _ -, not 'a b'"),
        ({"ALLOWED_ORIGINS": ["https://[::1"]}, "YAMABIKO['ALLOWED_ORIGINS'] is a list of origins"),
        (
            {"TOKEN_SECRET": "short"},
            "YAMABIKO['TOKEN_SECRET'] is empty or a text of at least 32 bytes, not a text of 5",
        ),
        ({"API_KEY": "short"}, "YAMABIKO['API_KEY'] is empty or at least 16 visible ASCII characters, without spaces"),
        ({"MAX_ROOMS_PER_CONNECTION": 0}, "YAMABIKO['MAX_ROOMS_PER_CONNECTION'] is a number of rooms from 1, not 0"),
        ({"PRESENCE_LINGER_SECONDS": -1}, "YAMABIKO['PRESENCE_LINGER_SECONDS'] is a number of seconds from 0, not -1"),
    ],
)
def test_e001_a_setting_that_cannot_be(given: object, expected: str) -> None:
    with override_settings(YAMABIKO=given):
        finding = only()
    assert finding.id == "yamabiko.E001"
    assert expected in finding.msg
    assert "settings" in finding.hint


def test_e002_an_unknown_setting_with_the_one_that_was_meant() -> None:
    with override_settings(YAMABIKO={"ALLOWED_ORIGIN": []}):
        finding = only()
    assert (finding.id, finding.msg) == (
        "yamabiko.E002",
        "YAMABIKO['ALLOWED_ORIGIN'] is no setting of Yamabiko.",
    )
    assert finding.hint == "Did you mean 'ALLOWED_ORIGINS'?"


def test_e002_an_unknown_setting_that_is_like_none_lists_them_all() -> None:
    with override_settings(YAMABIKO={"colour": "red"}):
        assert only().hint.startswith("The keys are BROKER, BROKER_TIMEOUT_SECONDS, ")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("carrier-pigeon://loft", "not carrier-pigeon://..."),
        ("", "or channels://default, not ://..."),
        ("sqlite:///", "sqlite:///rooms.sqlite3"),
        ("redis://127.0.0.1:port", "HOST[:PORT]"),
        ("channels://other", "needs a layer 'other' in CHANNEL_LAYERS"),
        ("memory://[", "or channels://default"),
    ],
)
def test_e003_a_broker_that_cannot_be(url: str, expected: str) -> None:
    with override_settings(YAMABIKO={"BROKER": url}):
        finding = only()
    assert finding.id == "yamabiko.E003"
    assert expected in finding.msg
    assert "memory://, sqlite:///rooms.sqlite3, redis://127.0.0.1:6379/0 or channels://default" in finding.hint


@pytest.mark.parametrize(
    "layer",
    [
        pytest.param({"BACKEND": "nowhere.Layer"}, id="no such class"),
        pytest.param({}, id="no class"),
        pytest.param({"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"hots": []}}, id="no such option"),
    ],
)
def test_e003_a_channel_layer_that_cannot_be_made(layer: dict[str, Any]) -> None:
    with override_settings(YAMABIKO={"BROKER": "channels://default"}, CHANNEL_LAYERS={"default": layer}):
        assert only().id == "yamabiko.E003"


def test_e003_never_shows_a_password() -> None:
    with override_settings(YAMABIKO={"BROKER": "redis://:hunter2@127.0.0.1:port"}):
        assert "hunter2" not in str(only())


@modify_settings(INSTALLED_APPS={"remove": "django.contrib.auth"})
def test_e004_no_users() -> None:
    finding = only()
    assert finding.id == "yamabiko.E004"
    assert "Add 'django.contrib.auth'" in finding.hint


@pytest.mark.parametrize("name", ["TOKEN_SECRET", "TOKEN_SECRET_PREVIOUS", "API_KEY", "API_KEY_PREVIOUS"])
@pytest.mark.parametrize("other", [{"SECRET_KEY": SECRET}, {"SECRET_KEY_FALLBACKS": ["old", SECRET]}])
def test_e005_a_secret_that_is_djangos_too(name: str, other: dict[str, Any]) -> None:
    with override_settings(YAMABIKO={name: SECRET}, **other):
        finding = only()
    assert (finding.id, finding.msg) == ("yamabiko.E005", f"YAMABIKO[{name!r}] is Django's SECRET_KEY.")
    assert "secrets.token_urlsafe" in finding.hint
    assert SECRET not in str(finding)


def test_secrets_of_their_own_are_good_also_where_djangos_is_empty() -> None:
    with override_settings(SECRET_KEY="", YAMABIKO={"TOKEN_SECRET": SECRET, "API_KEY": SECRET[:16]}):
        assert found() == {}


def test_e006_a_secret_that_is_a_key_file() -> None:
    """Whoever puts a public key there would have everybody know the secret."""
    with override_settings(YAMABIKO={"TOKEN_SECRET": pem_of(rsa.generate_private_key(65537, 2048))}):
        finding = only()
    assert finding.id == "yamabiko.E006"
    assert "goes into TOKEN_PUBLIC_KEY" in finding.msg


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----", "`openssl pkey -pubout` writes it"),
        (
            lambda: pem_of(rsa.generate_private_key(65537, 1024)),
            "an RSA key of at least 2048 bits (RS256) or an EC key",
        ),
        (lambda: pem_of(ec.generate_private_key(ec.SECP384R1())), "on the curve P-256 (ES256); this one is neither"),
        (lambda: pem_of(ed25519.Ed25519PrivateKey.generate()), "this one is neither"),
        (lambda: private_pem(), "is a public key; a private one stays where tokens are made"),
    ],
    ids=["no key", "short RSA", "another curve", "EdDSA", "private"],
)
@pytest.mark.parametrize("name", ["TOKEN_PUBLIC_KEY", "TOKEN_PUBLIC_KEY_PREVIOUS"])
def test_e006_a_public_key_that_cannot_be(name: str, make: Callable[[], str], expected: str) -> None:
    pem = make()
    with override_settings(YAMABIKO={name: pem}):
        finding = only()
    assert finding.id == "yamabiko.E006"
    assert finding.msg.startswith(f"YAMABIKO[{name!r}] is ")
    assert expected in finding.msg
    assert not {line for line in pem.splitlines() if line in str(finding)}


def test_e006_a_public_key_without_the_library_that_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.serialization", None)
    with override_settings(YAMABIKO={"TOKEN_PUBLIC_KEY": "-----BEGIN PUBLIC KEY-----"}):
        finding = only()
    assert (finding.id, finding.msg) == (
        "yamabiko.E006",
        "YAMABIKO['TOKEN_PUBLIC_KEY'] needs the package cryptography: pip install 'yamabiko[tokens]'",
    )


def test_public_keys_of_both_kinds_are_good() -> None:
    keys = {
        "TOKEN_PUBLIC_KEY": pem_of(rsa.generate_private_key(65537, 2048)),
        "TOKEN_PUBLIC_KEY_PREVIOUS": pem_of(ec.generate_private_key(ec.SECP256R1())),
    }
    with override_settings(YAMABIKO=keys):
        assert found() == {}


def pem_of(private_key: Any) -> str:
    """Return the PEM of a private key's public half."""
    encoded = private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return str(encoded.decode())


def private_pem() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def test_w001_history_that_the_broker_cannot_keep_names_each_class_once(only_new_rooms: Registry) -> None:
    @register("first/<slug:name>")
    @register("second/<slug:name>")
    class KeptRoom(Room):
        history = History(size=1, ttl=timedelta(hours=1))

        async def can_join(self, user: Any) -> bool:
            return True

    with override_settings(YAMABIKO={"BROKER": "channels://default"}):
        finding = only()
    assert finding.id == "yamabiko.W001"
    assert finding.msg == "KeptRoom would keep a history, but BROKER channels://default keeps none."
    assert "use another BROKER" in finding.hint


def test_w001_is_not_for_rooms_without_history(only_new_rooms: Registry) -> None:
    with override_settings(YAMABIKO={"BROKER": "channels://default"}):
        assert found() == {}


def test_w002_another_runserver_comes_first() -> None:
    apps = [app for app in settings.INSTALLED_APPS if app != "yamabiko"]
    with override_settings(INSTALLED_APPS=[*apps, "yamabiko"]):
        finding = only()
    assert finding.id == "yamabiko.W002"
    assert finding.hint == (
        "Put 'yamabiko' above 'django.contrib.staticfiles', so that runserver serves WebSockets with Yamabiko."
    )


def test_e010_a_pattern_that_cannot_be_compared_with_a_name(only_new_rooms: Registry) -> None:
    """Django finds this when it compiles the pattern, which would be at the first handshake."""
    only_new_rooms.add("<int:number>/<int:number>", opened())
    finding = only()
    assert finding.id == "yamabiko.E010"
    assert "path()" in finding.hint


def test_e011_a_pattern_that_belongs_to_another_class(only_new_rooms: Registry) -> None:
    first, second = opened(), opened()
    only_new_rooms.add("chat/<slug:name>", first)
    only_new_rooms.add("chat/<slug:name>", second)
    finding = only()
    assert (finding.id, finding.obj) == ("yamabiko.E011", second)
    assert "first registered class" in finding.hint


def test_one_class_may_have_a_pattern_twice(only_new_rooms: Registry) -> None:
    room_class = opened()
    only_new_rooms.add("chat", room_class)
    only_new_rooms.add("chat", room_class)
    assert found() == {}


@pytest.mark.parametrize("hook", ["can_join", "can_publish", "on_publish", "on_join", "on_leave"])
def test_e012_a_hook_that_is_not_async(only_new_rooms: Registry, hook: str) -> None:
    only_new_rooms.add("a", opened(**{hook: lambda self, *given: True}))
    finding = only()
    assert (finding.id, finding.msg) == ("yamabiko.E012", f"{hook} is not async.")
    assert f"`async def {hook}(...)`" in finding.hint


def test_a_hook_may_be_made_async_by_asgiref(only_new_rooms: Registry) -> None:
    @sync_to_async
    def can_join(self: Room, user: Any) -> bool:
        return True

    only_new_rooms.add("a", opened(can_join=can_join))
    assert found() == {}


async def _takes_nothing(self: Room) -> bool:
    return True


async def _takes_too_much(self: Room, user: Any, message: Any, more: Any) -> bool:
    return True


@pytest.mark.parametrize(
    ("hook", "given", "call"),
    [
        ("can_join", _takes_nothing, "can_join(user)"),
        ("can_publish", _takes_too_much, "can_publish(user)"),
        ("on_publish", _takes_too_much, "on_publish(user, message)"),
        ("on_join", _takes_nothing, "on_join(user)"),
        ("on_leave", staticmethod(_takes_nothing), "on_leave(user)"),
    ],
)
def test_e013_a_hook_with_other_parameters(only_new_rooms: Registry, hook: str, given: Any, call: str) -> None:
    only_new_rooms.add("a", opened(**{hook: given}))
    finding = only()
    assert (finding.id, finding.msg) == ("yamabiko.E013", f"{hook} cannot be called as {call}.")
    assert finding.hint.startswith(f"Write `async def {hook}(self, user")


def test_a_hook_may_take_more_than_it_is_given(only_new_rooms: Registry) -> None:
    async def can_join(self: Room, *anything: Any, strict: bool = False) -> bool:
        return True

    only_new_rooms.add("a", opened(can_join=can_join))
    assert found() == {}


@pytest.mark.parametrize("history", [1000, timedelta(days=1), (100, 60), History])
def test_e014_a_history_that_is_none(only_new_rooms: Registry, history: object) -> None:
    only_new_rooms.add("a", opened(history=history))
    finding = only()
    assert finding.id == "yamabiko.E014"
    assert "History(size=1000, ttl=timedelta(days=7))" in finding.hint


def test_e015_presence_is_a_fact(only_new_rooms: Registry) -> None:
    only_new_rooms.add("a", opened(presence="yes"))
    finding = only()
    assert (finding.id, finding.hint) == ("yamabiko.E015", "presence = True")


def test_w010_a_class_that_opens_nothing(only_new_rooms: Registry) -> None:
    room_class = type("ClosedRoom", (Room,), {})
    only_new_rooms.add("a", room_class)
    finding = only()
    assert (finding.id, finding.obj) == ("yamabiko.W010", room_class)
    assert "async def can_join(self, user)" in finding.hint


def test_a_pattern_that_begins_with_a_slash_is_found(only_new_rooms: Registry) -> None:
    """No room's name begins with one, so that no room could be in it."""
    only_new_rooms.add("/chat/<slug:name>", opened())
    assert len(found()) == 1


def test_a_pattern_with_an_open_bracket_is_found(only_new_rooms: Registry) -> None:
    only_new_rooms.add("chat/<slug:name", opened())
    assert len(found()) == 1


def opened(**attributes: Any) -> type[Room]:
    async def can_join(self: Room, user: Any) -> bool:
        return True

    return type("OpenedRoom", (Room,), {"can_join": can_join} | attributes)


def manage_check(tmp_path: Path, lines: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "wrong_settings.py").write_text(f"from tests.settings import *\n{lines}\n", encoding="utf-8")
    paths = os.pathsep.join([str(tmp_path), str(REPOSITORY), str(REPOSITORY / "src")])
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "django", "check", "--settings", "wrong_settings"],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=50,
    )


def test_manage_check_ends_with_the_finding_and_no_traceback(tmp_path: Path) -> None:
    ended = manage_check(tmp_path, "YAMABIKO = {'BROKR': 'memory://', 'BROKER': 'memory://'}")
    assert ended.returncode == 1
    assert "(yamabiko.E002) YAMABIKO['BROKR'] is no setting of Yamabiko." in ended.stderr
    assert "HINT: Did you mean 'BROKER'?" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_manage_check_tells_that_users_are_missing(tmp_path: Path) -> None:
    ended = manage_check(tmp_path, "INSTALLED_APPS = ['yamabiko', 'tests.site']; ROOT_URLCONF = 'tests.site.urls'")
    assert ended.returncode == 1
    assert "(yamabiko.E004)" in ended.stderr
    assert "Traceback" not in ended.stderr
