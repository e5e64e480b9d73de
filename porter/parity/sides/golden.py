"""A recorded run as a side of a comparison: what a framework made of known inputs, with samples of large values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass, replace
from porter.graph import recording
from porter.graph.caffe.preparation import SOURCES
from porter.graph.feeds import Given, Shape
from porter.parity.side import Observed, Step
from porter.tensor import Tensor

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

    from porter.parity.side import Side


@dataclass(frozen=True, slots=True)
class _Entry:
    """One recorded value. name: `layer/top`, or an output's. key: where the record has it. sampled: whether that is a layer's key."""

    name: str
    key: str
    layer: str = ""
    top: str = ""
    type: str = ""
    sampled: bool = True


class GoldenSide:
    """A recording. Its values are called `layer/top`. An output, which is recorded whole, is the value of the last layer that made it."""

    kind = "golden"
    runner = "recorded"
    notices: tuple[str, ...] = ()

    def __init__(self, path: str, record: Mapping[str, NDArray[Any]]) -> None:
        self.label = path
        self._record = record
        self._entries = {entry.name: entry for entry in _entries(record)}
        entries = self._entries.values()
        self.outputs = tuple([e.name for e in entries if not e.sampled])
        self.steps = tuple([Step(e.layer, e.type, (), (e.name,)) for e in entries if e.layer])
        # Of a blob that is written twice, the network's output alone is called as it.
        written = Counter(e.top for e in entries)
        self.aliases: Mapping[str, tuple[str, ...]] = {
            e.name: tuple([n for n in (e.layer, e.top if written[e.top] == 1 or not e.sampled else "") if n]) for e in entries
        }
        self.shapes: Mapping[str, Shape] = {e.name: self._shape(e) for e in entries}

    @property
    def inputs(self) -> Mapping[str, Given]:
        return {name: Given(array.shape, array.dtype.name) for name, array in self.recorded_inputs().items()}

    def recorded_inputs(self) -> Mapping[str, NDArray[Any]]:
        fed = {k.removeprefix("input/"): a for k, a in self._record.items() if k.startswith("input/")}
        return fed or recording.inputs(self._record)

    def _shape(self, entry: _Entry) -> tuple[int, ...]:
        return tuple(map(int, self._record[f"{entry.key}@shape"])) if entry.sampled else self._record[entry.key].shape

    def prepare(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        return None

    def run(self, inputs: Mapping[str, NDArray[Any]], wanted: Sequence[str]) -> Iterator[Observed]:
        asked = set(wanted)
        for entry in self._entries.values():
            if entry.name not in asked:
                continue
            shape, array = self._shape(entry), self._record[entry.key]
            if not entry.sampled:
                yield Observed(entry.name, array, shape)
                continue
            index, scale = self._record.get(f"{entry.key}@idx"), float(self._record[f"{entry.key}@absmax"])
            yield Observed(entry.name, array.reshape(shape if index is None else -1), shape, index, scale)

    def replay(self, step: Step, given: Mapping[str, NDArray[Any]]) -> None:
        return None

    def fragment(self, step: Step) -> ir.Model | None:
        return None

    def weight(self, name: str) -> Tensor | None:
        return None

    def __enter__(self) -> GoldenSide:
        return self

    def __exit__(self, *exception: object) -> None:
        return None


def open_side(path: str) -> Side:
    """The recording at `path`. Reads it whole.

    Raises:
        PorterError: the file cannot be read, or is none.
    """
    return GoldenSide(path, recording.read(path))


def _entries(record: Mapping[str, NDArray[Any]]) -> list[_Entry]:
    keys = [str(key) for key in record.get("layer_keys", ())]
    types = [str(kind) for kind in record.get("layer_types", ())] or [""] * len(keys)
    outputs = {name.removeprefix("output/"): name for name in record if name.startswith("output/")}
    blobs = {*outputs, *(name.removeprefix("input/") for name in record if name.startswith("input/"))}
    found = []
    for key, kind, (layer, top) in zip(keys, types, _split(keys, blobs), strict=True):
        if kind not in SOURCES:
            found.append(_Entry(f"{layer}/{top}", key, layer, top, kind))
    last = {entry.top: number for number, entry in enumerate(found)}
    for top, key in outputs.items():
        if top in last:
            found[last[top]] = replace(found[last[top]], key=key, sampled=False)
        else:
            found.append(_Entry(top, key, top=top, sampled=False))
    return found


def _split(keys: Sequence[str], blobs: Collection[str]) -> list[tuple[str, str]]:
    """Layer and top of keys `layer/0001/LAYER/TOP`. Both may have slashes: a top is a blob that is known, most layers are called as it."""
    places = [key.split("/", 2)[2] for key in keys]
    halves = [(place[: len(place) // 2], place[len(place) // 2 + 1 :]) for place in places]
    known = {*blobs, *(a for a, b in halves if a == b)}
    found = []
    for place in places:
        parts = place.split("/")
        cut = next((cut for cut in range(1, len(parts)) if "/".join(parts[cut:]) in known), len(parts) - 1)
        found.append(("/".join(parts[:cut]), "/".join(parts[cut:])))
    return found
