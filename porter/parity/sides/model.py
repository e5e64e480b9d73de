"""What all sides share that compute with an ONNX model: Caffe nets that porter took over, ONNX files, what TensorRT holds."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Any

from porter.graph.analysis.values import DTYPES
from porter.graph.feeds import Given, Shape
from porter.graph.runtime import Runnable
from porter.parity.side import BUDGET, Observed, Step
from porter.tensor import Tensor

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

UNKNOWN_SIZE = 1 << 24
"""Bytes that a value is taken to have where nothing says its shape."""


class ModelSide:
    """A side that runs `model` in onnxruntime.

    aliases: of values, see `Side`. stack: what has to be closed in the end.
    """

    kind = "onnx"
    runner = "onnxruntime"

    def __init__(
        self,
        label: str,
        model: ir.Model,
        steps: Sequence[Step],
        *,
        aliases: Mapping[str, tuple[str, ...]] | None = None,
        notices: Sequence[str] = (),
        stack: ExitStack | None = None,
    ) -> None:
        self.label = label
        self.steps = tuple(steps)
        self.aliases: Mapping[str, tuple[str, ...]] = aliases or {}
        self.notices = tuple(notices)
        self._model = model
        self._stack = stack or ExitStack()
        self._values = values_of(model)
        self._order = {name: number for number, name in enumerate(self._values)}

    @cached_property
    def inputs(self) -> Mapping[str, Given]:
        given = [v for v in self._model.graph.inputs if v.name not in self._model.graph.initializers]
        return {v.name or "": Given(shape_of(v), DTYPES.get(v.dtype.name, "float32") if v.dtype else "float32") for v in given}

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple([v.name or "" for v in self._model.graph.outputs])

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        found = {}
        for name, value in self._values.items():
            shape = shape_of(value)
            if shape is not None:
                found[name] = shape
        return found

    @cached_property
    def _runnable(self) -> Runnable:
        return Runnable(self._model, f"'{self.label}'")

    def recorded_inputs(self) -> Mapping[str, NDArray[Any]]:
        return {}

    def prepare(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        return None

    def run(self, inputs: Mapping[str, NDArray[Any]], wanted: Sequence[str]) -> Iterator[Observed]:
        constants = self._model.graph.initializers
        asked = sorted({name for name in wanted if name in self._order}, key=self._order.__getitem__)
        for batch in batches(asked, self.shapes, inputs):
            made = self._runnable.run(inputs, [name for name in batch if name not in inputs and name not in constants])
            for name in batch:
                if name in constants:
                    tensor = constants[name].const_value
                    assert tensor is not None
                    array = tensor.numpy()
                else:
                    array = inputs[name] if name in inputs else made.pop(name)
                yield Observed(name, array, array.shape)

    def replay(self, step: Step, given: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]] | None:
        if not self._is_made(step):
            return {o.name: o.array for o in self.run({}, step.outputs)}
        return self._runnable.run(given, step.outputs, given)

    def _is_made(self, step: Step) -> bool:
        """Whether nodes make what the layer makes: it may be a constant."""
        return all(self._values[name].producer() is not None for name in step.outputs)

    def reads(self, names: Sequence[str], known: Collection[str]) -> tuple[str, ...]:
        """Which of `known` are read in making `names`, where these are not made again."""
        found: dict[str, None] = {}
        values = self._values
        todo = [node for name in names if (node := values[name].producer()) is not None]
        seen = set(todo)
        while todo:
            for value in todo.pop().inputs:
                maker = value.producer() if value is not None else None
                if value is not None and value.name and value.name in known:
                    found[value.name] = None
                elif maker is not None and maker not in seen:
                    seen.add(maker)
                    todo.append(maker)
        return tuple(found)

    def fragment(self, step: Step) -> ir.Model | None:
        import onnx_ir as ir

        if not self._is_made(step):
            return None
        graph = ir.convenience.extract(self._model.graph, step.inputs, step.outputs)
        graph.name = step.name
        return ir.Model(graph, ir_version=self._model.ir_version, functions=list(self._model.functions.values()))

    def weight(self, name: str) -> Tensor | None:
        value = self._model.graph.initializers.get(name)
        if value is None or value.const_value is None or value.const_value.dtype.name == "STRING":
            return None
        return Tensor.from_array(name, value.const_value.numpy())

    def __enter__(self) -> ModelSide:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()


def values_of(model: ir.Model) -> dict[str, ir.Value]:
    """The values of the main graph that are tensors: inputs and constants first, then in the order in which nodes make them."""
    import onnx_ir as ir

    graph = model.graph
    made = [*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs)]
    return {v.name: v for v in made if v.name and (v.type is None or isinstance(v.type, ir.TensorType))}


def shape_of(value: ir.Value) -> Shape | None:
    """Sizes of a value, as far as they are known."""
    return None if value.shape is None else tuple([n if isinstance(n, int) else None for n in value.shape])


def batches(names: Sequence[str], shapes: Mapping[str, Shape], inputs: Mapping[str, NDArray[Any]]) -> Iterator[list[str]]:
    """`names` in groups whose values have about `BUDGET` bytes; an open size counts as the first of the inputs' does."""
    opened = next((a.shape[0] for a in inputs.values() if a.ndim), 1)
    batch: list[str] = []
    room = BUDGET
    for name in names:
        shape = shapes.get(name)
        size = UNKNOWN_SIZE if shape is None else 4 * math.prod(opened if n is None else n for n in shape)
        if batch and size > room:
            yield batch
            batch, room = [], BUDGET
        batch.append(name)
        room -= size
    if batch:
        yield batch
