"""Two models on the same samples: how far their outputs are apart, how often they decide the same, how often rightly."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass
from porter.errors import GraphError, UsageError
from porter.graph.runtime import onnxruntime_package
from porter.quantisation.samples import Samples

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class OutputDifference:
    """One output over all samples. snr: of the first model's numbers to the differences, in dB, None where there are none.

    same: of how many samples the largest number of the output is at the same place; None for what has no classes.
    """

    name: str
    largest: float
    snr: float | None
    same: int | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both models over `count` samples. right: how many the first and the second put into the class that the labels say, or None."""

    count: int
    outputs: tuple[OutputDifference, ...]
    right: tuple[int, int] | None


def compare(first: str, second: str, samples: Samples) -> Comparison:
    """Run the models in these files. Labels count for the first output that has classes.

    Nothing is optimised: kernels for integers add up differently from processor to processor, and what is told is of the model.

    Raises:
        GraphError: onnxruntime cannot run one of them.
        UsageError: a label is the number of no class.
    """
    sessions = [session(first, "the network"), session(second, "the quantised network")]
    names = [o.name for o in sessions[0].get_outputs()]
    sums = {name: _Sums(name) for name in names}
    right = [0, 0]
    labelled = False
    for feeds, labels in samples.batches():
        made = [_run(s, names, feeds) for s in sessions]
        for name, a, b in zip(names, *made, strict=True):
            sums[name].add(a, b)
        classes = next((i for i, a in enumerate(made[0]) if _has_classes(a)), None)
        if labels is not None and classes is not None:
            labelled = True
            _check_labels(labels, made[0][classes], samples.path)
            for i in range(2):
                right[i] += int((_classes(made[i][classes]) == labels).sum())
    return Comparison(samples.count, tuple([s.result() for s in sums.values()]), (right[0], right[1]) if labelled else None)


def session(path: str, what: str) -> Any:
    """An onnxruntime session on the CPU that optimises nothing. what: how errors name the file.

    Raises:
        MissingDependencyError: onnxruntime is not there.
        GraphError: it cannot load the model.
    """
    onnxruntime = onnxruntime_package()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        raise GraphError("G090", f"onnxruntime cannot load the model: {said.replace(path, what)}") from error


def _run(session: Any, names: list[str], feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    try:
        made: list[NDArray[Any]] = session.run(names, feeds)
    except Exception as error:
        raise GraphError("G090", f"onnxruntime cannot run the model: {' '.join(str(error).split())[:300]}") from error
    return made


def _check_labels(labels: NDArray[Any], scores: NDArray[Any], path: str) -> None:
    wrong = labels[(labels < 0) | (labels >= scores.shape[1])]
    if wrong.size:
        raise UsageError("U824", f"the label {wrong[0]} is none of {scores.shape[1]} classes, which count from 0", path=path)


def _has_classes(array: NDArray[Any]) -> bool:
    return array.dtype.kind == "f" and array.ndim >= 2 and array.shape[1] > 1 and math.prod(array.shape[2:]) == 1


def _classes(array: NDArray[Any]) -> NDArray[np.int64]:
    import numpy as np

    return np.asarray(array.reshape(array.shape[0], -1).argmax(1))


class _Sums:
    """Adds up the differences of one output."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._largest = self._signal = self._noise = 0.0
        self._same: int | None = 0

    def add(self, a: NDArray[Any], b: NDArray[Any]) -> None:
        import numpy as np

        if a.shape != b.shape or a.dtype.kind not in "fiub":
            # Text is equal, or as far away as what has another shape.
            self._largest, self._same = self._largest if np.array_equal(a, b) else math.inf, None
            return
        x, y = a.astype(np.float64), b.astype(np.float64)
        difference = np.abs(x - y)
        # NaN on both sides is the same; on one it is as far away as can be.
        difference = np.where(np.isnan(x) & np.isnan(y) | (x == y), 0, np.where(np.isnan(difference), np.inf, difference))
        self._largest = max(self._largest, float(difference.max(initial=0)))
        self._signal += float(np.nansum(x * x))
        self._noise += float(np.sum(difference * difference))
        if self._same is not None:
            self._same = self._same + int((_classes(a) == _classes(b)).sum()) if _has_classes(a) else None

    def result(self) -> OutputDifference:
        snr = 10 * math.log10(self._signal / self._noise) if self._signal and 0 < self._noise < math.inf else None
        return OutputDifference(self._name, self._largest, snr, self._same)
