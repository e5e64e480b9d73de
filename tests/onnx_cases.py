"""The cases that the onnx project states for its operators: a model of one operator, inputs, and what it makes of them."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from once import once

if TYPE_CHECKING:
    import numpy as np


@pytest.fixture(scope="session")
def onnx_cases(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """All that have a model and values, but for those that say an operator by others: the operators' own cases say the same.

    They compute what they state, in loops of Python; that takes seconds, and is done once.
    """
    folder = once(tmp_path_factory, "onnx_cases", _make)
    found: list[Any] = pickle.loads((folder / "cases").read_bytes())
    return found


def _make(folder: Path) -> None:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    kept = [c for c in found if c.model is not None and c.data_sets is not None and "_expanded" not in c.name]
    (folder / "cases").write_bytes(pickle.dumps(kept))


def as_array(value: Any) -> np.ndarray[Any, Any]:
    import numpy as np
    from onnx import TensorProto, numpy_helper

    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)
