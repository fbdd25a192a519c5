"""The pages' and backends' ways in: path("", include("yamabiko.urls")) gives yamabiko/token/ and api/<method>.

Of the paths below api/ those of its methods are taken, and only while it has a key; others are left to the project.
"""

from __future__ import annotations

from django.urls import path, register_converter
from django.urls.converters import StringConverter

from yamabiko.core.errors import ConfigurationError
from yamabiko.django import settings
from yamabiko.django.api.methods import METHODS
from yamabiko.django.api.views import api_view, openapi_view
from yamabiko.django.token_view import token_view


class MethodConverter(StringConverter):
    """Takes the methods of an open API. Raises ValueError, by which Django looks further, for anything else."""

    def to_python(self, value: str) -> str:
        if value not in METHODS or not _is_open():
            raise ValueError(value)
        return value


def _is_open() -> bool:
    try:
        return bool(settings.api_keys())
    except ConfigurationError:  # the view tells the log
        return True


register_converter(MethodConverter, "yamabiko_method")

app_name = "yamabiko"
urlpatterns = [
    path("yamabiko/token/", token_view, name="token"),
    path("api/openapi.json", openapi_view, name="openapi"),
    path("api/<yamabiko_method:method>", api_view, name="api"),
]
