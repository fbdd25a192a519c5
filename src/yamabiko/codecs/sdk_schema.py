"""The Protobuf messages of the SDK protocol, as sdk.proto describes them: no generated code.

The Protobuf runtime is imported when it is first needed, as few sites have peers that want it.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

_COMMENT = re.compile(r"//.*")
_MESSAGE = re.compile(r"^message (\w+) \{([^{}]*)\}", re.MULTILINE)
_FIELD = re.compile(r"(?:map<string, (\w+)>|(repeated )?(\w+)) (\w+) = (\d+);")


class Schema(NamedTuple):
    command: Any
    reply: Any
    emulation_request: Any
    error: type[Exception]


@cache
def schema() -> Schema:
    """Return what sdk.proto describes, in a pool of its own: what else uses Protobuf here may know the same names."""
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message import DecodeError
    from google.protobuf.message_factory import GetMessageClass

    pool = DescriptorPool()
    pool.AddSerializedFile(described(proto_source()).SerializeToString())
    names = ("Command", "Reply", "EmulationRequest")
    command, reply, emulation_request = (GetMessageClass(pool.FindMessageTypeByName(name)) for name in names)
    return Schema(command, reply, emulation_request, DecodeError)


def proto_source() -> str:
    return files("yamabiko.codecs").joinpath("sdk.proto").read_text(encoding="utf-8")


def described(source: str) -> FileDescriptorProto:
    """Describe the messages of a .proto file: those, their fields, `repeated` and `map<string, ...>`, one field a line.

    Raises ValueError for everything else that such files can hold.
    """
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    file = FileDescriptorProto(name="sdk.proto", syntax="proto3")
    source = _COMMENT.sub("", source)
    for name, body in _MESSAGE.findall(source):
        message = file.message_type.add(name=name)
        for line in filter(None, map(str.strip, body.splitlines())):
            _add_field(message, line)
    rest = _MESSAGE.sub("", source).split()
    if rest != ["syntax", "=", '"proto3";']:
        raise ValueError(f"beside messages, a schema has a syntax of proto3 alone, not {' '.join(rest)!r:.80}")
    return file


def _add_field(message: DescriptorProto, line: str) -> None:
    match = _FIELD.fullmatch(line)
    if match is None:
        raise ValueError(f"{message.name} has a line that is no field, {line!r}")
    value_type, repeated, type_name, name, number = match.groups()
    field = message.field.add(name=name, number=int(number))
    field.label = field.LABEL_REPEATED if repeated or value_type else field.LABEL_OPTIONAL
    _set_type(field, type_name or f"{message.name}.{_add_entry(message, name, value_type)}")


def _add_entry(message: DescriptorProto, field_name: str, value_type: str) -> str:
    """Add the message that a map is made of, and return its name."""
    entry_name = field_name.title().replace("_", "") + "Entry"
    entry = message.nested_type.add(name=entry_name)
    entry.options.map_entry = True
    for number, (name, type_name) in enumerate([("key", "string"), ("value", value_type)], 1):
        field = entry.field.add(name=name, number=number)
        field.label = field.LABEL_OPTIONAL
        _set_type(field, type_name)
    return entry_name


def _set_type(field: FieldDescriptorProto, type_name: str) -> None:
    """Set the type of a field: those of proto3 itself are in lower case, messages are not."""
    if type_name.islower():
        field.type = field.Type.Value(f"TYPE_{type_name.upper()}")
    else:
        field.type, field.type_name = field.TYPE_MESSAGE, f".{type_name}"
