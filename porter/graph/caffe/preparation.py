"""A net made ready to be taken over: the layers that run at test time, its inputs with their shapes, and what was cut.

Source: BVLC/caffe net.cpp (FilterNet; outputs are the blobs that no layer reads).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from porter.dataclass import dataclass, field, replace
from porter.errors import GraphError
from porter.formats.caffe.message_tree import Message
from porter.formats.caffe.net import CaffeLayer, CaffeNet
from porter.graph.builder import Shape

INPUT_LAYERS = frozenset({"Input"})
DATA_LAYERS = frozenset(
    {"Data", "ImageData", "HDF5Data", "MemoryData", "WindowData", "DummyData", "AnnotatedData", "DenseImageData", "VideoData"}
)
"""Layers that read data: their tops become inputs of the graph."""

SOURCES = INPUT_LAYERS | DATA_LAYERS

LOSSES = frozenset(
    {
        *("SoftmaxWithLoss", "EuclideanLoss", "HingeLoss", "InfogainLoss", "MultinomialLogisticLoss", "SigmoidCrossEntropyLoss"),
        *("ContrastiveLoss", "SmoothL1Loss", "MultiBoxLoss", "FocalLoss", "CenterLoss", "TripletLoss", "SoftmaxWithFocalLoss"),
        *("SmoothL1LossOHEM", "SoftmaxWithLossOHEM", "BoxAnnotatorOHEM", "WeightedSoftmaxWithLoss", "RegionLoss"),
        *("Yolov3", "GaussianYolov3"),
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
class Stated:
    """The shape that a net states for an input, None where it does not, and what had to be assumed for it ("" for nothing)."""

    shape: Shape | None
    assumed: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """The state that a net is filtered for."""

    phase: str = "TEST"
    level: int = 0
    stages: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Prepared:
    """The layers that stay in order (those of `SOURCES` only say that their tops are inputs), the inputs, the names of the blobs that
    come out, and what was cut.
    """

    layers: tuple[CaffeLayer, ...]
    inputs: tuple[tuple[str, Shape], ...]
    outputs: tuple[str, ...]
    cut: tuple[Cut, ...] = ()
    assumed: tuple[str, ...] = field(default=())


def prepare(net: CaffeNet, state: State, input_shapes: Mapping[str, Shape]) -> Prepared:
    """What is left of `net` in this state, when data layers become inputs and losses are cut.

    `input_shapes` win over what the net states. Stages that the net states itself count, too.

    Raises:
        GraphError: an input whose shape nothing states.
    """
    cut: list[Cut] = []
    stages = state.stages.union(*(m.strings("stage") for m in net.message.messages("state")))
    running = [layer for layer in net.layers if layer.runs_in(state.phase, state.level, stages)]
    names = {layer.name for layer in running}
    cut += [
        Cut(layer.name, layer.type or "", _rules(layer))
        for layer in net.layers
        if layer.name not in names and not layer.runs_in(state.phase, state.level, stages)
    ]
    stated: dict[str, Stated] = {i.name: Stated(i.shape) for i in net.inputs if i.layer is None}
    layers: list[CaffeLayer] = []
    for layer in running:
        if layer.type in INPUT_LAYERS:
            stated.update(_shapes_of_tops(layer, "input_param"))
            layers.append(layer)
        elif layer.type in DATA_LAYERS:
            stated.update(data_inputs(layer))
            layers.append(layer)
            cut.append(Cut(layer.name, layer.type, f"its tops are inputs: {', '.join(layer.tops)}{_filled(layer)}"))
        elif layer.type in LOSSES or layer.type in METRICS:
            cut.append(Cut(layer.name, layer.type, "it computes nothing that the trained network is run for"))
            layers += _kept_of_loss(layer)
        else:
            layers.append(layer)
    inputs, assumed = _inputs(net, stated, input_shapes, {bottom for layer in layers for bottom in layer.bottoms}, cut)
    silenced = {bottom for layer in running if layer.type == "Silence" for bottom in layer.bottoms}
    return Prepared(tuple(layers), inputs, _outputs(layers, silenced), tuple(cut), assumed)


def _rules(layer: CaffeLayer) -> str:
    """When a layer with rules runs, in words."""
    said = []
    for rule in layer.include or layer.exclude:
        parts = [f"phase {rule.phase}"] if rule.phase else []
        parts += [f"stage {stage}" for stage in rule.stages] + [f"not stage {stage}" for stage in rule.not_stages]
        parts += [f"level {n} {what}" for n, what in ((rule.min_level, "or more"), (rule.max_level, "or less")) if n is not None]
        said.append(" and ".join(parts) or "every state")
    return f"it runs in {'' if layer.include else 'all but '}{', or '.join(said)}"


def _inputs(
    net: CaffeNet, stated: Mapping[str, Stated], given: Mapping[str, Shape], read: set[str], cut: list[Cut]
) -> tuple[tuple[tuple[str, Shape], ...], tuple[str, ...]]:
    """The inputs that a layer reads, with their shapes, and what had to be assumed for these; others are noted in `cut`."""
    for name in given:
        if name not in stated:
            known = ", ".join(stated) or "none"
            raise GraphError("G031", f"--input-shape names '{name}', which is no input", hint=f"the inputs are: {known}")
    inputs, assumed = [], []
    for name, found in stated.items():
        if name not in read:
            cut.append(Cut(name, "Input", "no layer reads it that is left"))
            continue
        shape = given.get(name, found.shape)
        if shape is None or not all(n > 0 for n in shape):
            raise GraphError("G030", f"nothing states the shape of the input '{name}'", hint=f"say '--input-shape {name}=1x3x224x224'")
        if name not in given and found.assumed:
            assumed.append(f"{name}: {found.assumed}")
        inputs.append((name, shape))
    return tuple(inputs), tuple(assumed)


def _kept_of_loss(layer: CaffeLayer) -> list[CaffeLayer]:
    """The Softmax that a SoftmaxWithLoss has as its second top. Source: BVLC softmax_loss_layer.cpp."""
    if layer.type != "SoftmaxWithLoss" or len(layer.tops) < 2:
        return []
    message = Message(tuple([entry for entry in layer.message.entries if entry.name != "loss_param"]))
    return [replace(layer, type="Softmax", bottoms=layer.bottoms[:1], tops=layer.tops[1:2], message=message)]


def data_inputs(layer: CaffeLayer) -> dict[str, Stated]:
    """What a data layer's parameters state of the shapes of its tops: batch and crop size, DummyData's and MemoryData's shapes."""
    if layer.type == "DummyData":
        return _shapes_of_tops(layer, "dummy_data_param")
    found = dict.fromkeys(layer.tops, Stated(None))
    if not layer.tops:
        return found
    if layer.type == "MemoryData":
        sizes = [_size(layer, f"memory_data_param.{n}") for n in ("batch_size", "channels", "height", "width")]
        found[layer.tops[0]] = Stated(_known(sizes))
        return found
    param = _PARAMETERS.get(layer.type or "", "data_param")
    crop = _size(layer, "transform_param.crop_size")
    size = (crop, crop) if crop else None
    for folder, prefix in (("transform_param.resize_param", ""), (param, "new_")):
        height, width = (_size(layer, f"{folder}.{prefix}{side}") for side in ("height", "width"))
        size = size or ((height, width) if height and width else None)
    if size is not None:
        channels, why = _channels(layer, param)
        found[layer.tops[0]] = Stated((_size(layer, f"{param}.batch_size") or 1, channels, *size), why)
    return found


_PARAMETERS = {
    "ImageData": "image_data_param",
    "WindowData": "window_data_param",
    "DenseImageData": "dense_image_data_param",
    "HDF5Data": "hdf5_data_param",
}
"""The message that holds the parameters of a data layer, where it is not `data_param`."""


def _channels(layer: CaffeLayer, param: str) -> tuple[int, str]:
    """How many channels images have, and what was assumed for that: only the images themselves say it for sure."""
    means = len(layer.parameters("transform_param.mean_value"))
    if means > 1:
        return means, ""
    if layer.parameter("transform_param.force_gray") is True or layer.parameter(f"{param}.is_color") is False:
        return 1, ""
    if layer.type in ("ImageData", "DenseImageData", "WindowData") or layer.parameter("transform_param.force_color") is True:
        return 3, ""
    return 3, "3 channels, which its data layer does not state"


def _shapes_of_tops(layer: CaffeLayer, param: str) -> dict[str, Stated]:
    """One shape for all tops, or one each; DummyData's also as num, channels, height and width.

    Source: BVLC input_layer.cpp, dummy_data_layer.cpp.
    """
    message = layer.message.message(param) or Message()
    shapes = [_known(m.scalars("dim")) for m in message.messages("shape")]
    if not shapes:
        columns = [message.scalars(n) for n in ("num", "channels", "height", "width")]
        columns = [column * len(layer.tops) if len(column) == 1 else column for column in columns]
        shapes = [_known(row) for row in zip(*columns, strict=False)]
    if len(shapes) == 1:
        shapes *= len(layer.tops)
    return {top: Stated(shapes[i] if i < len(shapes) else None) for i, top in enumerate(layer.tops)}


def _filled(layer: CaffeLayer) -> str:
    """The constants that DummyData fills its tops with, for the report."""
    param = layer.message.message("dummy_data_param")
    if layer.type != "DummyData" or param is None:
        return ""
    fillers = param.messages("data_filler") or [Message()]
    fillers = fillers * len(layer.tops) if len(fillers) == 1 else fillers
    constants = [
        (top, f.lookup("value") or 0) for top, f in zip(layer.tops, fillers, strict=False) if (f.string("type") or "constant") == "constant"
    ]
    return "".join([f"; Caffe fills '{top}' with {value}" for top, value in constants])


def _size(layer: CaffeLayer, path: str) -> int | None:
    value = layer.parameter(path)
    return value if type(value) is int else None


def _known(sizes: Sequence[object]) -> Shape | None:
    """A shape of these sizes, or None where one of them is no integer."""
    found = tuple([n for n in sizes if type(n) is int])
    return found if len(found) == len(sizes) else None


def _outputs(layers: Sequence[CaffeLayer], silenced: set[str]) -> tuple[str, ...]:
    """The tops that no later layer reads, by name, as Caffe lists them; those that a Silence reads where there are no others."""
    open_: set[str] = set()
    for layer in layers:
        open_.difference_update(layer.bottoms)
        if layer.type not in SOURCES:
            open_.update(layer.tops)
    return tuple(sorted(open_ - silenced or open_))
