"""What torch's pickles build, as inert records: storages, and tensors as views of them.

`TORCH_GLOBALS` lists every function that torch has written into a checkpoint to rebuild a tensor, and what becomes of
a call of it here. Sizes, strides and offsets are checked for type only; bounds are checked where bytes are found.

Source: pytorch `torch/_utils.py` (`_rebuild_*`), `torch/_tensor.py` (`_reduce_ex_internal`, `_rebuild_from_type_v2`),
`torch/storage.py` (`_dtype_to_storage_type_map`, `_new_dtypes`, `_load_from_bytes`), 2.13; for Variables: `torch/autograd/variable.py`
0.1.12 (`__reduce_ex__`, `__setstate__`); TorchScript's lists: `torch/jit/_pickle.py`.
"""

from __future__ import annotations

import math

from porter.dataclass import dataclass, field
from porter.dtypes import BY_TORCH, BY_TORCH_STORAGE, DTYPES, DType
from porter.io.pickle_globals import PYTHON_GLOBALS, Buildable, Global, Globals, Instance, describe_value
from porter.io.pickled_numpy import NUMPY_GLOBALS, PickledArray
from porter.tensor import Payload

_MOST_WRAPPED = 256
"""Tensors inside a wrapping one that count for its size: they may wrap others in turn, and themselves."""

MAX_DIMENSIONS = 64
"""Torch has no limit of its own here; its tensor iterators end at 64 dimensions."""


@dataclass(frozen=True, slots=True)
class TorchType:
    """A torch dtype: its name, porter's type for its elements, and how many of those one torch element holds.

    `quantized` types need scale and zero point; `assumed` are raw bits, read as the unsigned integers they fill.
    """

    name: str
    dtype: DType
    width: int
    quantized: bool = False
    assumed: bool = False

    @property
    def paired(self) -> int:
        """Elements of `dtype` in each of `width` bytes: 2 for `float4_e2m1fn_x2`, whose shape counts pairs."""
        return 2 if self.name == "float4_e2m1fn_x2" else 1


def _torch_types() -> dict[str, TorchType]:
    types = {name: TorchType(name, dtype, dtype.itemsize) for name, dtype in BY_TORCH.items()}
    for name, of in {"qint8": "int8", "quint8": "uint8", "qint32": "int32", "quint4x2": "uint4", "quint2x4": "uint2"}.items():
        types[name] = TorchType(name, DTYPES[of], DTYPES[of].itemsize, quantized=True)
    for name in ("bits8", "bits1x8", "bits2x4", "bits4x2", "bits16"):
        of = "uint16" if name == "bits16" else "uint8"
        types[name] = TorchType(name, DTYPES[of], DTYPES[of].itemsize, assumed=True)
    types["float4_e2m1fn_x2"] = TorchType("float4_e2m1fn_x2", DTYPES["float4_e2m1fn"], 1)
    aliases = {"float": "float32", "double": "float64", "half": "float16", "long": "int64", "int": "int32", "short": "int16"}
    aliases |= {"cfloat": "complex64", "cdouble": "complex128", "chalf": "complex32"}
    return types | {alias: types[name] for alias, name in aliases.items()}


TORCH_TYPES = _torch_types()
STORAGE_TYPES = {name: TORCH_TYPES[dtype.torch] for name, dtype in BY_TORCH_STORAGE.items() if dtype.torch} | {
    f"{prefix}Storage": TORCH_TYPES[name]
    for prefix, name in {
        "QInt8": "qint8",
        "QUInt8": "quint8",
        "QInt32": "qint32",
        "QUInt4x2": "quint4x2",
        "QUInt2x4": "quint2x4",
    }.items()
}
UNTYPED = TorchType("untyped", DTYPES["uint8"], 1)
"""The type of storages whose tensors name their own dtype."""


def storage_type(of: object) -> TorchType:
    """The element type that a storage's class names (`torch.FloatStorage`, `torch.cuda.HalfStorage`)."""
    if isinstance(of, Global) and of.module.partition(".")[0] == "torch":
        if of.name in STORAGE_TYPES:
            return STORAGE_TYPES[of.name]
        if of.name in ("UntypedStorage", "_UntypedStorage"):
            return UNTYPED
    raise ValueError(f"{describe_value(of)} is not a storage class")


class Storage:
    """A run of bytes that tensors are views of.

    `nbytes` is what the pickle claims; `payload` holds at least that many once the container has found them (None: the
    file has none). `swap`: numbers in it are big-endian. A storage that is part of another has `root` and the byte
    offset there instead.
    """

    # Written out, as `TensorView` is: a file has thousands of both, and the time of a listing is the time of making them.
    __slots__ = ("key", "location", "nbytes", "payload", "root", "root_offset", "swap", "type")

    def __init__(
        self,
        key: object,
        of: TorchType,
        nbytes: int,
        location: str,
        *,
        swap: bool = False,
        root: Storage | None = None,
        root_offset: int = 0,
    ) -> None:
        self.key = key
        self.type = of
        self.nbytes = nbytes
        self.location = location
        self.payload: Payload | None = None
        self.swap = swap
        self.root = root
        self.root_offset = root_offset

    def resolved(self) -> tuple[Storage, int]:
        """The storage that has the bytes, and where this one starts in it."""
        return (self, 0) if self.root is None else (self.root, self.root_offset)


class Leaf(Buildable):
    """Anything that one or more named tensors come of. `nbytes` estimates them, for choosing and listing."""

    __slots__ = ()

    @property
    def nbytes(self) -> int:
        raise NotImplementedError

    def build(self, state: object) -> None:
        """Attributes that someone set on a tensor are no weights."""


class TensorView(Leaf):
    """A strided view of a storage; `offset` and `strides` in elements. `quantizer`: the parameters of a quantised tensor.

    `conjugate` and `negative`: values are conjugated or negated when they are looked at.
    """

    __slots__ = ("conjugate", "negative", "offset", "quantizer", "shape", "storage", "strides", "type")

    def __init__(self, storage: Storage, of: TorchType, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.storage = storage
        self.type = of
        self.offset = offset
        self.shape = shape
        self.strides = strides
        self.quantizer: tuple[object, ...] | None = None
        self.conjugate = False
        self.negative = False

    @property
    def nbytes(self) -> int:
        return self.type.dtype.nbytes(math.prod(self.shape) * self.type.paired)


@dataclass(slots=True, eq=False)
class SparseTensor(Leaf):
    """A sparse tensor: its layout, the dense tensors it consists of, by torch's names for them, and its dense shape."""

    layout: str
    parts: dict[str, TensorView]
    shape: tuple[int, ...]
    coalesced: bool | None = None

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts.values())


@dataclass(slots=True, eq=False)
class WrappedTensor(Leaf):
    """A tensor subclass that only wraps others (torchao, DTensor): its class and the attributes that hold them."""

    of: str
    attributes: dict[object, object] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        total, seen, waiting = 0, {id(self)}, [self]
        while waiting and len(seen) < _MOST_WRAPPED:
            for leaf in waiting.pop().attributes.values():
                if isinstance(leaf, WrappedTensor) and id(leaf) not in seen:
                    waiting.append(leaf)
                elif isinstance(leaf, Leaf) and not isinstance(leaf, WrappedTensor):
                    total += leaf.nbytes
                seen.add(id(leaf))
        return total

    def build(self, state: object) -> None:
        states = state if isinstance(state, tuple) else (state,)
        for part in states:
            if isinstance(part, dict):
                self.attributes.update(part)


@dataclass(slots=True, eq=False)
class NoData(Leaf):
    """A tensor whose values the file does not have; `why` says so in a few words."""

    why: str

    @property
    def nbytes(self) -> int:
        return 0


class Parameter(Leaf):
    """A Parameter or Variable of torch 0.1 to 0.3, which got its tensor as argument or with its state."""

    __slots__ = ("data",)

    def __init__(self, data: object = None, requires_grad: object = True) -> None:
        self.data = _unwrapped(data)

    def build(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) == 5:
            self.data = _unwrapped(state[0])

    @property
    def nbytes(self) -> int:
        return self.data.nbytes if isinstance(self.data, TensorView) else 0


def _unwrapped(data: object) -> object:
    """A parameter's tensor: a chain of parameters would have to be followed, and may have no end."""
    return data.data if isinstance(data, Parameter) else data


def counts(value: object) -> tuple[int, ...]:
    """`value` as a tuple of non-negative integers, as sizes and strides are."""
    if not isinstance(value, tuple | list) or len(value) > MAX_DIMENSIONS:
        raise ValueError("sizes or strides are not a tuple")
    if not all(type(n) is int and 0 <= n < 1 << 62 for n in value):
        raise ValueError("sizes or strides are no counts")
    return tuple(value)


def _view(storage: object, offset: object, size: object, stride: object, of: TorchType | None = None) -> TensorView:
    if not isinstance(storage, Storage):
        raise TypeError("the storage is missing")
    if type(offset) is not int or not 0 <= offset < 1 << 62:
        raise ValueError(f"the offset is {describe_value(offset)}")
    shape, strides = counts(size), counts(stride)
    if len(shape) != len(strides):
        raise ValueError(f"{len(shape)} sizes and {len(strides)} strides")
    return TensorView(storage, of or storage.type, offset, shape, strides)


def _with_bits(view: TensorView, metadata: object) -> TensorView:
    if isinstance(metadata, dict):
        view.conjugate = metadata.get("conj") is True
        view.negative = metadata.get("neg") is True
    return view


def rebuild_tensor(storage: object, offset: object, size: object, stride: object) -> TensorView:
    """`_rebuild_tensor`: the first form, until torch 0.3."""
    return _view(storage, offset, size, stride)


def rebuild_tensor_v2(
    storage: object, offset: object, size: object, stride: object, grad: object = False, hooks: object = None, metadata: object = None
) -> TensorView:
    """`_rebuild_tensor_v2`: since torch 0.4."""
    return _with_bits(_view(storage, offset, size, stride), metadata)


def rebuild_tensor_v3(
    storage: object, offset: object, size: object, stride: object, grad: object, hooks: object, dtype: object, metadata: object = None
) -> TensorView:
    """`_rebuild_tensor_v3`: types without a storage class of their own, since torch 2.1. `offset` and `stride` in elements of `dtype`."""
    return _with_bits(_view(storage, offset, size, stride, torch_type(dtype)), metadata)


def rebuild_qtensor(
    storage: object, offset: object, size: object, stride: object, quantizer: object, grad: object = False, hooks: object = None
) -> TensorView:
    """`_rebuild_qtensor`: quantised per tensor `(scheme, scale, zero point)` or per channel `(scheme, scales, zero points, axis)`."""
    view = _view(storage, offset, size, stride)
    if not view.type.quantized or not isinstance(quantizer, tuple) or len(quantizer) not in (3, 4) or not isinstance(quantizer[0], Global):
        raise ValueError("not the parameters of a quantised tensor")
    view.quantizer = quantizer
    return view


def torch_type(of: object) -> TorchType:
    """The type that a pickled `torch.dtype` names."""
    if isinstance(of, Global) and of.module == "torch" and of.name in TORCH_TYPES:
        return TORCH_TYPES[of.name]
    raise ValueError(f"{describe_value(of)} is not a dtype that porter knows")


SPARSE_PARTS = {
    "sparse_coo": ("indices", "values"),
    "sparse_csr": ("crow_indices", "col_indices", "values"),
    "sparse_csc": ("ccol_indices", "row_indices", "values"),
    "sparse_bsr": ("crow_indices", "col_indices", "values"),
    "sparse_bsc": ("ccol_indices", "row_indices", "values"),
}
"""The dense tensors that a sparse tensor of each layout consists of, in the order in which torch pickles them."""


def rebuild_sparse_tensor(layout: object, data: object) -> SparseTensor:
    """`_rebuild_sparse_tensor`: `(indices, values, size[, coalesced])` or `(compressed, plain, values, size)`."""
    name = layout.name if isinstance(layout, Global) else str(layout).removeprefix("torch.") if isinstance(layout, str) else ""
    parts = SPARSE_PARTS.get(name)
    if parts is None or not isinstance(data, tuple) or len(data) not in (len(parts) + 1, len(parts) + 2):
        raise ValueError("not the parts of a sparse tensor")
    tensors: dict[str, TensorView] = {}
    for part, value in zip(parts, data, strict=False):
        if not isinstance(value, TensorView):
            raise TypeError(f"{part} is not a tensor")
        tensors[part] = value
    coalesced = data[len(parts) + 1] if len(data) > len(parts) + 1 else None
    return SparseTensor(name, tensors, counts(data[len(parts)]), coalesced if isinstance(coalesced, bool) else None)


def rebuild_nested_tensor(buffer: object, sizes: object, strides: object, offsets: object) -> WrappedTensor:
    """`_rebuild_nested_tensor`: the tensors that describe it stand for it."""
    return WrappedTensor("nested tensor", {"values": buffer, "sizes": sizes, "strides": strides, "offsets": offsets})


def rebuild_parameter(data: object, requires_grad: object = True, hooks: object = None, state: object = None) -> object:
    """`_rebuild_parameter` and `_rebuild_parameter_with_state`: the tensor itself."""
    if not isinstance(data, Leaf):
        raise TypeError("a parameter of something that is no tensor")
    return data


def rebuild_device_tensor(data: object, dtype: object, device: object, grad: object = False) -> object:
    """`_rebuild_device_tensor_from_numpy` (XLA, HPU …) and `_from_cpu_tensor`: the values as they were on the host."""
    wanted = torch_type(dtype)
    if isinstance(data, TensorView) and data.type is wanted:
        return data
    if isinstance(data, PickledArray):
        return ArrayTensor(data, wanted)
    return NoData(f"a tensor of another device, to be converted to {wanted.name} on loading")


@dataclass(slots=True, eq=False)
class ArrayTensor(Leaf):
    """A numpy array that stands for a tensor of type `wanted` (None: of the array's own)."""

    array: PickledArray
    wanted: TorchType | None = None

    @property
    def nbytes(self) -> int:
        found = self.array.dtype.element_type() if self.array.dtype else None
        return found[0].nbytes(math.prod(self.array.shape)) if found else 0


def rebuild_meta_tensor(dtype: object, size: object, stride: object, grad: object = False) -> NoData:
    """`_rebuild_meta_tensor_no_storage`: only a shape was saved."""
    return NoData("it was saved on the 'meta' device, without values")


def rebuild_wrapper_subclass(of: object, *rest: object) -> WrappedTensor:
    """`_rebuild_wrapper_subclass`: a subclass whose values are in the attributes that its state sets."""
    return WrappedTensor(str(of) if isinstance(of, Global) else "a tensor subclass")


def rebuild_from_type(function: object, of: object, args: object, state: object = None) -> object:
    """`_rebuild_from_type_v2`: a tensor made by `function`, then given a class and attributes. Both versions are alike here."""
    constructor = TORCH_GLOBALS.get((function.module, function.name)) if isinstance(function, Global) else None
    if isinstance(function, Global) and function.name == "_rebuild_njt" and isinstance(args, tuple) and args:
        return WrappedTensor(str(of), {"kwargs": args[0]})
    if constructor is None or constructor is rebuild_from_type or not isinstance(args, tuple):
        raise TypeError(f"no tensor comes of {describe_value(function)}")
    made = constructor(*args)
    if not isinstance(made, Leaf):
        raise TypeError(f"no tensor comes of {describe_value(function)}")
    if isinstance(made, WrappedTensor):
        made.build(state)
    return made


def _graph_module(*args: object) -> Instance:
    """`torch.fx` modules: their attributes are the first argument, next to source code that stays text."""
    module = Instance(Global("torch.fx.graph_module", "GraphModule"))
    module.build(next((a for a in args if isinstance(a, dict)), {}))
    return module


def _list(values: object = (), *rest: object) -> object:
    return values


def _size(values: object = ()) -> tuple[object, ...]:
    return tuple(values) if isinstance(values, tuple | list) else ()


TORCH_GLOBALS: Globals = {
    **PYTHON_GLOBALS,
    **NUMPY_GLOBALS,
    ("torch._utils", "_rebuild_tensor"): rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor_v2,
    ("torch._utils", "_rebuild_tensor_v3"): rebuild_tensor_v3,
    ("torch._utils", "_rebuild_qtensor"): rebuild_qtensor,
    ("torch._utils", "_rebuild_sparse_tensor"): rebuild_sparse_tensor,
    ("torch._utils", "_rebuild_sparse_csr_tensor"): rebuild_sparse_tensor,
    ("torch._utils", "_rebuild_nested_tensor"): rebuild_nested_tensor,
    ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): rebuild_parameter,
    ("torch._utils", "_rebuild_device_tensor_from_numpy"): rebuild_device_tensor,
    ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"): rebuild_device_tensor,
    ("torch._utils", "_rebuild_xla_tensor"): rebuild_device_tensor,
    ("torch._utils", "_rebuild_meta_tensor_no_storage"): rebuild_meta_tensor,
    ("torch._utils", "_rebuild_wrapper_subclass"): rebuild_wrapper_subclass,
    **{(module, f"_rebuild_from_type{v}"): rebuild_from_type for module in ("torch._tensor", "torch.tensor") for v in ("", "_v2")},
    **{("torch.nn.parameter", name): Parameter for name in ("Parameter", "Buffer")},
    ("torch.autograd.variable", "Variable"): Parameter,
    ("torch", "Size"): _size,
    ("torch", "device"): lambda *args: Instance(Global("torch", "device"), args),
    ("torch", "Generator"): lambda *args: Instance(Global("torch", "Generator"), args),
    ("torch.serialization", "_get_layout"): lambda name="": name,
    **{("torch.fx.graph_module", name): _graph_module for name in ("reduce_graph_module", "reduce_deploy_graph_module")},
    ("torch.nn.backends.thnn", "_get_thnn_function_backend"): lambda: None,
    **{("torch.jit._pickle", f"build_{kind}list"): _list for kind in ("int", "double", "bool", "tensor")},
    ("torch.jit._pickle", "build_tensor_from_id"): _list,
    ("torch.jit._pickle", "restore_type_tag"): _list,
}
