"""What tokens say and who is believed. Tokens are written here byte by byte, as other programs write them."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import sys
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count
from time import time
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.contrib.auth.models import AnonymousUser, User
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from yamabiko.core.errors import (
    INVALID_TOKEN,
    Close,
    ConfigurationError,
    Expired,
    PermissionDenied,
    TokenExpired,
    UnknownRoom,
)
from yamabiko.core.identity import Grant
from yamabiko.core.messages import NOTHING
from yamabiko.django import tokens
from yamabiko.django.rare_warning import RareWarning
from yamabiko.django.tokens import (
    ConnectionClaims,
    SubscriptionClaims,
    connection_claims,
    subscription_claims,
    subscription_token,
    token,
)

NOW = 1_800_000_000.0
SECRET = "a random text of well over thirty-two bytes"
OTHER_SECRET = "another random text of more than thirty-two bytes"
RSA_KEY = rsa.generate_private_key(65537, 2048)
OTHER_RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())

Sign = Callable[[bytes], bytes]


@pytest.fixture(autouse=True)
def _with_secret() -> Iterator[None]:
    with override_settings(YAMABIKO={"TOKEN_SECRET": SECRET}):
        yield


def in_base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def with_secret(secret: str | bytes, digest: Any = hashlib.sha256) -> Sign:
    key = secret if isinstance(secret, bytes) else secret.encode()
    return lambda signed: hmac.new(key, signed, digest).digest()


def with_rsa(key: rsa.RSAPrivateKey) -> Sign:
    return lambda signed: key.sign(signed, padding.PKCS1v15(), hashes.SHA256())


def with_ec(key: ec.EllipticCurvePrivateKey) -> Sign:
    def sign(signed: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    return sign


def pem_of(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def signed(payload: bytes, *, header: bytes = b'{"alg":"HS256","typ":"JWT"}', sign: Sign | None = None) -> str:
    content = f"{in_base64url(header)}.{in_base64url(payload)}"
    signature = (sign or with_secret(SECRET))(content.encode())
    return f"{content}.{in_base64url(signature)}"


def saying(claims: Any, **how: Any) -> str:
    return signed(json.dumps(claims).encode(), **how)


def read(claims: Any) -> ConnectionClaims:
    return connection_claims(saying(claims), now=NOW)


def read_subscription(claims: Any) -> SubscriptionClaims:
    return subscription_claims(saying({"sub": "42", "channel": "chat/lobby"} | claims), now=NOW)


def is_refused(text: str) -> bool:
    """Tell whether neither kind of reader believes `text`."""
    with pytest.raises(Close) as told:
        connection_claims(text, now=NOW)
    with pytest.raises(PermissionDenied):
        subscription_claims(text, now=NOW)
    return told.value.code == INVALID_TOKEN.code


# Connection tokens


def test_a_token_says_whose_it_is_and_what_is_told_of_the_connection() -> None:
    claims = read({"sub": "42", "exp": NOW + 60, "info": {"name": "山彦"}})
    assert claims == ConnectionClaims(user="42", info=msgspec.Raw(claims.info), expires_in_seconds=60, grants={})
    assert json.loads(bytes(claims.info)) == {"name": "山彦"}


@pytest.mark.parametrize("claims", [{}, {"sub": ""}])
def test_without_sub_the_token_is_for_nobody_known_and_never_ends(claims: Any) -> None:
    assert read(claims) == ConnectionClaims(user="")


@pytest.mark.parametrize("claims", [{"exp": NOW}, {"exp": NOW - 0.5}, {"exp": 0}, {"nbf": NOW + 1}])
def test_a_token_out_of_its_time_is_expired_so_that_the_client_gets_another(claims: Any) -> None:
    with pytest.raises(TokenExpired):
        read({"sub": "42"} | claims)
    with pytest.raises(TokenExpired):
        read_subscription(claims)


def test_a_token_is_good_from_its_nbf_on_and_iat_is_not_looked_at() -> None:
    assert read({"nbf": NOW, "iat": NOW + 999, "exp": NOW + 0.25}).expires_in_seconds == 0.25


@pytest.mark.parametrize(
    ("expire_at", "expected"), [(0, None), (None, 60), (NOW + 7, 7), (NOW + 3600, 3600)], ids=lambda value: str(value)
)
def test_expire_at_is_when_the_connection_ends_whenever_the_token_does(expire_at: Any, expected: float | None) -> None:
    assert read({"exp": NOW + 60, "expire_at": expire_at}).expires_in_seconds == expected
    assert read_subscription({"exp": NOW + 60, "expire_at": expire_at}).grant.expires_in_seconds == expected


def test_a_connection_that_was_to_end_before_now_is_expired() -> None:
    with pytest.raises(Expired):
        read({"exp": NOW + 60, "expire_at": NOW})
    with pytest.raises(Expired):
        read_subscription({"exp": NOW + 60, "expire_at": NOW - 1})


def test_the_clock_is_the_one_of_the_machine() -> None:
    assert connection_claims(saying({"exp": time() + 60})).expires_in_seconds == pytest.approx(60, abs=5)
    with pytest.raises(TokenExpired):
        connection_claims(saying({"exp": time() - 1}))
    with pytest.raises(TokenExpired):
        subscription_claims(saying({"channel": "chat/lobby", "exp": time() - 1}))


def test_channels_are_granted_with_nothing_more() -> None:
    assert read({"channels": ["chat/lobby", "山"]}).grants == {"chat/lobby": Grant(), "山": Grant()}


def test_subs_are_granted_with_what_is_told_and_win_over_channels() -> None:
    options = {
        "info": {"role": "host"},
        "b64data": b64encode(b'{ "topic": "\xe5\xb1\xb1" }').decode(),
        "override": {"presence": {"value": False}},
    }
    grants = read({"channels": ["chat/lobby", "chat/hall"], "subs": {"chat/lobby": options}}).grants
    assert list(grants) == ["chat/lobby", "chat/hall"]
    assert bytes(grants["chat/lobby"].info) == b'{"role":"host"}'
    assert bytes(grants["chat/lobby"].data) == '{"topic":"山"}'.encode()
    assert grants["chat/lobby"].expires_in_seconds is None
    assert grants["chat/hall"] == Grant()


@pytest.mark.parametrize("name", ["info", "b64info", "channels", "subs", "aud", "iss", "meta", "caps", "jti"])
def test_null_is_as_good_as_nothing(name: str) -> None:
    """Serializers of typed languages write it for what is not there."""
    assert read({"sub": "42", name: None}) == ConnectionClaims(user="42")


def test_claims_that_are_not_ours_are_passed_over() -> None:
    assert read({"sub": "42", "meta": {"plan": 1}, "caps": [], "jti": "1", "role": "admin"}).user == "42"


def test_info_may_come_in_base64() -> None:
    given = {"info": "not this", "b64info": b64encode(b'{\n "name": "alice"\n}').decode()}
    assert bytes(read(given).info) == b'{"name":"alice"}'
    assert bytes(read_subscription(given).grant.info) == b'{"name":"alice"}'


def test_info_has_no_line_breaks_whatever_the_token_has() -> None:
    claims = connection_claims(signed(b'{"info":\n{"a" :\r\n [1.50, "\\n"]}}'), now=NOW)
    assert bytes(claims.info) == b'{"a":[1.50,"\\n"]}'


def test_a_token_is_verified_as_it_came_with_its_spaces_and_its_order() -> None:
    header = b' { "typ" : "JWT" ,\n "kid":"7", "alg":\t"HS256" } '
    assert connection_claims(signed(b'\n{ "exp" : 1800000060 , "sub":"42" }', header=header), now=NOW).user == "42"


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"sub": 42}, id="sub is a number"),
        pytest.param({"sub": None}, id="sub is null"),
        pytest.param({"exp": "tomorrow"}, id="exp is text"),
        pytest.param({"exp": None}, id="exp is null"),
        pytest.param({"exp": True}, id="exp is true"),
        pytest.param({"nbf": None}, id="nbf is null"),
        pytest.param({"expire_at": -1}, id="expire_at is below 0"),
        pytest.param({"expire_at": "0"}, id="expire_at is text"),
        pytest.param({"b64info": "{}"}, id="b64info is no base64"),
        pytest.param({"b64info": b64encode(b"{").decode()}, id="b64info is no JSON"),
        pytest.param({"b64info": b64encode(b'"\xff"').decode()}, id="b64info is no UTF-8"),
        pytest.param({"b64info": b64encode(b"\xef\xbb\xbf1").decode()}, id="b64info begins with a BOM"),
        pytest.param({"b64info": "MQ"}, id="b64info is cut short"),
        pytest.param({"channel": "chat/lobby"}, id="channel"),
        pytest.param({"channel": ""}, id="empty channel"),
        pytest.param({"channel": None}, id="channel is null"),
        pytest.param({"channels": "chat/lobby"}, id="channels is text"),
        pytest.param({"channels": [1]}, id="a channel is a number"),
        pytest.param({"channels": [""]}, id="a channel is empty"),
        pytest.param({"channels": ["a" * 256]}, id="a channel is too long"),
        pytest.param({"channels": ["a\n"]}, id="a channel has a line break"),
        pytest.param({"channels": ["cafe\u0301"]}, id="a channel is not in NFC"),
        pytest.param({"subs": ["chat/lobby"]}, id="subs is a list"),
        pytest.param({"subs": {"\u202elobby": {}}}, id="a sub turns text around"),
        pytest.param({"subs": {"chat/lobby": {"b64data": "!"}}}, id="data of a sub is no base64"),
        pytest.param({"subs": {"chat/lobby": 1}}, id="a sub is a number"),
        pytest.param(["sub", "42"], id="a list"),
        pytest.param("42", id="a text"),
    ],
)
def test_a_token_that_cannot_be_understood_ends_the_connection(claims: Any) -> None:
    with pytest.raises(Close) as told:
        read(claims)
    assert (told.value.code, told.value.reason) == (3500, "invalid token")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"null",
        b'{"sub":"\xff"}',
        b'{"sub":"\\ud800"}',
        b'{"sub":"42"}{"sub":"43"}',
        b'{"info":nul}',
        b'{"info":1e999}',
        b'{"info":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"exp":NaN}',
        b'{"exp":1e999}',
    ],
    ids=lambda payload: repr(payload[:20]),
)
def test_signed_bytes_that_are_no_claims_end_the_connection(payload: bytes) -> None:
    assert is_refused(signed(payload))


def test_every_refusal_is_an_object_of_its_own_so_that_no_traceback_outlives_its_handshake() -> None:
    with pytest.raises(Close) as first:
        connection_claims("")
    with pytest.raises(Close) as second:
        connection_claims("")
    assert len({first.value, second.value, INVALID_TOKEN}) == 3


# Subscription tokens


def test_a_subscription_token_says_for_whom_and_for_which_room_it_is() -> None:
    claims = {"exp": NOW + 5, "client": "c1", "info": 1, "data": {"a": [None]}, "override": {}}
    assert read_subscription(claims) == SubscriptionClaims(
        user="42",
        room="chat/lobby",
        client="c1",
        grant=Grant(info=msgspec.Raw(b"1"), data=msgspec.Raw(b'{"a":[null]}'), expires_in_seconds=5),
    )


def test_a_subscription_token_needs_a_room_and_no_more() -> None:
    claims = subscription_claims(saying({"channel": "山"}), now=NOW)
    assert claims == SubscriptionClaims(user="", room="山", grant=Grant())


@pytest.mark.parametrize("room", ["", "a" * 256, "cafe\u0301", "a\0"])
def test_a_subscription_token_for_what_is_no_room_is_for_no_room_of_ours(room: str) -> None:
    with pytest.raises(Close) as told:
        read_subscription({"channel": room})
    assert told.value.code == INVALID_TOKEN.code


def test_a_connection_token_is_for_no_room_and_a_subscription_token_for_no_connection() -> None:
    for kind, text in ((subscription_claims, token(AnonymousUser())), (connection_claims, saying({"channel": "a"}))):
        with pytest.raises(Close) as told:
            kind(text)
        assert told.value.code == INVALID_TOKEN.code


@pytest.mark.parametrize(
    "claims",
    [{"sub": 42}, {"channel": 1}, {"channel": None}, {"b64data": "!"}, {"client": 1}, {"exp": "1"}, {"expire_at": -1}],
    ids=str,
)
def test_a_subscription_token_that_cannot_be_understood_is_refused_and_the_connection_lives_on(claims: Any) -> None:
    with pytest.raises(PermissionDenied):
        read_subscription(claims)


# Who is believed


@pytest.mark.parametrize("algorithm", ["none", "None", "nOnE", "", "HS384", "RS256", "ES256", "PS256", ["HS256"], None])
def test_the_token_does_not_choose_its_algorithm(algorithm: Any) -> None:
    header = json.dumps({"alg": algorithm, "typ": "JWT"}).encode()
    assert is_refused(saying({"sub": "42"}, header=header))
    assert is_refused(saying({"sub": "42"}, header=header, sign=lambda _: b""))


def test_a_longer_hash_of_the_same_secret_is_another_algorithm() -> None:
    sign = with_secret(SECRET, hashlib.sha512)
    assert is_refused(saying({"sub": "42"}, header=b'{"alg":"HS512"}', sign=sign))


@pytest.mark.parametrize("key", [RSA_KEY, EC_KEY], ids=["RS256", "ES256"])
def test_a_public_key_is_no_secret_that_anyone_could_sign_with(key: Any) -> None:
    pem = pem_of(key)
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    secrets = [pem.encode(), pem.strip().encode(), der, b"", b"\0"]
    for settings in ({"TOKEN_PUBLIC_KEY": pem}, {"TOKEN_PUBLIC_KEY": pem, "TOKEN_SECRET": SECRET}):
        with override_settings(YAMABIKO=settings):
            assert all(is_refused(saying({"sub": "42"}, sign=with_secret(secret))) for secret in secrets)


def test_rs256_is_believed_with_the_public_key_of_who_signed() -> None:
    header = b'{"alg":"RS256"}'
    with override_settings(YAMABIKO={"TOKEN_PUBLIC_KEY": pem_of(RSA_KEY)}):
        assert connection_claims(saying({"sub": "42"}, header=header, sign=with_rsa(RSA_KEY)), now=NOW).user == "42"
        assert is_refused(saying({"sub": "42"}, header=header, sign=with_rsa(OTHER_RSA_KEY)))
        assert is_refused(saying({"sub": "42"}))


def test_es256_is_believed_with_the_public_key_of_who_signed() -> None:
    header = b'{"alg":"ES256"}'
    with override_settings(YAMABIKO={"TOKEN_PUBLIC_KEY": pem_of(EC_KEY)}):
        assert connection_claims(saying({"sub": "42"}, header=header, sign=with_ec(EC_KEY)), now=NOW).user == "42"
        assert is_refused(saying({"sub": "42"}, header=header, sign=lambda _: b"\0" * 64))
        assert is_refused(saying({"sub": "42"}, header=b'{"alg":"RS256"}', sign=with_rsa(RSA_KEY)))


def test_a_public_key_and_a_secret_can_be_set_together() -> None:
    with override_settings(YAMABIKO={"TOKEN_SECRET": SECRET, "TOKEN_PUBLIC_KEY": pem_of(RSA_KEY)}):
        assert connection_claims(saying({"sub": "1"}), now=NOW).user == "1"
        by_key = saying({"sub": "2"}, header=b'{"alg":"RS256"}', sign=with_rsa(RSA_KEY))
        assert connection_claims(by_key, now=NOW).user == "2"


def test_while_the_secret_is_changed_both_are_good_and_then_the_old_one_is_not() -> None:
    old, old_for_room = saying({"sub": "42"}), saying({"sub": "42", "channel": "a"})
    with override_settings(YAMABIKO={"TOKEN_SECRET": OTHER_SECRET, "TOKEN_SECRET_PREVIOUS": SECRET}):
        assert connection_claims(old, now=NOW).user == subscription_claims(old_for_room, now=NOW).user == "42"
        made, made_for_room = token(AnonymousUser()), subscription_token(AnonymousUser(), "a")
    with override_settings(YAMABIKO={"TOKEN_SECRET": OTHER_SECRET}):
        assert connection_claims(made).user == subscription_claims(made_for_room).user == ""
        assert is_refused(old)
        assert is_refused(old_for_room)


def test_while_the_public_key_is_changed_both_are_good_also_to_another_algorithm() -> None:
    old = saying({"sub": "42"}, header=b'{"alg":"RS256"}', sign=with_rsa(RSA_KEY))
    new = saying({"sub": "42"}, header=b'{"alg":"ES256"}', sign=with_ec(EC_KEY))
    keys = {"TOKEN_PUBLIC_KEY": pem_of(EC_KEY), "TOKEN_PUBLIC_KEY_PREVIOUS": pem_of(RSA_KEY)}
    with override_settings(YAMABIKO=keys):
        assert [connection_claims(text, now=NOW).user for text in (old, new)] == ["42", "42"]
    with override_settings(YAMABIKO={"TOKEN_PUBLIC_KEY": pem_of(EC_KEY)}):
        assert is_refused(old)


@pytest.mark.parametrize("said", ["chat", ["web", "chat"]])
def test_a_token_for_our_audience_and_of_our_issuer_is_good(said: Any) -> None:
    with override_settings(YAMABIKO={"TOKEN_SECRET": SECRET, "TOKEN_AUDIENCE": "chat", "TOKEN_ISSUER": "example.com"}):
        assert read({"sub": "42", "aud": said, "iss": "example.com"}).user == "42"


@pytest.mark.parametrize(
    "said",
    [{}, {"aud": "chat"}, {"iss": "example.com"}, {"aud": "", "iss": ""}, {"aud": None, "iss": None}]
    + [{"aud": other, "iss": "example.com"} for other in ("cha", "chats", [], ["web"], [["chat"]], {"chat": 1}, 1)]
    + [{"aud": "chat", "iss": other} for other in ("example", "example.com.evil", ["example.com"], 1)],
    ids=str,
)
def test_a_token_for_others_or_of_others_is_refused_also_when_it_has_expired(said: Any) -> None:
    with override_settings(YAMABIKO={"TOKEN_SECRET": SECRET, "TOKEN_AUDIENCE": "chat", "TOKEN_ISSUER": "example.com"}):
        assert is_refused(saying({"channel": "a", "exp": NOW - 1} | said))


def test_where_no_audience_is_set_a_token_may_name_any() -> None:
    assert read({"sub": "42", "aud": ["chat", "web"], "iss": "anyone"}).user == "42"


def test_a_changed_character_anywhere_is_refused() -> None:
    good = saying({"sub": "42"})
    for place, character in enumerate(good):
        changed = good[:place] + ("A" if character != "A" else "B") + good[place + 1 :]
        assert is_refused(changed), changed


@pytest.mark.parametrize(
    "text", ["", ".", "..", "...", "a.b", "a.b.c.d", "é.é.é", "\ud800.a.b", "\0", "=.=.=", "a" * 65_536]
)
def test_what_is_no_token_is_refused(text: str) -> None:
    assert is_refused(text)


@pytest.mark.parametrize("change", [" {}", "{} ", "{}\n", "{}.", "Bearer {}"])
def test_nothing_around_a_token_is_taken_away(change: str) -> None:
    assert is_refused(change.format(saying({"sub": "42"})))


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{",
        b"{}",
        b"[]",
        b"null",
        b'"HS256"',
        b"[" * 50_000,
        b'{"alg":"HS256\xff"}',
        b'{"alg":' + b"9" * 5000 + b"}",
        b'{"alg":"HS256","kid":7}',
        b'{"alg":"HS256","crit":[]}',
        b'{"alg":"HS256","crit":["exp"]}',
        b'{"alg":"HS256","b64":false,"crit":["b64"]}',
    ],
    ids=lambda header: repr(header[:40]),
)
def test_a_header_that_cannot_be_is_refused(header: bytes) -> None:
    assert is_refused(saying({"sub": "42"}, header=header))


@given(st.text() | st.text(alphabet="eyJ.-_=AQg", min_size=3))
def test_no_text_brings_anything_but_a_refusal(text: str) -> None:
    assert is_refused(text)


CLAIM = st.sampled_from(
    ["sub", "exp", "nbf", "expire_at", "info", "b64info", "channel", "channels", "subs", "aud", "iss"]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)


@given(st.dictionaries(CLAIM, ANYTHING))
def test_no_claims_bring_anything_but_what_is_said(claims: dict[str, Any]) -> None:
    text = saying(claims)
    for reader in (connection_claims, subscription_claims):
        try:
            read = reader(text, now=NOW)
        except (Close, PermissionDenied, TokenExpired, Expired):
            continue
        assert isinstance(read, ConnectionClaims | SubscriptionClaims)
        assert read.user == claims.get("sub", "")


# What is not set


def test_without_a_key_no_token_is_believed_and_the_log_says_what_to_set(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "refused", RareWarning("refused a token"))
    with override_settings(YAMABIKO={}):
        for text in (saying({"sub": "42"}), saying({"sub": "42"}, sign=with_secret("")), "no token"):
            assert is_refused(text)
    (told,) = warnings_in(caplog)
    assert told == "refused a token: set YAMABIKO['TOKEN_SECRET'] or YAMABIKO['TOKEN_PUBLIC_KEY'] to verify it with"


def test_a_token_that_somebody_else_signed_is_told_in_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "refused", RareWarning("refused a token"))
    assert is_refused(saying({"sub": "42"}, sign=with_secret(OTHER_SECRET)))
    (told,) = warnings_in(caplog)
    assert told.startswith("refused a token: HS256: ")


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_without_a_secret_no_token_is_made_and_the_error_says_what_to_set() -> None:
    with override_settings(YAMABIKO={"TOKEN_PUBLIC_KEY": pem_of(RSA_KEY), "TOKEN_SECRET_PREVIOUS": SECRET}):
        for make in (lambda: token(AnonymousUser()), lambda: subscription_token(AnonymousUser(), "a")):
            with pytest.raises(ConfigurationError, match=r"needs YAMABIKO\['TOKEN_SECRET'\]"):
                make()


def test_neither_log_nor_errors_show_a_secret_or_a_token(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG, logger="yamabiko")
    said = {"sub": "hunter2", "info": 1, "exp": "hunter2", "channels": ["hunter2\n"], "subs": {"hunter2": 1}}
    told = []
    monkeypatch.setattr(tokens, "refused", RareWarning("refused a token", count(0.0, 100.0).__next__))
    for claims in (said, *({name: value} for name, value in said.items())):
        for sign in (with_secret(SECRET), with_secret(OTHER_SECRET)):
            text = saying(claims, sign=sign)
            told += [*errors_of(connection_claims, text), *errors_of(subscription_claims, text)]
    shown = "\n".join([*told, *(record.getMessage() for record in caplog.records)])
    assert "refused a token: " in shown
    assert not [word for word in ("hunter2", SECRET, OTHER_SECRET, "eyJ") if word in shown]
    with override_settings(YAMABIKO={"TOKEN_SECRET": pem_of(RSA_KEY)}), pytest.raises(ConfigurationError) as wrong:
        connection_claims(saying({}))
    assert "BEGIN" not in "".join(errors_in(wrong.value))


def errors_of(reader: Callable[..., Any], text: str) -> list[str]:
    try:
        reader(text, now=NOW)
    except Exception as error:
        return errors_in(error)
    return []


def errors_in(error: BaseException | None) -> list[str]:
    return [] if error is None else [repr(error), str(error), *errors_in(error.__cause__ or error.__context__)]


def test_a_key_shows_nothing_of_itself() -> None:
    assert repr(tokens.verifying_keys()) == "[TokenKey(algorithm='HS256')]"


def test_a_public_key_without_the_library_that_reads_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    key = pem_of(ec.generate_private_key(ec.SECP256R1()))
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.serialization", None)
    with override_settings(YAMABIKO={"TOKEN_PUBLIC_KEY": key}), pytest.raises(ConfigurationError, match="pip install"):
        connection_claims(saying({}))


# Tokens that we make


@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create_user("älice")


def said_by(text: str) -> dict[str, Any]:
    """Return the claims of a token as any other program would read them."""
    payload = text.split(".")[1]
    return dict(json.loads(urlsafe_b64decode(payload + "==")))


def test_a_token_for_a_user_says_the_id_the_name_and_when_it_ends(alice: User) -> None:
    began = int(time())
    said = said_by(token(alice))
    assert (list(said), said["sub"], said["info"]) == (["sub", "iat", "exp", "info"], str(alice.pk), {"name": "älice"})
    assert began <= said["iat"] <= time()
    assert 900 <= said["exp"] - said["iat"] <= 901
    claims = connection_claims(token(alice))
    assert claims.user == str(alice.pk)
    assert bytes(claims.info) == '{"name":"älice"}'.encode()
    assert claims.expires_in_seconds == pytest.approx(900, abs=5)


def test_a_token_for_nobody_known_tells_nothing() -> None:
    assert connection_claims(token(AnonymousUser())).user == ""
    assert connection_claims(token(AnonymousUser())).info == NOTHING


@pytest.mark.parametrize("info", [{}, [], "", 0, False, {"name": "山彦", "age": 1.5}])
def test_info_is_what_it_is_set_to(alice: User, info: Any) -> None:
    assert said_by(token(alice, info=info))["info"] == info
    assert said_by(subscription_token(alice, "a", info=info))["info"] == info


def test_a_token_subscribes_to_rooms_by_their_names_in_nfc(alice: User) -> None:
    rooms = (room for room in ("chat/lobby", "cafe\u0301"))
    assert connection_claims(token(alice, rooms=rooms)).grants == {"chat/lobby": Grant(), "caf\u00e9": Grant()}


def test_a_token_lives_as_long_as_it_is_told(alice: User) -> None:
    for made in (token(alice, ttl=timedelta(seconds=5)), subscription_token(alice, "a", ttl=timedelta(seconds=5))):
        assert 5 <= said_by(made)["exp"] - said_by(made)["iat"] <= 6
    with override_settings(YAMABIKO={"TOKEN_SECRET": SECRET, "TOKEN_TTL_SECONDS": 7}):
        assert 7 <= said_by(token(alice))["exp"] - said_by(token(alice))["iat"] <= 8


def test_a_token_says_the_audience_and_the_issuer_that_are_set(alice: User) -> None:
    with override_settings(YAMABIKO={"TOKEN_SECRET": SECRET, "TOKEN_AUDIENCE": "chat", "TOKEN_ISSUER": "example.com"}):
        for made in (token(alice), subscription_token(alice, "a")):
            assert (said_by(made)["aud"], said_by(made)["iss"]) == ("chat", "example.com")
        assert connection_claims(token(alice)).user == str(alice.pk)


def test_a_subscription_token_is_for_one_user_and_one_room(alice: User) -> None:
    claims = subscription_claims(subscription_token(alice, "cafe\u0301", data={"topic": None}))
    assert (claims.user, claims.room, claims.client) == (str(alice.pk), "caf\u00e9", "")
    assert (bytes(claims.grant.info), bytes(claims.grant.data)) == (b"", b'{"topic":null}')
    assert claims.grant.expires_in_seconds == pytest.approx(900, abs=5)


@pytest.mark.parametrize("ttl", [timedelta(0), timedelta(seconds=-1)])
def test_a_token_that_would_be_good_for_nothing_is_not_made(alice: User, ttl: timedelta) -> None:
    with pytest.raises(ValueError, match="a positive timedelta"):
        token(alice, ttl=ttl)
    with pytest.raises(ValueError, match="a positive timedelta"):
        subscription_token(alice, "a", ttl=ttl)


def test_a_user_without_an_id_has_no_token() -> None:
    with pytest.raises(ValueError, match="who is saved"):
        token(User(username="bob"))


def test_names_that_are_no_rooms_are_told_at_once(alice: User) -> None:
    with pytest.raises(UnknownRoom):
        token(alice, rooms=[""])
    with pytest.raises(UnknownRoom):
        subscription_token(alice, "a\n")
    with pytest.raises(TypeError, match=r"rooms=\['lobby'\]"):
        token(alice, rooms="lobby")


def test_info_that_json_cannot_hold_is_told(alice: User) -> None:
    with pytest.raises(TypeError, match="JSON"):
        token(alice, info={"at": object()})
    with pytest.raises(TypeError, match="JSON"):
        subscription_token(alice, "a", data=float("nan"))
