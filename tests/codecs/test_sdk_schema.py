"""sdk.proto is a file as protoc reads it, and names what the core names."""

from __future__ import annotations

import pytest
from msgspec import Struct

from tests.codecs.sdk_peers import protoc_described
from yamabiko.codecs.sdk_schema import described, proto_source
from yamabiko.core.sdk import messages as sdk_messages

HEAD = 'syntax = "proto3";\n'
NOT_ON_THE_WIRE = {"Extras"}
NOT_READ = {"FilterNode"}


def without_json_names(file):
    """Return a file description without what protoc writes down and every pool works out by itself."""
    for message in file.message_type:
        for field in message.field:
            field.ClearField("json_name")
        for entry in message.nested_type:
            for field in entry.field:
                field.ClearField("json_name")
    return file


def test_the_schema_describes_what_protoc_says_it_does():
    (file,) = protoc_described().file
    assert described(proto_source()) == without_json_names(file)


def test_messages_and_their_fields_are_named_as_in_the_core():
    structs = {
        name: list(kind.__struct_fields__)
        for name, kind in vars(sdk_messages).items()
        if isinstance(kind, type) and issubclass(kind, Struct) and kind is not Struct
    }
    schema = {
        message.name: [field.name for field in message.field] for message in described(proto_source()).message_type
    }
    for name in NOT_ON_THE_WIRE:
        del structs[name]
    for name in NOT_READ:
        del schema[name]
    assert {name: sorted(fields) for name, fields in schema.items()} == {
        name: sorted(fields) for name, fields in structs.items()
    }


def test_fields_are_in_the_order_of_their_numbers():
    for message in described(proto_source()).message_type:
        numbers = [field.number for field in message.field]
        assert numbers == sorted(set(numbers)), message.name


@pytest.mark.parametrize(
    "source",
    [
        "",
        'syntax = "proto2";',
        HEAD + "package a;",
        HEAD + 'import "a.proto";',
        HEAD + "enum A {\n  B = 0;\n}",
        HEAD + "message A {\n  string a = 1\n}",
        HEAD + "message A {\n  string a = 1; string b = 2;\n}",
        HEAD + "message A {\n  string a = x;\n}",
        HEAD + "message A {\n  optional string a = 1;\n}",
        HEAD + "message A {\n  map<int32, string> a = 1;\n}",
        HEAD + "message A {\n  repeated map<string, string> a = 1;\n}",
        HEAD + "message A {\n  text a = 1;\n}",
        HEAD + "message A {\n  oneof a {\n  }\n}",
        HEAD + "message A {\n  string a = 1 [deprecated = true];\n}",
        HEAD + "message A {\n  reserved 2;\n}",
    ],
)
def test_a_schema_with_anything_else_is_not_read(source):
    with pytest.raises(ValueError, match=r"not|no field|TYPE_TEXT"):
        described(source)
