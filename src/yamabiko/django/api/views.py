"""The HTTP API: for backends that have the key, at POST api/<method> and GET api/openapi.json.

Source: the Centrifugo server API. While YAMABIKO["API_KEY"] is empty nothing is there.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import msgspec
from django.conf import settings as django_settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, UnreadablePostError
from django.views.decorators.cache import cache_control
from django.views.decorators.csrf import csrf_exempt

from yamabiko.core.errors import BadRequest, ConfigurationError
from yamabiko.django import settings
from yamabiko.django.api.messages import BatchResult, Error
from yamabiko.django.api.methods import answer_to, error_of
from yamabiko.django.api.openapi import document
from yamabiko.django.rare_warning import RareWarning

logger = logging.getLogger("yamabiko")

STATUSES = {100: 500, 102: 404, 104: 404, 107: 400, 108: 400, 112: 416, 113: 409}
"""HTTP statuses by error codes, for who wants them; of others 400."""

refused_keys = RareWarning("refused a request to the HTTP API without the right key, from")

View = Callable[..., Coroutine[Any, Any, HttpResponse]]


def needs_key(view: View) -> View:
    """Let only those in who have a key: others get a bare 401, or 404 where there is no key to have."""

    @wraps(view)
    @csrf_exempt  # the key is what another site's page does not have
    @cache_control(no_store=True)
    async def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            keys = settings.api_keys()
        except ConfigurationError as error:
            logger.error("the HTTP API is shut: %s", error)
            return HttpResponse(status=500)
        if not keys:
            return HttpResponse(status=404)
        if not _is_one_of(keys, _key_in(request)):
            refused_keys.tell(str(request.META.get("REMOTE_ADDR", "")))
            return HttpResponse(status=401)
        return await view(request, *args, **kwargs)

    return guarded


@needs_key
async def api_view(request: HttpRequest, method: str) -> HttpResponse:
    """Answer {"result": ...} or {"error": {"code", "message"}}, with status 200.

    Errors have their own HTTP statuses with the header X-Centrifugo-Error-Mode: transport. What is no JSON is 400, what
    is larger than DATA_UPLOAD_MAX_MEMORY_SIZE 413.
    """
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    try:
        answer = await answer_to(method, _body(request))
    except RequestDataTooBig:
        return HttpResponse(status=413)
    except (ValueError, RecursionError, UnreadablePostError) as error:
        return _respond({"error": error_of(BadRequest(f"this is no JSON: {error}"))}, status=400)
    if isinstance(answer, Error):
        wants_status = request.headers.get("X-Centrifugo-Error-Mode") == "transport"
        return _respond({"error": answer}, status=STATUSES.get(answer.code, 400) if wants_status else 200)
    return _respond(answer if isinstance(answer, BatchResult) else {"result": answer})


@needs_key
async def openapi_view(request: HttpRequest) -> HttpResponse:
    """Answer the description of the API in OpenAPI 3.1, as JSON."""
    if request.method not in ("GET", "HEAD"):
        return HttpResponseNotAllowed(["GET", "HEAD"])
    return _respond(document(url=request.path.removesuffix("/openapi.json")))


def _key_in(request: HttpRequest) -> str:
    """Return the key that a request has, empty if it has none."""
    if key := request.headers.get("X-API-Key", ""):
        return key
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "apikey" and key:
        return key.strip()
    return request.GET.get("api_key", "")


def _is_one_of(keys: tuple[str, ...], given: str) -> bool:
    """Compare with every key, in a time that does not tell how much of which is right."""
    encoded = given.encode("utf-8", "surrogatepass")
    return True in [hmac.compare_digest(encoded, key.encode()) for key in keys]


def _body(request: HttpRequest) -> bytes:
    """Return the body, whatever type it is said to have. Raises RequestDataTooBig and UnreadablePostError."""
    limit = django_settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    if limit is None:
        return request.body
    body: bytes = request.read(limit + 1)  # Django trusts Content-Length, which need not be there
    if len(body) > limit:
        raise RequestDataTooBig
    return body


def _respond(answer: object, *, status: int = 200) -> HttpResponse:
    return HttpResponse(msgspec.json.encode(answer), status=status, content_type="application/json")
