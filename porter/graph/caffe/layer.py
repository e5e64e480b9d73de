"""One Caffe layer while it is taken over: what goes in, what it says, its weights, and where its tops are put."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from porter.errors import GraphError
from porter.graph.builder import Batch, GraphBuilder, Named, Shape
from porter.graph.caffe.parameters import Parameters

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from porter.tensor import Tensor

WeightSource = Callable[[int, "Shape | None"], "Tensor"]
"""Gives the n-th blob of the layer as a tensor of the shape that the layer needs (None: the blob's own); see `weights`."""


class Layer:
    """What an importer function gets.

    Attributes:
        name, type: the layer's, the type as Caffe registers it.
        bottoms: the values of its bottoms as they are when it runs.
        top_names: the names of its tops.
        parameters: what the text says of it.
        builder: the graph; its scope is the layer's name.
        tops: what the function puts there, one for each top: the value, and for tops that share memory the index of that bottom.
    """

    def __init__(
        self,
        parameters: Parameters,
        bottoms: list[Named],
        builder: GraphBuilder,
        weights: WeightSource,
        weight_count: int | None,
    ) -> None:
        self.parameters = parameters
        self.name = parameters.layer.name
        self.type = parameters.layer.type or ""
        self.bottoms = bottoms
        self.top_names = parameters.layer.tops
        self.builder = builder
        self.tops: list[tuple[Named, int | None]] = []
        self.assumed: list[str] = []
        self._weights = weights
        self.weight_count = weight_count

    def put(self, value: Named) -> None:
        """The value of the next top."""
        self.tops.append((value, None))

    def share(self, bottom: int, shape: Shape) -> None:
        """The next top is the memory of `bottom`, seen in this shape."""
        self.tops.append((self.builder.reshape(self.bottoms[bottom], shape, hint=None), bottom))

    def assume(self, what: str) -> None:
        """Note something that neither the prototxt nor the weights say; it stands in the report."""
        self.assumed.append(what)

    def weight(self, index: int, shape: Shape | None = None, *, aligned: Shape | None = None) -> Named:
        """The layer's `index`-th blob as an initialiser under the store's name. `shape`: Caffe's for it; what the file has must fit
        that, as it must in Caffe. `aligned`: the shape in which a node needs it, of as many values.

        Raises:
            GraphError: the file has no such blob, or one of another size.
        """
        from porter.graph.caffe.initializer import lazy_tensor

        tensor = self._weights(index, shape)
        if aligned is not None and aligned != tensor.shape:
            tensor = tensor.with_spec(shape=tuple([int(n) for n in aligned]), axes=None)
        return self.builder.weight(tensor.name, lazy_tensor(tensor), tensor.shape)

    def has_blobs(self, count: int) -> None:
        """Say that the layer has this many blobs, for those that change nothing here: the file may hold them."""
        if self.weight_count is not None and count:
            self._weights(count - 1, None)

    def weight_shape(self, index: int) -> Shape | None:
        """The shape of a blob in the file; None where values are generated."""
        return None if self.weight_count is None else self._weights(index, None).shape

    def weight_values(self, index: int, shape: Shape | None = None) -> NDArray[np.float32]:
        """The values of a blob, for small ones that are computed with now (scale factors, statistics). float32."""
        tensor = self._weights(index, shape)
        values: NDArray[Any] = tensor.numpy().astype("float32", copy=False)
        return values

    def weight_name(self, index: int) -> str:
        """The store's name of a blob."""
        return self._weights(index, None).name

    def axis(self, axis: int, rank: int | None = None) -> int:
        """`axis` counted from the front; negative ones count from the end, as Caffe's CanonicalAxisIndex does.

        Raises:
            GraphError: there is no such axis.
        """
        rank = self.bottoms[0].rank if rank is None else rank
        if not -rank <= axis < rank:
            raise self.error("G011", f"there is no axis {axis} in a blob of {rank} dimensions")
        return axis + rank if axis < 0 else axis

    def need_bottoms(self, least: int, most: int | None = None) -> None:
        """Refuse another number of bottoms; `most` None: exactly `least`."""
        most = least if most is None else most
        if not least <= len(self.bottoms) <= most:
            wanted = f"{least}" if least == most else f"{least} to {most}"
            raise self.error("G012", f"it has {len(self.bottoms)} bottoms, and takes {wanted}")

    def need_fixed(self, x: Named, axis: int, why: str) -> None:
        """Refuse a dimension that the model leaves open where the layer has to know it; `why` goes on from "axis 1 …: "."""
        if axis < x.rank and isinstance(x.shape[axis], Batch):
            raise self.error("G002", f"axis {axis} of {list(x.shape)} is left open, and cannot be: {why}")

    def error(self, code: str, message: str, *, hint: str | None = None) -> GraphError:
        """A `GraphError` about this layer."""
        return self.parameters.error(code, message, hint=hint)


Importer = Callable[[Layer], None]
"""Takes a layer over: reads `bottoms`, `parameters` and weights, makes nodes, and puts every top."""
