"""A store with the element types that a plan gives: values are rounded when they are read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from porter.check.precision.plan import Plan, check_names
from porter.dataclass import replace
from porter.dtypes import DTYPES, DType
from porter.errors import LossError, UsageError
from porter.io.float_layouts import holds
from porter.io.payloads import ComputedPayload
from porter.io.widening import whole_elements
from porter.mapping.ops.rounding import Rounding, rounded, widened
from porter.store import Notice, TensorStore
from porter.tensor import CHUNK, Payload, Tensor, canonical_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray


def copied(store: TensorStore) -> TensorStore:
    """Another store of the same tensors, whose notices begin anew; closing it closes `store`."""
    result = TensorStore(store.values(), source=store.source)
    result.ties, result.metadata, result.attachments = dict(store.ties), dict(store.metadata), dict(store.attachments)
    result.manage(store)
    return result


class Retyped:
    """A tensor whose type the plan changes. rounding: what that does to its values; None until they have been read."""

    __slots__ = ("after", "before", "name", "rounding", "shape")

    def __init__(self, name: str, shape: tuple[int, ...], before: DType, after: DType) -> None:
        self.name = name
        self.shape = shape
        self.before = before
        self.after = after
        self.rounding: Rounding | None = None

    @property
    def narrower(self) -> bool:
        """Whether values may be rounded."""
        return not holds(self.after, self.before)


def retype(store: TensorStore, plan: Plan, path: str) -> list[Retyped]:
    """Give the tensors of `store` the types of `plan`, which `path` holds, in place; which ones change.

    Each value is rounded once, to nearest, ties to even, when it is read. Tensors that the plan does not name stay as they are, and
    tied ones are told once. How many values became zero is noted in `store` too when they have been read.

    Raises:
        UsageError: the plan names a tensor that is not there, holds no floats or was of another type, or gives tied tensors different
            types.
        LossError: a value overflows; when it is read.
    """
    check_names(plan.dtypes, store, path)
    ties, changed = dict(store.ties), []
    for name, tensor in list(store.items()):
        dtype, target = DTYPES[plan.dtypes.get(name, tensor.dtype.name)], ties.get(name)
        was = plan.made_for.get(name, tensor.dtype.name)
        if was != tensor.dtype.name:
            hint = "audit this file again, or take 'from' out of the plan"
            raise UsageError("U809", f"the plan was made for {was}, and this is {tensor.dtype}", path=path, tensor=name, hint=hint)
        if target is not None and store[target].dtype != dtype:
            hint = f"give '{name}' and '{target}' the same type in the plan"
            raise UsageError("U809", f"tied to '{target}', which becomes {store[target].dtype}, not {dtype}", tensor=name, hint=hint)
        if dtype == tensor.dtype:
            continue
        if tensor.dtype.kind != "float":
            raise UsageError("U809", f"the plan makes {dtype} of {tensor.dtype}, which holds no floats", path=path, tensor=name)
        one = Retyped(name, tensor.shape, tensor.dtype, dtype)
        payload = store[target].payload if target is not None else _cast(tensor, one, store)
        if target is None:
            changed.append(one)
        store.replace(Tensor(replace(tensor.spec, dtype=dtype), payload))
    store.ties = ties
    return changed


def _cast(tensor: Tensor, one: Retyped, store: TensorStore) -> Payload:
    dtype = one.after

    def produce() -> Iterator[memoryview]:
        total = Rounding()
        for values in _pieces(tensor, dtype):
            result, part = rounded(widened(values, tensor.dtype), dtype)
            if part.overflowed:
                hint = "give it another type in the plan"
                raise LossError("L801", f"{part.overflowed:,} values or more overflow as {dtype}", tensor=tensor.name, hint=hint)
            total += part
            yield canonical_bytes(result, dtype)
        one.rounding = total
        notice = Notice("changed", f"as {dtype}, {total.underflowed:,} became zero", tensor.name)
        if total.underflowed and notice not in store.notices:
            store.notices.append(notice)

    return ComputedPayload(dtype.nbytes(tensor.size), produce)


def _pieces(tensor: Tensor, dtype: DType) -> Iterator[NDArray[Any]]:
    """The tensor's elements, flat; all at once where several share a byte before or after."""
    import numpy as np

    if tensor.dtype.packed or dtype.packed:
        yield tensor.numpy().reshape(-1)
        return
    kind = tensor.dtype.numpy()
    for chunk in whole_elements(tensor.payload, kind.itemsize, CHUNK):
        yield np.frombuffer(chunk, kind)
