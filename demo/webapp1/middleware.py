"""The Content-Security-Policy of every page: our own files and our own sockets, nothing else."""

from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.request import split_domain_port, validate_host
from django.utils.decorators import sync_and_async_middleware

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'{sockets}",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)


@sync_and_async_middleware
def content_security_policy(
    get_response: Callable[[HttpRequest], HttpResponse | Awaitable[HttpResponse]],
) -> Callable[[HttpRequest], HttpResponse | Awaitable[HttpResponse]]:
    if iscoroutinefunction(get_response):

        async def with_policy_async(request: HttpRequest) -> HttpResponse:
            return guarded(request, await get_response(request))

        return with_policy_async

    def with_policy(request: HttpRequest) -> HttpResponse:
        return guarded(request, get_response(request))

    return with_policy


def guarded(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    if not (settings.DEBUG and response.status_code == 500):  # Django's error report styles itself inline
        response.headers.setdefault("Content-Security-Policy", POLICY.format(sockets=own_sockets(request)))
    return response


def own_sockets(request: HttpRequest) -> str:
    """Name this site's sockets: older Safari does not count them to 'self'."""
    host = request.META.get("HTTP_HOST", "")
    domain, _port = split_domain_port(host)
    if not domain or not validate_host(domain, settings.ALLOWED_HOSTS):
        return ""
    return f" ws://{host} wss://{host}"
