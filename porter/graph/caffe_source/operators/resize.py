"""Resize and Upsample by whole factors, where each pixel becomes a block of pixels."""

from __future__ import annotations

from porter.graph.caffe_source.op import Op, Refused
from porter.graph.caffe_source.operators.convolution import repeated


def resize(op: Op) -> None:
    """Each pixel as a block of pixels."""
    x, shape = op.blob(0), op.shape()
    mode = op.text("mode", "nearest")
    if x.shape == shape:
        op.put(x)
        return
    if mode != "nearest":
        raise Refused(f"Caffe has no layer for mode '{mode}': a Deconvolution would take zeros for what lies beyond the border")
    if x.rank < 3 or x.shape[:2] != shape[:2] or any(n % m for n, m in zip(shape[2:], x.shape[2:], strict=True)):
        raise Refused(f"{list(x.shape)} becomes {list(shape)}, and a Deconvolution repeats pixels of planes by whole factors only")
    factors = [n // m for n, m in zip(shape[2:], x.shape[2:], strict=True)]
    how = op.text("coordinate_transformation_mode", "asymmetric" if op.version < 11 else "half_pixel")
    rounding = op.text("nearest_mode", "floor" if op.version < 11 else "round_prefer_floor")
    if not all(f == 1 or _repeats(f, how, rounding) for f in factors):
        raise Refused(f"with {how} and {rounding} it does not repeat each pixel alike")
    op.put(repeated(op, x, factors))


def _repeats(factor: int, how: str, rounding: str) -> bool:
    """Whether each of the pixels in a block is read from the block's own pixel."""
    import math

    if how not in ("asymmetric", "half_pixel", "pytorch_half_pixel"):
        return False
    places = [r / factor if how == "asymmetric" else (r + 0.5) / factor - 0.5 for r in range(factor)]
    rules = {
        "floor": math.floor,
        "ceil": math.ceil,
        "round_prefer_floor": lambda p: math.ceil(p - 0.5),
        "round_prefer_ceil": lambda p: math.floor(p + 0.5),
    }
    # The first block is cut off at the border; one inside decides.
    return rounding in rules and all(rules[rounding](1 + p) == 1 for p in places)
