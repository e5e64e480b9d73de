"""A net from text as the bytes of a NetParameter, so that a written .caffemodel says what its layers are.

Source: protobuf.dev, "Encoding"; the schema is `schemas/caffe.proto`.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from porter.formats.caffe.layers import decoded
from porter.formats.caffe.message_tree import Field, Message, NumberRun, Scalar, number_value, scalar_bytes
from porter.formats.caffe.net import CaffeNet
from porter.io.protobuf_messages import message_classes

_INTEGERS = {
    # Source: google/protobuf/descriptor.proto, FieldDescriptorProto.Type: the integer types and their ranges.
    3: (-(1 << 63), (1 << 63) - 1),
    4: (0, (1 << 64) - 1),
    5: (-(1 << 31), (1 << 31) - 1),
    13: (0, (1 << 32) - 1),
}
_DOUBLE, _FLOAT, _BOOL, _STRING, _MESSAGE, _BYTES, _ENUM = 1, 2, 8, 9, 11, 12, 14
_FLAGS = {"true": True, "t": True, "True": True, "1": True, "false": False, "f": False, "False": False, "0": False}
_WORDS = {"inf": float("inf"), "infinity": float("inf"), "nan": float("nan")}


def serialise(net: CaffeNet, notices: list[str] | None = None) -> bytes:
    """`net` as a V2 NetParameter without blobs, in deterministic order.

    Fields that porter's schema lacks, and values that do not fit it, are left out; what was is appended to `notices`.
    """
    writer = _Writer()
    message = message_classes("caffe.binpb")["caffe.NetParameter"]()
    writer.fill(message, net.message, "")
    if notices is not None:
        notices += writer.report()
    data: bytes = message.SerializeToString(deterministic=True)
    return data


class _Writer:
    def __init__(self) -> None:
        self.unknown: Counter[str] = Counter()
        self.problems: list[str] = []

    def report(self) -> list[str]:
        """One line for all unknown fields of a name, and one for each value that did not fit."""
        counts = [f"{name} ({n} times)" if n > 1 else name for name, n in self.unknown.items()]
        missing = [f"fields that porter's schema of Caffe lacks: {', '.join(counts)}"] if counts else []
        return missing + self.problems

    def fill(self, target: Any, tree: Message, path: str) -> None:
        """Set the fields of the message `target` to those of `tree`; `path` names it in reports."""
        known = target.DESCRIPTOR.fields_by_name
        for entry in tree.entries:
            if entry.name == "blobs":
                continue
            name = f"{path}.{entry.name}" if path else entry.name
            descriptor = known.get(entry.name)
            if descriptor is None:
                self.unknown[name] += 1
                continue
            for field in entry.fields() if isinstance(entry, NumberRun) else (entry,):
                self.set(target, descriptor, field, name)

    def set(self, target: Any, descriptor: Any, field: Field, name: str) -> None:
        # `label` is deprecated in protobuf 6 and `is_repeated` new there.
        repeated = descriptor.is_repeated if hasattr(descriptor, "is_repeated") else descriptor.label == descriptor.LABEL_REPEATED
        if descriptor.type == _MESSAGE:
            if isinstance(field.value, Message):
                holder = getattr(target, descriptor.name)
                if not repeated:
                    holder.SetInParent()
                self.fill(holder.add() if repeated else holder, field.value, descriptor.name)
            else:
                self.problem(field, f"'{name}' is a message, not {field.value.text!r}")
            return
        if isinstance(field.value, Message):
            self.problem(field, f"'{name}' is a value, not a message")
            return
        value = self.value(descriptor, field.value, field, name)
        if value is None:
            return
        if repeated:
            getattr(target, descriptor.name).append(value)
            return
        if target.HasField(descriptor.name):
            self.problem(field, f"'{name}' is there twice; the last one is taken")
        setattr(target, descriptor.name, value)

    def value(self, descriptor: Any, scalar: Scalar, field: Field, name: str) -> Any:
        """The value that goes into a field of this type, or None, reported, where the text has none for it."""
        text = scalar.text
        if descriptor.type in (_STRING, _BYTES):
            if scalar.kind == "number":
                return self.problem(field, f"'{name}' is a string, not {text}")
            data = scalar_bytes(text)
            return data if descriptor.type == _BYTES else decoded(data)
        if scalar.kind == "string":
            return self.problem(field, f"'{name}' is no string; {text!r} is left out")
        if descriptor.type == _ENUM:
            return self._enum(descriptor, scalar, field, name)
        if descriptor.type == _BOOL:
            flag = _FLAGS.get(text)
            return self.problem(field, f"'{name}' is true or false, not {text}") if flag is None else flag
        if descriptor.type in (_DOUBLE, _FLOAT):
            return self._float(scalar, field, name)
        low, high = _INTEGERS.get(descriptor.type, (0, 0))
        number = number_value(text) if scalar.kind == "number" else None
        if not isinstance(number, int) or not low <= number <= high:
            return self.problem(field, f"'{name}' is an integer from {low} to {high}, not {text}")
        return number

    def _float(self, scalar: Scalar, field: Field, name: str) -> float | None:
        text = scalar.text
        if scalar.kind == "number":
            number = number_value(text)
            # An integer beyond all floats is infinite, as it is for protobuf.
            return float(number) if isinstance(number, float) or abs(number) < 1 << 1000 else float("inf" if number > 0 else "-inf")
        word = text.lower().lstrip("-").removesuffix("f") if text.lower().lstrip("-") not in _WORDS else text.lower().lstrip("-")
        if word not in _WORDS:
            self.problem(field, f"'{name}' is a number, not {text}")
            return None
        return -_WORDS[word] if text[0] == "-" else _WORDS[word]

    def _enum(self, descriptor: Any, scalar: Scalar, field: Field, name: str) -> int | None:
        values = descriptor.enum_type.values_by_name
        if scalar.kind == "identifier" and scalar.text in values:
            number: int = values[scalar.text].number
            return number
        value = number_value(scalar.text) if scalar.kind == "number" else None
        if isinstance(value, int) and value in descriptor.enum_type.values_by_number:
            return value
        self.problem(field, f"'{name}' has no value {scalar.text} in porter's schema of Caffe; left out")
        return None

    def problem(self, field: Field, what: str) -> None:
        self.problems.append(f"line {field.line}: {what}" if field.line else what)
