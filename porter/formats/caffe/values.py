"""What a writer does to values that Caffe has no type for: exact widening, integers as asked, or a refusal."""

from __future__ import annotations

from porter.dataclass import dataclass, field
from porter.errors import LossError
from porter.formats.base import Loss, WriteOptions
from porter.formats.caffe.blobs import stored_as
from porter.io.widening import WIDENED_TO_FLOAT32, as_float32, first_inexact
from porter.store import TensorStore
from porter.tensor import Tensor


@dataclass(slots=True)
class Prepared:
    """Tensors as a Caffe file can hold them, under the same names, and what that cost."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)


def prepare(store: TensorStore, options: WriteOptions) -> Prepared:
    """The tensors of `store` as float32, float64, or what the source had as NVCaffe's raw data.

    Reads integers of 32 and 64 bits, to know that float32 holds them.

    Raises:
        LossError: a dtype that has no exact place, and nobody allowed to lose it.
    """
    prepared = Prepared()
    changed: dict[str, list[str]] = {}
    dropped, rounded = [], []
    for name, tensor in store.items():
        dtype = tensor.dtype
        if dtype.name in ("float32", "float64") or stored_as(tensor) == "raw":
            prepared.tensors[name] = tensor
        elif dtype.name in WIDENED_TO_FLOAT32:
            prepared.tensors[name] = as_float32(tensor)
            changed.setdefault(dtype.name, []).append(name)
        elif dtype.kind == "complex":
            raise LossError("L001", f"caffe cannot hold {dtype}", tensor=name, hint="write safetensors, pytorch or hdf5, which can")
        elif options.ints == "error":
            raise LossError(
                "L101", f"caffe cannot hold {dtype}", tensor=name, hint="use --ints cast to write it as float32, or --ints drop"
            )
        elif options.ints == "drop":
            dropped.append(name)
        else:
            if _loses(tensor, options):
                rounded.append(name)
            prepared.tensors[name] = as_float32(tensor)
            changed.setdefault(dtype.name, []).append(name)
    for dtype_name, names in changed.items():
        prepared.losses.append(Loss("dtype", f"{dtype_name} becomes float32", tuple(names)))
    if rounded:
        prepared.losses.append(Loss("value", "integers rounded to the nearest float32", tuple(rounded)))
    if dropped:
        prepared.losses.append(Loss("tensor", "integers left out (--ints drop)", tuple(dropped)))
    return prepared


def _loses(tensor: Tensor, options: WriteOptions) -> bool:
    """Whether float32 rounds one of the tensor's integers; refuses that unless it is allowed."""
    index = first_inexact(tensor)
    if index is not None and not options.allow_lossy:
        raise LossError(
            "L102",
            f"element {index} is a value of {tensor.dtype} that no float32 equals",
            tensor=tensor.name,
            hint="add --allow-lossy to round it, or --ints drop to leave the tensor out",
        )
    return index is not None


def reduced(store: TensorStore, tensors: dict[str, Tensor]) -> TensorStore:
    """`store` with only the tensors that are written, as they are written; ties to others are gone."""
    result = TensorStore(tensors.values(), source=store.source)
    result.ties = {alias: target for alias, target in store.ties.items() if alias in tensors and target in tensors}
    result.metadata, result.attachments = store.metadata, store.attachments
    return result
