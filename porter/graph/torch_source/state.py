"""The state of a network: its tensors as a store that PyTorch's writer takes, each read when it is written."""

from __future__ import annotations

from collections.abc import Mapping

from porter.dtypes import DTYPES
from porter.graph.state_map import Stored
from porter.store import TensorStore
from porter.tensor import BytesPayload, Tensor, TensorSpec

COUNT = "num_batches_tracked"


def state_of(stored: Mapping[str, Stored]) -> TensorStore:
    """The store, with a `num_batches_tracked` of 0 behind the statistics of each BatchNorm."""
    store = TensorStore()
    for name, item in stored.items():
        dtype = DTYPES[item.constant.dtype]
        store.add(Tensor(TensorSpec(name, dtype, item.constant.shape), item.constant.payload()))
        if item.role == "running_var":
            count = name.removesuffix("running_var") + COUNT
            store.add(Tensor(TensorSpec(count, DTYPES["int64"], ()), BytesPayload.of(bytes(8))))
    return store
