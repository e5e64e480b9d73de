"""Padding that a layer leaves to TensorRT, as the padding that it comes to with results rounded down.

Source: NVIDIA/TensorRT, include/NvInfer.h, `PaddingMode`, tag v11.1.
"""

from __future__ import annotations

from collections.abc import Sequence

Sizes = tuple[int, ...]
Windows = Sequence[tuple[int, int, int, int]]
"""For each axis: the sizes of the input and of the output, -1 where open, how far the window reaches, and the stride."""


def same_padding(mode: str, pre: Sizes, post: Sizes, windows: Windows) -> tuple[Sizes, Sizes] | None:
    """Padding of a convolution; None where it depends on sizes that are not known. What is padded with zeros and not read is harmless."""
    if mode == "EXPLICIT_ROUND_DOWN":
        return pre, post
    if any(-1 in window for window in windows):
        return None
    if mode == "EXPLICIT_ROUND_UP":
        more = [max((out - 1) * step + reach - size - a - b, 0) for (size, out, reach, step), a, b in zip(windows, pre, post, strict=True)]
        return pre, tuple([b + n for b, n in zip(post, more, strict=True)])
    whole = [max((out - 1) * step + reach - size, 0) for size, out, reach, step in windows]
    return _shared(mode, whole)


def pooling_padding(mode: str, pre: Sizes, post: Sizes, windows: Windows, extends: bool) -> tuple[Sizes, Sizes] | None:
    """The same for a pooling. extends: whether padding at the end changes no result but adds windows; else None where some is added."""
    found = same_padding(mode, pre, post, windows)
    if found is not None and mode == "EXPLICIT_ROUND_UP" and found[1] != post and not extends:
        return None
    return found


def transposed_padding(mode: str, pre: Sizes, post: Sizes, reach: Sizes, stride: Sizes) -> tuple[Sizes, Sizes]:
    """Padding of a deconvolution, which is cut from its result; reach: how far the window reaches."""
    if not mode.startswith("SAME"):
        return pre, post
    whole = [max(size - step, 0) for size, step in zip(reach, stride, strict=True)]
    return _shared(mode, whole)


def _shared(mode: str, whole: Sequence[int]) -> tuple[Sizes, Sizes]:
    """Padding on either side; `SAME_UPPER` has the odd one behind."""
    small, large = tuple([n // 2 for n in whole]), tuple([n - n // 2 for n in whole])
    return (small, large) if mode == "SAME_UPPER" else (large, small)
