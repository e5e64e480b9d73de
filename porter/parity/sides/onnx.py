"""An ONNX model as a side of a comparison: its nodes are the layers. Weights stay in its files until it runs."""

from __future__ import annotations

import contextlib
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from porter.formats.registry import open_store
from porter.graph.onnx_input import read
from porter.graph.onnx_output import without_values
from porter.parity.side import Step
from porter.parity.sides.model import ModelSide, values_of
from porter.tensor import Json

if TYPE_CHECKING:
    import onnx_ir as ir

SHOWN = 16
"""Elements of a constant that settings show."""


def open_side(path: str) -> ModelSide:
    """The model at `path`.

    Raises:
        PorterError: the file is broken, or no ONNX model.
    """
    with ExitStack() as stack:
        network = read(path, stack.enter_context(open_store(path)))
        infer(network.model)
        steps = [step_of(node, number) for number, node in enumerate(network.model.graph)]
        aliases = {v: (s.name,) for s in steps if len(s.outputs) == 1 and not _is_number(s) for v in s.outputs if s.name != v}
        notices = [f"{os.path.basename(path)}: {text}" for text in network.notices]
        return ModelSide(path, network.model, steps, aliases=aliases, notices=notices, stack=stack.pop_all())


def infer(model: ir.Model) -> None:
    """Fill in the shapes and types of values that the model does not state, by ONNX's own inference."""
    import onnx
    import onnx_ir as ir

    missing = {name: v for name, v in values_of(model).items() if v.shape is None or v.type is None}
    if not missing:
        return
    skeleton, _ = without_values(model)
    # What it cannot infer stays open: then values are taken to be large, and that is all.
    with contextlib.suppress(onnx.shape_inference.InferenceError):
        inferred = onnx.shape_inference.infer_shapes(skeleton, data_prop=True).graph
        for info in (*inferred.value_info, *inferred.output):
            value = missing.get(info.name)
            if value is None:
                continue
            found = ir.serde.deserialize_value_info_proto(info, None)
            value.shape = value.shape if value.shape is not None else found.shape
            value.type = value.type or found.type


def step_of(node: ir.Node, number: int) -> Step:
    """A node as a layer."""
    read = [v for v in node.inputs if v is not None and v.name]
    weights = [v.name or "" for v in read if v.const_value is not None and v.producer() is None]
    inputs = [v.name or "" for v in read if v.name not in weights]
    outputs = [v.name for v in node.outputs if v.name]
    return Step(
        node.name or f"{node.op_type}_{number}",
        node.op_type,
        tuple(dict.fromkeys(inputs)),
        tuple(outputs),
        {a.name: _setting(a) for a in node.attributes.values()},
        tuple(weights),
    )


def _is_number(step: Step) -> bool:
    """Whether a node is called by its type and a number, as exporters and porter call those without a name."""
    return step.name.startswith(step.type) and step.name[len(step.type) :].lstrip("_.").isdigit()


def _setting(attribute: ir.Attr) -> Json:
    import onnx_ir as ir

    value = attribute.value
    if attribute.type == ir.AttributeType.TENSOR:
        return f"{value.dtype.name.lower()} {list(value.shape.numpy())}" if value.size > SHOWN else value.numpy().tolist()
    if isinstance(value, int | float | str):
        return _written(value)
    if isinstance(value, list | tuple) and all(isinstance(v, int | float | str) for v in value):
        return [_written(v) for v in value]
    return attribute.type.name.lower()


def _written(value: float | str) -> Json:
    """Floating-point attributes are float32: as somebody wrote them."""
    import numpy as np

    return float(str(np.float32(value))) if isinstance(value, float) else value
