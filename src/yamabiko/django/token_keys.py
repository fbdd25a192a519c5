"""The keys that tokens are signed and verified with: each has the one algorithm that it is for.

A token's own word for its algorithm is never taken, so that none can be read with a key that was made for another.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from jwt import InvalidKeyError
from jwt.algorithms import HMACAlgorithm

from yamabiko.core.errors import ConfigurationError
from yamabiko.django import settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

SECRETS = ("TOKEN_SECRET", "TOKEN_SECRET_PREVIOUS")
PUBLIC_KEYS = ("TOKEN_PUBLIC_KEY", "TOKEN_PUBLIC_KEY_PREVIOUS")
SMALLEST_RSA_BITS = 2048


@dataclass(frozen=True)
class TokenKey:
    """A key and its algorithm; what it is shows in no repr."""

    algorithm: str
    key: bytes | RSAPublicKey | EllipticCurvePublicKey = field(repr=False)


def verifying_keys() -> list[TokenKey]:
    """Return the keys that tokens may be signed with, none if none is set. Raises ConfigurationError."""
    secrets = [(name, str(settings.setting(name))) for name in SECRETS]
    pems = [(name, str(settings.setting(name))) for name in PUBLIC_KEYS]
    return [_secret(*given) for given in secrets if given[1]] + [_public_key(*given) for given in pems if given[1]]


def signing_secret() -> str:
    """Return what our own tokens are signed with, by HS256. Raises ConfigurationError if there is none."""
    secret = str(settings.setting("TOKEN_SECRET"))
    if not secret:
        raise ConfigurationError(
            "making tokens needs YAMABIKO['TOKEN_SECRET'], which is not set: set it to a random text such as "
            "`python -c 'import secrets; print(secrets.token_urlsafe(48))'` prints, not Django's SECRET_KEY"
        )
    _secret("TOKEN_SECRET", secret)  # told here if it can be none
    return secret


@lru_cache(maxsize=8)
def _secret(name: str, text: str) -> TokenKey:
    try:
        return TokenKey("HS256", HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(text))
    except (InvalidKeyError, ValueError) as error:
        raise ConfigurationError(
            f"YAMABIKO[{name!r}] is a random text, not a key file or JWK; a public key goes into TOKEN_PUBLIC_KEY"
        ) from error


@lru_cache(maxsize=8)
def _public_key(name: str, pem: str) -> TokenKey:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"YAMABIKO[{name!r}] needs the package cryptography: pip install 'yamabiko[tokens]'"
        ) from error
    if "PRIVATE KEY" in pem:
        raise ConfigurationError(f"YAMABIKO[{name!r}] is a public key; a private one stays where tokens are made")
    try:
        return _with_algorithm(name, load_pem_public_key(pem.encode()))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(
            f"YAMABIKO[{name!r}] is the PEM of a public key, as `openssl pkey -pubout` writes it; this cannot be read"
        ) from error


def _with_algorithm(name: str, key: object) -> TokenKey:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    if isinstance(key, RSAPublicKey) and key.key_size >= SMALLEST_RSA_BITS:
        return TokenKey("RS256", key)
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return TokenKey("ES256", key)
    raise ConfigurationError(
        f"YAMABIKO[{name!r}] is an RSA key of at least {SMALLEST_RSA_BITS} bits (RS256) or an EC key on the curve "
        "P-256 (ES256); this one is neither"
    )
