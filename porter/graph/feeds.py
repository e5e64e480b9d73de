"""Values for the inputs of a network that is run: taken from a file of arrays, or made up."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass
from porter.dtypes import DTYPES
from porter.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILLS = ("normal", "uniform")
"""Made-up values: of the standard normal distribution, or uniform from 0 to 1."""

Shape = tuple[int | None, ...]
"""Sizes; None for one that is open."""


@dataclass(frozen=True, slots=True)
class Given:
    """An input of a network. shape: None where nothing says it. dtype: porter's name of it. only: whether nothing else is taken; else
    integers are, and `dtype` is that of floating point.
    """

    shape: Shape | None
    dtype: str = "float32"
    only: bool = True


def taken(arrays: Mapping[str, NDArray[Any]], names: Sequence[str], given: Given, path: str | None, notices: list[str]) -> NDArray[Any]:
    """The array for an input that goes by `names`; one that is alone may be called anything. path: where the arrays come from.

    Raises:
        UsageError: there is none, or its shape or type is another.
    """
    name = next((n for n in names if n in arrays), None)
    if name is None and len(arrays) == 1:
        name = next(iter(arrays))
        notices.append(f"the array '{name}' is taken for the input '{names[0]}'")
    if name is None:
        there = ", ".join(arrays) or "none"
        raise UsageError("U953", f"no array is called '{names[0]}', as the input is", path=path, hint=f"there are: {there}")
    array = arrays[name]
    fits = given.shape is None or (
        len(given.shape) == array.ndim and all(n is None or n == m for n, m in zip(given.shape, array.shape, strict=True))
    )
    if not fits:
        shape = "×".join("?" if n is None else str(n) for n in given.shape or ())
        message = f"the array for '{names[0]}' has the shape {list(array.shape)}, and the input is {shape}"
        raise UsageError("U953", message, path=path, hint=f"'--input-shape {names[0]}={'x'.join(map(str, array.shape))}' says another")
    return cast(array, names[0], given, path, notices)


def cast(array: NDArray[Any], name: str, given: Given, path: str | None, notices: list[str]) -> NDArray[Any]:
    """`array` in an input's type, where that only changes how wide floating-point numbers are; values that it rounds are said.

    Raises:
        UsageError: the two are of other kinds, or the type cannot hold a number.
    """
    import numpy as np

    dtype = DTYPES[given.dtype].numpy()
    if array.dtype == dtype or (not given.only and array.dtype.kind in "iub"):
        return array
    if array.dtype.kind != "f" or DTYPES[given.dtype].kind != "float":
        message = f"the array for '{name}' is {array.dtype}, and the input is {given.dtype}"
        raise UsageError("U953", message, path=path, hint=f"array.astype('{given.dtype}')")
    with np.errstate(over="ignore"):
        made = array.astype(dtype)
    beyond = int(np.count_nonzero(np.isfinite(array) & ~np.isfinite(made)))
    if beyond:
        message = f"{beyond:,} of the {array.size:,} numbers for '{name}' are too large for {given.dtype}, which the input is"
        raise UsageError("U953", message, path=path, hint="feed numbers as they come to the network")
    if not np.array_equal(made.astype(array.dtype), array, equal_nan=True):
        notices.append(f"the array for '{name}' is {array.dtype}, and was rounded to {given.dtype}, which the input is")
    return made


def not_taken(arrays: Mapping[str, NDArray[Any]], names: Collection[str]) -> list[str]:
    """A line on the arrays that no input of those names takes, if there are some; one that is alone is always taken."""
    left = [name for name in arrays if name not in names] if len(arrays) > 1 else []
    return [f"no input takes {', '.join(repr(name) for name in left)} of the arrays that are fed"] if left else []


def made_up(name: str, given: Given, *, seed: int, number: int, fill: str, notices: list[str], hint: str | None = None) -> NDArray[Any]:
    """Values for the input in place `number`. An open size of the batch is 1, which is said. hint: what helps where sizes are not known.

    Raises:
        UsageError: nothing says the input's shape.
    """
    import numpy as np

    if given.shape is None or any(n is None for n in given.shape[1:]):
        said = "" if given.shape is None else f": it is {'×'.join('?' if n is None else str(n) for n in given.shape)}"
        hint = hint or f"'--input-shape {name}=1x3x224x224' says it, or feed values with '--input'"
        raise UsageError("U953", f"nothing says the shape of the input '{name}'{said}", hint=hint)
    if given.shape[:1] == (None,):
        notices.append(f"the size of the batch is open in '{name}', which is fed one")
    shape = [1 if n is None else n for n in given.shape]
    random, dtype = np.random.default_rng([seed, number]), DTYPES[given.dtype]
    if dtype.kind != "float":
        notices.append(f"the input '{name}' is {given.dtype} and is fed 0 and 1: '--input' feeds real values")
        return random.integers(0, 2, shape).astype(dtype.numpy())
    values = random.standard_normal(shape, np.float32) if fill == "normal" else random.random(shape, np.float32)
    return values.astype(dtype.numpy())
