"""Where ONNX's Resize takes its values from, and with which weights: numbers that depend on nothing but sizes and scales.

Source: onnx/onnx docs/Operators.md (Resize).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from porter.dataclass import replace
from porter.graph.analysis.values import Node, Value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def scaled(size: int, scale: float) -> int:
    """How many places an axis of `size` has after a scale: rounded down, of a product in float32."""
    import numpy as np

    return int(np.floor(np.float32(size) * np.float32(scale)))


def resized_by(node: Node, values: dict[str, Value]) -> None:
    """The shape of what Resize or Upsample makes by scales: onnx's shape inference multiplies in float64, and runtimes do not."""
    if node.domain or node.op_type not in ("Resize", "Upsample") or "axes" in node.attributes or not node.outputs:
        return
    index = 1 if node.op_type == "Upsample" or node.version < 11 else 2
    given = values.get(node.inputs[index]) if index < len(node.inputs) else None
    scales = given.constant.array().reshape(-1) if given is not None and given.constant is not None else ()
    data, out = values.get(node.inputs[0]), values[node.outputs[0]]
    if data is None or data.shape is None or out.shape is None or not len(data.shape) == len(out.shape) == len(scales):
        return
    pairs = zip(data.shape, out.shape, scales, strict=True)
    values[out.name] = replace(out, shape=tuple([scaled(n, float(s)) if isinstance(n, int) else m for n, m, s in pairs]))


def coordinates(size: int, out: int, scale: float, transform: str) -> NDArray[np.float64]:
    """Where each place of an axis of `out` places lies in one of `size`, as `coordinate_transformation_mode` says. Shape `(out,)`."""
    import numpy as np

    i = np.arange(out, dtype=np.float64)
    if transform == "asymmetric":
        return i / scale
    if transform == "align_corners":
        return i * (size - 1) / (out - 1) if out > 1 else i * 0
    if transform == "pytorch_half_pixel" and out == 1:
        return i * 0
    if transform == "half_pixel_symmetric":
        centre = size / 2 * (1 - out / (scale * size))
        return centre + (i + 0.5) / scale - 0.5
    if transform == "tf_half_pixel_for_nn":
        return (i + 0.5) / scale
    return (i + 0.5) / scale - 0.5


def nearest(places: NDArray[np.float64], how: str, size: int) -> NDArray[Any]:
    """The places themselves, as `nearest_mode` rounds them. Whole numbers in float64."""
    import numpy as np

    rules = {
        "floor": np.floor(places),
        "ceil": np.ceil(places),
        "round_prefer_floor": np.ceil(places - 0.5),
        "round_prefer_ceil": np.floor(places + 0.5),
    }
    return np.asarray(np.clip(rules[how], 0, size - 1))


def linear_weights(places: NDArray[np.float64], size: int) -> NDArray[np.float32]:
    """What each place of the output takes from each of the input. Shape `(size, out)`, float32."""
    import numpy as np

    inside = np.clip(places, 0, size - 1)
    low = np.minimum(np.floor(inside).astype(int), size - 1)
    high = np.minimum(low + 1, size - 1)
    share = inside - low
    weights = np.zeros((size, len(places)))
    columns = np.arange(len(places))
    np.add.at(weights, (low, columns), 1 - share)
    np.add.at(weights, (high, columns), share)
    return weights.astype(np.float32)


def cubic_weights(places: NDArray[np.float64], size: int, a: float, exclude_outside: bool) -> NDArray[np.float32]:
    """As `linear_weights`, from four places each; those outside are the border's, or nothing."""
    import numpy as np

    low = np.floor(places).astype(int)
    t = places - low
    weights = np.zeros((size, len(places)))
    columns = np.arange(len(places))
    for step, share in ((-1, _far(t + 1, a)), (0, _near(t, a)), (1, _near(1 - t, a)), (2, _far(2 - t, a))):
        place = low + step
        inside = (place >= 0) & (place < size)
        np.add.at(weights, (np.clip(place, 0, size - 1), columns), np.where(inside | (not exclude_outside), share, 0))
    return (weights / weights.sum(0) if exclude_outside else weights).astype(np.float32)


def _near(d: NDArray[np.float64], a: float) -> NDArray[np.float64]:
    return (a + 2) * d**3 - (a + 3) * d**2 + 1


def _far(d: NDArray[np.float64], a: float) -> NDArray[np.float64]:
    return a * (d**3 - 5 * d**2 + 8 * d - 4)
