"""Preprocessing as nodes at the beginning of a graph, in Caffe's order: channels, less the mean, times the scale, in float32.

Source: BVLC/caffe data_transformer.cpp (the mean image is cut in the middle at test time, as the images are).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from porter.errors import GraphError
from porter.formats.registry import open_store
from porter.graph.preprocessing import Preprocessing

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir
    from numpy.typing import NDArray


def fold(model: ir.Model, what: Preprocessing, folder: str) -> str:
    """Put the nodes that do `what` behind its input, which keeps its name; gives the name of the value they make.

    folder: where a file of the mean image is looked for. Every other reader of the input reads that value instead.

    Raises:
        GraphError: the numbers do not fit the input's channels, or the mean image cannot be had.
    """
    value = next(v for v in model.graph.inputs if v.name == what.input)
    shape = tuple([n if isinstance(n, int) else 0 for n in (value.shape or ())])
    if what.given and (len(shape) < 2 or shape[1] != 3):
        raise GraphError("G044", f"the input '{what.input}' of {list(shape)} has not three channels to be put in another order")
    if len(what.mean) > 1 and (len(shape) < 2 or shape[1] != len(what.mean)):
        raise GraphError(
            "G044", f"the mean has {len(what.mean)} numbers, and the input '{what.input}' of {list(shape)} another number of channels"
        )
    chain = _Chain(model, value)
    if what.given:
        chain.node("Gather", "channels", _array([2, 1, 0], "int64"), axis=1)
    if what.mean_file:
        chain.node("Sub", "mean", _mean_image(what, folder, shape))
    elif any(what.mean):
        mean = _array(what.mean, "float32")
        chain.node("Sub", "mean", mean.reshape(-1, *[1] * (len(shape) - 2)) if len(what.mean) > 1 else mean)
    if what.scale != 1:
        chain.node("Mul", "scale", _array([what.scale], "float32"))
    return chain.put_in()


class _Chain:
    """Nodes behind an input, one after the other."""

    def __init__(self, model: ir.Model, value: ir.Value) -> None:
        self.graph = model.graph
        self.input = value
        self.value = value
        self.uses = list(value.uses())
        self._nodes: list[ir.Node] = []
        self._taken = {v.name for v in (*self.graph.inputs, *self.graph.initializers.values())}
        self._taken |= {v.name for n in self.graph for v in n.outputs} | {n.name for n in self.graph}

    def node(self, op_type: str, hint: str, constant: NDArray[Any], **attributes: int) -> None:
        import onnx_ir as ir

        name = self._name(f"{self.input.name}/{hint}")
        held = self._name(f"{name}/value")
        tensor = ir.tensor(constant, name=held)
        other = ir.Value(name=held, shape=ir.Shape(constant.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.graph.register_initializer(other)
        out = ir.Value(name=name, shape=self.input.shape, type=self.input.type)
        made = ir.node(op_type, [self.value, other], attributes, outputs=[out], name=name)
        self._nodes.append(made)
        self.value = out

    def put_in(self) -> str:
        if self._nodes:
            for use in self.uses:
                use.node.replace_input_with(use.idx, self.value)
            first = next(iter(self.graph), None)
            if first is None:
                self.graph.extend(self._nodes)
            else:
                self.graph.insert_before(first, self._nodes)
        return self.value.name or ""

    def _name(self, wanted: str) -> str:
        while wanted in self._taken:
            wanted += "_"
        self._taken.add(wanted)
        return wanted


def _mean_image(what: Preprocessing, folder: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The mean image, cut in the middle to the size of the input. Shape (C, H, W)."""
    import numpy as np

    places = [os.path.join(folder, what.mean_file), what.mean_file, os.path.join(folder, os.path.basename(what.mean_file))]
    path = next((p for p in places if os.path.isfile(p)), None)
    hint = f"put it at '{places[-1]}', or say '--preprocess mean=104,117,123'"
    if path is None:
        raise GraphError("G045", f"the mean image '{what.mean_file}' of the input '{what.input}' is not there", hint=hint)
    with open_store(path) as store:
        image = next(iter(store.values())).numpy().astype(np.float32)
    image = image.reshape(image.shape[-3:]) if image.ndim >= 3 else image
    covers = image.ndim == 3 and len(shape) == 4 and image.shape[0] == shape[1]
    if not covers or image.shape[1] < shape[2] or image.shape[2] < shape[3]:
        message = f"the mean image is {list(image.shape)}, and does not cover the input, {list(shape[1:])}"
        raise GraphError("G045", message, path=path, hint=hint)
    top, left = ((n - m) // 2 for n, m in zip(image.shape[1:], shape[2:], strict=True))
    cut: NDArray[np.float32] = np.ascontiguousarray(image[:, top : top + shape[2], left : left + shape[3]])
    return cut


def _array(values: Iterable[float], dtype: str) -> NDArray[Any]:
    import numpy as np

    return np.asarray(list(values), dtype=dtype)
