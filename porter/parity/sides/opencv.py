"""A Caffe net as a side of a comparison, read and run by OpenCV 4's own importer: an implementation that has nothing of porter's.

Source: OpenCV 4.x documentation, cv::dnn::readNetFromCaffe, Net::forward with names of layers, Net::enableFusion.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from porter.errors import GraphError, MissingDependencyError
from porter.formats.base import ReadOptions
from porter.formats.caffe.net import CaffeLayer, net_from_prototxt
from porter.formats.registry import open_store
from porter.graph.caffe.preparation import SOURCES, prepare
from porter.graph.feeds import Given, Shape
from porter.graph.porting import PortOptions
from porter.parity.side import Observed, Step
from porter.parity.sides.caffe import settings_of, weights_by_layer
from porter.store import TensorStore
from porter.tensor import Tensor

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

NOTHING = frozenset({"Dropout", "Split", "Silence"})
"""Types of layers that change nothing when a net is tested."""

FEW = 16
"""Values that are asked for in one run: OpenCV does not say how large they will be."""


class OpenCVSide:
    """A net that OpenCV holds. Its values are called as their layers, or `layer/top` where a layer has several tops."""

    kind = "caffe"
    runner = "opencv"
    notices: tuple[str, ...] = ()
    shapes: Mapping[str, Shape] = {}

    def __init__(self, label: str, net: Any, inputs: Mapping[str, Given], layers: Sequence[CaffeLayer], store: TensorStore) -> None:
        self.label = label
        self.inputs = inputs
        self._net = net
        self._store = store
        self._types = {layer.name: layer.type for layer in layers}
        self._places = {(layer.name, n): _value(layer, top) for layer in layers for n, top in enumerate(layer.tops)}
        held = {name: name for name in inputs}
        steps: list[Step] = []
        aliases: dict[str, tuple[str, ...]] = {}
        weights = weights_by_layer(store)
        written = Counter(top for layer in layers for top in layer.tops)
        for layer in layers:
            made = tuple([_value(layer, top) for top in layer.tops])
            read = tuple(dict.fromkeys(held[name] for name in layer.bottoms if name in held))
            steps.append(Step(layer.name, layer.type or "", read, made, settings_of(layer.message), weights.get(layer.name, ())))
            for top, value in zip(layer.tops, made, strict=True):
                aliases[value] = (f"{layer.name}/{top}", *([top] if written[top] == 1 and top != value else []))
            held |= dict(zip(layer.tops, made, strict=True))
        self.steps = tuple(steps)
        self.aliases: Mapping[str, tuple[str, ...]] = aliases
        read_names = {name for step in steps for name in step.inputs}
        self.outputs = tuple([v for step in steps for v in step.outputs if v not in read_names])

    @cached_property
    def _known(self) -> set[str]:
        return set(self._net.getLayerNames())

    def recorded_inputs(self) -> Mapping[str, NDArray[Any]]:
        return {}

    def prepare(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        return None

    def run(self, inputs: Mapping[str, NDArray[Any]], wanted: Sequence[str]) -> Iterator[Observed]:
        import cv2

        asked = set(wanted)
        names = list(dict.fromkeys(name for (name, _), value in self._places.items() if value in asked and name in self._known))
        for start in range(0, len(names), FEW):
            few = names[start : start + FEW]
            try:
                for name, array in inputs.items():
                    self._net.setInput(array, name)
                made = self._net.forwardAndRetrieve(few)
            except cv2.error as error:
                raise GraphError("G095", f"OpenCV cannot run the net: {_said(error)}", path=self.label) from error
            for name, tops in zip(few, made, strict=True):
                for number, array in enumerate(tops):
                    value = self._places.get((name, number))
                    if value in asked:
                        if self._types[name] == "DetectionOutput":
                            array = _boxes(array)
                        yield Observed(value, array, array.shape)

    def replay(self, step: Step, given: Mapping[str, NDArray[Any]]) -> None:
        return None

    def fragment(self, step: Step) -> ir.Model | None:
        return None

    def weight(self, name: str) -> Tensor | None:
        return self._store.get(name)

    def __enter__(self) -> OpenCVSide:
        return self

    def __exit__(self, *exception: object) -> None:
        self._store.close()


def open_side(prototxt: str, weights: str | None, options: PortOptions) -> OpenCVSide:
    """The net in `prototxt` with `weights`, as OpenCV reads it.

    Raises:
        MissingDependencyError: OpenCV is not there, or one without an importer of Caffe nets.
        GraphError: OpenCV refuses the files.
        PorterError: porter cannot read the prototxt.
    """
    try:
        import cv2
    except ImportError as error:
        raise MissingDependencyError("D004", f"OpenCV is needed to run a net by its own importer: {error}", hint=_HINT) from error
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        raise MissingDependencyError("D004", f"OpenCV {cv2.__version__} has no importer of Caffe nets", hint=_HINT)
    if weights is None:
        raise GraphError("G095", "OpenCV runs no net without weights", path=prototxt, hint="give them: deploy.prototxt,model.caffemodel")
    prepared = prepare(net_from_prototxt(prototxt), options.importing.state, options.importing.input_shapes)
    try:
        net = cv2.dnn.readNetFromCaffe(prototxt, weights)
    except cv2.error as error:
        raise GraphError("G095", f"OpenCV cannot read the net: {_said(error)}", path=prototxt) from error
    net.enableFusion(False)
    layers = [layer for layer in prepared.layers if layer.type not in SOURCES and layer.type not in NOTHING]
    inputs = {name: Given(tuple(map(int, shape))) for name, shape in prepared.inputs}
    store = open_store(weights, options=ReadOptions(net=prototxt))
    return OpenCVSide(f"{prototxt},{weights}", net, inputs, layers, store)


_HINT = "pip install 'opencv-python-headless<5'"


def _boxes(array: NDArray[Any]) -> NDArray[Any]:
    """Boxes of shape (1, 1, N, 7) as Caffe gives them. OpenCV fills up with rows of zeros, Caffe says with a row of -1 that there is none.

    Source: BVLC/caffe, SSD fork, detection_output_layer.cpp; OpenCV 4.x, dnn/src/layers/detection_output_layer.cpp.
    """
    import numpy as np

    kept = array[:, :, array.any(axis=(0, 1, 3))]
    return kept if kept.size else np.array([0, -1, -1, -1, -1, -1, -1], array.dtype).reshape(1, 1, 1, 7)


def _value(layer: CaffeLayer, top: str) -> str:
    return layer.name if len(layer.tops) == 1 else f"{layer.name}/{top}"


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
