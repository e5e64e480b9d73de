"""The blobs of a net's layers: from a Caffe file, matched by layer name as Caffe does, or generated where there is none.

Source: BVLC/caffe net.cpp (CopyTrainedLayersFrom: by layer name, extra layers ignored, counts and shapes checked;
AppendParam: parameters of one name are one blob, the first layer's), blob.cpp (ShapeEquals: legacy shapes).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Sequence

from porter.errors import GraphError
from porter.formats.caffe.blobs import legacy_shape
from porter.formats.caffe.layer_types import usual_role
from porter.formats.caffe.net import CaffeLayer
from porter.graph.builder import Shape
from porter.graph.caffe.blobs import MOST_VALUES
from porter.store import TensorStore
from porter.tensor import Tensor, TensorSpec

Place = tuple[str, int]
"""A layer's name, and the index of a blob in it."""


class Weights:
    """Gives layers their blobs.

    Attributes:
        used: layers whose blobs were asked for, by name in the file.
        generated: whether values are made up, since there is no file.
    """

    def __init__(self, store: TensorStore | None, layers: Sequence[CaffeLayer], seed: int = 0) -> None:
        self.store = store
        self.generated = store is None
        self.used: set[str] = set()
        self._seed = seed
        self._blobs = _by_layer(store) if store is not None else {}
        self._order = {name: i for i, name in enumerate(self._blobs)}
        self._layers = {layer.name: layer for layer in layers}
        self._sharing: dict[str, list[Place]] = {}
        for layer in layers:
            for index, param in enumerate(layer.params):
                if param.name:
                    self._sharing.setdefault(param.name, []).append((layer.name, index))
        self._asked: dict[str, int] = {}
        self._missing: dict[str, CaffeLayer] = {}
        self._made: dict[str, Tensor] = {}

    def names(self) -> list[str]:
        """The names of all tensors of the file."""
        return [tensor.name for blobs in self._blobs.values() for tensor in blobs.values()]

    def blob(self, layer: CaffeLayer, index: int, shape: Shape | None) -> Tensor:
        """The `index`-th blob of `layer` in `shape`. Of layers that share a parameter by name, the one that stands last in the file
        says its values: Caffe copies them one over the other.

        Raises:
            GraphError: the file lacks it, it has another size, or it is larger than any blob of Caffe.
        """
        self._asked[layer.name] = max(self._asked.get(layer.name, -1), index)
        if shape is not None and math.prod(shape) > MOST_VALUES:
            raise _at(layer, "G037", f"its blob {index} of the shape {list(shape)} has more values than a blob of Caffe can", None)
        places = self._places(layer, index)
        if self.store is None:
            # Called as in a file: of layers that share a parameter, Caffe copies the last over the others.
            owner, position = places[-1]
            like = self._layers.get(owner, layer)
            made = self._generated(f"{owner}.{usual_role(like.type or '', position, len(like.bottoms))}", shape, layer)
            return self._fitted(layer, index, made, shape)
        self.used.add(layer.name)
        held = [place for place in places if place[1] in self._blobs.get(place[0], {})]
        if not held and layer.name not in self._blobs:
            self._missing.setdefault(layer.name, layer)
            if shape is None:
                self.check_none_missing()
            # Going on finds all that are missing; what is made here is thrown away.
            return self._generated(f"{layer.name}.{index}", shape, layer)
        if not held:
            raise _at(layer, "G021", f"the weights have {self.count(layer)} blobs for it, and it needs one more", None)
        owner, position = max(held, key=lambda place: self._order[place[0]])
        return self._fitted(layer, index, self._blobs[owner][position], shape)

    def _fitted(self, layer: CaffeLayer, index: int, tensor: Tensor, shape: Shape | None) -> Tensor:
        """`tensor` in the shape that the layer needs; one that it shares may have any of as many values, where its `param` says so."""
        permissive = index < len(layer.params) and layer.params[index].share_mode in ("PERMISSIVE", "1")
        if permissive and shape is not None and tensor.size == math.prod(shape):
            return tensor.with_spec(shape=_integers(shape), axes=None)
        return _shaped(layer, index, tensor, shape)

    def count(self, layer: CaffeLayer) -> int | None:
        """How many blobs the file has for the layer; None where values are generated."""
        return None if self.store is None else max(self._blobs.get(layer.name, {}), default=-1) + 1

    def check_all_asked(self, layer: CaffeLayer) -> None:
        """Refuse blobs that the file has for a layer with weights, and that it does not take.

        Raises:
            GraphError: there are some.
        """
        taken = self._asked.get(layer.name, -1) + 1
        count = self.count(layer) or 0
        if 0 < taken < count:
            name = self._blobs[layer.name][count - 1].name
            raise _at(layer, "G024", f"the weights have {count} blobs for it, and it takes {taken}", None, name)

    def check_none_missing(self) -> None:
        """Refuse a file that lacks layers which were asked for, all of them together.

        Raises:
            GraphError: there are some.
        """
        if not self._missing:
            return
        first, *others = self._missing.values()
        more = f", and neither {', '.join(repr(other.name) for other in others[:10])}" if others else ""
        more += f" and {len(others) - 10} more" if len(others) > 10 else ""
        near = {name: difflib.get_close_matches(name, self._blobs, 1) for name in list(self._missing)[:10]}
        close = ", ".join(f"'{found[0]}' for '{name}'" for name, found in near.items() if found)
        hint = f"the nearest layers there are: {close}" if close else "the weights are those of another network"
        if self.store and not self._blobs:
            hint = "its tensors do not say which layers of Caffe they belong to: give the caffemodel"
        raise _at(first, "G020", f"the weights have no layer of this name{more}", hint)

    def extra(self) -> list[str]:
        """Layers of the file that the net has none of, or that nothing of the net asked for."""
        return [name for name in self._blobs if name not in self.used]

    def _places(self, layer: CaffeLayer, index: int) -> list[Place]:
        """Where the blob may be: in the layer, or in those that share it by name, the owner first."""
        name = layer.params[index].name if index < len(layer.params) else ""
        return self._sharing[name] if name else [(layer.name, index)]

    def _generated(self, name: str, shape: Shape | None, layer: CaffeLayer) -> Tensor:
        if name not in self._made:
            if shape is None:
                raise _at(layer, "G022", "the size of its weights does not follow from the prototxt", "give the weights, too")
            self._made[name] = Tensor(_generated_spec(name, shape), _Generated(name, math.prod(shape) * 4, shape, self._seed))
        return self._made[name]


def _generated_spec(name: str, shape: Shape) -> TensorSpec:
    from porter.dtypes import FLOAT32

    return TensorSpec(name, FLOAT32, tuple(int(n) for n in shape))


class _Generated:
    """Values drawn for a name: small, normal, the same each time; those of statistics are near one."""

    def __init__(self, name: str, nbytes: int, shape: Shape, seed: int) -> None:
        self.name = name
        self.nbytes = nbytes
        self.shape = shape
        self.seed = seed
        self.location = None

    def buffer(self) -> memoryview:
        import zlib

        import numpy as np

        fan = max(math.prod(self.shape[1:]), 1)
        values = np.random.default_rng([self.seed, zlib.crc32(self.name.encode("utf-8", "surrogatepass"))]).standard_normal(
            math.prod(self.shape), dtype=np.float32
        )
        if len(self.shape) > 1:
            values *= np.float32((2.0 / fan) ** 0.5)
        else:
            values = np.abs(values * np.float32(0.1) + np.float32(1))
        return values.view(np.uint8).data.toreadonly()

    def chunks(self, limit: int) -> Iterator[memoryview]:
        from porter.tensor import BytesPayload

        return BytesPayload(self.buffer()).chunks(limit)


def _by_layer(store: TensorStore) -> dict[str, dict[int, Tensor]]:
    """The blobs of each layer by their index; of several layers with one name the first that has blobs."""
    found: dict[str, dict[int, Tensor]] = {}
    for tensor in store.values():
        layer, index = tensor.attributes.get("caffe.layer"), tensor.attributes.get("caffe.blob")
        if isinstance(layer, str) and isinstance(index, int) and not tensor.attributes.get("caffe.occurrence"):
            found.setdefault(layer, {})[index] = tensor
    return found


def _shaped(layer: CaffeLayer, index: int, tensor: Tensor, shape: Shape | None) -> Tensor:
    """`tensor` in the shape that the layer needs, where Caffe would take it for that."""
    if shape is None:
        return tensor
    wanted = _integers(shape)
    old = legacy_shape(tensor)
    if old:
        fits = len(wanted) <= 4 and (1,) * (4 - len(wanted)) + wanted == old
    else:
        fits = tensor.shape == wanted if old is None else tensor.size == math.prod(wanted)
    if not fits:
        has = list(old or tensor.shape)
        raise _at(
            layer,
            "G023",
            f"its blob {index} has the shape {has} in the weights, and the prototxt makes it {list(wanted)}",
            "the two files are of different networks, or the prototxt has changed since training",
            tensor.name,
        )
    return tensor if tensor.shape == wanted else tensor.with_spec(shape=wanted, axes=None)


def _integers(shape: Shape) -> tuple[int, ...]:
    return tuple([int(n) for n in shape])


def _at(layer: CaffeLayer, code: str, message: str, hint: str | None, tensor: str | None = None) -> GraphError:
    return GraphError(
        code,
        f"layer '{layer.name}' ({layer.type}): {message}",
        line=layer.line or None,
        column=layer.column or None,
        hint=hint,
        tensor=tensor,
    )
