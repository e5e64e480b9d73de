"""What Caffe's layers are called, and what each of their blobs is.

A blob has no name in Caffe: it is the n-th of its layer, and the layer's type says what it does. This module turns the
types of all three generations of the format into those of the last, and gives every blob a role (`weight`), axes
(`OIHW`) and, where an old file stored four dimensions for everything, the shape that it really has.

It knows neither files nor messages; the binary, the text and the HDF5 reader share it.

Source: BVLC/caffe at 9b891540183d: `src/caffe/util/upgrade_proto.cpp` (types), `src/caffe/layers/*.cpp` (`LayerSetUp`
creates the blobs, in this order), `src/caffe/blob.cpp` (`ShapeEquals`: legacy shapes are aligned at their end).
Forks are named where they differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import MappingProxyType

from porter.dataclass import dataclass

Scalar = bool | int | float | str
Parameter = Callable[[str], Scalar | None]
"""The value of a parameter of a layer by its path (`inner_product_param.transpose`), or None where the layer does not state it."""

_V0_TYPES = MappingProxyType(
    # Source: BVLC/caffe upgrade_proto.cpp, UpgradeV0LayerType. `padding` is not there: Caffe folds it into the layer that follows.
    {
        "accuracy": "Accuracy",
        "bnll": "BNLL",
        "concat": "Concat",
        "conv": "Convolution",
        "data": "Data",
        "dropout": "Dropout",
        "euclidean_loss": "EuclideanLoss",
        "flatten": "Flatten",
        "hdf5_data": "HDF5Data",
        "hdf5_output": "HDF5Output",
        "im2col": "Im2col",
        "images": "ImageData",
        "infogain_loss": "InfogainLoss",
        "innerproduct": "InnerProduct",
        "lrn": "LRN",
        "multinomial_logistic_loss": "MultinomialLogisticLoss",
        "pool": "Pooling",
        "relu": "ReLU",
        "sigmoid": "Sigmoid",
        "softmax": "Softmax",
        "softmax_loss": "SoftmaxWithLoss",
        "split": "Split",
        "tanh": "TanH",
        "window_data": "WindowData",
    }
)

_V1_TYPES = (
    # Source: BVLC/caffe caffe.proto, V1LayerParameter.LayerType, and upgrade_proto.cpp, UpgradeV1LayerType.
    (0, "NONE", ""),
    (1, "ACCURACY", "Accuracy"),
    (2, "BNLL", "BNLL"),
    (3, "CONCAT", "Concat"),
    (4, "CONVOLUTION", "Convolution"),
    (5, "DATA", "Data"),
    (6, "DROPOUT", "Dropout"),
    (7, "EUCLIDEAN_LOSS", "EuclideanLoss"),
    (8, "FLATTEN", "Flatten"),
    (9, "HDF5_DATA", "HDF5Data"),
    (10, "HDF5_OUTPUT", "HDF5Output"),
    (11, "IM2COL", "Im2col"),
    (12, "IMAGE_DATA", "ImageData"),
    (13, "INFOGAIN_LOSS", "InfogainLoss"),
    (14, "INNER_PRODUCT", "InnerProduct"),
    (15, "LRN", "LRN"),
    (16, "MULTINOMIAL_LOGISTIC_LOSS", "MultinomialLogisticLoss"),
    (17, "POOLING", "Pooling"),
    (18, "RELU", "ReLU"),
    (19, "SIGMOID", "Sigmoid"),
    (20, "SOFTMAX", "Softmax"),
    (21, "SOFTMAX_LOSS", "SoftmaxWithLoss"),
    (22, "SPLIT", "Split"),
    (23, "TANH", "TanH"),
    (24, "WINDOW_DATA", "WindowData"),
    (25, "ELTWISE", "Eltwise"),
    (26, "POWER", "Power"),
    (27, "SIGMOID_CROSS_ENTROPY_LOSS", "SigmoidCrossEntropyLoss"),
    (28, "HINGE_LOSS", "HingeLoss"),
    (29, "MEMORY_DATA", "MemoryData"),
    (30, "ARGMAX", "ArgMax"),
    (31, "THRESHOLD", "Threshold"),
    (32, "DUMMY_DATA", "DummyData"),
    (33, "SLICE", "Slice"),
    (34, "MVN", "MVN"),
    (35, "ABSVAL", "AbsVal"),
    (36, "SILENCE", "Silence"),
    (37, "CONTRASTIVE_LOSS", "ContrastiveLoss"),
    (38, "EXP", "Exp"),
    (39, "DECONVOLUTION", "Deconvolution"),
)
_V1_BY_NUMBER = MappingProxyType({number: v2 for number, _, v2 in _V1_TYPES})
_V1_BY_NAME = MappingProxyType({name: v2 for _, name, v2 in _V1_TYPES})

# Types that forks added to the V1 enum under names of their own; the spelling of the V2 type is not that of the rule.
_FORK_TYPES = MappingProxyType(
    {t.upper(): t for t in ("PReLU", "BN", "Upsample", "BatchNorm", "Normalize", "Crop", "Interp", "ELU", "Embed")}
)


def upgrade_type(value: int | str) -> str | None:
    """The V2 type ("Convolution") for a type as a file has it: a V0 name ("conv"), a V1 number (4) or name
    ("CONVOLUTION"), or a V2 name, which stays as it is.

    A name that porter does not know is returned unchanged: it may be a fork's layer. None for an unknown V1 number,
    which says nothing about the layer.
    """
    if isinstance(value, int):
        return _V1_BY_NUMBER.get(value)
    for table in (_V1_BY_NAME, _V0_TYPES, _FORK_TYPES):
        if value in table:
            return table[value]
    return value


@dataclass(frozen=True, slots=True)
class BlobRole:
    """What one blob of a layer is.

    role: the last part of the tensor's name (`weight`).
    shape: the natural shape; the file's own unless that is a legacy one that says less than the layer's type.
    axes: one letter for each dimension of `shape`, or None where the type does not say.
    notice: what a user has to know where something had to be assumed, or None.
    """

    role: str
    shape: tuple[int, ...]
    axes: str | None = None
    notice: str | None = None


def blob_roles(
    layer_type: str,
    shapes: Sequence[tuple[int, ...]],
    *,
    legacy: Sequence[bool] = (),
    parameter: Parameter = lambda path: None,
    bottoms: int | None = None,
) -> tuple[BlobRole, ...] | None:
    """What each blob of a layer of V2 type `layer_type` is, in order; None where the type or its set of blobs is unknown.

    `shapes` are the shapes in the file. `legacy` says for each whether it is made of num, channels, height and width,
    so that leading ones may be padding. `parameter` looks up what the layer's parameters say, and `bottoms` is the
    number of its inputs, None where the file does not tell.
    """
    described = _describe(layer_type, shapes, parameter, bottoms)
    if described is None:
        return None
    roles = []
    for i, (shape, entry) in enumerate(zip(shapes, described, strict=True)):
        padded = bool(legacy[i]) if i < len(legacy) else False
        roles.append(_place(entry, shape, padded))
    return tuple(roles)


def numbered_roles(shapes: Sequence[tuple[int, ...]]) -> tuple[BlobRole, ...]:
    """The roles `blob0`, `blob1`, … for a layer whose type `blob_roles` does not know."""
    return tuple(BlobRole(f"blob{i}", shape) for i, shape in enumerate(shapes))


@dataclass(frozen=True, slots=True)
class _Entry:
    """A blob before its shape is looked at: `axes` for each rank that it may have, and its usual `rank` (None: any)."""

    role: str
    axes: tuple[str, ...] = ()
    notice: str | None = None
    usual: int | None = None

    @property
    def rank(self) -> int | None:
        return len(self.axes[0]) if self.axes else self.usual


_VECTOR_O = ("O",)
_VECTOR_C = ("C", "")
_MATRIX = ("OI",)
_CONVOLUTION = ("OIHW", "OIDHW", "OIW", "OI")
_DECONVOLUTION = ("IOHW", "IODHW", "IOW", "IO")

_WEIGHTED = MappingProxyType(
    # Types whose blobs are a weight and, unless `bias_term` says no, a bias over the outputs.
    {
        "Convolution": _CONVOLUTION,
        "Deconvolution": _DECONVOLUTION,
        # Source: yonghenglh6/DepthwiseConvolution, depthwise_conv_layer.cpp: the base class of Convolution, group = channels.
        "DepthwiseConvolution": _CONVOLUTION,
        "ConvolutionDepthwise": _CONVOLUTION,
        "DepthwiseConv": _CONVOLUTION,
        # Source: msracver/Deformable-ConvNets and its Caffe ports: a Convolution with a second bottom of offsets.
        "DeformableConvolution": _CONVOLUTION,
        # Source: pmgysel/caffe (Ristretto): subclasses that quantise in Forward and keep the blobs of their base.
        "ConvolutionRistretto": _CONVOLUTION,
        "DeconvolutionRistretto": _DECONVOLUTION,
        "InnerProduct": _MATRIX,
        "FcRistretto": _MATRIX,
        # Source: BVLC embed_layer.cpp: K × N, input_dim rows.
        "Embed": ("IO",),
    }
)

KNOWN_TYPES = frozenset({*_WEIGHTED, "Scale", "Bias", "PReLU", "Normalize", "BatchNorm", "BN", "SyncBN", "LSTM", "RNN", "Parameter"})
"""Types of which `blob_roles` knows some sets of blobs."""

_LSTM = ("W_xc", "b_c", "W_hc")
_RNN = ("W_xh", "b_h", "W_hh", "W_ho", "b_o")
_USUAL = MappingProxyType({"PReLU": ("slope",), "Bias": ("bias",), "Parameter": ("param",), "LSTM": _LSTM, "RNN": _RNN})
"""Roles of blobs that are called neither weight nor bias, in the types whose names do not hang on how many blobs a layer has."""
_MEAN, _VARIANCE, _FACTOR = (_Entry("mean", _VECTOR_C), _Entry("variance", _VECTOR_C), _Entry("scale_factor", usual=1))
_WEIGHT, _BIAS = (_Entry("weight", _VECTOR_C), _Entry("bias", _VECTOR_C))


def _describe(layer_type: str, shapes: Sequence[tuple[int, ...]], parameter: Parameter, bottoms: int | None) -> list[_Entry] | None:
    count = len(shapes)
    if layer_type in _WEIGHTED:
        axes = _WEIGHTED[layer_type]
        if axes is _MATRIX and parameter("inner_product_param.transpose"):
            axes = ("IO",)
        return _numbered([_Entry("weight", axes), _Entry("bias", _VECTOR_O)], count)
    if layer_type == "Scale":
        return _numbered(_scale(parameter, bottoms, count), count)
    if layer_type == "Bias":
        return _numbered([_Entry("bias", _bottom_axes("bias_param", parameter))], count)
    if layer_type == "PReLU":
        return _numbered([_Entry("slope", _shared_or_channels("prelu_param", parameter))], count)
    if layer_type == "Normalize":
        return _numbered([_Entry("weight", _shared_or_channels("norm_param", parameter))], count)
    if layer_type == "BatchNorm":
        return _batch_norm(shapes)
    if layer_type in ("BN", "SyncBN"):
        return _bn(count)
    if layer_type in ("LSTM", "RNN"):
        return _recurrent(layer_type, shapes)
    if layer_type == "Parameter":
        return _numbered([_Entry("param")], count)
    return None


def usual_role(layer_type: str, index: int, bottoms: int) -> str:
    """What the `index`-th blob of a layer is called where there is no file, which alone says how many there are."""
    names = _USUAL.get(layer_type, ("weight", "bias"))
    if layer_type == "Scale" and bottoms > 1:
        names = ("bias",)
    return names[index] if index < len(names) else f"blob{index}"


def _numbered(known: list[_Entry], count: int) -> list[_Entry]:
    """`known`, cut to `count`, or with `blob2`, `blob3`, … for what a fork added behind it."""
    extra = [
        _Entry(f"blob{i}", notice=f"the layer has {count} blobs, porter knows the first {len(known)}") for i in range(len(known), count)
    ]
    return known[:count] + extra


def _scale(parameter: Parameter, bottoms: int | None, count: int) -> list[_Entry]:
    """Source: BVLC scale_layer.cpp: with a second bottom the scale is that bottom, and the only blob is the bias."""
    axes = _bottom_axes("scale_param", parameter)
    if bottoms is not None and bottoms >= 2 and count == 1:
        return [_Entry("bias", axes)]
    return [_Entry("weight", axes), _Entry("bias", axes)]


def _bottom_axes(message: str, parameter: Parameter) -> tuple[str, ...]:
    """Axes of a blob that spans some of the bottom's N, C, H and W, from `axis` on; none where it counts from the end."""
    axis, count = (parameter(f"{message}.{name}") for name in ("axis", "num_axes"))
    start = axis if isinstance(axis, int) else 1
    usual = count if isinstance(count, int) else 1
    if not 0 <= start < 4:
        return ("",)
    tail = "NCHW"[start:]
    return tuple(sorted((tail[:n] for n in range(len(tail) + 1)), key=lambda a: (len(a) != (usual if usual >= 0 else len(tail)), len(a))))


def _shared_or_channels(message: str, parameter: Parameter) -> tuple[str, ...]:
    """One value for all channels is a blob without dimensions, else there is one a channel.

    Source: BVLC prelu_layer.cpp; SSD (weiliu89/caffe) normalize_layer.cpp.
    """
    return ("", "C") if parameter(f"{message}.channel_shared") else ("C", "")


def _batch_norm(shapes: Sequence[tuple[int, ...]]) -> list[_Entry] | None:
    """Statistics, and in some forks the scale and shift that follow them.

    Source: BVLC batch_norm_layer.cpp: mean, variance, scale factor. Intel (intel/caffe, mkldnn_batch_norm_layer.cpp) and
    NVCaffe (NVIDIA/caffe 0.17, batch_norm_layer.cpp) append scale and shift, Intel scale alone where `bias_term` is
    off. An early Intel version (intel/caffe at 4de03e07) had scale, shift, mean, variance, scale factor: there the one
    value is at the end.
    """
    sizes = [math.prod(s) for s in shapes]
    if len(shapes) <= 3:
        return [_MEAN, _VARIANCE, _FACTOR][: len(shapes)]
    if len(shapes) == 5 and sizes[4] == 1 and sizes[2] != 1:
        return [_WEIGHT, _BIAS, _MEAN, _VARIANCE, _FACTOR]
    if len(shapes) in (4, 5) and sizes[2] == 1:
        notice = None
        if len(shapes) == 5 and sizes[4] == 1:
            notice = "one channel: taken as mean, variance, scale_factor, weight, bias; an early Intel Caffe had another order"
        return [_MEAN, _VARIANCE, _FACTOR, _with(_WEIGHT, notice), _with(_BIAS, notice)][: len(shapes)]
    return None


def _with(entry: _Entry, notice: str | None) -> _Entry:
    return _Entry(entry.role, entry.axes, notice)


def _bn(count: int) -> list[_Entry] | None:
    """Source: SegNet (alexgkendall/caffe-segnet) bn_layer.cpp: scale, shift; PSPNet (hszhao/PSPNet) and the forks that
    share its BN: slope, bias, mean, variance.
    """
    if count == 2:
        return [_WEIGHT, _BIAS]
    if count == 4:
        return [_WEIGHT, _BIAS, _MEAN, _VARIANCE]
    return None


def _recurrent(layer_type: str, shapes: Sequence[tuple[int, ...]]) -> list[_Entry] | None:
    """The parameters of the unrolled net in the order of its layers; a third, static input adds one after the first bias.

    Source: BVLC lstm_layer.cpp and rnn_layer.cpp, FillUnrolledNet; recurrent_layer.cpp, LayerSetUp (owned parameters).
    Forks have other layers under these names, so the shapes must fit too. An LSTM's rows are the gates i, f, o, g.
    """
    names = list(_LSTM if layer_type == "LSTM" else _RNN)
    if len(shapes) == len(names) + 1:
        names.insert(2, names[0] + "_static")
    if len(shapes) != len(names):
        return None
    rows = math.prod(shapes[1])
    for name, shape in zip(names, shapes, strict=True):
        natural = _trim(shape)
        if name.startswith("b") and len(natural) > 1:
            return None
        if name.startswith("W") and (len(shape) < 2 or shape[-2] != rows or math.prod(shape[:-2]) != 1):
            return None
    return [_Entry(name, _VECTOR_O if name.startswith("b") else _MATRIX) for name in names]


def _trim(shape: tuple[int, ...]) -> tuple[int, ...]:
    """`shape` without its leading ones."""
    start = next((i for i, n in enumerate(shape) if n != 1), len(shape))
    return shape[start:]


def _place(entry: _Entry, shape: tuple[int, ...], legacy: bool) -> BlobRole:
    """The natural shape, and the axes that go with it."""
    notice = entry.notice
    rank = entry.rank
    if legacy and len(shape) == 4 and rank is not None:
        natural = _natural(shape, rank)
        if natural is None:
            notice = notice or f"its shape {_by(shape)} does not fit a {entry.role} of {rank} dimension{'s' * (rank != 1)}; kept as it is"
        else:
            shape = natural
    axes = next((a for a in entry.axes if len(a) == len(shape)), None)
    return BlobRole(entry.role, shape, _four(entry, shape) if axes is None else axes, notice)


def _natural(shape: tuple[int, ...], rank: int) -> tuple[int, ...] | None:
    """A legacy shape with `rank` dimensions, or None where that would lose one.

    Caffe aligns shapes at their end, so leading ones are padding: a matrix is 1×1×O×I, a vector 1×1×1×N. Vectors also
    occur with their length elsewhere (SegNet's BN: 1×C×1×1), which cannot be mistaken.
    """
    if rank == 4:
        return shape
    if rank <= 1:
        large = [n for n in shape if n != 1]
        if len(large) > 1:
            return None
        return tuple(large or (1,)) if rank == 1 else (() if not large else None)
    return shape[4 - rank :] if math.prod(shape[: 4 - rank]) == 1 else None


def _four(entry: _Entry, shape: tuple[int, ...]) -> str | None:
    """Axes of a vector over channels that was stored like an image: 1×C×1×1 is NCHW."""
    channels = entry.axes[:1] == ("C",)
    return "NCHW" if channels and len(shape) == 4 and shape[0] == shape[2] == shape[3] == 1 else None


def _by(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
