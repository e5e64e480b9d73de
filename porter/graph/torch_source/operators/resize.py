"""Resize and Upsample: `F.interpolate` where it computes the same, else the places or weights themselves, worked out here.

Source: onnx/onnx docs/Operators.md (Resize), PyTorch 2.13 torch/nn/functional.py (interpolate) and aten UpSample.h.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from porter.graph.analysis.resampling import coordinates, cubic_weights, linear_weights, scaled
from porter.graph.analysis.resampling import nearest as nearest_places
from porter.graph.python_layout import tuple_literal
from porter.graph.torch_source.op import Op

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def resize(op: Op) -> None:
    """Height and width, or any axes, to another size."""
    sizes = op.static(0, range(op.rank(0)))
    outputs, scales = _targets(op, sizes)
    mode, transform, nearest = _how(op)
    x = op.text(0)
    if transform == "tf_crop_and_resize":
        raise op.refuse("it cuts a region out")
    if transform == "align_corners" and any(abs(m - n * s) > 1e-3 for n, m, s in zip(sizes, outputs, scales, strict=True)):
        raise op.refuse("its corners do not lie at whole places, which runtimes take differently")
    changed = [a for a, (n, m) in enumerate(zip(sizes, outputs, strict=True)) if n != m or scales[a] != 1]
    if not changed:
        op.put(x)
        return
    places = {a: coordinates(sizes[a], outputs[a], scales[a], transform) for a in changed}
    rank = op.rank(0)
    wanted = outputs[2:]
    plain = all(a >= 2 for a in changed) and rank in (3, 4, 5) and op.version >= 9
    target = tuple_literal(wanted)
    if mode == "nearest":
        _by_places(op, x, {a: nearest_places(places[a], nearest, sizes[a]) for a in changed}, (sizes, outputs), target if plain else None)
        return
    name = {3: "linear", 4: "bilinear", 5: "trilinear"}.get(rank, "") if mode == "linear" else "bicubic"
    bicubic = rank == 4 and op.attribute("cubic_coeff_a", -0.75) == -0.75 and not op.attribute("exclude_outside", 0)
    if plain and (mode == "linear" or bicubic) and not op.attribute("antialias", 0):
        for corners in (True, False):
            if all(_as_torch(places[a], sizes[a], outputs[a], corners, mode) for a in changed):
                op.put(f'F.interpolate({x}, {target}, mode="{name}", align_corners={corners})')
                return
    if op.attribute("antialias", 0):
        raise op.refuse("it smooths, which PyTorch does otherwise")
    if mode == "linear":
        weights = {a: linear_weights(places[a], sizes[a]) for a in changed}
    else:
        share, outside = float(op.attribute("cubic_coeff_a", -0.75)), bool(op.attribute("exclude_outside", 0))
        weights = {a: cubic_weights(places[a], sizes[a], share, outside) for a in changed}
    _by_weights(op, x, weights, len(sizes))


def _by_places(op: Op, x: str, places: dict[int, NDArray[Any]], shapes: tuple[list[int], list[int]], target: str | None) -> None:
    """Each axis by the places it takes; `target` where `F.interpolate` may do it."""
    import numpy as np

    for mode, start in (("nearest", 0.0), ("nearest-exact", 0.5)):
        theirs = {a: np.floor((np.arange(shapes[1][a]) + start) * (shapes[0][a] / shapes[1][a])) for a in places}
        if target is not None and all((np.minimum(theirs[a], shapes[0][a] - 1) == places[a]).all() for a in places):
            extra = "" if mode == "nearest" else f', mode="{mode}"'
            op.put(f"F.interpolate({x}, {target}{extra})")
            return
    for i, (a, wanted) in enumerate(places.items()):
        made = f"torch.index_select({x}, {a}, {op.buffer(wanted.astype(np.int64), f'places_{a}')})"
        x = made if i == len(places) - 1 else op.let(made, f"axis_{a}")
    op.put(x)


def _by_weights(op: Op, x: str, weights: dict[int, NDArray[np.float32]], rank: int) -> None:
    """Along each axis times a matrix of weights."""
    for i, (a, matrix) in enumerate(weights.items()):
        buffer = op.buffer(matrix, f"weights_{a}")
        moved = a != rank - 1
        made = f"torch.matmul({x}{f'.movedim({a}, -1)' if moved else ''}, {buffer}){f'.movedim(-1, {a})' if moved else ''}"
        x = made if i == len(weights) - 1 else op.let(made, f"axis_{a}")
    op.put(x)


def _targets(op: Op, sizes: list[int]) -> tuple[list[int], list[float]]:
    """The size that each axis gets, and its scale."""
    if op.node.op_type == "Upsample" or op.version < 11:
        given = op.attribute("scales") if op.attribute("scales") is not None else op.array(1)
        if given is None:
            raise op.refuse("its scales are known only when the network runs")
        scales = [float(s) for s in given]
        return [scaled(n, s) for n, s in zip(sizes, scales, strict=True)], scales
    axes = op.attribute("axes") or list(range(len(sizes)))
    axes = [a + len(sizes) if a < 0 else a for a in axes]
    policy = op.attribute("keep_aspect_ratio_policy", "stretch")
    stated = op.array(2) if op.has(2) else None
    if stated is not None and stated.size:
        scales = [1.0] * len(sizes)
        for a, s in zip(axes, stated, strict=True):
            scales[a] = float(s)
        return [scaled(n, s) for n, s in zip(sizes, scales, strict=True)], scales
    wanted = op.elements(3) if op.has(3) else None
    if wanted is None or policy != "stretch" or not all(isinstance(n, int) for n in wanted):
        raise op.refuse("its scales or sizes are known only when the network runs, or keep an aspect ratio")
    outputs = list(sizes)
    for a, n in zip(axes, wanted, strict=True):
        outputs[a] = n if isinstance(n, int) else 0
    return outputs, [m / n for n, m in zip(sizes, outputs, strict=True)]


def _how(op: Op) -> tuple[str, str, str]:
    """Mode, transformation of coordinates, and how the nearest is chosen."""
    mode = op.attribute("mode", "nearest")
    if op.node.op_type == "Upsample" or op.version < 11:
        return mode.replace("bilinear", "linear"), "asymmetric", "floor"
    return mode, op.attribute("coordinate_transformation_mode", "half_pixel"), op.attribute("nearest_mode", "round_prefer_floor")


def _as_torch(places: NDArray[np.float64], size: int, out: int, corners: bool, mode: str) -> bool:
    """Whether PyTorch looks at the same places."""
    import numpy as np

    theirs = coordinates(size, out, out / size, "align_corners" if corners else "half_pixel")
    bounds = (0, size - 1) if mode == "linear" else (-np.inf, np.inf)
    return bool(np.allclose(np.clip(theirs, *bounds), np.clip(places, *bounds), rtol=0, atol=1e-9 * size))
