"""The view from which a page gets its user's tokens: POST, signed in; with a `channel`, a token for that room."""

from __future__ import annotations

from typing import Any

import msgspec
from django.core.exceptions import BadRequest as DjangoBadRequest
from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest, HttpResponse, JsonResponse, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from django.views.decorators.cache import cache_control
from django.views.decorators.csrf import csrf_protect

from yamabiko.core.errors import BadRequest, PermissionDenied, Refusal, Unauthorized, UnknownRoom
from yamabiko.django.rooms import registry
from yamabiko.django.tokens import subscription_token, token

EXPECTED = 'expected an empty body, or a form or JSON with a room: {"channel": "chat/lobby"}'
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
UNREADABLE = (DjangoBadRequest, MultiPartParserError, SuspiciousOperation, UnreadablePostError)
STATUSES = {Unauthorized: 401, UnknownRoom: 404, BadRequest: 400}


@cache_control(no_store=True)
async def token_view(request: HttpRequest) -> HttpResponse:
    """Answer {"token": "..."} to a signed-in user: one to connect with, or, for a `channel`, one to join that room.

    What is refused is answered as {"error": {"code", "message"}}: 400 for a body that cannot be, 401 for someone
    unknown, 403 for a room that its Room class does not open to the user, 404 for no room, 405 for another method.
    Django's CSRF protection applies, whether its middleware is installed or not.
    """
    if request.method != "POST":
        return _error(BadRequest(f"POST, not {request.method}"), status=405, headers={"Allow": "POST"})
    user = await request.auser()
    if not user.is_authenticated:
        return _error(Unauthorized("sign in first"), status=401)
    try:
        return await _give(request, user, _channel(request))
    except Refusal as refusal:
        return _error(refusal, status=STATUSES.get(type(refusal), 403))


@csrf_protect
async def _give(request: HttpRequest, user: Any, channel: str | None) -> HttpResponse:
    made = token(user) if channel is None else await _token_for_room(user, channel)
    return JsonResponse({"token": made})


async def _token_for_room(user: Any, name: str) -> str:
    room = registry.room(name)
    if not await room.can_join(user):
        raise PermissionDenied
    return subscription_token(user, room.name)


class _Body(msgspec.Struct):
    channel: str | None = None


def _channel(request: HttpRequest) -> str | None:
    """Return the room that a request names, None if it names none. Raises BadRequest."""
    try:
        if request.content_type in FORMS:
            return request.POST.get("channel")
        if not request.body:
            return None
        if request.content_type == "application/json":
            return msgspec.json.decode(request.body, type=_Body).channel
    except (ValueError, RecursionError, *UNREADABLE) as error:
        raise BadRequest(EXPECTED) from error
    raise BadRequest(f"{EXPECTED}; not the type {request.content_type!r:.80}")


def _error(refusal: Refusal, *, status: int, headers: dict[str, str] | None = None) -> HttpResponse:
    error = {"code": refusal.code, "message": refusal.message}
    return JsonResponse({"error": error}, status=status, headers=headers)
