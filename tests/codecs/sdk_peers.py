"""Peers of the SDK protocol that know nothing of ours: the json module, and messages that protoc made of the schema.

Both speak in the objects of the JSON encoding. `codec` is the one that a peer's server needs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.internal.encoder import _VarintBytes as varint
from google.protobuf.message_factory import GetMessageClass
from grpc_tools import protoc

from yamabiko.codecs.sdk_json import SDK_JSON
from yamabiko.codecs.sdk_protobuf import SDK_PROTOBUF
from yamabiko.codecs.sdk_schema import proto_source
from yamabiko.core.frames import Frame


class JsonPeer:
    codec = SDK_JSON

    def sends(self, *commands: dict[str, Any]) -> str:
        return "\n".join(json.dumps(command, ensure_ascii=False) for command in commands)

    def sends_payload(self, payload: str) -> str:
        return '{"id":3,"publish":{"channel":"room:1","data":' + payload + "}}"

    def reads(self, frame: Frame) -> list[Any]:
        assert frame.is_text
        return [json.loads(line) for line in frame.payload.decode().split("\n")]


class ProtobufPeer:
    codec = SDK_PROTOBUF

    def sends(self, *commands: dict[str, Any]) -> bytes:
        return b"".join(map(framed, commands))

    def sends_payload(self, payload: str) -> bytes:
        command = compiled("Command")(id=3)
        command.publish.channel = "room:1"
        command.publish.data = payload.encode("utf-8", "surrogatepass")
        return prefixed(command.SerializeToString())

    def reads(self, frame: Frame) -> list[Any]:
        assert not frame.is_text
        rest, replies = frame.payload, []
        while rest:
            length, rest = split_varint(rest)
            assert len(rest) >= length
            replies.append(object_of(compiled("Reply").FromString(rest[:length])))
            rest = rest[length:]
        return replies


def framed(command: dict[str, Any]) -> bytes:
    message = compiled("Command")()
    fill(message, command)
    return prefixed(message.SerializeToString())


def prefixed(message: bytes) -> bytes:
    return varint(len(message)) + message


def split_varint(payload: bytes) -> tuple[int, bytes]:
    size = next(size for size, byte in enumerate(payload, 1) if byte < 0x80)
    return sum((byte & 0x7F) << 7 * place for place, byte in enumerate(payload[:size])), payload[size:]


@cache
def _protoc_described() -> bytes:
    with TemporaryDirectory() as folder:
        Path(folder, "sdk.proto").write_text(proto_source(), encoding="utf-8")
        described = Path(folder, "described")
        assert protoc.main(["", f"-I{folder}", f"--descriptor_set_out={described}", "sdk.proto"]) == 0
        return described.read_bytes()


def protoc_described() -> FileDescriptorSet:
    return FileDescriptorSet.FromString(_protoc_described())


@cache
def pool() -> DescriptorPool:
    pool = DescriptorPool()
    for file in protoc_described().file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


def compiled(name: str) -> type[Any]:
    return GetMessageClass(pool().FindMessageTypeByName(name))


def fill(message: Any, given: dict[str, Any]) -> None:
    for name, value in given.items():
        field = message.DESCRIPTOR.fields_by_name[name]
        inner = getattr(message, name)
        if field.type == field.TYPE_BYTES:
            setattr(message, name, json.dumps(value, ensure_ascii=False).encode())
        elif field.message_type is None:
            setattr(message, name, value)
        elif not field.is_repeated:
            inner.SetInParent()
            fill(inner, value)
        else:
            for key, item in value.items():
                if isinstance(item, str):
                    inner[key] = item
                else:
                    fill(inner[key], item)


def object_of(message: Any) -> dict[str, Any]:
    return {field.name: value_of(field, value) for field, value in message.ListFields()}


def value_of(field: Any, value: Any) -> Any:
    if field.type == field.TYPE_BYTES:
        return json.loads(value)
    if field.message_type is None:
        return value
    if isinstance(value, Mapping):
        return {key: item if isinstance(item, str) else object_of(item) for key, item in value.items()}
    return list(map(object_of, value)) if field.is_repeated else object_of(value)
