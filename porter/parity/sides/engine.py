"""A network of TensorRT as a side of a comparison, run by the engine that TensorRT makes of it, on a GPU.

An engine has no values but outputs: tensors that are asked for are made outputs, a bounded number of bytes of them at a time, and an engine
is built for each such batch. What TensorRT fuses around an output is another kernel, so that rounding may be another than in the engine
that a user builds; the outputs of the network itself are of the engine without more.

Source: NvInfer.h, v11.1 (INetworkDefinition::markOutput, unmarkOutput).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from porter.errors import TensorRTError
from porter.parity.side import Observed, Step
from porter.parity.sides.model import batches
from porter.parity.sides.tensorrt import TensorRTSide
from porter.tensorrt.hand_built import HandBuilt
from porter.tensorrt.layers import Network
from porter.tensorrt.live import engine_run
from porter.tensorrt.package import Package

if TYPE_CHECKING:
    from numpy.typing import NDArray

FUSION = "of each batch of values an engine of its own was built, with these as outputs: TensorRT fuses less there than without them"


def need_gpu() -> None:
    """Refuse where there is none.

    Raises:
        TensorRTError: CUDA's runtime is not there, or sees no GPU.
    """
    if engine_run.device() is None:
        hint = "leave '--runner' out: the network is then read back, said as ONNX and run in onnxruntime"
        raise TensorRTError("T345", "an engine runs on a GPU, and there is none, or no CUDA runtime that sees it", hint=hint)


class EngineSide(TensorRTSide):
    """A network of TensorRT, run on a GPU. Its layers are not run alone: a layer's engine is another one than its part of the whole."""

    runner = "engine"

    def __init__(self, label: str, network: Network, notices: list[str], stack: ExitStack, made: HandBuilt, package: Package) -> None:
        super().__init__(label, network, [*notices, FUSION], stack, made, package)
        definition = made.definition
        layers = [definition.get_layer(n) for n in range(definition.num_layers)]
        tensors = [layer.get_output(n) for layer in layers for n in range(layer.num_outputs)]
        self._held = {t.name: t for t in tensors if t is not None}

    def run(self, inputs: Mapping[str, NDArray[Any]], wanted: Sequence[str]) -> Iterator[Observed]:
        asked = sorted({name for name in wanted if name in self._order}, key=self._order.__getitem__)
        for batch in batches(asked, self.shapes, inputs):
            names = [name for name in batch if name in self._held]
            made = self._outputs(inputs, names) if names else {}
            for name in batch:
                array = made.pop(name, None) if name in names else inputs.get(name)
                if array is not None:
                    yield Observed(name, array, array.shape)

    def _outputs(self, inputs: Mapping[str, NDArray[Any]], names: Sequence[str]) -> dict[str, NDArray[Any]]:
        with self.marked(names) as (outputs, plan):
            return engine_run.run(self._package, plan(inputs), inputs, outputs)

    @contextmanager
    def marked(self, names: Sequence[str]) -> Iterator[tuple[list[str], Callable[[Mapping[str, NDArray[Any]]], memoryview]]]:
        """`names` as outputs of the network, for as long as it takes; yields all its outputs, and what builds the engine."""
        definition = self._made.definition
        outputs = [definition.get_output(n).name for n in range(definition.num_outputs)]
        more = [name for name in names if name not in outputs]
        for name in more:
            definition.mark_output(self._held[name])
        try:
            yield [*outputs, *more], partial(engine_run.plan, self._package, self._made.builder, definition)
        finally:
            for name in more:
                definition.unmark_output(self._held[name])

    def replay(self, step: Step, given: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]] | None:
        return None
