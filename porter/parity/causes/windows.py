"""Convolutions: weights whose axes are in another order or turned round, padding on another side, dilation, channels in groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations, product
from typing import TYPE_CHECKING, Any

from porter.parity.causes import fragment
from porter.parity.causes.experiment import Change, Trial

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DILATIONS = (1, 2, 3, 4, 6, 8, 12, 16, 18, 24)
_MOST_GROUPS = 64

KINDS = ("Conv", "ConvTranspose")


def transposed(trial: Trial) -> Iterator[Change]:
    """Weights whose axes lie in another order, or were read as if they did."""
    for number, weight in _weights(trial):
        names = ("out", "in", "height", "width") if trial.model.graph[number].op_type == "Conv" else ("in", "out", "height", "width")
        if weight.ndim != 4:
            continue
        for order in list(permutations(range(4)))[1:]:
            said = ", ".join(names[n] for n in order)
            turned = weight.transpose(order)
            if turned.shape == weight.shape:
                yield _with(trial, number, turned, "its weights' axes as they are", f"its weights' axes as {said}")
            else:
                # The same values, which somebody took to lie in that order; and those that somebody moved for nothing.
                read = weight.reshape(turned.shape).transpose([order.index(n) for n in range(4)])
                yield _with(trial, number, read, "its weights in this order in memory", f"its weights' memory as {said}")
                moved = turned.reshape(weight.shape)
                yield _with(trial, number, moved, "its weights in this order in memory", f"its weights' axes moved to {said}")


def flipped(trial: Trial) -> Iterator[Change]:
    """Kernels upside down, left to right, or both, as a true convolution has them."""
    for number, weight in _weights(trial):
        for axes, said in (((-1, -2), "turned by 180 degrees"), ((-1,), "left to right"), ((-2,), "upside down")):
            if weight.ndim == 4 and max(weight.shape[a] for a in axes) > 1:
                import numpy as np

                yield _with(trial, number, np.flip(weight, axes), "its kernels as they are", f"its kernels {said}")


def padding(trial: Trial) -> Iterator[Change]:
    """The same number of positions with the padding elsewhere, as TensorFlow's SAME has it where it is odd."""
    for number in fragment.numbers(trial.model, *KINDS, "MaxPool", "AveragePool"):
        kernel = _kernel(trial, number)
        if len(kernel) != 2:
            continue
        pads = list(fragment.attribute(trial.model, number, "pads", [0] * 4))
        strides = fragment.attribute(trial.model, number, "strides", [1, 1])
        dilations = fragment.attribute(trial.model, number, "dilations", [1, 1])
        ways = [
            [(b, e) for b, e in product(range(d * (k - 1) + 1), repeat=2) if abs((b + e) - (pads[i] + pads[i + 2])) < max(s, 2)]
            for i, (k, s, d) in enumerate(zip(kernel, strides, dilations, strict=True))
        ]
        # Both axes have it in the same way, or one of them as it is.
        for height, width in product(*(w[:40] for w in ways)):
            if height != width and height != (pads[0], pads[2]) and width != (pads[1], pads[3]):
                continue
            new = [height[0], width[0], height[1], width[1]]
            if new != pads:
                changed = fragment.edited(trial.model, number, attributes={"pads": new, "auto_pad": None})
                yield Change(_pads(pads), _pads(new), changed)


def dilation(trial: Trial) -> Iterator[Change]:
    """Another distance between the positions of a kernel."""
    for number in fragment.numbers(trial.model, *KINDS):
        now = list(fragment.attribute(trial.model, number, "dilations", [1, 1]))
        pads = list(fragment.attribute(trial.model, number, "pads", [0] * 4))
        kernel = _kernel(trial, number)
        for n in _DILATIONS if len(kernel) == 2 and kernel != [1, 1] else ():
            if now == [n, n]:
                continue
            # With the padding that it has, and with the one that leaves the size as it is.
            same = [p + (n - d) * (k - 1) // 2 for p, d, k in zip(pads, now * 2, list(kernel) * 2, strict=True)]
            for new in [pads, same] if same != pads and min(same) >= 0 else [pads]:
                changed = fragment.edited(trial.model, number, attributes={"dilations": [n, n], "pads": new})
                yield Change(f"dilation {now[0]}", f"dilation {n}" + (f" and {_pads(new)}" if new != pads else ""), changed)


def stride(trial: Trial) -> Iterator[Change]:
    """Another step from window to window."""
    for number in fragment.numbers(trial.model, *KINDS):
        now = list(fragment.attribute(trial.model, number, "strides", [1, 1]))
        for new in ([1, 1], [2, 2], [4, 4], now[::-1]):
            if new != now and len(now) == 2:
                yield Change(f"stride {now}", f"stride {new}", fragment.edited(trial.model, number, attributes={"strides": new}))


def groups(trial: Trial) -> Iterator[Change]:
    """Channels in the order of another number of groups, read by columns where they lie in rows: of the result, the weights, the input."""
    if not fragment.numbers(trial.model, *KINDS, "Transpose"):
        return
    if trial.made is not None and trial.made.ndim > 1:
        for count, order in _shuffles(trial.made.shape[1]):
            yield Change("its outputs' channels as they are", f"its outputs' channels shuffled in {count} groups", after=_picked(order))
    for number, weight in _weights(trial):
        for count, order in _shuffles(len(weight)):
            changed = fragment.edited(trial.model, number, arrays={1: weight[order]})
            yield Change("its filters as they are", f"its filters shuffled in {count} groups", changed)
    for name, array in trial.feeds.items():
        for count, order in _shuffles(array.shape[1]) if array.ndim == 4 and len(trial.feeds) == 1 else ():
            shuffled = {name: _picked(order)(array)}
            yield Change("its inputs' channels as they are", f"its inputs' channels shuffled in {count} groups", feeds=shuffled)


def _shuffles(channels: int) -> Iterator[tuple[int, NDArray[Any]]]:
    import numpy as np

    for count in range(2, min(channels // 2, _MOST_GROUPS) + 1):
        if channels % count == 0:
            yield count, np.arange(channels).reshape(count, -1).T.reshape(-1)


def _picked(order: NDArray[Any]) -> Any:
    return lambda made: made[:, order]


def _weights(trial: Trial) -> Iterator[tuple[int, NDArray[Any]]]:
    for number in fragment.numbers(trial.model, *KINDS):
        weight = fragment.array(trial.model, number, 1)
        if weight is not None:
            yield number, weight


def _kernel(trial: Trial, number: int) -> list[int]:
    said = fragment.attribute(trial.model, number, "kernel_shape", None)
    weight = fragment.array(trial.model, number, 1)
    return list(said) if said is not None else list(weight.shape[2:]) if weight is not None else []


def _with(trial: Trial, number: int, weight: NDArray[Any], has: str, acts: str) -> Change:
    return Change(has, acts, fragment.edited(trial.model, number, arrays={1: weight}))


def _pads(pads: Sequence[int]) -> str:
    return f"padding {list(pads[:2])} before and {list(pads[2:])} behind"
