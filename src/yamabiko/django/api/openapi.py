"""The OpenAPI 3.1 document of the HTTP API, made of the Structs that its requests are checked with."""

from __future__ import annotations

from functools import cache
from inspect import cleandoc
from typing import Any

import msgspec

from yamabiko.core.version import VERSION
from yamabiko.django.api.messages import Error
from yamabiko.django.api.methods import METHODS

Schema = dict[str, Any]

ABOUT = """\
Compatible with backends of the Centrifugo server API; a channel is a room.

Errors are answered with status 200 and {"error": {"code", "message"}}; with the header
X-Centrifugo-Error-Mode: transport they have HTTP statuses of their own."""

SUMMARIES = {
    "publish": "Publish into a room",
    "broadcast": "Publish into several rooms",
    "subscribe": "Put a user's connections into a room",
    "unsubscribe": "Take a user's connections out of a room",
    "disconnect": "Close a user's connections",
    "refresh": "Say when a user's connections end",
    "presence": "Who is in a room",
    "presence_stats": "How many are in a room",
    "history": "What a room has kept",
    "history_remove": "Let go of what a room has kept",
    "channels": "Rooms with members, on all nodes",
    "info": "The nodes",
    "rpc": "Call an extension",
    "batch": "Several commands in one request",
}
ERRORS = {
    "400": "With error mode transport: 107 bad request, 108 not available. In any mode: the body is no JSON",
    "404": "With error mode transport: 102 unknown room, 104 method not found",
    "416": "With error mode transport: 112 unrecoverable position",
    "500": "With error mode transport: 100 internal server error; try again",
}
SECURITY = {
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "authorization": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "apikey, a space and the key",
    },
    "query": {
        "type": "apiKey",
        "in": "query",
        "name": "api_key",
        "description": "for tools that cannot send headers: servers and proxies write queries into their logs",
    },
}


def document(*, url: str) -> Schema:
    """Return the document of the API that is served under `url`, a path or a whole URL."""
    return _document() | {"servers": [{"url": url}]}


@cache
def _document() -> Schema:
    return {
        "openapi": "3.1.0",
        "info": {"title": "Yamabiko HTTP API", "version": VERSION, "description": ABOUT},
        "paths": {f"/{name}": {"post": _operation(name)} for name in METHODS},
        "security": [{name: []} for name in SECURITY],
        "components": {"schemas": _schemas(), "securitySchemes": SECURITY},
    }


def _operation(name: str) -> Schema:
    method = METHODS[name]
    error = _object(error=_ref(Error))
    result = _ref(method.result) if name == "batch" else _object(result=_ref(method.result))
    responses = {
        "200": _response("The result, or an error", {"oneOf": [result, error]}),
        "401": {"description": "The key is missing or wrong"},
        "413": {"description": "The body is larger than DATA_UPLOAD_MAX_MEMORY_SIZE"},
    }
    return {
        "operationId": name,
        "summary": SUMMARIES[name],
        "parameters": [
            {"name": "X-Centrifugo-Error-Mode", "in": "header", "schema": {"type": "string", "enum": ["transport"]}}
        ],
        "requestBody": {"required": True, "content": _json(_ref(method.request))},
        "responses": responses | {status: _response(text, error) for status, text in ERRORS.items()},
    }


def _schemas() -> Schema:
    types = [kind for method in METHODS.values() for kind in (method.request, method.result)]
    _, schemas = msgspec.json.schema_components([*types, Error], ref_template="#/components/schemas/{name}")
    for schema in schemas.values():
        if "description" in schema:
            schema["description"] = cleandoc(schema["description"])
    inner = {name: method for name, method in METHODS.items() if name != "batch"}
    commands = {name: _ref(method.request) for name, method in inner.items()}
    replies = {name: _ref(method.result) for name, method in inner.items()} | {"error": _ref(Error)}
    schemas["BatchRequest"]["properties"]["commands"]["items"] = _one_of(commands)
    schemas["BatchResult"]["properties"]["replies"]["items"] = _one_of(replies)
    return schemas


def _one_of(properties: Schema) -> Schema:
    """Return the schema of an object that has exactly one of `properties`."""
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _response(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": _json(schema)}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _ref(kind: type) -> Schema:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}
