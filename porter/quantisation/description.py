"""How a quantised tensor says what it is: the attribute `quantization` of the tensor that holds its codes.

A tensor X that was quantised is X, its codes, `X.scale`, and, where the range is not symmetric about zero, `X.zero_point`. The attribute is

    scheme      per_tensor_affine | per_channel_affine | per_group_affine
    type        i8, i4, f8_e4m3, f8_e5m2, nf4
    axis        of the channels, but for one scale in all
    group       how many neighbours within a channel share a scale
    scale, zero_point   names of the tensors; zero_point is left out where it is 0 throughout
    packed, shape       where a file lacks the codes' type: they lie two in a byte of uint8, in C order, the first in the low half, int4
                        in two's complement, as in ONNX; `packed` is their type, `shape` the tensor's; `axes` what its axes are called

Beside it `quantized_from` names the type that the numbers had, where that is not float32. What PyTorch reads and writes itself has
`torch_dtype` in the place of `type` (`qint8`, `quint8` …), scales of float64 and zero points of int64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from porter.check.precision.targets import Granularity
from porter.dataclass import dataclass
from porter.dtypes import DTYPES, DType
from porter.errors import FormatError
from porter.quantisation.arithmetic import FLOATS
from porter.quantisation.layout import Layout
from porter.quantisation.ways import TYPES
from porter.store import TensorStore
from porter.tensor import Json, Tensor, TensorSpec

ATTRIBUTE = "quantization"
ORIGIN = "quantized_from"

Refuse = Callable[[str], FormatError]

SCHEMES: dict[str, Granularity] = {
    "per_tensor_affine": "tensor",
    "per_channel_affine": "channel",
    "per_channel_affine_float_qparams": "channel",
    "per_group_affine": "group",
}


@dataclass(frozen=True, slots=True)
class Described:
    """A quantised tensor as its file has it.

    codes: its dtype and shape. layout: of scales. grid: whether codes are numbers or indices of NF4. origin: the type of the numbers.
    spec: what the tensor of numbers is.
    """

    codes: Tensor
    dtype: DType
    layout: Layout
    grid: Literal["numbers", "nf4"]
    scale: Tensor
    zero: Tensor | None
    spec: TensorSpec


def described(store: TensorStore, tensor: Tensor) -> Described | None:
    """What `tensor` says of itself; None where it says that it is not quantised.

    Raises:
        FormatError: what it says does not fit it, or its scales.
    """
    said = tensor.attributes.get(ATTRIBUTE)
    if said is None:
        return None

    def wrong(message: str) -> FormatError:
        return FormatError("F821", f"its description as a quantised tensor is wrong: {message}", tensor=tensor.name)

    if not isinstance(said, dict):
        raise wrong("it is no object")
    granularity = SCHEMES.get(str(said.get("scheme")))
    if granularity is None:
        raise wrong(f"there is no scheme {said.get('scheme')!r}")
    dtype, shape = _elements(said, tensor, wrong)
    axis, group = said.get("axis", 0), said.get("group", 0)
    if type(axis) is not int or type(group) is not int or not (granularity == "tensor" or 0 <= axis < len(shape)):
        raise wrong(f"the axis {axis!r}, groups of {group!r}")
    if granularity == "group" and (group < 1 or len(shape) < 2 or (axis and (axis != 1 or len(shape) != 2))):
        raise wrong(f"groups of {group} along axis {axis} of {len(shape)}")
    layout = Layout(shape, granularity, axis if granularity != "tensor" else 0, group)
    scale = _part(store, said.get("scale"), layout, "scale", wrong)
    zero = _part(store, said["zero_point"], layout, "zero point", wrong) if said.get("zero_point") is not None else None
    if scale.dtype.name not in FLOATS or (zero is not None and zero.dtype.kind == "float" and zero.dtype.name not in FLOATS):
        raise wrong(f"a scale of {scale.dtype}")
    origin = tensor.attributes.get(ORIGIN, "float32")
    if origin not in FLOATS:
        raise wrong(f"numbers of {origin!r}")
    others = {k: v for k, v in tensor.attributes.items() if k not in (ATTRIBUTE, ORIGIN)}
    axes = said.get("axes") if "packed" in said else tensor.axes
    if axes is not None and (not isinstance(axes, str) or len(axes) != len(shape)):
        raise wrong(f"axes {axes!r}")
    spec = TensorSpec(tensor.name, DTYPES[str(origin)], shape, axes, tensor.role, others)
    return Described(tensor, dtype, layout, "nf4" if said.get("type") == "nf4" else "numbers", scale, zero, spec)


def _elements(said: dict[str, Json], tensor: Tensor, wrong: Refuse) -> tuple[DType, tuple[int, ...]]:
    """The type and the shape of the codes."""
    kind = TYPES.get(str(said["type"])) if "type" in said else None
    if "type" in said and kind is None:
        raise wrong(f"there is no type {said['type']!r}")
    dtype, shape = tensor.dtype, tensor.shape
    if "packed" in said:
        sizes = said.get("shape")
        if not isinstance(sizes, list) or not all(type(n) is int and n >= 0 for n in sizes) or tensor.dtype.name != "uint8":
            raise wrong("its codes are packed, and it does not say into which shape")
        packed = DTYPES.get(str(said["packed"]))
        if packed is None or packed.bits != 4 or packed.nbytes(math.prod(sizes)) != tensor.nbytes:
            raise wrong(f"{tensor.nbytes} bytes do not hold {sizes} of {said['packed']!r}")
        dtype, shape = packed, tuple(sizes)
    if kind is not None and dtype != kind.dtype:
        raise wrong(f"{kind.name} has codes of {kind.dtype}, not {dtype}")
    if dtype.kind not in ("int", "uint", "float") or dtype.bits > 32:
        raise wrong(f"codes of {dtype}")
    return dtype, shape


def _part(store: TensorStore, name: Json, layout: Layout, what: str, wrong: Refuse) -> Tensor:
    if not isinstance(name, str) or name not in store:
        raise wrong(f"its {what}, {name!r}, is not there")
    part = store[name]
    if part.shape != layout.scales or part.dtype.kind not in ("int", "uint", "float"):
        raise wrong(f"its {what} is {part.dtype} {list(part.shape)}, where {list(layout.scales)} are needed")
    return part
