"""Messages of Protocol Buffers, of which only the fields that are needed are declared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import MissingExtraError

Messages = Mapping[str, Mapping[str, tuple[int, str]]]
"""By message the number and type of each field; `*` marks a repeated one."""


def message_class(name: str, messages: Messages) -> Any:
    """The class of one of some messages. It keeps the fields that are not declared as they are.

    Raises:
        MissingExtraError: the package `protobuf` is not installed.
    """
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ImportError:
        raise MissingExtraError("protobuf", "cpu") from None
    file = descriptor_pb2.FileDescriptorProto(name="messages.proto", package="mutoscope")
    for message, fields in messages.items():
        _declare(file.message_type.add(name=message), fields, messages)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"mutoscope.{name}"))


def _declare(message: Any, fields: Mapping[str, tuple[int, str]], messages: Messages) -> None:
    for name, (number, kind) in fields.items():
        field = message.field.add(name=name, number=number)
        plain = kind.removesuffix("*")
        field.label = field.LABEL_REPEATED if plain != kind else field.LABEL_OPTIONAL
        if plain in messages:
            field.type, field.type_name = field.TYPE_MESSAGE, f".mutoscope.{plain}"
        else:
            field.type = getattr(field, f"TYPE_{plain.upper()}")
