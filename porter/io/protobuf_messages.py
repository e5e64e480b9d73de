"""Protobuf message classes from a packaged descriptor set, in a pool of their own.

No generated `_pb2` module is shipped: those register in the process-wide pool, where a second copy of `caffe.proto` or
`onnx.proto` is an error, and each is tied to a range of protobuf releases. Descriptor sets in `porter/io/descriptors/`
are compiled from `schemas/*.proto` by `schemas/compile.py`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.message import Message

_FOLDER = os.path.join(os.path.dirname(__file__), "descriptors")


@cache
def message_classes(descriptor_set: str) -> Mapping[str, type[Message]]:
    """Top-level message classes of `descriptor_set` ("caffe.binpb"), by full name ("caffe.NetParameter").

    Reads the packaged file on the first call. protobuf is imported now and not before; the classes live in a private
    `DescriptorPool`, so they clash with no other copy of the same schema.
    """
    with open(os.path.join(_FOLDER, descriptor_set), "rb") as file:
        return classes_of(file.read())


def classes_of(serialized: bytes) -> Mapping[str, type[Message]]:
    """Top-level message classes of a serialised `FileDescriptorSet`, by full name, in a new private pool."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    pool: Any = descriptor_pool.DescriptorPool()
    table: dict[str, type[Message]] = {}
    for file in descriptor_pb2.FileDescriptorSet.FromString(serialized).file:
        pool.AddSerializedFile(file.SerializeToString())
        for message in file.message_type:
            name = f"{file.package}.{message.name}" if file.package else message.name
            table[name] = message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
    return MappingProxyType(table)


def parse(message_class: type[Message], data: bytes, what: str, path: str | None = None) -> Any:
    """`data` as a `message_class`; the result is typed Any because its fields come from the descriptor set.

    Raises:
        FormatError: `data` is no such message; `what` ("the net") and `path` say of what.
    """
    from google.protobuf.message import DecodeError

    from porter.errors import FormatError

    try:
        return message_class.FromString(data)
    except (DecodeError, UnicodeDecodeError) as error:
        raise FormatError("F012", f"broken protobuf: {what} does not parse: {error}", path=path) from error
