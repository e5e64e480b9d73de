"""Resize and Upsample: TensorRT's Resize where it looks at the same places, else the places themselves by Gather.

Source: onnx/onnx docs/Operators.md (Resize); NVIDIA/TensorRT, include/NvInfer.h, tag v11.1 (IResizeLayer,
ResizeCoordinateTransformation, ResizeSelector, ResizeRoundMode).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass
from porter.graph.analysis.values import Size
from porter.tensorrt import layers
from porter.tensorrt.lowering.op import Op
from porter.tensorrt.lowering.operators.shape import sizes_of, vector

if TYPE_CHECKING:
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
    """How an axis changes: sizes before and after, and the scale that places are computed with."""

    axis: int
    size: int
    out: int
    scale: float

    @property
    def whole(self) -> bool:
        """Whether the scale is that of the two sizes, which TensorRT computes places with."""
        return abs(self.out - self.size * self.scale) <= 1e-3


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
    same_places = all(c.whole for c in changed) and transform in _COORDINATES and selector is not None
    if mode == "nearest" and not same_places:
        _by_places(op, changed, transform, nearest)
        return
    reach = {"linear": 3, "cubic": 2}.get(mode, 8)
    if min(c.axis for c in changed) < op.rank(0) - reach:
        raise op.refuse(f"TensorRT resizes the last {reach} axes in mode '{mode}'")
    if selector is None or not same_places:
        raise op.refuse(f"TensorRT computes places from the sizes, which are others for '{transform}' with these scales")
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
    """The axes that change; open ones have to stay."""
    shape = op.shape(0)
    axes = op.axes(op.attribute("axes") or list(range(len(shape))))
    if op.node.op_type == "Upsample" or op.version < 11:
        given = op.attribute("scales") if op.attribute("scales") is not None else op.array(1)
    else:
        given = op.array(2) if op.has(2) else None
    if given is not None and len(given):
        scales = {a: float(s) for a, s in zip(axes, given, strict=True) if s != 1}
        sizes = {a: op.static(0, [a])[0] for a in scales}
        return [Axis(a, sizes[a], math.floor(sizes[a] * s), s) for a, s in scales.items()]
    wanted = op.elements(3) if op.has(3) else None
    if wanted is None or op.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise op.refuse("its scales or sizes are known only when the network runs, or keep an aspect ratio")
    changed = []
    for a, n in zip(axes, wanted, strict=True):
        if isinstance(n, Size) and (shape[a] >= 0 or n.op or op.assembly.tensor(n.value) != op.tensor(0) or n.axis != a):
            raise op.refuse("its sizes are known only when the network runs")
        if isinstance(n, int) and n != shape[a]:
            size = op.static(0, [a])[0]
            changed.append(Axis(a, size, n, n / size))
    return changed


def _selector(op: Op, changed: list[Axis], transform: str) -> str | None:
    """What says where a single pixel is taken from; None where TensorRT has no such way."""
    single = [c for c in changed if c.out == 1]
    if not single or transform not in ("align_corners", "pytorch_half_pixel"):
        return "FORMULA"
    # ONNX takes the first position along each axis that becomes 1, TensorRT that of an image that is one pixel.
    others = [n for n in op.shape(0)[2:] if n != 1]
    return "UPPER" if len(single) == len(changed) == len(others) else None


def _refuse_ambiguous(op: Op, changed: list[Axis]) -> None:
    import numpy as np

    for c in changed:
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
        sizes[c.axis], scales[c.axis] = c.out, c.out / c.size
    known = tuple([n for n in sizes if isinstance(n, int)])
    if len(known) == len(sizes):
        return known, None, [x]
    # The scales are float32 in TensorRT, and what they make of a size is rounded down.
    if all(math.floor(float(np.float32(c.size) * np.float32(c.out / c.size))) == c.out for c in changed):
        return None, tuple([float(np.float32(s)) for s in scales]), [x]
    return None, None, [x, vector(op, sizes, "sizes")]


def _by_places(op: Op, changed: list[Axis], transform: str, nearest: str) -> None:
    """Each axis by the places that it takes, which are constants."""
    import numpy as np

    x = op.tensor(0)
    for number, c in enumerate(changed):
        places = _nearest(_coordinates(c, transform), nearest, c.size).astype(np.int64)
        indices = op.constant_tensor(places, f"places_{c.axis}")
        x = op.put_or_add(layers.Gather("DEFAULT", c.axis), [x, indices], f"axis_{c.axis}", number == len(changed) - 1)


def _coordinates(c: Axis, transform: str) -> NDArray[Any]:
    """Where each place of the output lies in the input, float64."""
    import numpy as np

    i = np.arange(c.out, dtype=np.float64)
    if transform == "align_corners":
        return i * (c.size - 1) / (c.out - 1) if c.out > 1 else i * 0
    if transform == "asymmetric":
        return i / c.scale
    if transform == "tf_half_pixel_for_nn":
        return (i + 0.5) / c.scale
    if transform == "pytorch_half_pixel" and c.out == 1:
        return i * 0
    if transform == "half_pixel_symmetric":
        return c.size / 2 * (1 - c.out / (c.scale * c.size)) + (i + 0.5) / c.scale - 0.5
    return (i + 0.5) / c.scale - 0.5


def _nearest(places: NDArray[Any], how: str, size: int) -> NDArray[Any]:
    import numpy as np

    rules = {
        "floor": np.floor(places),
        "ceil": np.ceil(places),
        "round_prefer_floor": np.ceil(places - 0.5),
        "round_prefer_ceil": np.floor(places + 0.5),
    }
    return np.asarray(np.clip(rules[how], 0, size - 1))
