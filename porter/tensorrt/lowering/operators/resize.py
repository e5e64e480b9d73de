"""Resize and Upsample: TensorRT's Resize where it looks at the same places; else the places by Gather, or weights by products.

Source: onnx/onnx docs/Operators.md (Resize); NVIDIA/TensorRT, include/NvInfer.h, tag v11.1 (IResizeLayer,
ResizeCoordinateTransformation, ResizeSelector, ResizeRoundMode).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from porter.dataclass import dataclass
from porter.graph.analysis.resampling import coordinates, cubic_weights, linear_weights, scaled
from porter.graph.analysis.resampling import nearest as nearest_places
from porter.graph.analysis.values import Element
from porter.tensorrt import layers
from porter.tensorrt.lowering.op import Op
from porter.tensorrt.lowering.operators.shape import multiplied, same, sizes_of, vector

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MODES = {"nearest": "NEAREST", "linear": "LINEAR", "cubic": "CUBIC"}

_COORDINATES = {
    "align_corners": "ALIGN_CORNERS",
    "asymmetric": "ASYMMETRIC",
    "half_pixel": "HALF_PIXEL",
    "pytorch_half_pixel": "HALF_PIXEL",
    # Where sizes are whole multiples of the scales, which is asked for here, it is the same as half_pixel.
    "half_pixel_symmetric": "HALF_PIXEL",
}

_ROUNDING = {"floor": "FLOOR", "ceil": "CEIL", "round_prefer_floor": "HALF_DOWN", "round_prefer_ceil": "HALF_UP"}


@dataclass(frozen=True, slots=True)
class Axis:
    """How an axis changes: sizes before and after, -1 where open, and the scale that places are computed with.

    target: the size after, as a number or as what says it while the network runs. scale: 0 where an open axis has none.
    """

    axis: int
    size: int
    target: Element
    scale: float

    @property
    def out(self) -> int:
        return self.target if isinstance(self.target, int) else -1

    @property
    def open(self) -> bool:
        """Whether a size is known only when the network runs."""
        return self.size < 0 or self.out < 0

    @property
    def whole(self) -> bool:
        """Whether the scale is that of the two sizes, which TensorRT computes places with."""
        return self.open or abs(self.out - self.size * self.scale) <= 1e-3

    def places(self, transform: str) -> NDArray[np.float64]:
        """Where each place of the output lies in the input."""
        return coordinates(self.size, self.out, self.scale, transform)


def resize(op: Op) -> None:
    """Height and width, or any axes, to another size."""
    changed = _changed(op)
    mode, transform, nearest = _how(op)
    if not changed:
        op.alias(op.tensor(0))
        return
    if transform == "tf_crop_and_resize":
        raise op.refuse("it cuts a region out")
    if op.attribute("antialias", 0):
        raise op.refuse("TensorRT's Resize does not smooth")
    if transform == "align_corners" and not all(c.whole for c in changed):
        raise op.refuse("its corners do not lie at whole places, which runtimes take differently")
    if op.version < 11 and mode == "nearest":
        _refuse_ambiguous(op, changed)
    selector = _selector(op, changed, transform)
    reach = {"linear": 3, "cubic": 2}.get(mode, 8)
    same_places = all(c.whole for c in changed) and transform in _COORDINATES
    if selector is None or not same_places or min(c.axis for c in changed) < op.rank(0) - reach:
        if any(c.open for c in changed):
            raise op.refuse(f"TensorRT's Resize computes other places for '{transform}', and sizes are known only when the network runs")
        if mode == "nearest":
            _by_places(op, changed, transform, nearest)
        else:
            _by_weights(op, changed, mode, transform)
        return
    settings = {
        "coordinates": _COORDINATES[transform],
        "rounding": _ROUNDING[nearest] if mode == "nearest" else "FLOOR",
        "selector": selector,
    }
    cubic = float(op.attribute("cubic_coeff_a", -0.75)) if mode == "cubic" else -0.75
    outside = bool(op.attribute("exclude_outside", 0)) and mode == "cubic"
    size, scales, inputs = _target(op, changed)
    op.put(layers.Resize(_MODES[mode], size, scales, **settings, cubic_coefficient=cubic, exclude_outside=outside), inputs)


def _how(op: Op) -> tuple[str, str, str]:
    """Mode, transformation of coordinates, and how the nearest is chosen."""
    mode = op.attribute("mode", "nearest")
    if op.node.op_type == "Upsample" or op.version < 11:
        return mode.replace("bilinear", "linear"), "asymmetric", "floor"
    return mode, op.attribute("coordinate_transformation_mode", "half_pixel"), op.attribute("nearest_mode", "round_prefer_floor")


def _changed(op: Op) -> list[Axis]:
    """The axes that change."""
    shape = op.shape(0)
    axes = op.axes(op.attribute("axes") or list(range(len(shape))))
    if op.node.op_type == "Upsample" or op.version < 11:
        given = op.attribute("scales") if op.attribute("scales") is not None else op.array(1)
    else:
        given = op.array(2) if op.has(2) else None
    if given is not None and len(given):
        return [_by_scale(op, a, float(s)) for a, s in zip(axes, given, strict=True) if s != 1]
    wanted = op.elements(3) if op.has(3) else None
    if wanted is None:
        raise op.refuse("its scales and sizes are known only when the network runs")
    policy = op.attribute("keep_aspect_ratio_policy", "stretch")
    if policy != "stretch":
        return _in_proportion(op, axes, wanted, min if policy == "not_larger" else max)
    have = sizes_of(op, op.tensor(0))
    pairs = [(a, n) for a, n in zip(axes, wanted, strict=True) if not same(op, n, have[a])]
    return [Axis(a, shape[a], n, n / shape[a] if isinstance(n, int) and shape[a] > 0 else 0) for a, n in pairs]


def _by_scale(op: Op, axis: int, scale: float) -> Axis:
    size = op.shape(0)[axis]
    if size >= 0:
        return Axis(axis, size, scaled(size, scale), scale)
    if not scale.is_integer():
        raise op.refuse(f"the size of axis {axis} is known only when the network runs, and {scale:g} times it may be no whole number")
    return Axis(axis, size, multiplied(sizes_of(op, op.tensor(0))[axis], int(scale)), scale)


def _in_proportion(op: Op, axes: Sequence[int], wanted: Sequence[Element], choose: Callable[[Sequence[float]], float]) -> list[Axis]:
    """The axes, all by one scale: the least of those that are asked for, or the largest."""
    sizes = op.static(0, axes)
    ratios = [n / size for n, size in zip(wanted, sizes, strict=True) if isinstance(n, int)]
    if len(ratios) < len(axes):
        raise op.refuse("its sizes are known only when the network runs")
    scale = choose(ratios)
    return [Axis(a, n, math.floor(n * scale + 0.5), scale) for a, n in zip(axes, sizes, strict=True) if scale != 1]


def _selector(op: Op, changed: list[Axis], transform: str) -> str | None:
    """What says where a single pixel is taken from; None where TensorRT has no such way."""
    single = [c for c in changed if c.out == 1]
    if any(c.out < 0 for c in changed) and transform in ("align_corners", "pytorch_half_pixel"):
        op.notice("where one of its axes becomes 1, and not all, ONNX takes the first position and TensorRT may take another")
        return "UPPER"
    if not single or transform not in ("align_corners", "pytorch_half_pixel"):
        return "FORMULA"
    # ONNX takes the first position along each axis that becomes 1, TensorRT that of an image that is one pixel.
    others = [n for n in op.shape(0)[2:] if n != 1]
    return "UPPER" if len(single) == len(changed) == len(others) else None


def _refuse_ambiguous(op: Op, changed: list[Axis]) -> None:
    import numpy as np

    for c in [c for c in changed if not c.open]:
        places = np.arange(c.out) / c.scale
        if c.scale < 1 and (np.floor(places) != np.ceil(places)).any():
            raise op.refuse("it makes an axis smaller before opset 11, where what is the nearest differs between runtimes")


def _target(op: Op, changed: list[Axis]) -> tuple[tuple[int, ...] | None, tuple[float, ...] | None, list[str]]:
    """Size or scales of all axes, or neither and a tensor of sizes; and the layer's inputs."""
    import numpy as np

    x = op.tensor(0)
    sizes = sizes_of(op, x)
    scales = [1.0] * len(sizes)
    for c in changed:
        sizes[c.axis], scales[c.axis] = c.target, c.scale if c.open else c.out / c.size
    known = tuple([n for n in sizes if isinstance(n, int)])
    if len(known) == len(sizes):
        return known, None, [x]
    # The scales are float32 in TensorRT, and what they make of a size is rounded down.
    if all(c.scale > 0 and (c.open or scaled(c.size, c.out / c.size) == c.out) for c in changed):
        return None, tuple([float(np.float32(s)) for s in scales]), [x]
    return None, None, [x, vector(op, sizes, "sizes")]


def _by_places(op: Op, changed: list[Axis], transform: str, nearest: str) -> None:
    """Each axis by the places that it takes, which are constants."""
    import numpy as np

    x = op.tensor(0)
    for number, c in enumerate(changed):
        places = nearest_places(c.places(transform), nearest, c.size).astype(np.int64)
        indices = op.constant_tensor(places, f"places_{c.axis}")
        x = op.put_or_add(layers.Gather("DEFAULT", c.axis), [x, indices], f"axis_{c.axis}", number == len(changed) - 1)


def _by_weights(op: Op, changed: list[Axis], mode: str, transform: str) -> None:
    """Height and width each times a matrix that says what every place takes from every other."""
    rank, x = op.rank(0), op.tensor(0)
    if rank < 2 or min(c.axis for c in changed) < rank - 2:
        raise op.refuse(f"TensorRT's Resize computes other places for '{transform}' with these sizes, and of axes before the last two")
    for number, c in enumerate(changed):
        places = c.places(transform)
        if mode == "linear":
            weights = linear_weights(places, c.size)
        else:
            weights = cubic_weights(places, c.size, float(op.attribute("cubic_coeff_a", -0.75)), bool(op.attribute("exclude_outside", 0)))
        matrix = weights if c.axis == rank - 1 else weights.T.copy()
        held = op.constant_tensor(matrix.reshape((1,) * (rank - 2) + matrix.shape), f"weights_{c.axis}")
        pair = [x, held] if c.axis == rank - 1 else [held, x]
        x = op.put_or_add(layers.MatrixMultiply(), pair, f"axis_{c.axis}", number == len(changed) - 1)
