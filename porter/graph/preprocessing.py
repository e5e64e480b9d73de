"""What happens to an image before a net sees it: what the prototxt says of that, and what a caller does.

Caffe's data layers take a mean from every pixel and multiply by a scale, in this order; their image layers read with OpenCV, whose
channels are blue, green and red.

Source: BVLC/caffe data_transformer.cpp (mean_file, mean_value, scale, the crop in the middle at test time), io.cpp (cv::imread),
upgrade_proto.cpp (transform parameters of old data layers).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from porter.dataclass import dataclass
from porter.errors import GraphError, UsageError
from porter.formats.caffe.net import CaffeLayer, CaffeNet
from porter.graph.caffe.preparation import INPUT_LAYERS, State
from porter.tensor import Json

IMAGE_LAYERS = frozenset({"Data", "ImageData", "AnnotatedData", "WindowData", "DenseImageData", "VideoData"})
"""Layers whose images were read by OpenCV, by the layer itself or by the tool that made its database."""

KEY = "porter.preprocessing"
"""Where the model's metadata has it, as JSON."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What is known for one input.

    mean: what is taken away, one number or one a channel of the net, empty for nothing. mean_file: an image of it. scale: what is
    multiplied by after that. crop: the side of the square that is cut from the middle. channels: the order that the net wants, "BGR" or
    "RGB", "" where nothing says. given: the order that the input has, where it is another. folded: whether the graph does it itself.
    """

    input: str
    mean: tuple[float, ...] = ()
    mean_file: str = ""
    scale: float = 1.0
    crop: int = 0
    channels: str = ""
    given: str = ""
    folded: bool = False

    @property
    def changes(self) -> bool:
        """Whether there is anything to do to the values of an image."""
        return bool(any(self.mean) or self.mean_file or self.scale != 1 or self.given)

    def to_json(self) -> dict[str, Json]:
        """As reports and the model's metadata have it."""
        return {
            "input": self.input,
            "mean": list(self.mean),
            "mean_file": self.mean_file or None,
            "scale": self.scale,
            "crop": self.crop or None,
            "channels": self.channels or None,
            "given": self.given or self.channels or None,
            "folded": self.folded,
        }

    def text(self) -> str:
        """In words: `data: BGR, less 104, 117, 123, times 0.017`."""
        said = [self.channels] if self.channels else []
        said += [f"given as {self.given}"] if self.given else []
        said += [f"cut to {self.crop}×{self.crop}"] if self.crop else []
        said += [f"less {', '.join(f'{m:g}' for m in self.mean)}"] if self.mean else []
        said += [f"less the image {self.mean_file}"] if self.mean_file else []
        said += [f"times {self.scale:g}"] if self.scale != 1 else []
        return f"{self.input}: {', '.join(said)}" if said else self.input


@dataclass(frozen=True, slots=True)
class Wanted:
    """What `--preprocess` asks for: what is known already, and what the caller states, None where nothing."""

    mean: tuple[float, ...] | None = None
    scale: float | None = None
    channels: str | None = None
    input: str | None = None


def known(net: CaffeNet, state: State, inputs: Mapping[str, tuple[int | str, ...]]) -> tuple[Preprocessing, ...]:
    """What the layers that made these inputs say of them, by the first top of each: the images."""
    stages = state.stages.union(*(m.strings("stage") for m in net.message.messages("state")))
    found = {}
    for layer in net.layers:
        if layer.tops and layer.tops[0] in inputs and layer.runs_in(state.phase, state.level, stages):
            made = _of_layer(layer, inputs[layer.tops[0]])
            if made is not None:
                found[made.input] = made
    return tuple(found.values())


def _of_layer(layer: CaffeLayer, shape: tuple[int | str, ...]) -> Preprocessing | None:
    stated = layer.message.message("transform_param")
    images = layer.type in IMAGE_LAYERS
    if not images and not (stated is not None and (layer.type in INPUT_LAYERS or layer.type == "MemoryData")):
        return None
    mean = tuple([float(v) for v in layer.parameters("transform_param.mean_value") if isinstance(v, int | float)])
    scale, crop, file = (layer.parameter(f"transform_param.{n}") for n in ("scale", "crop_size", "mean_file"))
    return Preprocessing(
        layer.tops[0],
        mean,
        file if isinstance(file, str) else "",
        float(scale) if isinstance(scale, int | float) else 1.0,
        crop if isinstance(crop, int) else 0,
        "BGR" if images and len(shape) == 4 and shape[1] == 3 else "",
    )


def wanted(texts: Collection[str]) -> Wanted | None:
    """What `--preprocess` says, in words `known`, `mean=104,117,123`, `scale=0.017`, `channels=rgb`, `input=data`. None for no text.

    Raises:
        UsageError: another word, or a value that is none.
    """
    words = [word for text in texts for word in text.split()]
    if not texts:
        return None
    if not words:
        raise UsageError("U932", "'--preprocess' says nothing", hint=_WORDS)
    said: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if word == "known":
            continue
        if not equals or key not in ("mean", "scale", "channels", "input") or not value or key in said:
            raise UsageError("U932", f"'--preprocess' has no word '{word}'", hint=_WORDS)
        said[key] = value
    channels = said.get("channels", "").upper()
    if channels not in ("", "RGB", "BGR"):
        raise UsageError("U932", f"'{said['channels']}' is no order of channels", hint="channels=rgb or channels=bgr, as the images have")
    mean = tuple([_number(v, "mean") for v in said["mean"].split(",")]) if "mean" in said else None
    scale = _number(said["scale"], "scale") if "scale" in said else None
    return Wanted(mean, scale, channels or None, said.get("input"))


_WORDS = "'--preprocess known' folds what the prototxt says; or 'mean=104,117,123 scale=0.017 channels=rgb'"


def _number(text: str, what: str) -> float:
    import math

    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UsageError("U932", f"'{text}' is no number for '{what}'", hint=_WORDS)
    return number


def settled(said: Wanted, found: Collection[Preprocessing], inputs: Mapping[str, tuple[int | str, ...]]) -> Preprocessing:
    """What is to be folded: what is known of the one input that is an image, and what the caller says of it.

    Raises:
        GraphError: nothing is known or said, or of which input is not clear.
    """
    images = [name for name, shape in inputs.items() if len(shape) == 4]
    name = said.input
    if name is None:
        likely = [p.input for p in found] or images
        if len(likely) != 1:
            what = f"several inputs may be images: {', '.join(likely)}" if likely else "no input is an image, with four dimensions"
            raise GraphError("G042", what, hint="'--preprocess input=data …' says which" if likely else None)
        (name,) = likely
    if name not in inputs:
        raise GraphError("G042", f"there is no input '{name}'", hint=f"the inputs are: {', '.join(inputs)}")
    base = next((p for p in found if p.input == name), Preprocessing(name))
    channels = base.channels or ("BGR" if said.channels else "")
    made = Preprocessing(
        name,
        base.mean if said.mean is None else said.mean,
        base.mean_file if said.mean is None else "",
        base.scale if said.scale is None else said.scale,
        base.crop,
        channels,
        said.channels if said.channels and said.channels != channels else "",
        folded=True,
    )
    if not made.changes and said == Wanted(input=said.input):
        raise GraphError("G043", f"nothing says how the input '{name}' is preprocessed", hint=_WORDS)
    return made
