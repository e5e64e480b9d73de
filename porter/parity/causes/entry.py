"""What is done to an image before the network: the order of its colours, a mean taken from it, a factor.

They show in the first layer that reads the input, whatever that is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from porter.parity.causes import fragment
from porter.parity.causes.experiment import Change, Trial, run, samples

if TYPE_CHECKING:
    from numpy.typing import NDArray

_COLOURS = 4
"""Channels of an image, at most."""

_FACTORS = (1 / 255, 1 / 256, 1 / 128, 1 / 127.5, 0.017, 1 / 127, 2 / 255, 255, 256, 128, 127.5, 1 / 0.017)

_NOTHING = 1e-4
"""A factor so near to 1, or a mean so small beside the input, is none."""

_BENT = ("Relu", "LeakyRelu", "PRelu", "Clip", "MaxPool", "Elu")
"""Operators that are linear where what they make is positive."""


def colours(trial: Trial) -> Iterator[Change]:
    """Red, green and blue in the other order."""
    for name in sorted(trial.entry):
        x = trial.feeds[name]
        for axis in (1, x.ndim - 1):
            if x.ndim == 4 and x.shape[axis] == 3:
                import numpy as np

                yield Change("its input's colours as they are", "its input's colours the other way round", feeds={name: np.flip(x, axis)})


def scale(trial: Trial) -> Iterator[Change]:
    """The input times one number."""
    for name, x, fitted in _fits(trial, with_mean=False):
        factor = _known(float(fitted[0]))
        if abs(factor - 1) > _NOTHING:
            yield Change("its input as it is", f"its input times {_said(factor)}", feeds={name: (x * factor).astype(x.dtype)})


def mean(trial: Trial) -> Iterator[Change]:
    """The input less a number for each channel."""
    for name, x, fitted in _fits(trial, with_scale=False):
        yield Change("its input as it is", _less(fitted), feeds={name: (x + _aligned(fitted, x)).astype(x.dtype)})


def mean_and_scale(trial: Trial) -> Iterator[Change]:
    """Both."""
    for name, x, fitted in _fits(trial):
        factor = _known(float(fitted[0]))
        if abs(factor - 1) < _NOTHING or float(abs(fitted[1:]).max()) < _NOTHING * float(abs(x).max()):
            continue
        moved = x * factor + _aligned(fitted[1:], x)
        said = f"its input times {_said(factor)}, then {_less(fitted[1:]).removeprefix('its input ')}"
        yield Change("its input as it is", said, feeds={name: moved.astype(x.dtype)})


def _less(shift: NDArray[Any]) -> str:
    less = all(v <= 0 for v in shift)
    return f"its input {'less' if less else 'plus'} {', '.join(f'{abs(v) if less else v:.4g}' for v in shift)}"


def _said(factor: float) -> str:
    return f"1/{1 / factor:g} ({factor:.6g})" if factor < 1 and abs(1 / factor - round(1 / factor, 1)) < 1e-6 / factor else f"{factor:.6g}"


def _known(factor: float) -> float:
    return next((f for f in _FACTORS if abs(f - factor) < 1e-4 * f), factor)


def _aligned(shift: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
    return shift.reshape(1, -1, *[1] * (x.ndim - 2)).astype(x.dtype)


def _fits(trial: Trial, *, with_scale: bool = True, with_mean: bool = True) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]]:
    """For each input with few channels the factor, and what to add to each channel, that bring the result nearest to what is wanted.

    The piece is taken to be linear, and is run with each channel raised, so that borders count as they do.
    """
    import numpy as np

    known = samples(trial)
    for name in sorted(trial.entry) if known is not None else ():
        x = trial.feeds[name]
        if x.ndim != 4 or x.shape[1] > _COLOURS or x.dtype.kind != "f":
            continue
        assert known is not None
        where, made, wanted = known
        step = float(np.abs(x).max(initial=0)) or 1.0
        raised = [_raised(x, channel, step) for channel in range(x.shape[1])] if with_mean else []
        results = [run(trial.model, {**trial.feeds, name: value}) for value in (np.zeros_like(x), *raised)]
        if any(r is None or r.shape != trial.wanted.shape for r in results):
            continue
        at = [r.reshape(-1)[where].astype(np.float64) for r in results if r is not None]
        keep = np.ones(len(where), bool)
        if fragment.numbers(trial.model, *_BENT):
            keep = (wanted > 0) & (made > 0) & np.all([r > 0 for r in at[1:]], axis=0)
        columns = [(made - at[0])] if with_scale else []
        columns += [(r - made) / step for r in at[1:]]
        target = wanted - at[0] if with_scale else wanted - made
        matrix = np.stack([c[keep] for c in columns], axis=1)
        if len(matrix) >= 2 * len(columns) and np.isfinite(matrix).all():
            fitted, _, rank, _ = np.linalg.lstsq(matrix, target[keep], rcond=None)
            if rank == len(columns) and float(np.abs(fitted).max()) > 0:
                yield name, x, fitted


def _raised(x: NDArray[Any], channel: int, step: float) -> NDArray[Any]:
    made = x.copy()
    made[:, channel] += step
    return made
