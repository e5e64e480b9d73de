"""The blobs of a net's layers: from a Caffe file, matched by layer name as Caffe does, or generated where there is none.

Source: BVLC/caffe net.cpp (CopyTrainedLayersFrom: by layer name, extra layers ignored, counts and shapes checked;
AppendParam: parameters of one name are one blob, the first layer's), blob.cpp (ShapeEquals: legacy shapes).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Sequence

from porter.errors import GraphError
from porter.formats.caffe.net import CaffeLayer
from porter.graph.builder import Shape
from porter.store import TensorStore
from porter.tensor import Tensor, TensorSpec


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
        self._owner: dict[str, tuple[str, int]] = {}
        for layer in layers:
            for index, param in enumerate(layer.params):
                if param.name:
                    self._owner.setdefault(param.name, (layer.name, index))
        self._made: dict[str, Tensor] = {}

    def blob(self, layer: CaffeLayer, index: int, shape: Shape | None) -> Tensor:
        """The `index`-th blob of `layer` in `shape`; that of the layer which owns it, where layers share a parameter by name.

        Raises:
            GraphError: the file lacks it, or it has another size.
        """
        owner, position = layer.name, index
        if index < len(layer.params) and layer.params[index].name:
            owner, position = self._owner[layer.params[index].name]
        if self.store is None:
            return self._generated(f"{owner}.blob{position}" if position > 1 else f"{owner}.{('weight', 'bias')[position]}", shape, layer)
        blobs = self._blobs.get(owner)
        if blobs is None:
            raise _missing_layer(layer, owner, list(self._blobs))
        self.used.add(owner)
        if position >= len(blobs):
            raise _at(layer, "G021", f"the weights have {len(blobs)} blobs for it, and it needs one more", None)
        return _shaped(layer, index, blobs[position], shape)

    def count(self, layer: CaffeLayer) -> int | None:
        """How many blobs the file has for the layer; None where values are generated."""
        return None if self.store is None else len(self._blobs.get(layer.name, ()))

    def extra(self, layers: Sequence[CaffeLayer]) -> list[str]:
        """Layers of the file that the net has none of, or that nothing of the net asked for."""
        return [name for name in self._blobs if name not in self.used]

    def _generated(self, name: str, shape: Shape | None, layer: CaffeLayer) -> Tensor:
        if shape is None:
            raise _at(layer, "G022", "the size of its weights does not follow from the prototxt", "give the weights, too")
        if name not in self._made:
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


def _by_layer(store: TensorStore) -> dict[str, list[Tensor]]:
    """The blobs of each layer in order; of several layers with one name the first that has blobs."""
    found: dict[str, dict[int, Tensor]] = {}
    for tensor in store.values():
        layer, index = tensor.attributes.get("caffe.layer"), tensor.attributes.get("caffe.blob")
        if isinstance(layer, str) and isinstance(index, int) and not tensor.attributes.get("caffe.occurrence"):
            found.setdefault(layer, {})[index] = tensor
    return {name: [blobs[i] for i in sorted(blobs)] for name, blobs in found.items()}


def _shaped(layer: CaffeLayer, index: int, tensor: Tensor, shape: Shape | None) -> Tensor:
    """`tensor` in the shape that the layer needs, where Caffe would take it for that."""
    if shape is None or tensor.shape == tuple(shape):
        return tensor
    legacy = len(shape) <= 4 and tensor.size == math.prod(shape) and _stripped(tensor.shape) == _stripped(shape)
    if not legacy:
        raise _at(
            layer,
            "G023",
            f"its blob {index} has the shape {list(tensor.shape)} in the weights, and the prototxt makes it {[int(n) for n in shape]}",
            "the two files are of different networks, or the prototxt has changed since training",
            tensor.name,
        )
    return tensor.with_spec(shape=tuple(int(n) for n in shape), axes=None)


def _stripped(shape: Sequence[int]) -> tuple[int, ...]:
    """`shape` without the leading ones that legacy files pad it with, and ones anywhere that do not matter for its order."""
    return tuple([int(n) for n in shape if n != 1])


def _missing_layer(layer: CaffeLayer, owner: str, known: Sequence[str]) -> GraphError:
    close = difflib.get_close_matches(owner, known, 1)
    hint = f"the nearest layer there is '{close[0]}'" if close else "the weights are those of another network"
    return _at(layer, "G020", f"the weights have no layer '{owner}'", hint)


def _at(layer: CaffeLayer, code: str, message: str, hint: str | None, tensor: str | None = None) -> GraphError:
    return GraphError(
        code,
        f"layer '{layer.name}' ({layer.type}): {message}",
        line=layer.line or None,
        column=layer.column or None,
        hint=hint,
        tensor=tensor,
    )
