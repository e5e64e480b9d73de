"""What went wrong once under hard use, held so that it does not again: one test for each finding, whatever area it is in."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

import porter
from porter.store import TensorStore
from porter.tensor import Tensor

_PARTS = ("", ".", "..", "a", "%", "%25", "a%", "\0", "%2F", "é", "\udc80")


def store_of(*names: str) -> TensorStore:
    """A store of small float32 vectors, no two alike."""
    return TensorStore(Tensor.from_array(name, np.arange(i, i + 3, dtype="f4")) for i, name in enumerate(names))


def test_hdf5_holds_any_name_beside_any_other(tmp_path: Path) -> None:
    names = ["/".join(parts) for n in (1, 2, 3) for parts in itertools.product(_PARTS, repeat=n)]
    store = store_of(*dict.fromkeys([*names[::7], "", "/", "a/", "//", "a"]))
    porter.save(store, tmp_path / "m.h5")
    with porter.open(tmp_path / "m.h5") as back:
        assert list(back) == list(store)
        assert back.digest() == store.digest()
