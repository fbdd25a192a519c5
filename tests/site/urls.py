from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import path

import yamabiko


def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse("hello")


def say(request: HttpRequest, room: str) -> HttpResponse:
    yamabiko.publish(room, request.GET["message"])
    return HttpResponse("said")


async def asay(request: HttpRequest, room: str) -> HttpResponse:
    await yamabiko.apublish(room, request.GET["message"])
    return HttpResponse("said")


urlpatterns: list[Any] = [path("hello/", hello), path("say/<path:room>/", say), path("asay/<path:room>/", asay)]
