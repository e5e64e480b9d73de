"""Padding that a node leaves to be worked out: `auto_pad` of windows, and the shape that a transposed convolution has to have.

Source: onnx/onnx docs/Operators.md (Conv, ConvTranspose, MaxPool, AveragePool, LpPool).
"""

from __future__ import annotations

from collections.abc import Sequence

Padding = tuple[tuple[int, ...], tuple[int, ...]]
"""Before and behind, for each spatial axis."""


def same_padding(mode: str, sizes: Sequence[int | None], reach: Sequence[int], stride: Sequence[int]) -> Padding | None:
    """The padding of windows with `SAME_UPPER` or `SAME_LOWER`; None where it depends on a size that is open, which is None.

    reach: how many positions a window covers, its dilation counted.
    """
    total = []
    for size, covered, step in zip(sizes, reach, stride, strict=True):
        if size is None and step != 1:
            return None
        total.append(max(0, covered - 1 if size is None else (-(-size // step) - 1) * step + covered - size))
    return halves(mode, total)


def transposed_total(
    sizes: Sequence[int], reach: Sequence[int], stride: Sequence[int], extra: Sequence[int], outputs: Sequence[int]
) -> list[int]:
    """How much is cut off a transposed convolution along each axis for a result of `outputs`. extra: its output padding."""
    sides = zip(sizes, reach, stride, extra, outputs, strict=True)
    return [step * (size - 1) + more + covered - out for size, covered, step, more, out in sides]


def halves(mode: str, total: Sequence[int]) -> Padding:
    """`total` shared out: `SAME_UPPER` has the odd one behind, anything else before."""
    less, more = tuple([n // 2 for n in total]), tuple([n - n // 2 for n in total])
    return (less, more) if mode == "SAME_UPPER" else (more, less)
