"""Channels: the same Django project with a consumer and a channel layer, on uvicorn and on Daphne."""

from __future__ import annotations

from functools import partial

from bench.peers.peer import PLAIN, USERS, Peer, Place, distribution_version, lacks_python, python_with
from bench.peers.redis import lacks_redis, redis
from bench.peers.yamabiko_site import MESSAGE, environment

APPLICATION = "bench.site.channels_asgi:application"
SAYS = {kind: ["--path", f"/{kind}/{{room}}/", *MESSAGE] for kind in (PLAIN, USERS)}


def uvicorn(place: Place) -> list[str]:
    python = python_with("channels", "channels_redis", "uvicorn", "django") or "python3"
    options = ["--port", str(place.port), "--log-level", "warning", "--ws-per-message-deflate", "false"]
    return [python, "-m", "uvicorn", APPLICATION, *options]


def daphne(place: Place) -> list[str]:
    python = python_with("channels", "channels_redis", "daphne", "django") or "python3"
    return [python, "-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p", str(place.port), APPLICATION]


def site_environment(layer: str, place: Place) -> dict[str, str]:
    redis_url = f"redis://127.0.0.1:{place.helper_port}/0"
    return {**environment(place), "BENCH_LAYER": layer, "BENCH_REDIS": redis_url}


def lacks(layer: str) -> str | None:
    if layer != "memory" and (hint := lacks_redis()):
        return hint
    return lacks_python("channels", "channels_redis", "uvicorn", "daphne", "django")


def channels(layer: str, server: str) -> Peer:
    layer_title = {"memory": "in memory", "redis": "Redis", "pubsub": "Redis pub/sub"}[layer]
    return Peer(
        name=f"channels-{layer}-{server}",
        title=f"Channels, {layer_title}, {server.capitalize()}",
        server={"uvicorn": uvicorn, "daphne": daphne}[server],
        environment=partial(site_environment, layer),
        helper=None if layer == "memory" else redis,
        says=SAYS,
        missing=partial(lacks, layer),
        version=lambda: (
            f"{distribution_version('channels', 'channels')}, {server} {distribution_version(server, server)}"
        ),
    )


PEERS = (
    channels("memory", "uvicorn"),
    channels("memory", "daphne"),
    channels("redis", "uvicorn"),
    channels("pubsub", "uvicorn"),
)
