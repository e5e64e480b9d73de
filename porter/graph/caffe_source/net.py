"""A Caffe net while it is being made: layers, blobs that get their names in the end, and what no reader sees.

Caffe takes every blob that nothing reads for an output. So layers that nothing needs are left out, tops that nothing needs go into
a Silence layer, and an output that is read as well is copied by a Split.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass, field
from porter.dtypes import FLOAT32
from porter.formats.caffe.layers import BLOB, LAYER, TYPE
from porter.formats.caffe.message_tree import Field, Message, Scalar, render
from porter.io.payloads import ComputedPayload
from porter.store import TensorStore
from porter.tensor import Tensor, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

Parameters = Mapping[str, Any]
"""Fields of a layer's message: integers, floats, flags, words of an enum as text, lists where a field repeats, and messages."""


@dataclass(slots=True, eq=False)
class Blob:
    """What lies between layers. `name` is given in the end. `padded`: the blob that this is with zeros around, and how many."""

    shape: tuple[int, ...]
    name: str = ""
    maker: Layer | None = None
    padded: Padded | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)


@dataclass(frozen=True, slots=True)
class Padded:
    """A blob, and the zeros before and behind it along its spatial axes."""

    blob: Blob
    begin: tuple[int, ...]
    end: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Weight:
    """A blob of weights. `load` gives its values, in any float type, when the file is written."""

    role: str
    shape: tuple[int, ...]
    load: Callable[[], NDArray[Any]]

    def tensor(self, layer: str, kind: str, index: int) -> Tensor:
        """The tensor that the writer of Caffe's format puts into this place."""
        spec = TensorSpec(f"{layer}.{self.role}", FLOAT32, self.shape, role=self.role, attributes={LAYER: layer, TYPE: kind, BLOB: index})

        def values() -> Any:
            import numpy as np

            yield np.ascontiguousarray(self.load(), dtype="<f4").reshape(-1).view(np.uint8).data

        return Tensor(spec, ComputedPayload(4 * math.prod(self.shape), values))


@dataclass(slots=True, eq=False)
class Layer:
    """A layer. `scope` is the number of the node that it belongs to, `main` whether it bears the node's name."""

    kind: str
    bottoms: list[Blob]
    tops: list[Blob]
    parameters: Parameters
    weights: tuple[Weight, ...]
    scope: int
    main: bool
    name: str = ""


@dataclass(slots=True)
class Net:
    """Layers in their order, and the blobs that hold the values of the graph.

    scopes: names of the nodes by number. inputs, outputs: the values that come in and go out, with their blobs.
    """

    name: str
    layers: list[Layer] = field(default_factory=list)
    values: dict[str, Blob] = field(default_factory=dict)
    scopes: dict[int, str] = field(default_factory=dict)
    inputs: dict[str, Blob] = field(default_factory=dict)
    outputs: dict[str, Blob] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(
        self,
        kind: str,
        bottoms: Sequence[Blob],
        shapes: Sequence[tuple[int, ...]],
        parameters: Parameters | None = None,
        weights: Sequence[Weight] = (),
        *,
        scope: int = -1,
        main: bool = False,
    ) -> list[Blob]:
        """A layer with a top of each shape."""
        made = Layer(kind, list(bottoms), [], parameters or {}, tuple(weights), scope, main)
        made.tops = [Blob(tuple(shape), maker=made) for shape in shapes]
        self.layers.append(made)
        return made.tops

    def finish(self) -> tuple[str, TensorStore]:
        """The prototxt, and the weights."""
        self.layers = [
            Layer("Input", [], [b], {"input_param": {"shape": {"dim": list(b.shape)}}}, (), -1, True, n) for n, b in self.inputs.items()
        ] + self.layers
        self._copy_outputs()
        self._leave_out()
        self._name_blobs()
        self._name_layers()
        store = TensorStore()
        for layer in self.layers:
            for index, weight in enumerate(layer.weights):
                store.add(weight.tensor(layer.name, layer.kind, index))
        for note in self.notes:
            store.note("changed", note)
        return render(Message((Field("name", Scalar("string", self.name)), *[_layer_field(layer) for layer in self.layers]))), store

    def _reached(self) -> set[int]:
        """Blobs that an output depends on, by identity."""
        needed = {id(b) for b in self.outputs.values()}
        for layer in reversed(self.layers):
            if any(id(top) in needed for top in layer.tops):
                needed.update(id(b) for b in layer.bottoms)
        return needed

    def _copy_outputs(self) -> None:
        """Give each output a blob of its own that no layer reads."""
        needed = self._reached()
        read = {id(b) for layer in self.layers if any(id(t) in needed for t in layer.tops) for b in layer.bottoms}
        shared = Counter(id(b) for b in self.outputs.values())
        given = {id(b) for b in self.inputs.values()}
        for name, blob in list(self.outputs.items()):
            if id(blob) in read or shared[id(blob)] > 1 or (id(blob) in given and self.inputs.get(name) is not blob):
                scope = max(self.scopes, default=-1) + 1
                self.scopes[scope] = name
                (self.outputs[name],) = self.add("Split", [blob], [blob.shape], scope=scope)

    def _leave_out(self) -> None:
        """Drop layers that nothing needs, and silence single tops of the others."""
        needed = self._reached()
        kept: list[Layer] = []
        for layer in self.layers:
            if layer.kind != "Input" and not any(id(t) in needed for t in layer.tops):
                continue
            kept.append(layer)
            unread = [t for t in layer.tops if id(t) not in needed]
            if unread:
                kept.append(Layer("Silence", unread, [], {}, (), layer.scope, False))
        self.layers = kept

    def _name_blobs(self) -> None:
        names: set[str] = set()
        for name, blob in [*self.inputs.items(), *self.outputs.items()]:
            if not blob.name:
                blob.name = _free(name, names)
                if blob.name != name:
                    self.notes.append(f"the output '{name}' is called '{blob.name}': an input has that name")
        for name, blob in self.values.items():
            if not blob.name:
                blob.name = _free(name, names)
        for layer in self.layers:
            for i, top in enumerate(layer.tops):
                if not top.name:
                    base = f"{self.scopes.get(layer.scope, layer.kind)}/{layer.kind.lower()}"
                    top.name = _free(base if len(layer.tops) == 1 else f"{base}{i}", names)

    def _name_layers(self) -> None:
        """The main layer of a node, or its last, bears the node's name; the others have their type behind it."""
        main: dict[int, Layer] = {}
        for layer in self.layers:
            known = main.get(layer.scope)
            if layer.kind not in ("Silence", "Input") and (known is None or not known.main):
                main[layer.scope] = layer
        names: set[str] = set()
        for layer in [*[m for m in self.layers if m.kind == "Input"], *main.values()]:
            layer.name = _free(layer.name or self.scopes.get(layer.scope, layer.kind.lower()), names)
        for layer in self.layers:
            if not layer.name:
                layer.name = _free(f"{self.scopes.get(layer.scope, layer.bottoms[0].name)}/{layer.kind.lower()}", names)


def _free(wanted: str, names: set[str]) -> str:
    name, number = wanted, 1
    while name in names or not name:
        number += 1
        name = f"{wanted}_{number}"
    names.add(name)
    return name


def _layer_field(layer: Layer) -> Field:
    texts = [
        ("name", layer.name),
        ("type", layer.kind),
        *[("bottom", b.name) for b in layer.bottoms],
        *[("top", t.name) for t in layer.tops],
    ]
    stated = [Field(name, Scalar("string", text)) for name, text in texts]
    return Field("layer", Message((*stated, *_fields(layer.parameters))))


def _fields(parameters: Parameters) -> list[Field]:
    listed = [(n, item) for n, value in parameters.items() for item in (value if isinstance(value, list | tuple) else [value])]
    return [Field(n, Message(tuple(_fields(item))) if isinstance(item, Mapping) else _scalar(item)) for n, item in listed]


def _scalar(value: float | str) -> Scalar:
    if isinstance(value, bool):
        return Scalar("identifier", str(value).lower())
    if isinstance(value, int):
        return Scalar("number", str(value))
    if isinstance(value, str):
        return Scalar("identifier", value)
    return Scalar("number", float_text(value))


def float_text(number: float) -> str:
    """The shortest text that is this float32."""
    import numpy as np

    with np.errstate(over="ignore"):
        return str(np.float32(number)).removesuffix(".0")
