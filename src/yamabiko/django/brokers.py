"""The broker that the settings name."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

from django.conf import settings as django_settings
from django.core import mail

from yamabiko.brokers.memory import MemoryBroker
from yamabiko.brokers.sqlite import SqliteBroker
from yamabiko.core.errors import ConfigurationError
from yamabiko.core.interfaces import Broker
from yamabiko.django import settings
from yamabiko.django.rooms import registry

EXPECTED = "memory://, sqlite:///rooms.sqlite3, redis://127.0.0.1:6379/0 or channels://default"
REDIS = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")


def make_broker() -> Broker:
    """Return a broker for YAMABIKO['BROKER']. Raises ConfigurationError, which never tells a password."""
    url = settings.broker_url()
    try:
        scheme = urlsplit(url).scheme
    except ValueError as error:
        raise ConfigurationError(f"YAMABIKO['BROKER'] is {EXPECTED}, and this is no URL") from error
    if scheme == "memory":
        return MemoryBroker()
    if scheme == "sqlite":
        path = _path(url)
        return MemoryBroker() if is_testing() else SqliteBroker(path)
    if scheme in REDIS:
        return _redis_broker(url)
    if scheme == "channels":
        return _channels_broker(url)
    raise ConfigurationError(f"YAMABIKO['BROKER'] is {EXPECTED}, not {scheme}://...")


def is_testing() -> bool:
    """Tell whether Django's test environment is set up: there, nothing is written into the site's own files."""
    return hasattr(mail, "outbox")


def _path(url: str) -> Path:
    """Return the file of sqlite:///relative or sqlite:////absolute; what is relative begins at BASE_DIR."""
    parts = urlsplit(url)
    name = unquote(parts.path)[1:]
    if parts.netloc or not name or parts.query or parts.fragment:
        raise ConfigurationError(
            "YAMABIKO['BROKER'] is sqlite:/// and the path of a file, for instance sqlite:///rooms.sqlite3 or "
            f"sqlite:////var/lib/site/rooms.sqlite3, not {url}"
        )
    return Path(getattr(django_settings, "BASE_DIR", Path.cwd())) / name


def _redis_broker(url: str) -> Broker:
    from yamabiko.brokers.redis import RedisBroker

    return RedisBroker.from_url(url, timeout_seconds=settings.broker_timeout_seconds(), prefix=settings.prefix())


def _channels_broker(url: str) -> Broker:
    alias = urlsplit(url).netloc or "default"
    if find_spec("channels") is None:
        raise ConfigurationError(f"BROKER {url!r} needs Channels: pip install 'yamabiko[channels]'")
    from channels.exceptions import InvalidChannelLayerError
    from channels.layers import InMemoryChannelLayer, get_channel_layer

    from yamabiko.brokers.channels import ChannelsBroker

    try:
        layer = get_channel_layer(alias)
    except (InvalidChannelLayerError, TypeError, ValueError) as error:
        raise ConfigurationError(f"BROKER channels://{alias}: {error}") from error
    if layer is None:
        raise ConfigurationError(f"BROKER channels://{alias} needs a layer {alias!r} in CHANNEL_LAYERS")
    broker = ChannelsBroker(layer, lambda room: registry.room(room).group)
    broker.is_shared = not isinstance(layer, InMemoryChannelLayer)
    return broker
