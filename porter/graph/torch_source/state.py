"""The state of a network: its tensors as a store that PyTorch's writer takes, each read when it is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from porter.dtypes import DTYPES, DType
from porter.graph.analysis.values import Constant
from porter.graph.state_map import Stored
from porter.graph.torch_source.source import values_of
from porter.store import TensorStore
from porter.tensor import BytesPayload, Tensor, TensorSpec, canonical_bytes

COUNT = "num_batches_tracked"


class _Values:
    """The bytes of a constant, loaded for whoever asks."""

    location = None

    def __init__(self, constant: Constant, dtype: DType) -> None:
        self._constant = constant
        self._dtype = dtype
        self.nbytes = dtype.nbytes(constant.size)

    def buffer(self) -> memoryview:
        return canonical_bytes(values_of(self._constant), self._dtype).toreadonly()

    def chunks(self, limit: int) -> Iterator[memoryview]:
        return BytesPayload(self.buffer()).chunks(limit)


def state_of(stored: Mapping[str, Stored]) -> TensorStore:
    """The store, with a `num_batches_tracked` of 0 behind the statistics of each BatchNorm."""
    store = TensorStore()
    for name, item in stored.items():
        dtype = DTYPES[item.constant.dtype]
        store.add(Tensor(TensorSpec(name, dtype, item.constant.shape), _Values(item.constant, dtype)))
        if item.role == "running_var":
            count = name.removesuffix("running_var") + COUNT
            store.add(Tensor(TensorSpec(count, DTYPES["int64"], ()), BytesPayload.of(bytes(8))))
    return store
