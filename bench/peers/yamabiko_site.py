"""Yamabiko: a small Django project (bench/site) on `yamabiko serve`, alone and as a route of Channels."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial

from bench.peers.peer import DEFLATE, HISTORY, PLAIN, ROOT, USERS, USERS_HISTORY, Peer, Place, distribution_version
from bench.peers.redis import lacks_redis, redis

KINDS = (PLAIN, HISTORY, USERS, USERS_HISTORY, DEFLATE)
MESSAGE = ["--message", '{"message":"{text}"}']


def serve(application: str, place: Place) -> list[str]:
    command = [sys.executable, "-m", "yamabiko", "serve", application, "--app-dir", str(ROOT)]
    command += ["--port", str(place.port), "--no-access-log"]
    return [*command, "--compress"] if place.kind == DEFLATE else command


def environment(place: Place, broker: str = "memory") -> dict[str, str]:
    brokers = {
        "memory": "memory://",
        "sqlite": f"sqlite:///{place.folder / 'rooms.sqlite3'}",
        "redis": f"redis://127.0.0.1:{place.helper_port}/0",
    }
    return {
        "DJANGO_SETTINGS_MODULE": "bench.site.settings",
        "BENCH_DATABASE": str(place.database or ":memory:"),
        "BENCH_BROKER": brokers[broker],
    }


def version() -> str:
    return f"{distribution_version('yamabiko', 'yamabiko')}, Django {distribution_version('django', 'django')}"


PEER = Peer(
    name="yamabiko",
    title="Yamabiko",
    server=partial(serve, "bench.site.asgi:application"),
    environment=environment,
    says={kind: ["--path", f"/rooms/{kind}/{{room}}/", *MESSAGE] for kind in KINDS},
    missing=lambda: None,
    version=version,
)

IN_CHANNELS = Peer(
    name="yamabiko-in-channels",
    title="Yamabiko behind Channels' auth stack",
    server=partial(serve, "bench.site.asgi_in_channels:application"),
    environment=environment,
    says=PEER.says,
    missing=lambda: None,
    version=version,
)

BY_SDK = replace(
    PEER,
    name="yamabiko-sdk",
    title="Yamabiko, SDK protocol",
    says={
        kind: [
            *("--path", "/connection/websocket"),
            *("--say", f'{{"id":1,"connect":{{}}}}\n{{"id":2,"subscribe":{{"channel":"{kind}/{{room}}"}}}}'),
            *("--await", '"id":2,"subscribe"'),
            *("--message", f'{{"id":3,"publish":{{"channel":"{kind}/{{room}}","data":"{{text}}"}}}}'),
            *("--answer", "{}={}"),
        ]
        for kind in (PLAIN, HISTORY)
    },
)

ON_SQLITE = replace(
    PEER, name="yamabiko-sqlite", title="Yamabiko, sqlite://", environment=partial(environment, broker="sqlite")
)
ON_REDIS = replace(
    PEER,
    name="yamabiko-redis",
    title="Yamabiko, redis://",
    environment=partial(environment, broker="redis"),
    helper=redis,
    missing=lacks_redis,
)
