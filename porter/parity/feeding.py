"""What both networks are fed: made-up values, arrays of a file, an image, or what a recording was fed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass, field
from porter.errors import UsageError
from porter.graph.feeds import FILLS, Given, Shape, cast, made_up, not_taken, taken
from porter.graph.npz_arrays import read_arrays
from porter.graph.preprocessing import Preprocessing, Wanted
from porter.parity.image import image_for
from porter.parity.side import Side

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from porter.parity.comparison import Fed


@dataclass(frozen=True, slots=True)
class FeedOptions:
    """What a caller may say about what is fed. inputs: an .npz file. image: a file; preprocess: what is done to it. shapes: of inputs.

    seed, fill: of values that are made up; None for 0 and `normal`, or where none are.
    """

    inputs: str | None = None
    image: str | None = None
    preprocess: Wanted | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    seed: int | None = None
    fill: str | None = None


def feeds(a: Side, b: Side, options: FeedOptions, known: Sequence[Preprocessing] = ()) -> tuple[Fed, tuple[str, ...]]:
    """What each side is fed, by the names of its inputs, and what a reader has to know of it, a line each.

    known: what A's or B's files say of preprocessing. An input that is called otherwise in B is taken to be that in its place.

    Raises:
        UsageError: the two have other inputs, a file does not fit, or nothing says a shape.
    """
    partners = _partners(a, b)
    made: dict[str, NDArray[Any]] = {}
    notices = [f"the input '{theirs}' of B is taken to be '{ours}' of A" for theirs, ours in partners.items() if theirs != ours]
    record = next((side for side in (a, b) if side.recorded_inputs()), None)
    _refuse_unused(options, record)
    arrays = read_arrays(options.inputs) if options.inputs is not None else dict(record.recorded_inputs() if record is not None else {})
    path = options.inputs or (record.label if record is not None else None)
    inputs = _inputs(a, b, partners, options)
    if options.inputs is not None:
        notices += not_taken(arrays, {*partners, *partners.values()})
    if options.image is not None:
        name, array, said = image_for(inputs, options.image, options.preprocess, known, _is_caffe(a, b))
        made[name] = array
        notices += said
    for theirs, ours in partners.items():
        if ours not in made:
            given = inputs[ours]
            if arrays and options.image is None:
                made[ours] = taken(arrays, (ours, theirs), given, path, notices)
            else:
                fill = options.fill or FILLS[0]
                made[ours] = made_up(ours, given, seed=options.seed or 0, number=len(made), fill=fill, notices=notices)
    to_a = {ours: cast(array, ours, a.inputs[ours], path, notices) for ours, array in made.items()}
    to_b = {theirs: cast(made[ours], theirs, b.inputs[theirs], path, notices) for theirs, ours in partners.items()}
    return (to_a, to_b), tuple(dict.fromkeys(notices))


def _refuse_unused(options: FeedOptions, record: Side | None) -> None:
    """Refuse options that would do nothing: values come from one place."""
    stated = [f"--{name}" for name in ("seed", "fill") if getattr(options, name) is not None]
    if record is not None:
        stated = [n for n, v in (("--input", options.inputs), ("--image", options.image)) if v is not None] + stated
        source = f"'{record.label}' brings what was fed"
    elif options.inputs is not None or options.image is not None:
        source = f"'{options.inputs or options.image}' is fed"
    else:
        return
    if stated:
        raise UsageError("U942", f"{source}, and {' and '.join(stated)} would change nothing", hint=f"leave {' and '.join(stated)} out")


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
    only, dtype = a.only or b.only, a.dtype if a.only or not b.only else b.dtype
    if not shapes:
        return Given(None, dtype, only)
    sizes = [{shape[i] for shape in shapes if len(shape) == len(shapes[0])} - {None} for i in range(len(shapes[0]))]
    if any(len(shape) != len(shapes[0]) for shape in shapes) or any(len(known) > 1 for known in sizes):
        text = [f"{'×'.join('?' if n is None else str(n) for n in shape)} of {whose}" for whose, shape in _whose(said, a, b)]
        hint = f"'--input-shape {names[0]}=1x3x224x224' says the shape of a Caffe net's input"
        raise UsageError("U953", f"the input '{names[0]}' has two shapes: {', '.join(text)}", hint=hint)
    return Given(tuple([next(iter(known), None) for known in sizes]), dtype, only)


def _whose(said: tuple[int, ...] | None, a: Given, b: Given) -> list[tuple[str, Shape]]:
    return [(whose, shape) for whose, shape in (("'--input-shape'", said), ("A", a.shape), ("B", b.shape)) if shape is not None]
