"""What each layer of ncnn keeps in the `.bin` file: which tensors, in which order and of which shape.

The file has neither names nor lengths; both follow from a layer's type and parameters. Tensors that ncnn may store in
more than one way begin with a flag of four bytes that says how (`tagged`), all others are float32.

Source: Tencent/ncnn 20260526, `src/layer/*.cpp`: `load_param` (the numbers of parameters and their defaults), `load_model`
(what is read, in this order; its type 0 is tagged), `forward` (the order of axes). Widths come first in ncnn, so
`load(w, h, c)` is a tensor of shape (c, h, w).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import MappingProxyType

from porter.dataclass import dataclass
from porter.formats.ncnn.param import Layer


@dataclass(frozen=True, slots=True)
class Blob:
    """One tensor of a layer: the last part of its name, its shape and axes, and whether a flag says how it is stored."""

    role: str
    shape: tuple[int, ...]
    axes: str | None = None
    tagged: bool = False


def blobs(layer: Layer) -> list[Blob] | None:
    """What `layer` keeps in the file; None for a type that porter does not know.

    Raises:
        FormatError: its parameters contradict each other.
    """
    made = _WEIGHTED.get(layer.type)
    if made is not None:
        return made(layer)
    return [] if layer.type in _WEIGHTLESS else None


# Source: Tencent/ncnn 20260526, src/CMakeLists.txt (ncnn_add_layer), less those of _WEIGHTED.
_WEIGHTLESS_TYPES = """
    AbsVal ArgMax BNLL Concat Crop Dropout Eltwise ELU Exp Flatten Input Log LRN MVN Pooling Power Proposal Reduction ReLU
    Reshape ROIPooling Sigmoid Slice Softmax Split SPP TanH Threshold Tile BinaryOp UnaryOp Squeeze ExpandDims Permute PriorBox
    DetectionOutput Interp ShuffleChannel Clip Reorg YoloDetectionOutput Yolov3DetectionOutput PSROIPooling ROIAlign Packing Cast
    HardSigmoid SELU HardSwish Noop PixelShuffle DeepCopy Mish StatisticsPooling Swish Softplus GELU Pooling1D Pooling3D MatMul
    Einsum GLU Fold Unfold GridSample CumulativeSum CopyTo Erf Diag CELU Shrink Spectrogram InverseSpectrogram Flip SDPA
    RotaryEmbed"""
_WEIGHTLESS = frozenset(_WEIGHTLESS_TYPES.split())


def _positive(layer: Layer, key: int, what: str, default: int = 0) -> int:
    value = layer.integer(key, default)
    if value < 1:
        raise layer.error(f"{layer.type} needs {what} (parameter {key}) of at least 1, and has {value}", key)
    return value


def _quotient(layer: Layer, key: int, by: int, what: str) -> int:
    """The size in parameter `key` divided by `by`, which must go without a rest: `what` follows from it."""
    size = _positive(layer, key, "a weight size")
    if size % by:
        raise layer.error(
            f"the weight of {layer.type} has {size} values (parameter {key}), no multiple of {by}, so {what} is no whole number", key
        )
    return size // by


def _vector(role: str, size: int, axes: str = "C") -> Blob:
    return Blob(role, (size,), axes)


def _convolution(
    axes: str, kernel: tuple[int, ...], dynamic: int | None, int8: Callable[[Layer, int], list[Blob]] | None = None
) -> Callable[[Layer], list[Blob]]:
    """Weights and biases of a convolution: `kernel` are the parameters with the kernel's sizes, slowest axis first, that of the width last.

    Where parameter `dynamic` is set the weights are an input and not in the file.
    """

    def of(layer: Layer) -> list[Blob]:
        if dynamic is not None and layer.integer(dynamic):
            return []
        outputs = _positive(layer, 0, "a number of outputs")
        width = layer.integer(kernel[-1])
        sizes = tuple([_positive(layer, key, "a kernel size", width) for key in kernel])
        inputs = _quotient(layer, 6, outputs * math.prod(sizes), "the number of input channels")
        found = [Blob("weight", (outputs, inputs, *sizes), axes, tagged=True)]
        if layer.integer(5):
            found.append(_vector("bias", outputs, "O"))
        return found + (int8(layer, outputs) if int8 is not None else [])

    return of


def _int8_convolution(layer: Layer, outputs: int) -> list[Blob]:
    term = layer.integer(8)
    scales = [_vector("weight_scales", outputs, "O"), _vector("input_scale", 1)] if term else []
    return scales + ([_vector("output_scale", 1)] if term > 100 else [])


def _int8_depthwise(layer: Layer, outputs: int) -> list[Blob]:
    term = layer.integer(8)
    scales: list[Blob] = []
    if term in (1, 101):
        scales = [_vector("weight_scales", _positive(layer, 7, "a number of groups", 1)), _vector("input_scale", 1)]
    elif term in (2, 102):
        scales = [_vector("weight_scales", 1), _vector("input_scale", 1)]
    return scales + ([_vector("output_scale", 1)] if term > 100 else [])


def _inner_product(layer: Layer) -> list[Blob]:
    outputs = _positive(layer, 0, "a number of outputs")
    found = [Blob("weight", (outputs, _quotient(layer, 2, outputs, "the number of inputs")), "OI", tagged=True)]
    if layer.integer(1):
        found.append(_vector("bias", outputs, "O"))
    if layer.integer(8):
        found += [_vector("weight_scales", outputs, "O"), _vector("input_scale", 1)]
    return found


def _embed(layer: Layer) -> list[Blob]:
    outputs = _positive(layer, 0, "a number of outputs")
    found = [Blob("weight", (_quotient(layer, 3, outputs, "the number of words"), outputs), "IO", tagged=True)]
    if layer.integer(2):
        found.append(_vector("bias", outputs, "O"))
    return found + ([_vector("weight_scale", 1)] if layer.integer(18) else [])


def _batch_norm(layer: Layer) -> list[Blob]:
    channels = _positive(layer, 0, "a number of channels")
    return [_vector(role, channels) for role in ("weight", "mean", "variance", "bias")]


def _affine(size: int, affine: int, *roles: str) -> Callable[[Layer], list[Blob]]:
    """Vectors of the size in parameter `size`, unless parameter `affine` is 0."""

    def of(layer: Layer) -> list[Blob]:
        if not layer.integer(affine, 1):
            return []
        count = _positive(layer, size, "a size")
        return [_vector(role, count) for role in roles]

    return of


def _scale(layer: Layer) -> list[Blob]:
    if layer.integer(0) == -233:  # the scale is an input
        return []
    size = _positive(layer, 0, "a size")
    return [_vector("weight", size), *([_vector("bias", size)] if layer.integer(1) else [])]


def _one_vector(role: str) -> Callable[[Layer], list[Blob]]:
    return lambda layer: [_vector(role, _positive(layer, 0, "a size"))]


def _normalize(layer: Layer) -> list[Blob]:
    return [_vector("weight", _positive(layer, 3, "a size"))]


def _padding(layer: Layer) -> list[Blob]:
    return [_vector("values", _positive(layer, 6, "a size"))] if layer.integer(6) else []


def _quantize(layer: Layer) -> list[Blob]:
    return [_vector("scale", _positive(layer, 0, "a size", 1))]


def _dequantize(layer: Layer) -> list[Blob]:
    bias = [_vector("bias", _positive(layer, 1, "a size"))] if layer.integer(1) else []
    return [*_quantize(layer), *bias]


def _requantize(layer: Layer) -> list[Blob]:
    found = [_vector("input_scale", _positive(layer, 0, "a size", 1)), _vector("output_scale", _positive(layer, 1, "a size", 1))]
    return found + ([_vector("bias", _positive(layer, 2, "a size"))] if layer.integer(2) else [])


def _memory_data(layer: Layer) -> list[Blob]:
    width, height, channels, depth = (layer.integer(key) for key in (0, 1, 2, 11))
    if depth:
        keys: tuple[int, ...] = (2, 11, 1, 0)
    elif channels:
        keys = (2, 1, 0)
    else:
        keys = (1, 0) if height else (0,)
    if not width and keys == (0,):  # one value, which is not in the file
        return []
    tagged = layer.integer(21, 1)
    if tagged not in (0, 1):
        raise layer.error(f"MemoryData is stored in way 0 or 1 (parameter 21), and this says {tagged}", 21)
    return [Blob("data", tuple([_positive(layer, key, "a size") for key in keys]), tagged=not tagged)]


def _recurrent(gates: int, bias_rows: int) -> Callable[[Layer], list[Blob]]:
    """RNN, GRU and LSTM: the rows of all gates one below the other, for one direction or two.

    An LSTM's gates are i, f, o, g; a GRU's are r, u, n, and it has two rows of biases for n.
    """

    def of(layer: Layer) -> list[Blob]:
        outputs = _positive(layer, 0, "a number of outputs")
        hidden = _positive(layer, 3, "a hidden size", outputs) if gates == 4 else outputs
        directions = 2 if layer.integer(2) == 2 else 1
        rows = hidden * gates
        inputs = _quotient(layer, 1, directions * rows, "the number of inputs")
        found = [
            Blob("weight_xc", (directions, rows, inputs), "DOI", tagged=True),
            Blob("bias_c", (directions, bias_rows, hidden), tagged=True),
            Blob("weight_hc", (directions, rows, outputs), "DOI", tagged=True),
        ]
        if hidden != outputs:
            found.append(Blob("weight_hr", (directions, outputs, hidden), "DOI", tagged=True))
        if layer.integer(8):
            found += [Blob(f"weight_{name}_scales", (directions, rows), "DO") for name in ("xc", "hc")]
        return found

    return of


def _refuse_blocks(layer: Layer) -> None:
    """Weights of 4, 6 or 8 bits with a scale for each block, and codes of which ncnn itself reads none."""
    term = layer.integer(18)
    if term in (4, 5, 6) or term >= 400:
        raise layer.error(f"{layer.type} has weights quantised in blocks (18={term}), which porter does not read", 18)


def _attention(layer: Layer) -> list[Blob]:
    _refuse_blocks(layer)
    embedding = _positive(layer, 0, "an embedding size")
    query = _quotient(layer, 2, embedding, "the size of queries")
    key, value = (_positive(layer, number, "a size", embedding) for number in (3, 4))
    shapes = {"q": (embedding, query), "k": (embedding, key), "v": (embedding, value), "out": (query, embedding)}
    found: list[Blob] = []
    for name, shape in shapes.items():
        found += [Blob(f"{name}_weight", shape, "OI", tagged=True), _vector(f"{name}_bias", shape[0], "O")]
    if layer.integer(18):
        found += [_vector(f"{name}_weight_scales", embedding, "O") for name in ("q", "k", "v")] + [_vector("out_weight_scale", 1)]
    return found


def _gemm(layer: Layer) -> list[Blob]:
    _refuse_blocks(layer)
    constant_a, constant_b, constant_c = (layer.integer(key) == 1 for key in (4, 5, 6))
    found: list[Blob] = []

    def size(key: int) -> int:
        return _positive(layer, key, "a size")

    if constant_a:
        found.append(Blob("A", (size(9), size(7)) if layer.integer(2) else (size(7), size(9)), tagged=True))
    if constant_b:
        found.append(Blob("B", (size(8), size(9)) if layer.integer(3) else (size(9), size(8)), tagged=True))
    broadcast = layer.integer(10)
    if constant_c and broadcast != -1:
        if not 0 <= broadcast <= 4:
            raise layer.error(f"Gemm broadcasts C in ways -1 to 4 (parameter 10), and this says {broadcast}", 10)
        shapes: tuple[Callable[[], tuple[int, ...]], ...] = (
            lambda: (1,),
            lambda: (size(7),),
            lambda: (size(7), 1),
            lambda: (size(7), size(8)),
            lambda: (1, size(8)),
        )
        found.append(Blob("C", shapes[broadcast](), tagged=True))
    if layer.integer(18):
        found += [_vector("A_scales", size(7))] if constant_a else []
        found += [_vector("B_scale", 1)] if constant_b else []
    return found


_TWO, _THREE = (11, 1), (21, 11, 1)
_WEIGHTED: MappingProxyType[str, Callable[[Layer], list[Blob]]] = MappingProxyType(
    {
        "Convolution": _convolution("OIHW", _TWO, 19, _int8_convolution),
        "ConvolutionDepthWise": _convolution("OIHW", _TWO, 19, _int8_depthwise),
        "Convolution1D": _convolution("OIW", (1,), 19),
        "ConvolutionDepthWise1D": _convolution("OIW", (1,), 19),
        "Convolution3D": _convolution("OIDHW", _THREE, None),
        "ConvolutionDepthWise3D": _convolution("OIDHW", _THREE, None),
        "Deconvolution": _convolution("OIHW", _TWO, 28),
        "DeconvolutionDepthWise": _convolution("OIHW", _TWO, 28),
        "Deconvolution1D": _convolution("OIW", (1,), 28),
        "DeconvolutionDepthWise1D": _convolution("OIW", (1,), 28),
        "Deconvolution3D": _convolution("OIDHW", _THREE, None),
        "DeconvolutionDepthWise3D": _convolution("OIDHW", _THREE, None),
        "DeformableConv2D": _convolution("OIHW", _TWO, None),
        "InnerProduct": _inner_product,
        "Embed": _embed,
        "BatchNorm": _batch_norm,
        "InstanceNorm": _affine(0, 2, "weight", "bias"),
        "LayerNorm": _affine(0, 2, "weight", "bias"),
        "GroupNorm": _affine(1, 3, "weight", "bias"),
        "RMSNorm": _affine(0, 2, "weight"),
        "Scale": _scale,
        "Bias": _one_vector("bias"),
        "PReLU": _one_vector("slope"),
        "Normalize": _normalize,
        "Padding": _padding,
        "Quantize": _quantize,
        "Dequantize": _dequantize,
        "Requantize": _requantize,
        "MemoryData": _memory_data,
        "RNN": _recurrent(1, 1),
        "GRU": _recurrent(3, 4),
        "LSTM": _recurrent(4, 4),
        "MultiHeadAttention": _attention,
        "Gemm": _gemm,
    }
)
