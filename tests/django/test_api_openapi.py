"""The OpenAPI document: well-formed, and of the API that is there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cent
import pytest
from django.test import Client, override_settings
from jsonschema import Draft202012Validator

from tests.django.api_contract import KEY, SETTINGS, check_request
from yamabiko.django.api.methods import METHODS
from yamabiko.django.api.openapi import document


@pytest.fixture(autouse=True)
def _with_api() -> Iterator[None]:
    with override_settings(ROOT_URLCONF="yamabiko.urls", YAMABIKO=SETTINGS):
        yield


def described() -> Any:
    return document(url="/api")


def objects_in(part: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a document."""
    if isinstance(part, dict):
        yield part
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from objects_in(inner)


def schemas_in(part: Any) -> list[Any]:
    named = list(described()["components"]["schemas"].values())
    return named + [each["schema"] for each in objects_in(part) if "schema" in each]


def operations() -> dict[str, Any]:
    return {path.removeprefix("/"): item["post"] for path, item in described()["paths"].items()}


def test_it_is_served_to_who_has_the_key() -> None:
    client = Client(headers={"X-API-Key": KEY})
    response = client.get("/api/openapi.json")
    assert (response.status_code, response.headers["Content-Type"]) == (200, "application/json")
    assert response.json() == described()
    assert client.head("/api/openapi.json").status_code == 200
    assert client.post("/api/openapi.json").status_code == 405


def test_it_has_the_parts_that_openapi_3_1_demands() -> None:
    whole = described()
    assert whole["openapi"] == "3.1.0"
    assert set(whole) <= {"openapi", "info", "servers", "paths", "components", "security", "tags"}
    assert {"title", "version"} <= set(whole["info"])
    assert all(server["url"] for server in whole["servers"])
    schemes = whole["components"]["securitySchemes"]
    assert {name for each in whole["security"] for name in each} == set(schemes)
    for scheme in schemes.values():
        assert scheme["type"] == "apiKey"
        assert scheme["in"] in ("header", "query")
        assert scheme["name"]


def test_every_method_is_described_and_nothing_else() -> None:
    assert list(operations()) == list(METHODS)
    assert [operation["operationId"] for operation in operations().values()] == list(METHODS)
    for operation in operations().values():
        assert set(operation) == {"operationId", "summary", "parameters", "requestBody", "responses"}
        assert {"200", "400", "401", "404", "413", "500"} <= set(operation["responses"])
        assert all(response["description"] for response in operation["responses"].values())
        for parameter in operation["parameters"]:
            assert set(parameter) == {"name", "in", "schema"}


def test_every_schema_is_json_schema_2020_12() -> None:
    schemas = schemas_in(described())
    assert len(schemas) > 2 * len(METHODS)
    for schema in schemas:
        Draft202012Validator.check_schema(schema)


def test_every_reference_leads_to_a_schema_and_every_schema_is_referred_to() -> None:
    whole = described()
    referred = {each["$ref"] for each in objects_in(whole) if "$ref" in each}
    assert referred == {f"#/components/schemas/{name}" for name in whole["components"]["schemas"]}


def test_what_a_request_needs_is_said() -> None:
    schemas = described()["components"]["schemas"]
    needed = {name: schemas[method.request.__name__].get("required", []) for name, method in METHODS.items()}
    assert needed == {
        "publish": ["channel"],
        "broadcast": ["channels"],
        "subscribe": ["user", "channel"],
        "unsubscribe": ["user"],
        "disconnect": ["user"],
        "refresh": ["user"],
        "presence": ["channel"],
        "presence_stats": ["channel"],
        "history": ["channel"],
        "history_remove": ["channel"],
        "channels": [],
        "info": [],
        "rpc": ["method"],
        "batch": ["commands"],
    }


def test_texts_for_people_have_no_indentation_of_the_code() -> None:
    texts = [each["description"] for each in objects_in(described()) if isinstance(each.get("description"), str)]
    assert texts
    assert not [text for text in texts if "\n " in text or text != text.strip()]


def test_limits_and_what_is_not_offered_are_said() -> None:
    schemas = described()["components"]["schemas"]
    assert "1,000" in schemas["BatchRequest"]["properties"]["commands"]["description"]
    assert "10,000" in schemas["BroadcastRequest"]["properties"]["channels"]["description"]
    assert "error 108" in str(schemas["PublishRequest"]["properties"]["version"])
    assert "error 108" in str(schemas["DisconnectRequest"]["properties"]["session"])


SENT_BY_CENT = [
    cent.PublishRequest(
        channel="a", data={"b": 1}, skip_history=True, tags={"a": "b"}, b64data="e30=", idempotency_key="k"
    ),
    cent.BroadcastRequest(channels=["a", "b"], data=[1]),
    cent.UnsubscribeRequest(user="1", channel="a", client="c", session="s"),
    cent.DisconnectRequest(
        user="1", client="c", whitelist=["d"], disconnect=cent.Disconnect(code=4000, reason="later")
    ),
    cent.RefreshRequest(user="1", client="c", expired=True, expire_at=1),
    cent.PresenceRequest(channel="a"),
    cent.PresenceStatsRequest(channel="a"),
    cent.HistoryRequest(channel="a", limit=1, since=cent.StreamPosition(offset=1, epoch="e"), reverse=True),
    cent.HistoryRemoveRequest(channel="a"),
    cent.ChannelsRequest(pattern="*"),
    cent.InfoRequest(),
    cent.BatchRequest(requests=[cent.PublishRequest(channel="a", data=1), cent.InfoRequest()], parallel=True),
]


@pytest.mark.parametrize("request_", SENT_BY_CENT, ids=lambda request: request.api_method)
def test_what_cent_sends_is_described(request_: Any) -> None:
    check_request(request_.api_method, request_.api_payload)
