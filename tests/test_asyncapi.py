"""The AsyncAPI document is one by the rules of AsyncAPI 3.0, and says of both protocols what the codecs do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from google.protobuf.message import Message
from jsonschema import Draft7Validator
from ruamel.yaml import YAML

from yamabiko.codecs.plain import PLAIN
from yamabiko.codecs.sdk_json import SDK_JSON
from yamabiko.codecs.sdk_protobuf import SDK_PROTOBUF
from yamabiko.codecs.sdk_schema import schema as protobuf_schema
from yamabiko.core.errors import Refusal
from yamabiko.core.messages import (
    Acknowledged,
    Event,
    Failed,
    Gap,
    Invalid,
    Member,
    Position,
    PresenceChanged,
    Publication,
    encode_message,
)
from yamabiko.core.sdk import messages as sdk
from yamabiko.core.version import VERSION

FILE = Path(__file__).parents[1] / "docs" / "reference" / "asyncapi.yaml"
DOCUMENT: dict[str, Any] = YAML(typ="safe", pure=True).load(FILE.read_text(encoding="utf-8"))

# What AsyncAPI 3.0.0 knows of each kind of object, as far as one may be used here; what it demands has a star.
FIELDS = {
    "root": "asyncapi* id info* servers defaultContentType channels operations components",
    "info": "title* version* description termsOfService contact license tags externalDocs",
    "server": "host* protocol* protocolVersion pathname description title summary variables security tags bindings",
    "channel": "address messages title summary description servers parameters tags externalDocs bindings",
    "parameter": "enum default description examples location",
    "operation": "action* channel* title summary description security tags bindings traits messages reply",
    "reply": "address channel messages",
    "message": "headers payload correlationId contentType name title summary description tags bindings examples traits",
    "example": "headers payload name summary",
    "components": "schemas servers channels operations messages securitySchemes parameters correlationIds replies",
    "correlationId": "description location*",
    "securityScheme": "type* description name in scheme bearerFormat flows openIdConnectUrl scopes",
    "channelBindings": "ws",
    "ws": "method query headers bindingVersion",
}
COMPONENT_NAME = re.compile(r"[A-Za-z0-9._-]+")
ALWAYS_REFUSED = {"send", "ping"}
"""Commands that have no answer but a refusal, and so no operation."""


def resolved(value: Any) -> Any:
    """Follow a `$ref`, a JSON pointer into the document; anything else is returned as it is."""
    if not (isinstance(value, dict) and "$ref" in value):
        return value
    found: Any = DOCUMENT
    pointer = value["$ref"]
    assert pointer.startswith("#/"), pointer
    for part in pointer.removeprefix("#/").split("/"):
        found = found[part.replace("~1", "/").replace("~0", "~")]
    return resolved(found)


def objects() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield everything in the document that is no schema: its kind, where it is, and what it holds."""
    components = DOCUMENT["components"]
    yield "root", "#", DOCUMENT
    yield "info", "#/info", DOCUMENT["info"]
    yield "components", "#/components", components
    for name, server in DOCUMENT["servers"].items():
        yield "server", f"#/servers/{name}", server
    for name, channel in DOCUMENT["channels"].items():
        yield "channel", f"#/channels/{name}", channel
        yield "channelBindings", f"#/channels/{name}/bindings", channel["bindings"]
        yield "ws", f"#/channels/{name}/bindings/ws", channel["bindings"]["ws"]
        for parameter, described in channel.get("parameters", {}).items():
            yield "parameter", f"#/channels/{name}/parameters/{parameter}", described
    for name, operation in DOCUMENT["operations"].items():
        yield "operation", f"#/operations/{name}", operation
        if "reply" in operation:
            yield "reply", f"#/operations/{name}/reply", operation["reply"]
    for name, message in components["messages"].items():
        yield "message", f"#/components/messages/{name}", message
        for example in message["examples"]:
            yield "example", f"#/components/messages/{name}/examples/{example['name']}", example
    for name, correlation in components["correlationIds"].items():
        yield "correlationId", f"#/components/correlationIds/{name}", correlation
    for name, scheme in components["securitySchemes"].items():
        yield "securityScheme", f"#/components/securitySchemes/{name}", scheme


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def payload_schema(message: dict[str, Any]) -> Draft7Validator:
    """Return what checks a payload; `$ref`s in it go into the document."""
    return Draft7Validator({**message["payload"], "components": DOCUMENT["components"]})


def messages_of(channel: str, action: str) -> dict[str, dict[str, Any]]:
    """Return the messages of a channel that the server sends, or receives, by their names in the document."""
    names: set[str] = set()
    for operation in DOCUMENT["operations"].values():
        if operation["channel"]["$ref"] == f"#/channels/{channel}":
            names |= {ref["$ref"] for ref in operation["messages"] if operation["action"] == action}
            if "reply" in operation and operation["action"] != action:
                names |= {ref["$ref"] for ref in operation["reply"]["messages"]}
    return {name.rpartition("/")[2]: resolved({"$ref": name}) for name in sorted(names)}


def examples(channel: str, action: str) -> list[Any]:
    return [
        pytest.param(name, message, example["payload"], id=f"{name}-{example['name']}")
        for name, message in messages_of(channel, action).items()
        for example in message["examples"]
    ]


def test_it_is_for_this_version_of_asyncapi_and_of_yamabiko():
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert DOCUMENT["info"]["version"] == VERSION


@pytest.mark.parametrize(("kind", "where", "held"), [pytest.param(*each, id=each[1]) for each in objects()])
def test_an_object_has_what_asyncapi_demands_and_nothing_that_it_does_not_know(kind, where, held):
    allowed = FIELDS[kind].split()
    assert {name for name in held if not name.startswith("x-")} <= {name.removesuffix("*") for name in allowed}
    assert {name.removesuffix("*") for name in allowed if name.endswith("*")} <= held.keys()


def test_every_reference_leads_somewhere():
    found = set(references(DOCUMENT))
    assert len(found) > 100
    for reference in found:
        resolved({"$ref": reference})


def test_nothing_is_described_that_is_not_used():
    used = set(references(DOCUMENT))
    described = {f"#/components/{kind}/{name}" for kind, held in DOCUMENT["components"].items() for name in held}
    assert described - used == set()
    in_channels = {
        f"#/channels/{name}/messages/{each}"
        for name, channel in DOCUMENT["channels"].items()
        for each in channel["messages"]
    }
    assert in_channels - used == set()


def test_components_have_names_that_asyncapi_allows():
    names = [name for held in DOCUMENT["components"].values() for name in held]
    assert [name for name in names if not COMPONENT_NAME.fullmatch(name)] == []


@pytest.mark.parametrize("operation", DOCUMENT["operations"].values(), ids=DOCUMENT["operations"])
def test_an_operation_takes_its_messages_from_its_channel(operation):
    assert operation["action"] in ("send", "receive")
    channel = operation["channel"]["$ref"]
    replies = operation.get("reply", {"channel": operation["channel"], "messages": []})
    assert replies["channel"]["$ref"] == channel
    messages = [*operation["messages"], *replies["messages"]]
    assert [each["$ref"] for each in messages if not each["$ref"].startswith(f"{channel}/messages/")] == []


@pytest.mark.parametrize("channel", DOCUMENT["channels"].values(), ids=DOCUMENT["channels"])
def test_a_channel_describes_the_parameters_of_its_address(channel):
    assert set(re.findall(r"\{(\w+)\}", channel["address"])) == channel.get("parameters", {}).keys()


def test_every_schema_is_one_by_json_schema():
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft7Validator.check_schema(schema)
    for message in DOCUMENT["components"]["messages"].values():
        Draft7Validator.check_schema(message["payload"])
    for channel in DOCUMENT["channels"].values():
        Draft7Validator.check_schema(channel["bindings"]["ws"]["query"])


@pytest.mark.parametrize("message", DOCUMENT["components"]["messages"].values(), ids=DOCUMENT["components"]["messages"])
def test_the_examples_of_a_message_are_as_its_schema_says(message):
    assert message["examples"]
    for example in message["examples"]:
        payload_schema(message).validate(example["payload"])


@pytest.mark.parametrize("message", DOCUMENT["components"]["messages"].values(), ids=DOCUMENT["components"]["messages"])
def test_a_correlation_id_is_where_the_document_says(message):
    if "correlationId" not in message:
        return
    path = resolved(message["correlationId"])["location"].removeprefix("$message.payload#/").split("/")
    found = []
    for example in message["examples"]:
        value = example["payload"]
        for part in path:
            value = value.get(part) if isinstance(value, dict) else None
        found.append(value)
    assert any(found)


# The room protocol


@pytest.mark.parametrize(("name", "message", "payload"), examples("room", "receive"))
def test_what_a_client_may_send_to_a_room_is_understood(name, message, payload):
    is_text = message.get("contentType") == "text/plain"
    (command,) = PLAIN.decode(payload if is_text else json.dumps(payload))
    assert not isinstance(command, Invalid), command
    assert json.loads(command.data) == (payload if is_text else payload["message"])
    assert command.id == ("" if is_text else payload.get("id", ""))


@pytest.mark.parametrize("frame", ["", '{"text": "hello"}', '{"message": 1, "id": ""}', '{"message": 1, "to": "bob"}'])
def test_what_is_no_message_for_a_room_is_refused_by_document_and_codec_alike(frame):
    received = messages_of("room", "receive")
    assert not payload_schema(received["text"]).is_valid(frame)
    assert not frame or not payload_schema(received["publish"]).is_valid(json.loads(frame))
    (command,) = PLAIN.decode(frame)
    assert isinstance(command, Invalid)


@pytest.mark.parametrize(("name", "message", "payload"), examples("room", "send"))
def test_an_example_of_what_members_are_told_is_what_the_codec_makes_of_it(name, message, payload):
    assert json.loads(PLAIN.encode(EVENTS[name](payload)).text) == payload


def test_whatever_members_are_told_is_as_the_document_says():
    told = messages_of("room", "send")
    assert told.keys() == EVENTS.keys()
    position = Position("kQzT", 1)
    events: dict[str, list[Event]] = {
        "publication": [Publication(b"null", at, user) for at in (None, position) for user in ("", "alice")],
        "acknowledged": [Acknowledged("7f3a", at) for at in (None, position)],
        "refused": [Failed(kind(), id) for kind in Refusal.__subclasses__() if kind.code != 100 for id in ("", "a")],
        "gap": [Gap(position), Gap(Position("", 0))],
        "presence": [
            PresenceChanged(),
            PresenceChanged((Member("6f1c"), Member("9d02", "7", "alice")), (Member("8e03"),)),
        ],
    }
    for name, made in events.items():
        for event in made:
            payload_schema(told[name]).validate(json.loads(PLAIN.encode(event).text))


def position_in(held: dict[str, Any]) -> Position | None:
    return Position(held["epoch"], held["offset"]) if "epoch" in held else None


def publication_in(payload: Any) -> Publication:
    held = payload["payload"]
    return Publication(encode_message(held["message"]), position_in(held), held.get("user", ""))


def failed_in(payload: Any) -> Failed:
    refusal = Refusal()
    refusal.code, refusal.message = payload["error"]["code"], payload["error"]["message"]
    return Failed(refusal, payload["error"].get("id", ""))


def presence_in(payload: Any) -> PresenceChanged:
    joined, left = ([*payload["presence"].get(which, [])] for which in ("joined", "left"))
    return PresenceChanged(
        tuple(Member(each["client"], name=each.get("user", "")) for each in joined),
        tuple(Member(each["client"]) for each in left),
    )


EVENTS: dict[str, Callable[[Any], Event]] = {
    "publication": publication_in,
    "acknowledged": lambda payload: Acknowledged(payload["ack"]["id"], position_in(payload["ack"])),
    "refused": failed_in,
    "gap": lambda payload: Gap(Position(payload["gap"]["epoch"], payload["gap"]["offset"])),
    "presence": presence_in,
}
"""What becomes of which message of a room."""


# The SDK protocol


@pytest.mark.parametrize(("name", "message", "payload"), examples("connection", "receive"))
def test_a_command_is_understood_in_both_encodings_alike(name, message, payload):
    (command,) = SDK_JSON.decode(json.dumps(payload))
    assert isinstance(command, sdk.Command), command
    assert command.id == payload.get("id", 0)
    [asked] = payload.keys() - {"id"} or [None]
    assert command.request is (getattr(command, asked) if asked else None)
    (same,) = SDK_PROTOBUF.decode(in_protobuf(payload))
    assert isinstance(same, sdk.Command), same
    assert sorted(map(str, leaves(same))) == sorted(map(str, leaves(command)))


@pytest.mark.parametrize(("name", "message", "payload"), examples("connection", "send"))
def test_an_example_of_what_a_client_is_told_is_what_the_codec_makes_of_it(name, message, payload):
    reply = msgspec.json.decode(json.dumps(payload), type=sdk.Reply)
    assert json.loads(SDK_JSON.encode(reply).text) == payload
    frame = SDK_PROTOBUF.encode(reply).payload
    length_bytes = next(place for place, byte in enumerate(frame, 1) if byte < 0x80)
    assert as_json(protobuf_schema().reply.FromString(frame[length_bytes:])) == payload


def test_every_command_push_and_answer_of_the_codec_is_in_the_document():
    received, sent = messages_of("connection", "receive"), messages_of("connection", "send")
    commands = {key for message in received.values() for key in message["payload"].get("required", ()) if key != "id"}
    assert commands == set(sdk.Command.__struct_fields__) - {"id"} - ALWAYS_REFUSED
    answers = {key for message in sent.values() for key in message["payload"].get("required", ()) if key != "id"}
    assert answers == set(sdk.Reply.__struct_fields__) - {"id"}
    pushes = {
        key
        for message in sent.values()
        for key in message["payload"].get("properties", {}).get("push", {}).get("required", ())
    }
    assert pushes == set(sdk.Push.__struct_fields__)


def test_schemas_have_the_fields_of_the_structs_of_the_same_name():
    structs = {
        name: kind
        for name, kind in vars(sdk).items()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and name in DOCUMENT["components"]["schemas"]
    }
    assert len(structs) > 25
    for name, kind in structs.items():
        described = DOCUMENT["components"]["schemas"][name].get("properties", {})
        assert set(described) == set(kind.__struct_fields__), name


def in_protobuf(payload: Any) -> bytes:
    """Encode a command as a client of the Protobuf encoding does, without our codec."""
    message = protobuf_schema().command()
    fill(message, payload)
    encoded = message.SerializeToString()
    assert len(encoded) < 128
    return bytes([len(encoded)]) + encoded


def fill(message: Any, held: dict[str, Any]) -> None:
    for name, value in held.items():
        field = message.DESCRIPTOR.fields_by_name[name]
        if field.type == field.TYPE_BYTES:
            setattr(message, name, json.dumps(value).encode())
        elif field.message_type is None:
            setattr(message, name, value)
        elif field.message_type.GetOptions().map_entry:
            for key, inner in value.items():
                fill(getattr(message, name)[key], inner)
        else:
            getattr(message, name).SetInParent()
            fill(getattr(message, name), value)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what a Struct holds, payloads as the values that they are."""
    if isinstance(value, msgspec.Raw):
        yield path, json.loads(bytes(value)) if value else None
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from leaves(getattr(value, name), f"{path}/{name}")
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}/{key}")
    else:
        yield path, value


def as_json(message: Any) -> Any:
    """Return what a Protobuf message holds, payloads as the values that they are, without our codec."""
    held = {}
    for field, value in message.ListFields():
        if field.type == field.TYPE_BYTES:
            held[field.name] = json.loads(value)
        elif field.message_type is None:
            held[field.name] = value
        elif field.message_type.GetOptions().map_entry:
            is_message = field.message_type.fields_by_name["value"].message_type is not None
            held[field.name] = {key: as_json(value[key]) if is_message else value[key] for key in value}
        elif isinstance(value, Message):
            held[field.name] = as_json(value)
        else:
            held[field.name] = [as_json(inner) for inner in value]
    return held
