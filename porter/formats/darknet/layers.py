"""What each layer of Darknet keeps in the `.weights` file, and what it passes on: both follow from the sizes before it.

The file has float32 values and nothing that says whose they are. Two families of programs write it, and differ in a few
layers: the original (`darknet`) and AlexeyAB's fork (`alexeyab`).

A layer's tensors are `weight` and `bias`; those of its batch normalisation, whose bias is then the layer's only one, are
`bn.weight`, `bn.bias`, `bn.running_mean` and `bn.running_var`. Parts of recurrent layers go before (`wf.weight`).

Source: pjreddie/darknet at f6afaab and AlexeyAB/darknet at 59596d7, `src/parser.c` (parse_*: settings and defaults;
load_*_weights: what is read, in this order) and `src/*_layer.c` (make_*: sizes).
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

from porter.dataclass import dataclass
from porter.errors import FormatError
from porter.formats.darknet.cfg import Section


@dataclass(frozen=True, slots=True)
class Variant:
    """What a file may be: written by AlexeyAB's fork or not; matrices of connected layers transposed, as in files before 2015;
    made for a net some of whose layers say `dontload`, or a whole net's.
    """

    alexeyab: bool = False
    transposed: bool = False
    partial: bool = False


@dataclass(frozen=True, slots=True)
class Blob:
    """One tensor of a layer: its name within the layer, shape, axes and role."""

    name: str
    shape: tuple[int, ...]
    axes: str | None
    role: str


@dataclass(frozen=True, slots=True)
class Size:
    """What a layer passes on: channels, height and width, 1 where they mean nothing, and how many values that are."""

    channels: int
    height: int
    width: int

    @property
    def count(self) -> int:
        return self.channels * self.height * self.width


@dataclass(frozen=True, slots=True)
class Place:
    """A layer where it stands: its section, number, the size that comes in, and the sizes that all layers before it passed on."""

    section: Section
    index: int
    input: Size
    before: list[Size]
    variant: Variant

    def positive(self, key: str, default: int = 1) -> int:
        return self.section.integer(key, default, 1)

    def flag(self, key: str) -> bool:
        return self.section.integer(key, 0) != 0


Built = tuple[list[Blob], Size]
"""A layer's tensors, and what it passes on."""


def build(place: Place) -> Built:
    """What the layer at `place` keeps and passes on.

    Raises:
        FormatError: its type is unknown, or its settings and the size that comes in do not go together.
    """
    section = place.section
    if section.name in _PASSING:
        return [], place.input
    made = _LAYERS.get(section.name)
    if made is None:
        raise FormatError(
            "F081",
            f"layer {place.index} has the type [{section.name}], which is unknown; its weights and its size cannot be told",
            path=section.path,
            line=section.line,
            column=1,
            excerpt=section.raw,
            width=len(section.raw),
            hint="porter knows the layers of pjreddie's and AlexeyAB's Darknet; convert models of other forks with their own tools",
        )
    blobs, size = made(place)
    if size.count > _MOST_VALUES:
        raise section.error(
            f"layer {place.index} passes on {size.channels} by {size.height} by {size.width} values, more than Darknet counts"
        )
    return ([] if place.variant.partial and place.flag("dontload") else blobs), size


_MOST_VALUES = (1 << 31) - 1


_PASSING_TYPES = """
    softmax soft cost dropout activation normalization lrn yolo Gaussian_yolo region detection contrastive empty silence logistic
    l2norm iseg"""
_PASSING = frozenset(_PASSING_TYPES.split())
"""Types without weights whose size is that of what comes in."""


def _normalised(place: Place) -> bool:
    return place.flag("batch_normalize") or (place.variant.alexeyab and place.flag("cbn"))


def _statistics(place: Place, outputs: int) -> list[Blob]:
    if place.variant.partial and place.flag("dontloadscales"):
        return []
    names = (("bn.weight", "weight"), ("bn.running_mean", "running_mean"), ("bn.running_var", "running_var"))
    return [Blob(name, (outputs,), "C", role) for name, role in names]


def _bias(place: Place, outputs: int) -> Blob:
    return Blob("bn.bias", (outputs,), "C", "bias") if _normalised(place) else Blob("bias", (outputs,), "O", "bias")


def _convolution(place: Place, inputs: int, outputs: int, size: int, groups: int = 1) -> list[Blob]:
    """Biases, what batch normalisation has, and weights."""
    if inputs % groups or outputs % groups:
        raise place.section.error(f"{inputs} channels and {outputs} filters cannot be split into {groups} groups", "groups")
    weight = Blob("weight", (outputs, inputs // groups, size, size), "OIHW", "weight")
    if place.flag("flipped"):
        weight = Blob("weight", (inputs // groups, size, size, outputs), "IHWO", "weight")
    return [_bias(place, outputs), *(_statistics(place, outputs) if _normalised(place) else ()), weight]


def _connection(place: Place, inputs: int, outputs: int) -> list[Blob]:
    """Biases, weights, and what batch normalisation has."""
    weight = Blob("weight", (outputs, inputs), "OI", "weight")
    if place.variant.transposed:
        weight = Blob("weight", (inputs, outputs), "IO", "weight")
    return [_bias(place, outputs), weight, *(_statistics(place, outputs) if _normalised(place) else ())]


def _within(part: str, blobs: list[Blob]) -> list[Blob]:
    return [Blob(f"{part}.{b.name}", b.shape, b.axes, b.role) for b in blobs]


def _windows(place: Place, length: int, size: int, stride: int, padding: int) -> int:
    """How often a window fits along an axis, which must be at least once."""
    if length + padding < size:
        raise place.section.error(
            f"[{place.section.name}] of size {size} does not fit into {length} pixels and {padding} of padding", "size"
        )
    return (length + padding - size) // stride + 1


def _padding(place: Place, size: int) -> int:
    return size // 2 if place.flag("pad") else place.section.integer("padding", 0, 0)


def _strides(place: Place) -> tuple[int, int]:
    """Down and across."""
    stride = place.positive("stride")
    if not place.variant.alexeyab:
        return stride, stride
    down, across = (place.section.integer(key, stride) for key in ("stride_y", "stride_x"))
    return (down if down > 0 else stride), (across if across > 0 else stride)


def _slid(place: Place, outputs: int, size: int) -> Size:
    """What a convolution passes on."""
    padding = 2 * _padding(place, size)
    down, across = _strides(place)
    blur = place.section.integer("antialiasing", 0) if place.variant.alexeyab else 0
    if not blur:
        return Size(
            outputs,
            _windows(place, place.input.height, size, down, padding),
            _windows(place, place.input.width, size, across, padding),
        )
    # The convolution takes every pixel, and a fixed filter behind it has the strides.
    width, around = (2, 0) if blur == 2 else (3, 2)
    height = _windows(place, _windows(place, place.input.height, size, 1, padding), width, down, around)
    return Size(outputs, height, _windows(place, _windows(place, place.input.width, size, 1, padding), width, across, around))


def _groups(place: Place) -> int:
    if place.variant.alexeyab and place.flag("xnor"):
        return 1
    return max(place.section.integer("groups", 1), 1)


def _convolutional(place: Place) -> Built:
    outputs, size = place.positive("filters"), place.positive("size")
    blobs = _convolution(place, place.input.channels, outputs, size, _groups(place))
    shared = place.variant.alexeyab and "share_index" in place.section.settings
    return ([] if shared else blobs), _slid(place, outputs, size)


def _deconvolutional(place: Place) -> Built:
    outputs, size, stride = place.positive("filters"), place.positive("size"), place.positive("stride")
    cut = 2 * _padding(place, size)
    lengths = [(length - 1) * stride + size - cut for length in (place.input.height, place.input.width)]
    if min(lengths) < 1:
        raise place.section.error(f"[deconvolutional] cuts {cut} pixels, and leaves none", "padding")
    bias, *statistics, _ = _convolution(place, place.input.channels, outputs, size)
    weight = Blob("weight", (place.input.channels, outputs, size, size), "IOHW", "weight")
    return [bias, *statistics, weight], Size(outputs, *lengths)


def _connected(place: Place) -> Built:
    outputs = place.positive("output")
    return _connection(place, place.input.count, outputs), Size(outputs, 1, 1)


def _batchnorm(place: Place) -> Built:
    channels = place.input.channels
    roles = (["bias"] if place.variant.alexeyab else []) + ["weight", "running_mean", "running_var"]
    return [Blob(role, (channels,), "C", role) for role in roles], place.input


def _local(place: Place) -> Built:
    outputs, size, stride = place.positive("filters"), place.positive("size"), place.positive("stride")
    padding = size - 1 if place.flag("pad") else 0
    height, width = (_windows(place, length, size, stride, padding) for length in (place.input.height, place.input.width))
    weight = Blob("weight", (height * width, outputs, place.input.channels, size, size), "LOIHW", "weight")
    return [Blob("bias", (outputs, height, width), "OHW", "bias"), weight], Size(outputs, height, width)


def _crnn(place: Place) -> Built:
    fork = place.variant.alexeyab
    hidden, outputs = (place.positive(key if fork else key + "_filters") for key in ("hidden", "output"))
    size, groups = (place.positive("size", 3), _groups(place)) if fork else (3, 1)
    parts = (("input_layer", place.input.channels, hidden), ("self_layer", hidden, hidden), ("output_layer", hidden, outputs))
    blobs = [b for name, i, o in parts for b in _within(name, _convolution(place, i, o, size, groups))]
    return blobs, _slid(place, outputs, size) if fork else Size(outputs, place.input.height, place.input.width)


def _conv_lstm(place: Place) -> Built:
    outputs, size = place.positive("output"), place.positive("size", 3)
    groups = _groups(place)
    narrow = place.flag("bottleneck")
    parts = [(name, outputs) for name in ("vf", "vi", "vo") if place.flag("peephole")]
    parts += [("wf", 2 * outputs)] if narrow else [(name, outputs) for name in ("wf", "wi", "wg", "wo")]
    parts += [(name, place.input.channels) for name in ("uf", "ui", "ug", "uo")]
    blobs = [b for name, inputs in parts for b in _within(name, _convolution(place, inputs, outputs, size, groups))]
    return blobs, _slid(place, outputs, size)


def _rnn(place: Place) -> Built:
    outputs = place.positive("output")
    hidden = place.positive("hidden") if place.variant.alexeyab else outputs
    parts = (("input_layer", place.input.count, hidden), ("self_layer", hidden, hidden), ("output_layer", hidden, outputs))
    return [b for name, i, o in parts for b in _within(name, _connection(place, i, o))], Size(outputs, 1, 1)


def _gated(original: str, fork: str) -> Callable[[Place], Built]:
    """A layer of several connected ones, in the order of either program: `u…` take what comes in, `w…` the state."""

    def of(place: Place) -> Built:
        outputs = place.positive("output")
        sizes = {"u": place.input.count, "w": outputs}
        names = (fork if place.variant.alexeyab else original).split()
        return [b for name in names for b in _within(name, _connection(place, sizes[name[0]], outputs))], Size(outputs, 1, 1)

    return of


def _shortcut(place: Place) -> Built:
    sources = len(place.section.references("from", place.index))
    kind = place.section.text("weights_type", "none") if place.variant.alexeyab else "none"
    if kind in ("per_feature", "per_layer"):
        return [Blob("weight", (sources + 1,), None, "weight")], place.input
    if kind == "per_channel":
        return [Blob("weight", (sources + 1, place.input.channels), None, "weight")], place.input
    if kind != "none":
        raise place.section.error(f"weights_type is none, per_feature, per_layer or per_channel, and not '{kind[:40]}'", "weights_type")
    return [], place.input


def _implicit(place: Place) -> Built:
    channels, atoms = place.positive("filters", 128), place.positive("atoms")
    return [Blob("weight", (channels, atoms), None, "weight")], Size(channels, atoms, 1)


def _route(place: Place) -> Built:
    sources = [place.before[n] for n in place.section.references("layers", place.index)]
    first, groups = sources[0], place.positive("groups") if place.variant.alexeyab else 1
    if any((s.height, s.width) != (first.height, first.width) for s in sources):
        return [], Size(sum(s.count for s in sources) // groups, 1, 1)  # only their values, one behind the other
    return [], Size(sum(s.channels for s in sources) // groups, first.height, first.width)


def _of_source(place: Place) -> Built:
    return [], place.before[place.section.references("from", place.index)[0]]


def _pool(place: Place) -> Built:
    down, across = _strides(place)
    if place.variant.alexeyab and place.flag("maxpool_depth"):
        return [], Size(place.positive("out_channels"), place.input.height, place.input.width)
    size = place.positive("size", place.section.integer("stride", 1))
    padding = place.section.integer("padding", size - 1, 0)
    return [], Size(
        place.input.channels,
        _windows(place, place.input.height, size, down, padding),
        _windows(place, place.input.width, size, across, padding),
    )


def _upsample(place: Place) -> Built:
    stride, size = place.section.integer("stride", 2), place.input
    if stride < 0:
        return [], _shrunk(place, -stride, size.channels)
    return [], Size(size.channels, size.height * stride, size.width * stride)


def _shrunk(place: Place, by: int, channels: int) -> Size:
    height, width = place.input.height // by, place.input.width // by
    if not height or not width or not channels:
        raise place.section.error(
            f"[{place.section.name}] by {by} leaves nothing of {place.input.height} by {place.input.width} pixels", "stride"
        )
    return Size(channels, height, width)


def _reorg(place: Place) -> Built:
    stride, size = place.positive("stride"), place.input
    if place.flag("reverse"):
        if size.channels < stride * stride:
            raise place.section.error(f"[{place.section.name}] by {stride} leaves nothing of {size.channels} channels", "stride")
        return [], Size(size.channels // stride**2, size.height * stride, size.width * stride)
    return [], _shrunk(place, stride, size.channels * stride**2)


_LAYERS: MappingProxyType[str, Callable[[Place], Built]] = MappingProxyType(
    {
        "convolutional": _convolutional,
        "conv": _convolutional,
        "deconvolutional": _deconvolutional,
        "deconv": _deconvolutional,
        "connected": _connected,
        "conn": _connected,
        "batchnorm": _batchnorm,
        "local": _local,
        "crnn": _crnn,
        "conv_lstm": _conv_lstm,
        "rnn": _rnn,
        "lstm": _gated("wi wf wo wg ui uf uo ug", "wf wi wg wo uf ui ug uo"),
        "gru": _gated("wz wr wh uz ur uh", "uz ur uh wz wr wh"),
        "shortcut": _shortcut,
        "implicit": _implicit,
        "route": _route,
        "scale_channels": _of_source,
        "sam": _of_source,
        "maxpool": _pool,
        "max": _pool,
        "local_avgpool": _pool,
        "local_avg": _pool,
        "avgpool": lambda place: ([], Size(place.input.channels, 1, 1)),
        "avg": lambda place: ([], Size(place.input.channels, 1, 1)),
        "upsample": _upsample,
        "reorg": _reorg,
        "reorg3d": _reorg,
        "crop": lambda place: ([], Size(place.input.channels, place.positive("crop_height"), place.positive("crop_width"))),
        "history": lambda place: (
            [],
            Size(place.input.channels * place.positive("history_size", 4), place.input.height, place.input.width),
        ),
    }
)
