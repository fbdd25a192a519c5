"""System checks: mistakes in settings and Room classes are found at start, each with what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from inspect import iscoroutinefunction, signature
from typing import Any

from django.apps import apps
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, register
from django.core.checks import Warning as CheckWarning
from django.core.exceptions import ImproperlyConfigured

from yamabiko.core.errors import ConfigurationError
from yamabiko.core.messages import History
from yamabiko.django import settings
from yamabiko.django.rooms import Room, registry

SECRETS_OF_THEIR_OWN = ("TOKEN_SECRET", "TOKEN_SECRET_PREVIOUS", "API_KEY", "API_KEY_PREVIOUS")
HOOKS = ("can_join", "can_publish", "on_publish", "on_join", "on_leave")


@register("yamabiko")
def check_settings(**_: Any) -> list[CheckMessage]:
    return list(_setting_problems())


@register("yamabiko")
def check_apps(**_: Any) -> list[CheckMessage]:
    return list(_app_problems())


@register("yamabiko")
def check_rooms(**_: Any) -> list[CheckMessage]:
    found: list[CheckMessage] = list(_pattern_problems())
    for room_class in dict.fromkeys(room_class for _, _, room_class in registry.entries):
        found += _room_class_problems(room_class)
    return found


def _setting_problems() -> Iterator[CheckMessage]:
    try:
        unknown = settings.unknown_keys()
        for name in settings.KEYS:
            settings.setting(name)
        settings.limits()
    except ConfigurationError as error:
        yield Error(
            str(error),
            hint="Correct it in your settings; docs/reference/settings lists them all.",
            id="yamabiko.E001",
        )
        return
    for key, meant in unknown:
        hint = f"Did you mean {meant!r}?" if meant else f"The keys are {', '.join(settings.KEYS)}."
        yield Error(f"YAMABIKO[{key!r}] is no setting of Yamabiko.", hint=hint, id="yamabiko.E002")
    yield from _broker_problems()
    yield from _token_problems()


def _broker_problems() -> Iterator[CheckMessage]:
    from yamabiko.django.brokers import EXPECTED, make_broker

    try:
        broker = make_broker()
    except ConfigurationError as error:
        yield Error(str(error), hint=f"BROKER is a URL: {EXPECTED}.", id="yamabiko.E003")
        return
    keeping = dict.fromkeys(room.__name__ for _, _, room in registry.entries if room.history is not None)
    if keeping and not broker.keeps_history:
        yield CheckWarning(
            f"{', '.join(keeping)} would keep a history, but BROKER {settings.broker_url()} keeps none.",
            hint="A channel layer carries messages at most once; use another BROKER where they must not be lost.",
            id="yamabiko.W001",
        )


def _token_problems() -> Iterator[CheckMessage]:
    from yamabiko.django.token_keys import verifying_keys

    for name in SECRETS_OF_THEIR_OWN:
        if settings.setting(name) and settings.setting(name) in _secrets_of_django():
            yield Error(
                f"YAMABIKO[{name!r}] is Django's SECRET_KEY.",
                hint="Set it to one of its own: python -c 'import secrets; print(secrets.token_urlsafe(48))'",
                id="yamabiko.E005",
            )
    try:
        verifying_keys()
    except ConfigurationError as error:
        yield Error(str(error), hint="docs/reference/settings says which keys tokens may have.", id="yamabiko.E006")


def _secrets_of_django() -> list[object]:
    try:
        return [django_settings.SECRET_KEY, *django_settings.SECRET_KEY_FALLBACKS]
    except ImproperlyConfigured:  # it is empty, which Django tells whoever needs it
        return []


def _app_problems() -> Iterator[CheckMessage]:
    if not apps.is_installed("django.contrib.auth"):
        yield Error(
            "Yamabiko needs django.contrib.auth to know who joins.",
            hint="Add 'django.contrib.auth' and 'django.contrib.contenttypes' to INSTALLED_APPS.",
            id="yamabiko.E004",
        )
    names = [config.name for config in apps.get_app_configs()]
    for other in ("django.contrib.staticfiles", "daphne"):
        if other in names and names.index(other) < names.index("yamabiko"):
            yield CheckWarning(
                f"'{other}' stands before 'yamabiko' in INSTALLED_APPS, so `manage.py runserver` is the other's.",
                hint=f"Put 'yamabiko' above '{other}', so that runserver serves WebSockets with Yamabiko.",
                id="yamabiko.W002",
            )


def _pattern_problems() -> Iterator[CheckMessage]:
    seen: dict[str, type[Room]] = {}
    for pattern, route, room_class in registry.entries:
        try:
            route.regex  # noqa: B018  (compiled on first use)
        except (ImproperlyConfigured, re.error) as error:
            yield Error(str(error), hint="Patterns are those of Django's path().", obj=room_class, id="yamabiko.E010")
        yield from route.check()
        if pattern in seen and seen[pattern] is not room_class:
            yield Error(
                f"The pattern {pattern!r} belongs to {seen[pattern].__name__} already.",
                hint="The first registered class would have all its rooms; choose another pattern.",
                obj=room_class,
                id="yamabiko.E011",
            )
        seen.setdefault(pattern, room_class)


def _room_class_problems(room_class: type[Room]) -> Iterator[CheckMessage]:
    for name in HOOKS:
        yield from _hook_problems(room_class, name)
    if room_class.history is not None and not isinstance(room_class.history, History):
        yield Error(
            f"history is a History, not {room_class.history!r}.",
            hint="history = History(size=1000, ttl=timedelta(days=7)), or leave it out.",
            obj=room_class,
            id="yamabiko.E014",
        )
    if not isinstance(room_class.presence, bool):
        yield Error(
            f"presence is True or False, not {room_class.presence!r}.",
            hint="presence = True",
            obj=room_class,
            id="yamabiko.E015",
        )
    if room_class.can_join is Room.can_join:
        yield CheckWarning(
            "Nobody can join these rooms: the class has no can_join.",
            hint="A Room class begins closed: async def can_join(self, user): return user.is_authenticated",
            obj=room_class,
            id="yamabiko.W010",
        )


def _hook_problems(room_class: type[Room], name: str) -> Iterator[CheckMessage]:
    hook = getattr(room_class, name)
    if not iscoroutinefunction(hook):
        yield Error(
            f"{name} is not async.",
            hint=f"Write `async def {name}(...)`; call synchronous code in it with asgiref.sync.sync_to_async.",
            obj=room_class,
            id="yamabiko.E012",
        )
        return
    expected = list(signature(getattr(Room, name)).parameters)
    try:
        signature(hook).bind(*expected)
    except TypeError:
        yield Error(
            f"{name} cannot be called as {name}({', '.join(expected[1:])}).",
            hint=f"Write `async def {name}({', '.join(expected)})`.",
            obj=room_class,
            id="yamabiko.E013",
        )
