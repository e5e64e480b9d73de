"""numpy arrays inside pickles, as inert records: what a restricted unpickler may build when a pickle names numpy.

Source: numpy `numpy/_core/src/multiarray/methods.c` (`array_reduce`, `array_setstate`) and `descriptor.c`
(`arraydescr_reduce`, `arraydescr_setstate`), 2.4: an array's state is `(version, shape, dtype, is_fortran, data)`, a dtype's
`(version, byte order, subarray, names, fields, itemsize, alignment, flags)`; `numpy/_core/numeric.py` (`_frombuffer`):
arrays of pickle protocol 5. The module was called `numpy.core` before numpy 2.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from porter.dtypes import DTYPES, DType
from porter.errors import FormatError
from porter.io import npy
from porter.io.payloads import ComputedPayload
from porter.io.pickle_globals import Buildable, Global, Instance
from porter.tensor import Tensor, TensorSpec, canonical_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from porter.io.pickle_globals import Globals
    from porter.tensor import Payload

MAX_DIMENSIONS = npy.MAX_DIMENSIONS
_ML_DTYPES = tuple(d.name for d in DTYPES.values() if d.numpy_str is None and d.name != "complex32")
_SCALARS = (
    *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
    *("float16", "float32", "float64", "complex64", "complex128", "bool_", "bool", "longlong", "ulonglong", "intc", "uintc", "object_"),
)


_ARRAYS = (Global("numpy", "ndarray"), Global("numpy", "matrix"), Global("numpy.matrixlib.defmatrix", "matrix"))


class PickledDtype(Buildable):
    """A dtype: numpy's string for it (`<f4`, `|O`), or the name of a type of ml_dtypes."""

    __slots__ = ("descr",)

    def __init__(self, of: object, align: object = False, copy: object = True) -> None:
        if isinstance(of, Global):
            self.descr = of.name
        elif isinstance(of, str) and len(of) < 256:
            self.descr = str(of)
        else:
            raise TypeError("not a dtype")

    def build(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 5:
            raise ValueError("not a dtype's state")
        order, subarray, names = (state[1], *state[2:4]) if isinstance(state[0], int) else state[:3]
        if subarray is not None or names is not None:
            self.descr = npy.RECORD
        elif order in ("<", ">", "|", "=") and self.descr not in _ML_DTYPES:
            self.descr = str(order) + self.descr.lstrip("<>|=")

    def element_type(self) -> tuple[DType, int] | None:
        """The type and the width of the numbers to swap (0: none); None where porter has no such type."""
        if self.descr in _ML_DTYPES:
            return DTYPES[self.descr], 0
        named = DTYPES.get(self.descr.rstrip("_"))
        return (named, 0) if named is not None and named.numpy_str is not None else npy.element_type(self.descr)

    @property
    def objects(self) -> bool:
        """Whether elements are Python objects."""
        return self.descr.lstrip("<>|=") in ("O", "O4", "O8", "object_")


class PickledArray(Buildable):
    """An array as its pickle gives it: `dtype`, `shape`, order, and `data` (bytes, bytes as Latin-1 text, a run of the file, or
    the list of an array of objects). `scalar`: it is a number of numpy's, not an array of no dimensions."""

    __slots__ = ("data", "dtype", "fortran_order", "scalar", "shape")

    def __init__(self) -> None:
        self.dtype: PickledDtype | None = None
        self.shape: tuple[int, ...] = ()
        self.fortran_order = False
        self.scalar = False
        self.data: object = b""

    def build(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise ValueError("not an array's state")
        self.fill(*state[-4:])

    def fill(self, shape: object, dtype: object, fortran_order: object, data: object) -> None:
        """Take the parts of the state, once."""
        if self.dtype is not None:
            raise ValueError("an array gets its state twice")
        if not isinstance(dtype, PickledDtype) or not isinstance(shape, tuple) or len(shape) > MAX_DIMENSIONS:
            raise ValueError("not an array's dtype and shape")
        if not all(type(n) is int and 0 <= n < 1 << 62 for n in shape):
            raise ValueError("not a shape")
        self.dtype, self.shape, self.fortran_order, self.data = dtype, shape, bool(fortran_order), data

    @property
    def objects(self) -> list[object] | None:
        """The elements of an array of Python objects, in order; None for any other array."""
        if self.dtype is None or not self.dtype.objects or not isinstance(self.data, list):
            return None
        return self.data if len(self.data) == math.prod(self.shape) else None

    def tensor(self, name: str, payload: Callable[[object], Payload]) -> Tensor | None:
        """The array as a tensor; None where porter has no type for its elements. `payload` turns `data` into bytes.

        Raises:
            FormatError: data and shape disagree.
        """
        found = self.dtype.element_type() if self.dtype is not None else None
        if found is None or self.objects is not None:
            return None
        dtype, swap = found
        header = npy.ArrayHeader("", self.fortran_order, self.shape, 0)
        data = payload(self.data)
        if dtype.packed:
            data = _packed(npy.canonical(header, data, DTYPES["uint8"], 0), dtype)
            header = npy.ArrayHeader("", False, self.shape, 0)
        spec = TensorSpec(name, dtype, self.shape)
        if data.nbytes != spec.nbytes:
            raise FormatError("F003", f"{dtype} {list(self.shape)} takes {spec.nbytes} bytes, the pickle has {data.nbytes}", tensor=name)
        return Tensor(spec, npy.canonical(header, data, dtype, swap))


def _packed(data: Payload, dtype: DType) -> Payload:
    """Elements of one byte each as packed canonical bytes."""

    def produce() -> Iterator[memoryview]:
        import numpy as np

        yield canonical_bytes(np.frombuffer(data.buffer(), dtype.numpy()), dtype)

    return ComputedPayload(dtype.nbytes(data.nbytes), produce)


def _reconstruct(of: object, shape: object = (), kind: object = b"b") -> PickledArray:
    if of not in _ARRAYS:
        raise TypeError("not an array's class")
    return PickledArray()


def _scalar(dtype: object, data: object = b"") -> PickledArray:
    array = PickledArray()
    array.fill((), dtype, False, data)
    array.scalar = True
    return array


def _from_buffer(data: object, dtype: object, shape: object, order: object, axes: object = None) -> PickledArray:
    if axes is not None:
        raise ValueError("axes of a buffer")
    array = PickledArray()
    array.fill((shape,) if isinstance(shape, int) else shape, dtype, order == "F", data)
    return array


def _random(*args: object) -> Instance:
    """A generator of random numbers, which checkpoints keep beside the weights: what its pickle says of it."""
    return Instance(Global("numpy.random", "Generator"), args)


NUMPY_GLOBALS: Globals = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
    **{("numpy.random._pickle", name): _random for name in ("__generator_ctor", "__bit_generator_ctor", "__randomstate_ctor")},
    **{("numpy.random.bit_generator", f"__pyx_unpickle_{name}"): _random for name in ("SeedSequence", "SeedlessSeedSequence")},
    ("numpy", "dtype"): PickledDtype,
    **{(array.module, array.name): None for array in _ARRAYS},
    **{("numpy", name): None for name in _SCALARS},
    **{("ml_dtypes", name): None for name in _ML_DTYPES},
}
"""What a pickle of numpy arrays names; put it beside `PYTHON_GLOBALS`."""
