"""What both networks are fed: made-up values, arrays of a file, an image, or what a recording was fed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass, field
from porter.dtypes import DTYPES
from porter.errors import UsageError
from porter.graph import recording
from porter.graph.preprocessing import Preprocessing, Wanted
from porter.parity.image import image_for
from porter.parity.side import Given, Shape, Side

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from porter.parity.comparison import Fed

FILLS = ("normal", "uniform")
"""Made-up values: of the standard normal distribution, or uniform from 0 to 1."""


@dataclass(frozen=True, slots=True)
class FeedOptions:
    """What a caller may say about what is fed. inputs: an .npz file. image: a file; preprocess: what is done to it. shapes: of inputs.

    seed, fill: of values that are made up.
    """

    inputs: str | None = None
    image: str | None = None
    preprocess: Wanted | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    seed: int = 0
    fill: str = "normal"


def feeds(a: Side, b: Side, options: FeedOptions, known: Sequence[Preprocessing] = ()) -> tuple[Fed, tuple[str, ...]]:
    """What each side is fed, by the names of its inputs, and what a reader has to know of it, a line each.

    known: what A's or B's files say of preprocessing. An input that is called otherwise in B is taken to be that in its place.

    Raises:
        UsageError: the two have other inputs, a file does not fit, or nothing says a shape.
    """
    partners = _partners(a, b)
    made: dict[str, NDArray[Any]] = {}
    notices = [f"the input '{theirs}' of B is taken to be '{ours}' of A" for theirs, ours in partners.items() if theirs != ours]
    recorded = next((side.recorded_inputs() for side in (a, b) if side.recorded_inputs()), {})
    arrays = recording.arrays(options.inputs) if options.inputs is not None else dict(recorded)
    path = options.inputs or next((side.label for side in (a, b) if side.recorded_inputs()), None)
    inputs = _inputs(a, b, partners, options)
    if options.image is not None:
        name, array, said = image_for(inputs, options.image, options.preprocess, known, _is_caffe(a, b))
        made[name] = array
        notices += said
    for theirs, ours in partners.items():
        if ours not in made:
            given = inputs[ours]
            use = arrays if options.image is None else {}
            made[ours] = _found(use, (ours, theirs), given, path) if use else _made_up(ours, given, options, len(made), notices)
    return (made, {theirs: _as(made[ours], b.inputs[theirs]) for theirs, ours in partners.items()}), tuple(notices)


def _is_caffe(a: Side, b: Side) -> bool:
    return "caffe" in (a.kind, b.kind)


def _partners(a: Side, b: Side) -> dict[str, str]:
    """For each input of B the one of A: the one that is called the same, or else, if none is, the one in its place."""
    ours, theirs = list(a.inputs), list(b.inputs)
    if a.kind == "golden" or b.kind == "golden":
        # A recording may have fed more, or have data layers that are no inputs elsewhere.
        common = [name for name in theirs if name in ours]
        if common and len(common) == min(len(ours), len(theirs)):
            return {name: name for name in common}
    if len(ours) != len(theirs):
        said = f"A has {len(ours)} inputs ({', '.join(ours)}), and B {len(theirs)} ({', '.join(theirs)})"
        raise UsageError("U953", f"the networks cannot be fed the same: {said}", hint="compare networks that take the same inputs")
    if set(ours) == set(theirs):
        return {name: name for name in theirs}
    return dict(zip(theirs, ours, strict=True))


def _inputs(a: Side, b: Side, partners: Mapping[str, str], options: FeedOptions) -> dict[str, Given]:
    """A's inputs, with all that is known of their shapes."""
    return {ours: _merged(a.inputs[ours], b.inputs[theirs], (ours, theirs), options.shapes) for theirs, ours in partners.items()}


def _merged(a: Given, b: Given, names: tuple[str, str], stated: Mapping[str, tuple[int, ...]]) -> Given:
    """An input with the sizes that either side, or the caller, says."""
    said = next((stated[name] for name in names if name in stated), None)
    shapes = [shape for shape in (said, a.shape, b.shape) if shape is not None]
    if not shapes:
        return Given(None, a.dtype)
    sizes = [{shape[i] for shape in shapes if len(shape) == len(shapes[0])} - {None} for i in range(len(shapes[0]))]
    if any(len(shape) != len(shapes[0]) for shape in shapes) or any(len(known) > 1 for known in sizes):
        text = [f"{'×'.join('?' if n is None else str(n) for n in shape)} of {whose}" for whose, shape in _whose(said, a, b)]
        hint = f"'--input-shape {names[0]}=1x3x224x224' says the shape of a Caffe net's input"
        raise UsageError("U953", f"the input '{names[0]}' has two shapes: {', '.join(text)}", hint=hint)
    return Given(tuple([next(iter(known), None) for known in sizes]), a.dtype)


def _whose(said: tuple[int, ...] | None, a: Given, b: Given) -> list[tuple[str, Shape]]:
    return [(whose, shape) for whose, shape in (("'--input-shape'", said), ("A", a.shape), ("B", b.shape)) if shape is not None]


def _found(arrays: Mapping[str, NDArray[Any]], names: Sequence[str], given: Given, path: str | None) -> NDArray[Any]:
    name = next((n for n in names if n in arrays), None)
    if name is None and len(arrays) == 1:
        name = next(iter(arrays))
    if name is None:
        raise UsageError("U953", f"no array is called '{names[0]}', as the input is", path=path, hint=f"there are: {', '.join(arrays)}")
    array = arrays[name]
    fits = given.shape is None or (
        len(given.shape) == array.ndim and all(n is None or n == m for n, m in zip(given.shape, array.shape, strict=True))
    )
    if not fits:
        shape = "×".join("?" if n is None else str(n) for n in given.shape or ())
        message = f"the array for '{names[0]}' has the shape {list(array.shape)}, and the input is {shape}"
        raise UsageError("U953", message, path=path, hint=f"'--input-shape {names[0]}={'x'.join(map(str, array.shape))}' says another")
    return _as(array, given)


def _as(array: NDArray[Any], given: Given) -> NDArray[Any]:
    """`array` in an input's type, where that only changes how wide floating-point numbers are."""
    dtype = DTYPES[given.dtype].numpy()
    if array.dtype == dtype:
        return array
    if array.dtype.kind != "f" or DTYPES[given.dtype].kind != "float":
        raise UsageError("U953", f"the array is {array.dtype}, and the input is {given.dtype}", hint=f"array.astype('{given.dtype}')")
    return array.astype(dtype)


def _made_up(name: str, given: Given, options: FeedOptions, number: int, notices: list[str]) -> NDArray[Any]:
    import numpy as np

    if given.shape is None or any(n is None for n in given.shape[1:]):
        hint = f"'--input-shape {name}=1x3x224x224' says it, or feed values with '--input'"
        raise UsageError("U953", f"nothing says the shape of the input '{name}'", hint=hint)
    shape = [1 if n is None else n for n in given.shape]
    random, dtype = np.random.default_rng([options.seed, number]), DTYPES[given.dtype]
    if dtype.kind != "float":
        notices.append(f"the input '{name}' is {given.dtype} and is fed 0 and 1: '--input' feeds real values")
        return random.integers(0, 2, shape).astype(dtype.numpy())
    values = random.standard_normal(shape, np.float32) if options.fill == "normal" else random.random(shape, np.float32)
    return values.astype(dtype.numpy())
