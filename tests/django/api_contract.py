"""What the API's own OpenAPI document says of an answer, checked; nothing may be in it that is not described."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from yamabiko.django.api.openapi import document

KEY = "a key of 16 bytes or more".replace(" ", "-")
SETTINGS = {"API_KEY": KEY}


def check_answer(method: str, status: int, answer: Any) -> None:
    """Fail unless the document has such an answer to a request for `method`."""
    responses = _strict_document()["paths"][f"/{method}"]["post"]["responses"]
    assert str(status) in responses, f"{method} answered {status}, which is not described"
    check(answer, responses[str(status)]["content"]["application/json"]["schema"])


def check_request(method: str, request: Any) -> None:
    body = _strict_document()["paths"][f"/{method}"]["post"]["requestBody"]
    check(request, body["content"]["application/json"]["schema"])


def check(value: Any, schema: Any) -> None:
    absolute = _absolute(schema)
    Draft202012Validator(absolute, registry=_registry()).validate(value)


@cache
def _strict_document() -> Any:
    strict = deepcopy(document(url="/api"))
    for name, schema in strict["components"]["schemas"].items():
        assert schema["type"] == "object", name
        schema["additionalProperties"] = False
    return strict


@cache
def _registry() -> Registry[Any]:
    return Registry().with_resource("urn:api", Resource(_strict_document(), DRAFT202012))


def _absolute(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {name: f"urn:api{value}" if name == "$ref" else _absolute(value) for name, value in schema.items()}
    return [_absolute(each) for each in schema] if isinstance(schema, list) else schema
