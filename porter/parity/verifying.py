"""`porter verify` as a library: two networks are opened, fed the same, compared value by value, and where they part is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from porter.check.measures import TOLERANCE
from porter.dataclass import dataclass, field
from porter.errors import GraphError, PorterError, UsageError
from porter.parity.comparison import Advance, Comparison, compare
from porter.parity.divergence import Divergence, find, suspects
from porter.parity.feeding import FeedOptions, feeds
from porter.parity.matching import Matching, match, read_layers
from porter.parity.opening import OpenOptions, open_side, parse
from porter.parity.pieces import sides_of
from porter.parity.side import Side
from porter.parity.sides.engine import need_gpu
from porter.parity.weights import Beside, beside

if TYPE_CHECKING:
    from porter.parity.comparison import Fed

Watch = Callable[[str, int], Advance | None]
"""Is told what is done next, and with how many layers, and gives what is called for each of these."""


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """What a caller may say about verifying.

    opening: how Caffe nets are taken over, and what runs the sides that can be run in several ways. feeding: what is fed. layers: a
    `layers.json`. first: whether the first value that is off is looked into. everything: whether all that are off are.
    """

    opening: OpenOptions = field(default_factory=OpenOptions)
    feeding: FeedOptions = field(default_factory=FeedOptions)
    layers: str | None = None
    tolerance: float = TOLERANCE
    first: bool = True
    everything: bool = False


@dataclass(frozen=True, slots=True)
class SideInfo:
    """What is said of a side after it is closed."""

    label: str
    kind: str
    runner: str
    steps: int


@dataclass(frozen=True, slots=True)
class Verified:
    """What came of it.

    divergence: None where all values agree, or it was not asked for. weights: None where one side has none, as recordings. failed: why B
    could not be run as a whole, where one of its layers alone is wrong already.
    """

    a: SideInfo
    b: SideInfo
    comparison: Comparison
    divergence: Divergence | None
    weights: Beside | None
    notices: tuple[str, ...]
    failed: str | None = None

    @property
    def same(self) -> bool:
        """Whether B ran, every output of both was compared, and everything that was agrees."""
        return self.comparison.same and self.failed is None and not any(self.comparison.lost)


def verify(a: str, b: str, options: VerifyOptions, watch: Watch = lambda what, layers: None) -> Verified:
    """Compare the networks that `a` and `b` name. Runs the files of those that are sources. Writes nothing.

    Raises:
        PorterError: a side cannot be opened, fed or run, the two have nothing in common, or what they make of this is no number.
    """
    with ExitStack() as stack:
        left, right = (stack.enter_context(side) for side in _opened(a, b, options.opening))
        known = [p for side in (left, right) for p in getattr(side, "preprocessing", ())]
        fed, said = feeds(left, right, options.feeding, known)
        for side, given in ((left, fed[0]), (right, fed[1])):
            side.prepare(given)
        matching = match(left, right, read_layers(options.layers) if options.layers is not None else None)
        comparison, failed = _compared(left, right, fed, matching, options.tolerance, watch("comparing", len(matching.pairs)))
        divergence = None
        if options.first and not (comparison.same and failed is None):
            advance = watch("looking for the first that is wrong", len(suspects(comparison)))
            divergence = find(left, right, fed, comparison, everything=options.everything, advance=advance)
        weights = beside(*sides_of(left, right, fed, matching), matching.pairs)
        if failed is not None and (divergence is None or divergence.guilty is None):
            raise failed
        _refuse_hollow(comparison)
        infos = [SideInfo(s.label, s.kind, s.runner, len(s.steps)) for s in (left, right)]
        notices = (*left.notices, *right.notices, *said, *_notices(comparison))
        return Verified(infos[0], infos[1], comparison, divergence, weights, notices, failed.message if failed is not None else None)


def _refuse_hollow(comparison: Comparison) -> None:
    """Refuse to call networks the same whose outputs have no number that could differ."""
    outputs = comparison.outputs or comparison.compared
    if comparison.same and not any(comparison.lost) and all(c.measured is not None and c.measured.hollow for c in outputs):
        names = ", ".join(f"'{c.pair.a}'" for c in outputs[:3])
        hint = "feed what such networks are fed: '--input x.npz', '--image', or other made-up values by '--seed' or '--fill uniform'"
        raise GraphError("G093", f"nothing is shown: no finite number comes out of either network, in {names}", hint=hint)


def _notices(comparison: Comparison) -> Iterator[str]:
    by_place = [f"'{p.b}' of B as '{p.a}'" for p in comparison.matching.pairs if p.way == "output"]
    if by_place:
        yield f"outputs are taken for each other by their place: {_few(by_place)}"
    written = [
        f"'{c.pair.a}' {list(c.shapes[0])} and {list(c.shapes[1])}" for c in comparison.compared if c.measured and len({*c.shapes}) > 1
    ]
    if written:
        yield f"written in other shapes, and compared as they lie: {_few(written)}"
    hollow = [f"'{c.pair.a}'" for c in comparison.outputs if c.measured is not None and c.measured.hollow]
    if hollow:
        yield f"no finite number is in {_few(hollow)}: that these are equal says nothing"


def _few(texts: Sequence[str]) -> str:
    return ", ".join(texts[:3]) + (f" and {len(texts) - 3} more" if len(texts) > 3 else "")


def _opened(a: str, b: str, options: OpenOptions) -> tuple[Side, Side]:
    chosen = _runners(parse(a).kind, parse(b).kind, options)
    first = open_side(a, chosen[0])
    try:
        second = open_side(b, chosen[1])
        if options.runner not in ("onnxruntime", first.runner, second.runner):
            raise UsageError("U951", "'engine' runs networks of TensorRT, and neither side is one", hint="leave '--runner' out")
        return first, second
    except BaseException:
        first.__exit__(None, None, None)
        raise


def _runners(a: str, b: str, options: OpenOptions) -> tuple[OpenOptions, OpenOptions]:
    """What runs each side: OpenCV runs B, or A where B is no Caffe net; an engine every network of TensorRT."""
    if options.runner == "engine":
        need_gpu()
        return options, options
    if options.runner == "opencv" and "caffe" not in (a, b):
        raise UsageError("U951", "'opencv' runs Caffe nets, and neither side is one", hint="leave '--runner' out")
    plain = OpenOptions(options.graph)
    return (plain, options) if b == "caffe" else (options, plain)


def _compared(
    a: Side, b: Side, fed: Fed, matching: Matching, tolerance: float, advance: Advance | None
) -> tuple[Comparison, PorterError | None]:
    """The comparison; where B does not run as a whole, one of nothing, and the reason: its layers may run one by one."""
    try:
        return compare(a, b, fed, matching, tolerance=tolerance, advance=advance), None
    except PorterError as error:
        if error.code not in ("G090", "G094") or not any(step.inputs for step in b.steps):
            raise
        # Only B may be broken: what A cannot do there is nothing to compare with.
        for _ in a.run(fed[0], a.outputs):
            pass
        return Comparison(matching, (), matching.pairs, tolerance), error
