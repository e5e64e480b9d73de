"""A map from two sides alone: tensors matched by their values, or by shapes and names, and written as few rules."""

from __future__ import annotations

from collections.abc import Sequence

from porter.dataclass import dataclass
from porter.errors import MapError, printable
from porter.mapping.inference.batch_norm import match_folds, match_statistics
from porter.mapping.inference.described_folds import match_described_folds
from porter.mapping.inference.entries import entries
from porter.mapping.inference.equal_values import match_cast, match_equal
from porter.mapping.inference.near_values import NOT_EQUAL, match_near
from porter.mapping.inference.state import Match, State
from porter.mapping.inference.statements import InferredRule, casts_of, drops_of, expectation, fills_of, gather_casts, rules_of, ties_of
from porter.mapping.inference.structure import match_constants, match_described, settle_layouts
from porter.mapping.syntax import Drop, Fill, Map, Remaining, Stage, Statement, Tie
from porter.store import TensorStore
from porter.tensor import TensorSpec

SHOWN = 40
"""Ambiguous matches that the text lists; all are in `Inference.ambiguous`."""

ENOUGH = 0.5
"""The share of B that has to be matched by values for values to be the only evidence."""


@dataclass(frozen=True, slots=True)
class Inference:
    """A map that makes B of A, as far as it could be found out, and what speaks for it.

    Attributes:
        map: the map; `text` is the same with comments.
        rules: its statements with confidence, reason and matches.
        matches: every tensor of B that was found in A, with what made it.
        unmatched_sources: tensors of A that the map drops. unmatched_targets: tensors of B that it does not make.
        a, b: what the sides are called in the text.
        sources, targets: how many tensors the sides have.
    """

    map: Map
    rules: tuple[InferredRule, ...]
    matches: tuple[Match, ...]
    unmatched_sources: tuple[str, ...]
    unmatched_targets: tuple[str, ...]
    a: str
    b: str
    sources: int
    targets: int

    @property
    def matched(self) -> int:
        """How many tensors of B are made of tensors of A."""
        return sum(len(m.targets) for m in self.matches)

    @property
    def ambiguous(self) -> tuple[Match, ...]:
        """The matches that could as well be others."""
        return tuple(m for m in self.matches if m.rivals)

    def text(self) -> str:
        """The map as a file to read and edit: counts at its top, behind each rule its confidence and reason, then what is open."""
        from porter.mapping.render import statement_text

        comments = {id(rule.statement): rule.comment for rule in self.rules}
        lines = [f"# {_line(self.a)} -> {_line(self.b)}, inferred by porter: read it before you rely on it."]
        dropped = len(self.unmatched_sources)
        lines.append(
            f"# {self.matched} of the {self.targets} tensors of B are made of {self.sources - dropped} of the {self.sources} of A."
        )
        for kind, side, what in ((Drop, "A", "dropped"), (Fill, "B", "filled"), (Tie, "B", "tied")):
            count = sum(r.tensors for r in self.rules if isinstance(r.statement, kind))
            if count:
                lines.append(f"# {count} of {side} {'are' if count > 1 else 'is'} {what}.")
        if self.unmatched_targets:
            lines.append(f"# {len(self.unmatched_targets)} of B that the map does not make:")
            lines += [f"#   {_line(n)}" for n in self.unmatched_targets]
        lines.append("")
        stages = [[(statement_text(s), comments.get(id(s))) for s in stage.statements] for stage in self.map.stages]
        width = min(max((len(t) for stage in stages for t, _ in stage if "\n" not in t), default=0), 70)
        for number, stage in enumerate(stages):
            lines += ["", "then", ""] if number else []
            lines += [f"{text:<{width}}   # {_line(comment)}" if comment else text for text, comment in stage]
        if self.ambiguous:
            lines += ["", "# What the same evidence fits as well:"]
            for match in self.ambiguous[:SHOWN]:
                lines.append(
                    f"#   {_line(match.sources[0])} -> {_line(match.targets[0])}, or {_line(', '.join(match.rivals))}: {match.reason}"
                )
            if len(self.ambiguous) > SHOWN:
                lines.append(f"#   and {len(self.ambiguous) - SHOWN} more")
        return "\n".join(lines) + "\n"


def infer(a: TensorStore | Sequence[TensorSpec], b: TensorStore | Sequence[TensorSpec]) -> Inference:
    """A map that makes the tensors of `b` of those of `a`.

    With values on both sides these are the evidence, best first: equal bytes; equal in another order, which is solved and
    verified; equal after a cast, Caffe's scale factor or a folded batch normalisation; tensors of one value by layer, name and
    order. With specs on a side, shapes, names and order are all there is, and confidences say so. Reads each tensor a few times,
    and keeps no more than the largest of either side in memory.

    Raises:
        MapError: a side is empty, or nothing of B could be found in A.
        PorterError: a tensor cannot be read.
    """
    state = State(entries(a), entries(b))
    names = _called(a, "A"), _called(b, "B")
    for side, name in ((state.a, names[0]), (state.b, names[1])):
        if not side:
            raise MapError("M600", f"{name} has no tensors, so there is nothing to infer a map from")
    if state.values:
        _match_values(state)
    else:
        match_described_folds(state, "values unknown")
        match_described(state, "values unknown")
    if not state.matches:
        raise MapError(
            "M601",
            f"nothing of {names[1]} could be found in {names[0]}: {len(state.b):,} and {len(state.a):,} tensors, and none alike",
            hint="are these the same network? 'porter inspect' shows names and shapes",
        )
    settle_layouts(state)
    return _inference(state, *names)


def _match_values(state: State) -> None:
    """Match by what the tensors hold, best evidence first."""
    import numpy as np

    with np.errstate(all="ignore"):  # NaN and infinities are compared as any other values
        match_equal(state)
        match_cast(state)
        match_statistics(state)
        match_folds(state)
        match_folds(state, near=True)
        match_near(state)
        match_constants(state)
    _match_what_differs(state)


def _match_what_differs(state: State) -> None:
    """Where values show that B is another state of the same network, match what they do not by shapes and names: by order too
    where they show next to nothing.
    """
    if len(state.b) - len(state.left_b) < ENOUGH * len(state.b):
        match_described(state, "values differ")
    elif any(m.reason.endswith(NOT_EQUAL) for m in state.matches):
        match_described(state, "values differ", least=0.9)


def _inference(state: State, a: str, b: str) -> Inference:
    gather_casts(state)
    tables, rules = rules_of(state)
    dropped = tuple(state.left_a)
    rules += drops_of(state)
    order = {name: e.order for name, e in state.a.items()}
    last = len(order)
    ordered = sorted(rules, key=lambda r: min((order[n] for m in r.matches for n in m.sources), default=last))
    ordered.sort(key=lambda r: isinstance(r.statement, Drop) + 2 * isinstance(r.statement, Remaining))
    casts = casts_of(state)
    extra = ties_of(state) + fills_of(state)
    expect = expectation(state)
    stages: list[list[Statement]] = [[*tables, *(r.statement for r in ordered)]]
    if casts:
        stages.append([r.statement for r in casts])
    stages[-1] += [*(r.statement for r in extra), *([expect] if expect is not None else [])]
    ordered += casts + extra
    return Inference(
        Map(tuple(Stage(tuple(s)) for s in stages)),
        tuple(ordered),
        tuple(state.matches),
        dropped,
        tuple(state.left_b),
        a,
        b,
        len(state.a),
        len(state.b),
    )


def _called(side: TensorStore | Sequence[TensorSpec], otherwise: str) -> str:
    return side.source.path if isinstance(side, TensorStore) and side.source is not None else otherwise


def _line(text: str) -> str:
    """Text that cannot end a comment."""
    return printable(text).replace("\n", " ")
