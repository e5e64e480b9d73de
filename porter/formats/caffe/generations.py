"""Layers of one binary generation as those of the other, field by field, what is inside untouched.

V1 and V2 layers have the same parameter messages under other numbers; V1 has its sharing and multipliers in lists of
their own where V2 has `param`. V0 layers go through the tree of the text (`porter.formats.caffe.upgrade`).

Source: BVLC/caffe `src/caffe/util/upgrade_proto.cpp` at 9b891540183d, UpgradeV1LayerParameter; numbers: caffe.proto.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from porter.formats.caffe.binary import LayerRecord
from porter.formats.caffe.fields import Field, fields, message_field, number_field
from porter.formats.caffe.layer_types import upgrade_type
from porter.io.protobuf_messages import message_classes
from porter.io.protobuf_wire import DELIMITED, FIXED32, VARINT, encode_tag

_PLAIN = {2: 3, 3: 4, 4: 1, 32: 8, 33: 9, 35: 5}
"""bottom, top, name, include, exclude, loss_weight: their numbers in V1 and in V2."""

_V1_TYPE, _V1_RATES, _V1_DECAYS, _V1_NAMES, _V1_MODES = 5, 7, 8, 1001, 1002
_V2_TYPE, _V2_PARAM = 2, 6
_SPEC_NAME, _SPEC_MODE, _SPEC_RATE, _SPEC_DECAY = 1, 2, 3, 4


def v1_as_v2(record: LayerRecord) -> tuple[bytes, list[int]]:
    """A V1 layer without blobs as a V2 layer, and the numbers of fields that V2 has no place for."""
    data, table = record.data, _numbers()
    out: list[tuple[int, bytes]] = []
    lost: list[int] = []
    if record.type:
        out.append((_V2_TYPE, message_field(_V2_TYPE, record.type.encode())))
    for field in fields(data):
        if field.number in table:
            out.append((table[field.number], _renumbered(data, field, table[field.number])))
        elif field.number not in (_V1_TYPE, _V1_RATES, _V1_DECAYS, _V1_NAMES, _V1_MODES):
            lost.append(field.number)
    out += [(_V2_PARAM, message_field(_V2_PARAM, spec)) for spec in _specs(data)]
    return b"".join(part for _, part in sorted(out, key=lambda e: e[0])), lost


def v2_as_v1(record: LayerRecord) -> tuple[bytes, list[int]] | None:
    """A V2 layer without blobs as a V1 layer, and the numbers of fields that V1 has no place for; None where V1 lacks its type."""
    data, table = record.data, {new: old for old, new in _numbers().items()}
    number = _v1_types().get(record.type or "")
    if number is None and record.type:
        return None
    out = [(_V1_TYPE, number_field(_V1_TYPE, number))] if number is not None else []
    lost: list[int] = []
    specs: list[bytes] = []
    for field in fields(data):
        if field.number in table:
            out.append((table[field.number], _renumbered(data, field, table[field.number])))
        elif field.number == _V2_PARAM and field.wire == DELIMITED:
            specs.append(data[field.body : field.end])
        elif field.number != _V2_TYPE:
            lost.append(field.number)
    out += _lists(specs)
    return b"".join(part for _, part in sorted(out, key=lambda e: e[0])), lost


@cache
def _numbers() -> Mapping[int, int]:
    """V1 field numbers to those of V2: the plain fields, and every parameter message that both have."""
    classes = message_classes("caffe.binpb")
    old = classes["caffe.V1LayerParameter"].DESCRIPTOR.fields_by_name
    new = classes["caffe.LayerParameter"].DESCRIPTOR.fields_by_name
    shared = {old[name].number: new[name].number for name in old if name.endswith("_param") and name in new}
    return MappingProxyType({**_PLAIN, **shared})


@cache
def _v1_types() -> Mapping[str, int]:
    """V1's type numbers by V2's names."""
    table: dict[str, int] = {}
    for number in range(64):
        name = upgrade_type(number)
        if name:
            table.setdefault(name, number)
    return MappingProxyType(table)


def _renumbered(data: bytes, field: Field, number: int) -> bytes:
    if field.wire == DELIMITED:
        return message_field(number, data[field.body : field.end])
    return encode_tag(number, field.wire) + data[field.body : field.end]


def _specs(data: bytes) -> list[bytes]:
    """The `param` messages that a V1 layer's lists of names, modes, rates and decays make."""
    columns: dict[int, list[bytes]] = {_SPEC_NAME: [], _SPEC_MODE: [], _SPEC_RATE: [], _SPEC_DECAY: []}
    for field in fields(data):
        body = data[field.body : field.end]
        if field.number == _V1_NAMES and field.wire == DELIMITED:
            columns[_SPEC_NAME].append(message_field(_SPEC_NAME, body))
        elif field.number == _V1_MODES and field.wire == VARINT:
            columns[_SPEC_MODE].append(encode_tag(_SPEC_MODE, VARINT) + body)
        elif field.number in (_V1_RATES, _V1_DECAYS):
            number = _SPEC_RATE if field.number == _V1_RATES else _SPEC_DECAY
            columns[number] += [encode_tag(number, FIXED32) + body[i : i + 4] for i in range(0, len(body), 4)]
    count = max(map(len, columns.values()))
    return [b"".join(column[i] for column in columns.values() if i < len(column)) for i in range(count)]


def _lists(specs: list[bytes]) -> list[tuple[int, bytes]]:
    """V1's lists for `param` messages. A list is as long as its last entry needs; the ones before are V2's defaults."""
    number_of = {_SPEC_NAME: _V1_NAMES, _SPEC_MODE: _V1_MODES, _SPEC_RATE: _V1_RATES, _SPEC_DECAY: _V1_DECAYS}
    one = b"\0\0\x80\x3f"
    default = {_SPEC_NAME: b"", _SPEC_MODE: b"\0", _SPEC_RATE: one, _SPEC_DECAY: one}
    out: list[tuple[int, bytes]] = []
    for part, number in number_of.items():
        column = [next((s[f.body : f.end] for f in fields(s) if f.number == part), None) for s in specs]
        while column and column[-1] is None:
            column.pop()
        wire = {_SPEC_NAME: DELIMITED, _SPEC_MODE: VARINT}.get(part, FIXED32)
        values = (default[part] if v is None else v for v in column)
        out += [(number, message_field(number, value) if wire == DELIMITED else encode_tag(number, wire) + value) for value in values]
    return out
