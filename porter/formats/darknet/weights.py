"""The values of a Darknet net: which of the ways to write its layers the `.weights` file follows, and where each tensor lies.

The file begins with three numbers of its version and one of the images seen in training, of 32 or 64 bits.

Source: pjreddie/darknet at f6afaab and AlexeyAB/darknet at 59596d7, `src/parser.c` (load_weights_upto, save_weights_upto).
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Sequence

from porter.dataclass import dataclass
from porter.dtypes import FLOAT32
from porter.errors import FormatError
from porter.formats.darknet.cfg import Section
from porter.formats.darknet.layers import Blob, Place, Size, Variant, build
from porter.io.source import FileSource
from porter.io.unindexed import Values
from porter.store import TensorStore
from porter.tensor import Tensor, TensorSpec

TYPE = "darknet.type"
"""Attribute of tensors: the type of their layer, as the text of the net has it."""

_ROOM = 1 << 16
"""Bytes beyond twice the file's size after which it no longer matters what else the layers ask for."""

_OLD = 1000
"""Versions beyond this are those of files whose connected layers are transposed."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the file begins with: its version, the images seen in training, and how many bytes that takes."""

    version: tuple[int, int, int]
    seen: int
    nbytes: int

    @property
    def transposed(self) -> bool:
        return self.version[0] > _OLD or self.version[1] > _OLD


def read_header(source: FileSource) -> Header:
    """The header. Reads it.

    AlexeyAB's fork takes the number of images for 64 bits in files of before 2015 too, which no program ever wrote so.

    Raises:
        FormatError: the file is shorter than that.
    """
    major, minor, revision = struct.unpack("<iii", source.read(0, 12, "the version"))
    old = major > _OLD or minor > _OLD
    wide = major * 10 + minor >= 2 and not old
    (seen,) = struct.unpack("<Q" if wide else "<I", source.read(12, 8 if wide else 4, "the number of images seen"))
    return Header((major, minor, revision), seen, 20 if wide else 16)


Layers = list[tuple[Section, list[Blob]]]


@dataclass(frozen=True, slots=True)
class Plan:
    """One way to read the file: how its program wrote it, where the values begin, and the tensors of each layer."""

    variant: Variant
    start: int
    layers: Layers

    @property
    def nbytes(self) -> int:
        """Bytes that the file has if it was written in this way."""
        return self.start + sum(_nbytes(blob) for _, blobs in self.layers for blob in blobs)

    @property
    def dialect(self) -> str:
        return "alexeyab" if self.variant.alexeyab else "original"


def place(sections: Sequence[Section], source: FileSource, dialect: str | None, store: TensorStore) -> str | None:
    """Add the tensors of all layers to `store`; the dialect where it made a difference or was given. Reads the header.

    The way to read that makes the file end with the last layer is the right one. Where there are several, which differ in
    the order of equal sizes, the original program's is taken, and a notice says so.

    Raises:
        FormatError: the file has fewer or more bytes than the layers ask for, or one of them makes no sense.
    """
    header = read_header(source)
    plans = _plans(sections, header, dialect, 2 * source.size + _ROOM)
    fitting = [plan for plan in plans if plan.nbytes == source.size]
    chosen = fitting[0] if fitting else min(plans, key=lambda plan: abs(plan.nbytes - source.size))
    told_by = os.path.basename(sections[0].path)
    if not fitting:
        _refuse_first_layers(chosen, source, told_by)
    values = Values(source, told_by, header.nbytes)
    for number, (section, blobs) in enumerate(chosen.layers):
        for blob in blobs:
            name = f"layers.{number}.{blob.name}"
            payload = values.run(_nbytes(blob), name)
            store.add(Tensor(TensorSpec(name, FLOAT32, blob.shape, blob.axes, blob.role, {TYPE: section.name}), payload))
    values.finish()
    store.metadata["darknet.version"] = ".".join(map(str, header.version))
    store.metadata["darknet.seen"] = header.seen
    if len(fitting) > 1:
        others = ", ".join(f"-f darknet:{plan.dialect}" for plan in fitting[1:] if plan.dialect != chosen.dialect)
        store.note(
            "assumed", f"Darknet's programs write this net's parts in two orders; read in that of {chosen.dialect} ({others} for the other)"
        )
    return chosen.dialect if dialect or len(plans) > 1 else None


def _plans(sections: Sequence[Section], header: Header, dialect: str | None, most: int) -> list[Plan]:
    """The ways to read the file that differ, the likeliest first; each as far as the layers that take more than `most` bytes.

    Raises:
        FormatError: there is none, because a layer makes no sense in any.
    """
    plans: list[Plan] = []
    errors: list[FormatError] = []
    shortened = any(key in section.settings for section in sections for key in ("dontload", "dontloadscales"))
    for partial in (False, True)[: 1 + shortened]:
        for alexeyab in [dialect == "alexeyab"] if dialect else [False, True]:
            variant = Variant(alexeyab, header.transposed, partial)
            try:
                plan = Plan(variant, header.nbytes, _layers(sections, variant, most))
            except FormatError as error:
                errors.append(error)
                continue
            if all(plan.layers != other.layers for other in plans):
                plans.append(plan)
    if not plans:
        raise errors[0]
    return plans


def _layers(sections: Sequence[Section], variant: Variant, most: int) -> Layers:
    """The tensors of each layer, as far as they take `most` bytes."""
    size, before, nbytes = _input(sections[0]), list[Size](), 0
    layers: Layers = []
    for index, section in enumerate(sections[1:]):
        blobs, size = build(Place(section, index, size, before, variant))
        before.append(size)
        layers.append((section, blobs))
        nbytes += sum(map(_nbytes, blobs))
        if nbytes > most:
            break
    return layers


def _input(net: Section) -> Size:
    channels, height, width, inputs = (net.integer(key, 0, 0) for key in ("channels", "height", "width", "inputs"))
    size = Size(channels, height, width)
    if not size.count:
        size = Size(inputs, 1, 1)
    if not size.count:
        raise net.error("the net needs height, width and channels, or inputs", "inputs")
    return size


def _refuse_first_layers(plan: Plan, source: FileSource, told_by: str) -> None:
    """Say so where the file has the first layers of the net and no more, as files to begin training with have."""
    at = plan.start
    for number, (_, blobs) in enumerate(plan.layers):
        if at == source.size and blobs and number:
            raise FormatError(
                "F001",
                f"{told_by} announces weights of layer {number}, the file ends after those before it",
                path=source.path,
                offset=at,
                hint=f"if the file is meant to have the first layers only, take [{plan.layers[number][0].name}] of layer {number} "
                f"and all behind it out of a copy of {told_by}",
            )
        at += sum(map(_nbytes, blobs))


def _nbytes(blob: Blob) -> int:
    return 4 * math.prod(blob.shape)
