"""Nets between their text tree and their binary form, through the schema: what a prototxt says as a NetParameter.

The text has fields by name and so can say what the schema lacks, a fork's parameters; those are reported, and have no
place in a binary file.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from porter.errors import FormatError
from porter.formats.caffe.message_tree import Field, Message, Scalar, number_value
from porter.formats.caffe.net import CaffeNet, net_from_tree
from porter.formats.caffe.prototxt import parse as parse_text
from porter.io.protobuf_messages import message_classes, parse

_WEIGHTS = "blobs"


def encode_net(net: CaffeNet) -> tuple[bytes, list[str]]:
    """A net as a serialised NetParameter without weights, and what of it the schema has no place for.

    Raises:
        FormatError: a number does not fit its field; with its line.
    """
    message = message_classes("caffe.binpb")["caffe.NetParameter"]()
    strays: Counter[str] = Counter()
    _fill(message, net.message, "", strays, net.path)
    notes = [name if n == 1 else f"{name} ({n} times)" for name, n in strays.items()]
    return bytes(message.SerializeToString(deterministic=True)), notes


def upgraded_net(data: bytes) -> tuple[bytes, list[str]]:
    """A serialised net of any generation as one of V2, and what that did not keep.

    Raises:
        FormatError: `data` does not parse.
    """
    from google.protobuf import text_format

    message = parse(message_classes("caffe.binpb")["caffe.NetParameter"], data, "the net")
    notices: list[str] = []
    text = text_format.MessageToString(message, as_utf8=True)
    net = net_from_tree(parse_text(text, notices=notices), notices=notices)
    encoded, strays = encode_net(net)
    return encoded, [*strays, *(notice.split(": ", 1)[-1] for notice in net.notices)]


def _fill(message: Any, tree: Message, where: str, strays: Counter[str], path: str | None) -> None:
    known = message.DESCRIPTOR.fields_by_name
    for entry in tree:
        place = f"{where}.{entry.name}" if where else entry.name
        field = known.get(entry.name)
        if entry.name == _WEIGHTS:
            continue
        if field is None or (field.message_type is None) == isinstance(entry.value, Message):
            strays[place] += 1
        elif isinstance(entry.value, Message):
            inner = getattr(message, entry.name)
            _fill(inner.add() if _repeated(field) else _present(inner), entry.value, place, strays, path)
        elif (value := _value(field, entry, path)) is None:
            strays[f"{place}: {entry.value.text}"] += 1
        elif _repeated(field):
            getattr(message, entry.name).append(value)
        else:
            setattr(message, entry.name, value)


def _repeated(field: Any) -> bool:
    # protobuf before 6.31 has only the label, later ones warn about it.
    return bool(field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED)


def _present(message: Any) -> Any:
    message.SetInParent()
    return message


def _value(field: Any, entry: Field, path: str | None) -> Any:
    """The scalar of `entry` as `field` wants it, None where it names an enum value that the schema lacks.

    Raises:
        FormatError: it is none.
    """
    assert isinstance(entry.value, Scalar)
    text = entry.value.text
    try:
        if field.enum_type is not None:
            return _enum(field, text)
        if field.type == field.TYPE_STRING:
            return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        if field.type == field.TYPE_BYTES:
            return text.encode("utf-8", "surrogateescape")
        if field.type == field.TYPE_BOOL:
            return {"true": True, "t": True, "True": True, "1": True, "false": False, "f": False, "False": False, "0": False}[text]
        if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
            return float(number_value(text)) if entry.value.kind == "number" else float(text.removesuffix("f"))
        return _integer(field, text)
    except (KeyError, ValueError, OverflowError) as error:
        kind = "true or false" if field.type == field.TYPE_BOOL else "a number that fits"
        raise FormatError(
            "F102", f"'{entry.name}' wants {kind}, not '{text[:40]}'", path=path, line=entry.line, column=entry.column
        ) from error


def _enum(field: Any, text: str) -> int | None:
    values = field.enum_type.values_by_name
    if text in values:
        return int(values[text].number)
    number = int(text) if text.lstrip("-").isdigit() else None
    return number if number in field.enum_type.values_by_number else None


def _integer(field: Any, text: str) -> int:
    value = number_value(text)
    low, high = {
        field.TYPE_INT32: (-(1 << 31), 1 << 31),
        field.TYPE_INT64: (-(1 << 63), 1 << 63),
        field.TYPE_UINT32: (0, 1 << 32),
        field.TYPE_UINT64: (0, 1 << 64),
    }[field.type]
    if not isinstance(value, int) or not low <= value < high:
        raise ValueError(text)
    return value
