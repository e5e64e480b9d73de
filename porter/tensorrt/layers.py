"""A network as TensorRT has it: its layers, their settings and their weights, with nothing of TensorRT loaded.

`porter.tensorrt.lowering` makes it from an ONNX graph, `porter.tensorrt.walk` reads it out of a live `INetworkDefinition`.
`porter.tensorrt.live` builds the live network from it, the source emitters print it as C++ or Python, and
`porter.tensorrt.expression` says it as ONNX again.

Words in capitals (`MAX`, `RELU`, `CHANNEL`) are the members of TensorRT's enumerations, as its Python API names them.
Source: NVIDIA/TensorRT, include/NvInfer.h, tag v11.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from porter.dataclass import dataclass, field
from porter.tensor import Tensor

DTYPES: Mapping[str, str] = {
    "float32": "FLOAT",
    "float16": "HALF",
    "bfloat16": "BF16",
    "int8": "INT8",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "bool": "BOOL",
    "float8_e4m3fn": "FP8",
    "int4": "INT4",
    "float4_e2m1fn": "FP4",
}
"""porter's names of the element types that TensorRT has, and TensorRT's."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Values that a layer holds.

    tensor: what TensorRT is given, read when it is asked for; its name is unique in the network.
    sources: the tensors of the graph that it was made of, one where it is a copy. formula: how it was computed
    (`batch_norm.scale`, `transpose(1, 0)`, `cast`, `transpose(1, 0), cast`; `constant` for what the graph states outside of its weights);
    None where the values are the source's, bit for bit, in the same order.
    """

    tensor: Tensor
    sources: tuple[str, ...] = ()
    formula: str | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the values."""
        return self.tensor.shape


@dataclass(frozen=True, slots=True)
class KernelInput:
    """A kernel that is the second input of a layer instead of being held by it: what quantised weights stand for. shape: the kernel's."""

    shape: tuple[int, ...]


# ---- operations ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Convolution:
    """Cross-correlation. kernel: `(O, I / groups, *k)`; bias: `(O,)`. The others have one number for each axis of the window."""

    kernel: Weights | KernelInput
    bias: Weights | None
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pre_padding: tuple[int, ...]
    post_padding: tuple[int, ...]
    groups: int = 1


@dataclass(frozen=True, slots=True)
class Deconvolution:
    """The transpose of a convolution. kernel: `(I, O / groups, *k)`. Padding is what is cut from the result on either side."""

    kernel: Weights | KernelInput
    bias: Weights | None
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pre_padding: tuple[int, ...]
    post_padding: tuple[int, ...]
    groups: int = 1


@dataclass(frozen=True, slots=True)
class Pooling:
    """kind: `MAX` or `AVERAGE`. The size of the result is always rounded down: Caffe's rule is put into `post_padding`."""

    kind: str
    window: tuple[int, ...]
    stride: tuple[int, ...]
    pre_padding: tuple[int, ...]
    post_padding: tuple[int, ...]
    count_excludes_padding: bool = True


@dataclass(frozen=True, slots=True)
class Activation:
    """kind: of `ActivationType`; alpha, beta: as that type takes them."""

    kind: str
    alpha: float = 0.0
    beta: float = 0.0


@dataclass(frozen=True, slots=True)
class ParametricRelu:
    """Inputs: the values, and the slopes, which broadcast."""


@dataclass(frozen=True, slots=True)
class BatchNorm:
    """What the scale and the shift of a `Scale` were computed from, in float64 and rounded once.

    scale = weight / sqrt(variance + epsilon); shift = bias - mean * scale, that scale before it is rounded.
    """

    weight: Weights
    bias: Weights
    mean: Weights
    variance: Weights
    epsilon: float


@dataclass(frozen=True, slots=True)
class Scale:
    """(x * scale + shift) ** power. mode: `UNIFORM`, `CHANNEL` (along `axis`) or `ELEMENTWISE`; absent weights are 1, 0 and 1."""

    mode: str
    shift: Weights | None
    scale: Weights | None
    power: Weights | None = None
    axis: int = 1
    batch_norm: BatchNorm | None = None


@dataclass(frozen=True, slots=True)
class Lrn:
    """x / (k + alpha * mean of squares in the window across channels) ** beta: alpha is divided by `window`, as in ONNX."""

    window: int
    alpha: float
    beta: float
    k: float


@dataclass(frozen=True, slots=True)
class Softmax:
    """Along `axis`, counted from the front."""

    axis: int


@dataclass(frozen=True, slots=True)
class Elementwise:
    """kind: of `ElementWiseOperation`. Two inputs of one rank; an axis of size 1 broadcasts."""

    kind: str


@dataclass(frozen=True, slots=True)
class Unary:
    """kind: of `UnaryOperation`."""

    kind: str


@dataclass(frozen=True, slots=True)
class Concatenation:
    """Along `axis`."""

    axis: int


@dataclass(frozen=True, slots=True)
class Shuffle:
    """Transpose, reshape, transpose; None for a step that changes nothing.

    shape: 0 copies the size of that axis of what is reshaped where `zero_copies`, else it is 0; -1 is what is left.
    With a second input, that tensor is the shape.
    """

    first: tuple[int, ...] | None = None
    shape: tuple[int, ...] | None = None
    second: tuple[int, ...] | None = None
    zero_copies: bool = True


@dataclass(frozen=True, slots=True)
class MatrixMultiply:
    """first, second: `NONE`, `TRANSPOSE` or `VECTOR`, how each input is taken."""

    first: str = "NONE"
    second: str = "NONE"


@dataclass(frozen=True, slots=True)
class Constant:
    """Weights as a tensor, of the shape that their `tensor` has."""

    weights: Weights


@dataclass(frozen=True, slots=True)
class Reduce:
    """kind: of `ReduceOperation`."""

    kind: str
    axes: tuple[int, ...]
    keep: bool


@dataclass(frozen=True, slots=True)
class Slice:
    """start, size and stride along every axis; mode: of `SampleMode`.

    Inputs after the first, where there are any, are start, size, stride, the value to fill with, and the axes; "" stands for
    one that is not given. A setting is None where an input says it.
    """

    start: tuple[int, ...] | None
    size: tuple[int, ...] | None
    stride: tuple[int, ...] | None
    mode: str = "STRICT_BOUNDS"


@dataclass(frozen=True, slots=True)
class Resize:
    """Either `size`, of every axis, or `scales`; both None where a second input is the size. Names are of TensorRT's enumerations."""

    mode: str
    size: tuple[int, ...] | None
    scales: tuple[float, ...] | None
    coordinates: str = "ASYMMETRIC"
    rounding: str = "FLOOR"
    selector: str = "FORMULA"
    cubic_coefficient: float = -0.75
    exclude_outside: bool = False


@dataclass(frozen=True, slots=True)
class Gather:
    """mode: `DEFAULT`, `ELEMENT` or `ND`. Inputs: values, int32 or int64 indices. batch_axes: leading axes that both share."""

    mode: str
    axis: int = 0
    batch_axes: int = 0


@dataclass(frozen=True, slots=True)
class Scatter:
    """mode: `ELEMENT` or `ND`. Inputs: values, indices, updates."""

    mode: str
    axis: int = 0


@dataclass(frozen=True, slots=True)
class TopK:
    """kind: `MAX` or `MIN`. Outputs: values and int32 indices, sorted."""

    kind: str
    k: int
    axis: int


@dataclass(frozen=True, slots=True)
class Select:
    """Inputs: a condition, what to take where it holds, what to take elsewhere."""


@dataclass(frozen=True, slots=True)
class Cast:
    """To another type, of porter's names."""

    dtype: str


@dataclass(frozen=True, slots=True)
class Identity:
    """The input."""


@dataclass(frozen=True, slots=True)
class Quantize:
    """Inputs: values, scales, and zero points where there are any. axis: of the scales, or None for one scale. dtype: of the result."""

    axis: int | None
    dtype: str = "int8"


@dataclass(frozen=True, slots=True)
class Dequantize:
    """Inputs: quantised values, scales, and zero points where there are any. axis: as for `Quantize`. dtype: of the result."""

    axis: int | None
    dtype: str = "float32"


@dataclass(frozen=True, slots=True)
class Normalization:
    """Inputs: values, scale, bias. axes: those that a mean is taken over; groups: of channels."""

    axes: tuple[int, ...]
    epsilon: float
    groups: int = 1


@dataclass(frozen=True, slots=True)
class NonMaximumSuppression:
    """Inputs: boxes, scores, limit of boxes a class, and thresholds where given. box_format: of `BoundingBoxFormat`.

    Outputs: indices `(n, 3)` int32 and how many there are.
    """

    box_format: str
    limit: int


@dataclass(frozen=True, slots=True)
class NonZero:
    """Indices `(rank, n)` of the elements that are not zero."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The input's shape, int64."""


@dataclass(frozen=True, slots=True)
class Einsum:
    """As `equation` says."""

    equation: str


@dataclass(frozen=True, slots=True)
class OneHot:
    """Inputs: indices, the values for off and on, depth."""

    axis: int


@dataclass(frozen=True, slots=True)
class GridSample:
    """interpolation: of `InterpolationMode`; mode: of `SampleMode`."""

    interpolation: str
    align_corners: bool
    mode: str


@dataclass(frozen=True, slots=True)
class CumulativeSum:
    """Inputs: values, and the axis as an int32 or int64 scalar constant."""

    exclusive: bool
    reverse: bool


@dataclass(frozen=True, slots=True)
class Unknown:
    """A layer that porter cannot read. kind: its `LayerType`."""

    kind: str


Operation = (
    Convolution
    | Deconvolution
    | Pooling
    | Activation
    | ParametricRelu
    | Scale
    | Lrn
    | Softmax
    | Elementwise
    | Unary
    | Concatenation
    | Shuffle
    | MatrixMultiply
    | Constant
    | Reduce
    | Slice
    | Resize
    | Gather
    | Scatter
    | TopK
    | Select
    | Cast
    | Identity
    | Quantize
    | Dequantize
    | Normalization
    | NonMaximumSuppression
    | NonZero
    | Shape
    | Einsum
    | OneHot
    | GridSample
    | CumulativeSum
    | Unknown
)


# ---- the network ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer. name: unique; that of the graph's node, with `/PART` behind it where a node takes several layers.

    inputs, outputs: names of tensors; "" for an input that is not given.
    """

    name: str
    operation: Operation
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Input:
    """What is fed to the network; -1 is a size that is open."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Network:
    """A network: layers in an order in which they can run.

    outputs: tensors that are marked, in the graph's order. values: for each value of the graph that still exists, the tensor that
    holds it; where they are called the same, too. shapes, dtypes: what is known of tensors, -1 for a size that is open.
    notices: what a user has to know, a line each.
    """

    inputs: tuple[Input, ...]
    layers: tuple[Layer, ...]
    outputs: tuple[str, ...]
    values: Mapping[str, str] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


def agree(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two shapes can be of one tensor: either may leave a size open that the other knows."""
    return len(one) == len(other) and all(a == b or -1 in (a, b) for a, b in zip(one, other, strict=True))


def weights_of(operation: Operation) -> dict[str, Weights]:
    """The weights that TensorRT holds for a layer, by the role that its API names them by: `kernel`, `bias`, `shift`, `weights` …"""
    found: dict[str, Weights | KernelInput | None]
    if isinstance(operation, Convolution | Deconvolution):
        found = {"kernel": operation.kernel, "bias": operation.bias}
    elif isinstance(operation, Scale):
        found = {"shift": operation.shift, "scale": operation.scale, "power": operation.power}
    elif isinstance(operation, Constant):
        found = {"weights": operation.weights}
    else:
        found = {}
    return {role: weights for role, weights in found.items() if isinstance(weights, Weights)}


def stored(network: Network) -> dict[str, Weights]:
    """What a file of the network's weights holds, by name: for a batch normalisation what its scale and shift were computed from."""
    found: dict[str, Weights] = {}
    for layer in network.layers:
        norm = layer.operation.batch_norm if isinstance(layer.operation, Scale) else None
        held = [norm.weight, norm.bias, norm.mean, norm.variance] if norm is not None else weights_of(layer.operation).values()
        found.update({w.tensor.name: w for w in held})
    return found
