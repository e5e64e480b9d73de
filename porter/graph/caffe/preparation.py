"""A net made ready to be taken over: the layers that run at test time, its inputs with their shapes, and what was cut.

Source: BVLC/caffe net.cpp (FilterNet; outputs are the blobs that no layer reads).
"""

from __future__ import annotations

from collections.abc import Mapping

from porter.dataclass import dataclass, field
from porter.errors import GraphError
from porter.formats.caffe.net import CaffeLayer, CaffeNet
from porter.graph.builder import Shape

INPUT_LAYERS = frozenset({"Input"})
DATA_LAYERS = frozenset(
    {"Data", "ImageData", "HDF5Data", "MemoryData", "WindowData", "DummyData", "AnnotatedData", "DenseImageData", "VideoData"}
)
"""Layers that read data: their tops become inputs of the graph."""

LOSSES = frozenset(
    {
        *("SoftmaxWithLoss", "EuclideanLoss", "HingeLoss", "InfogainLoss", "MultinomialLogisticLoss", "SigmoidCrossEntropyLoss"),
        *("ContrastiveLoss", "SmoothL1Loss", "MultiBoxLoss", "FocalLoss", "CenterLoss", "TripletLoss", "SoftmaxWithFocalLoss"),
        *("SmoothL1LossOHEM", "SoftmaxWithLossOHEM", "BoxAnnotatorOHEM", "WeightedSoftmaxWithLoss"),
    }
)
METRICS = frozenset({"Accuracy", "DetectionEvaluate", "HDF5Output", "Silence"})
"""Layers that compute nothing a trained net is run for."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A layer that is left out, and why."""

    name: str
    type: str
    reason: str


@dataclass(frozen=True, slots=True)
class State:
    """The state that a net is filtered for."""

    phase: str = "TEST"
    level: int = 0
    stages: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Prepared:
    """The layers to be taken over in order, the inputs, the names of the blobs that come out, and what was cut."""

    layers: tuple[CaffeLayer, ...]
    inputs: tuple[tuple[str, Shape], ...]
    outputs: tuple[str, ...]
    cut: tuple[Cut, ...] = ()
    assumed: tuple[str, ...] = field(default=())


def prepare(net: CaffeNet, state: State, input_shapes: Mapping[str, Shape]) -> Prepared:
    """What is left of `net` in this state, when data layers become inputs and losses are cut.

    `input_shapes` win over what the net states.

    Raises:
        GraphError: an input whose shape nothing states, or a layer that reads a blob which does not exist.
    """
    cut: list[Cut] = []
    running = []
    for layer in net.layers:
        if layer.runs_in(state.phase, state.level, state.stages):
            running.append(layer)
        elif layer.name not in {other.name for other in net.layers if other is not layer}:
            cut.append(Cut(layer.name, layer.type or "", f"its rules exclude it in phase {state.phase}"))
    stated: dict[str, Shape | None] = {i.name: i.shape for i in net.inputs if i.layer is None}
    by_input_layer = {i.name: i.shape for i in net.inputs if i.layer is not None}
    layers: list[CaffeLayer] = []
    for layer in running:
        if layer.type in INPUT_LAYERS:
            stated.update({top: by_input_layer.get(top) for top in layer.tops})
        elif layer.type in DATA_LAYERS:
            stated.update(data_shapes(layer))
            cut.append(Cut(layer.name, layer.type, f"its tops {', '.join(layer.tops)} are inputs"))
        elif layer.type in LOSSES or layer.type in METRICS:
            cut.append(Cut(layer.name, layer.type, "it computes nothing that the trained network is run for"))
        else:
            layers.append(layer)
    read = {bottom for layer in layers for bottom in layer.bottoms}
    data_tops = {top for layer in running if layer.type in DATA_LAYERS for top in layer.tops}
    inputs = []
    for name, shape in stated.items():
        if name in data_tops and name not in read:
            continue  # a label, read by what was cut
        shape = input_shapes.get(name, shape)
        if shape is None or not all(shape):
            raise GraphError(
                "G030", f"nothing states the shape of the input '{name}'", path=net.path, hint=f"say '--input-shape {name}=1x3x224x224'"
            )
        inputs.append((name, shape))
    for name in input_shapes:
        if name not in dict(inputs):
            known = ", ".join(n for n, _ in inputs) or "none"
            raise GraphError("G031", f"--input-shape names '{name}', which is no input", path=net.path, hint=f"the inputs are: {known}")
    return Prepared(tuple(layers), tuple(inputs), _outputs(layers), tuple(cut))


def data_shapes(layer: CaffeLayer) -> dict[str, Shape | None]:
    """The shapes of a data layer's tops as far as its parameters state them: crop size, batch size, DummyData's shapes."""
    if layer.type == "DummyData":
        return _dummy_shapes(layer)
    shapes: dict[str, Shape | None] = dict.fromkeys(layer.tops)
    folder = {
        "Data": "data_param",
        "ImageData": "image_data_param",
        "MemoryData": "memory_data_param",
        "WindowData": "window_data_param",
    }.get(layer.type or "")
    batch = layer.parameter(f"{folder}.batch_size") if folder else None
    if layer.type == "MemoryData":
        parts = [layer.parameter(f"memory_data_param.{n}") for n in ("batch_size", "channels", "height", "width")]
        if layer.tops and all(type(n) is int for n in parts):
            shapes[layer.tops[0]] = tuple([n for n in parts if type(n) is int])
        return shapes
    crop = layer.parameter("transform_param.crop_size")
    if layer.tops and type(crop) is int and crop:
        gray = layer.parameter("transform_param.force_gray") is True or layer.parameter("image_data_param.is_color") is False
        shapes[layer.tops[0]] = (batch if type(batch) is int else 1, 1 if gray else 3, crop, crop)
    return shapes


def _dummy_shapes(layer: CaffeLayer) -> dict[str, Shape | None]:
    """Source: BVLC dummy_data_layer.cpp: one shape for all tops, or one each; or num, channels, height and width."""
    param = layer.message.message("dummy_data_param")
    if param is None:
        return dict.fromkeys(layer.tops)
    shapes: list[Shape] = [tuple([d for d in m.scalars("dim") if type(d) is int]) for m in param.messages("shape")]
    if not shapes:
        columns = [[d for d in param.scalars(n) if type(d) is int] for n in ("num", "channels", "height", "width")]
        shapes = [tuple(row) for row in zip(*columns, strict=False)]
    if len(shapes) == 1:
        shapes *= len(layer.tops)
    return {top: shapes[i] if i < len(shapes) else None for i, top in enumerate(layer.tops)}


def _outputs(layers: list[CaffeLayer]) -> tuple[str, ...]:
    """The tops that no later layer reads, in order."""
    open_: dict[str, None] = {}
    for layer in layers:
        for bottom in layer.bottoms:
            open_.pop(bottom, None)
        for top in layer.tops:
            open_.pop(top, None)
            open_[top] = None
    return tuple(open_)
