"""Which Scale layer of a Caffe net does nothing but apply to what a BatchNorm gives.

A blob's name can stand for several values one after the other, as layers may write over their input; each writing of it
counts as a version of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from porter.formats.caffe.binary import V2_LAYERS, LayerRecord, parameter_of
from porter.formats.caffe.fields import Values

Value = tuple[bytes, int]
"""A blob's name and the version of it."""


def batch_norm_of_scale(records: Sequence[LayerRecord]) -> dict[int, int]:
    """The position of every Scale whose only input is what a BatchNorm gives to it alone, and that BatchNorm's position.

    Such a Scale works along the channels, as the BatchNorm does. Looked for in the net as it runs in TEST, then, for layers
    that do not run there, in TRAIN.
    """
    found: dict[int, int] = {}
    for phase in ("TEST", "TRAIN"):
        running = [r for r in records if runs_in(r, phase)]
        for scale, norm in _pairs(running).items():
            if scale not in found and norm not in found.values():
                found[scale] = norm
    return found


def _pairs(records: Iterable[LayerRecord]) -> dict[int, int]:
    versions: dict[bytes, int] = {}
    made_by: dict[Value, LayerRecord] = {}
    readers: dict[Value, list[LayerRecord]] = {}
    for record in records:
        bottoms, tops = _blobs(record)
        for name in bottoms:
            readers.setdefault((name, versions.get(name, 0)), []).append(record)
        for name in tops:
            versions[name] = versions.get(name, 0) + 1
            made_by[name, versions[name]] = record
    found = {}
    for value, norm in made_by.items():
        scales = readers.get(value, [])
        if norm.type == "BatchNorm" and len(scales) == 1 and _along_channels(scales[0]):
            found[scales[0].position] = norm.position
    return found


def _along_channels(record: LayerRecord) -> bool:
    """Whether this is a Scale with a factor for each channel, which are its own blobs.

    Source: BVLC/caffe caffe.proto, ScaleParameter: `axis` and `num_axes` are 1 by default.
    """
    if record.type != "Scale" or record.bottoms != 1:
        return False
    parameter = parameter_of(record)
    return all(parameter(f"scale_param.{name}") in (None, 1) for name in ("axis", "num_axes"))


def _blobs(record: LayerRecord) -> tuple[list[bytes], list[bytes]]:
    """Names of the layer's inputs and outputs."""
    first = 3 if record.field == V2_LAYERS else 2
    return record.values.messages(first), record.values.messages(first + 1)


def runs_in(record: LayerRecord, phase: str) -> bool:
    """Whether the layer is part of the net in this phase, at level 0 without stages. Source: BVLC/caffe net.cpp, FilterNet."""
    include, exclude = (8, 9) if record.field == V2_LAYERS else (32, 33)
    if rules := record.values.messages(include):
        return any(_met(Values(rule, "a state rule"), phase) for rule in rules)
    return not any(_met(Values(rule, "a state rule"), phase) for rule in record.values.messages(exclude))


def _met(rule: Values, phase: str) -> bool:
    stated: Mapping[int | None, str] = {0: "TRAIN", 1: "TEST"}
    number, least, most = rule.int32(1), rule.int32(2), rule.int32(3)
    in_phase = number is None or stated.get(number) == phase
    # No stage is on, so a rule that asks for one is not met, and one that excludes some always is.
    return in_phase and (least is None or least <= 0) and (most is None or most >= 0) and not rule.messages(4)
