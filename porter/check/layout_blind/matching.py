"""Two stores compared whatever their names and layouts: by bytes, by values in any order, by what they are rounded or computed to."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from porter.check.compare import equal_bytes
from porter.check.layout_blind import padding, scales
from porter.check.layout_blind.folds import folded
from porter.check.layout_blind.following import with_strays
from porter.check.layout_blind.leftovers import excused
from porter.check.layout_blind.losses import with_losses
from porter.check.layout_blind.movement import Moved, between
from porter.check.layout_blind.orders import gathered
from porter.check.layout_blind.records import LayoutBlind, Relation, Step
from porter.check.layout_blind.roundings import Narrowing, applied, candidates, spare_bits
from porter.check.layout_blind.translation import folded_alike, named, relation, type_steps
from porter.dtypes import DType
from porter.mapping.inference.assignment import paired
from porter.mapping.inference.batch_norm import batch_norms, match_folds, match_statistics
from porter.mapping.inference.entries import Entry, Fingerprint, cast, castable, codes, entries, fingerprint
from porter.mapping.inference.near_values import match_near
from porter.mapping.inference.state import PLAIN, Match, State
from porter.mapping.inference.structure import match_constants
from porter.mapping.ops.rounding import widened
from porter.store import TensorStore
from porter.tensor import Tensor, TensorSpec

Progress = Callable[[int], None]
"""Called with the bytes of tensors, of both sides together, that need no more looking at."""


def compare(a: TensorStore, b: TensorStore, progress: Progress | None = None) -> LayoutBlind:
    """What A and B are equal up to, whatever their names, and what they are not.

    Equal names are tried first, which reads both once; what is left is read a few times more, and the largest tensors of each side are
    in memory as a whole.

    Raises:
        PorterError: a file cannot be read.
    """
    import numpy as np

    work = _Comparison(a, b, progress)
    with np.errstate(all="ignore"):  # NaN and infinities are compared as any other values
        work.run()
    return work.result(a, b)


class _Comparison:
    """The relations as they are found. `State` knows what is left."""

    def __init__(self, a: TensorStore, b: TensorStore, progress: Progress | None) -> None:
        self.state = State(entries(a), entries(b))
        self.relations: list[Relation] = []
        self.weak = set[str]()
        self.used = dict[str, str]()
        self._progress = progress
        self._seen = 0

    def run(self) -> None:
        """All kinds of evidence, the best first."""
        state = self.state
        self._same_names()
        for to in (_own, _of_b, _of_a):
            self._by_fingerprint(to)
        self._narrowed()
        self._computed()
        self._scaled()
        self._padded()
        match_constants(state)
        self._translate()
        for to in (_of_b, _of_a):
            self._by_fingerprint(to, constant=True)
        match_folds(state, near=True, casts=True)
        match_near(state)
        self._translate()
        self._different()

    def _add(self, a: Entry, b: Entry, moved: Moved, steps: Sequence[Step], rivals: tuple[str, ...] = (), why: str = "") -> None:
        found = Relation((a.name,), (b.name,), a.shape, b.shape, (*moved.steps, *steps), moved.orders, rivals, why)
        self.relations.append(named(found))
        self.state.add(Match((a.name,), (b.name,), PLAIN, 1.0, why))
        self._translate()

    def _translate(self) -> None:
        """Take over what inference has matched."""
        taken = {r.b for r in self.relations}
        for match in self.state.matches[self._seen :]:
            if match.targets not in taken:
                self.relations.append(relation(self.state, match))
            if match.weak:
                self.weak.update(match.targets)
            self._advance([*(self.state.a[n] for n in match.sources), *(self.state.b[n] for n in match.targets)])
        self._seen = len(self.state.matches)

    def _advance(self, done: Sequence[Entry]) -> None:
        if self._progress is not None:
            self._progress(sum(e.dtype.nbytes(e.size) for e in done))

    # ---- equal numbers ---------------------------------------------------------------------------------------------

    def _same_names(self) -> None:
        """Tensors of one name, type, shape and content."""
        for a in list(self.state.left_a.values()):
            b = self.state.left_b.get(a.name)
            if b is None or (a.dtype, a.shape) != (b.dtype, b.shape) or a.tensor is None or b.tensor is None:
                continue
            if equal_bytes(a.tensor, b.tensor, None):
                self._add(a, b, Moved(), ())

    def _by_fingerprint(self, to: Callable[[DType, DType], DType | None], *, constant: bool = False) -> None:
        """Equal numbers, wherever they stand, once both are of the type that `to` says; those first that are alone with theirs.

        constant: tensors whose elements are all alike, which say little, and else are left.
        """
        groups = defaultdict[Fingerprint, tuple[list[Entry], list[Entry]]](lambda: ([], []))
        for ours, theirs in self._by_size():
            wanted = {to(a.dtype, b.dtype) for a in ours for b in theirs}
            for dtype in wanted - {None}:
                assert dtype is not None
                for side, found in enumerate((ours, theirs)):
                    for entry in found:
                        if entry.dtype == dtype or (to is not _own and castable(entry.dtype, dtype)):
                            groups[fingerprint(entry, dtype)][side].append(entry)
        both = [(ours, theirs) for key, (ours, theirs) in groups.items() if ours and theirs and key.constant == constant]
        for ours, theirs in sorted(both, key=lambda group: len(group[0]) + len(group[1]) > 2):
            self._pair(ours, theirs, to, constant)

    def _pair(self, ours: list[Entry], theirs: list[Entry], to: Callable[[DType, DType], DType | None], constant: bool) -> None:
        ours = [e for e in ours if e.name in self.state.left_a]
        theirs = [e for e in theirs if e.name in self.state.left_b]
        for pairing in paired(self.state, ours, theirs):
            a, b = pairing.a, pairing.b
            dtype = to(a.dtype, b.dtype)
            if dtype is None:
                continue
            source, target = (codes(cast(e.array(), e.dtype, dtype)) for e in (a, b))
            found = between(source, target, a, b, self.state.channels)
            if found is not None and not (found.orders and a.dtype.name == "int64"):  # such an index has no channels
                only = a.dtype != b.dtype and dtype == a.dtype
                why = pairing.reason if pairing.rivals else ""
                if constant:
                    why = f"equal but all elements alike: {pairing.reason}"
                    self.weak.add(b.name)
                self._add(a, b, found, type_steps(a.dtype, b.dtype, only=only), pairing.rivals, why)

    def _by_size(self) -> Iterator[tuple[list[Entry], list[Entry]]]:
        """What is left of one size, where both sides have some."""
        sides = [defaultdict[int, list[Entry]](list), defaultdict[int, list[Entry]](list)]
        for side, left in zip(sides, (self.state.left_a, self.state.left_b), strict=True):
            for entry in left.values():
                if entry.size:
                    side[entry.size].append(entry)
        for size, ours in sides[0].items():
            if size in sides[1]:
                yield ours, sides[1][size]

    # ---- numbers that were rounded ---------------------------------------------------------------------------------

    def _narrowed(self) -> None:
        """B's numbers are A's, rounded; or A's are B's."""
        for ours, theirs in list(self._by_size()):
            if ours[0].size < scales.FEWEST:
                continue
            for one, other, swapped in ((ours, theirs, False), (theirs, ours, True)):
                # What each may have been rounded to is told once: most may not.
                found = [(e, spare_bits(e)) for e in other if e.dtype.kind == "float"]
                able = [(e, spare, fingerprint(e)) for e, spare in found if spare or any(x.dtype.bits > e.dtype.bits for x in one)]
                able = [each for each in able if not each[2].constant]
                for a in one if able else ():
                    if a.dtype.kind == "float":
                        self._rounded(a, able, swapped)

    def _rounded(self, a: Entry, others: Sequence[tuple[Entry, int, Fingerprint]], swapped: bool) -> None:
        """The first of `others`, with their spare bits and fingerprints, that is `a` rounded. swapped: `a` is a tensor of B."""
        lefts = (self.state.left_b, self.state.left_a) if swapped else (self.state.left_a, self.state.left_b)
        made = dict[tuple[Narrowing, DType], tuple[Fingerprint, Entry]]()
        for b, spare, theirs in others:
            if a.name not in lefts[0] or b.name not in lefts[1]:
                continue
            for way in candidates(a, b, spare):
                if (way, b.dtype) not in made:
                    narrow = Entry(TensorSpec(a.name, b.dtype, a.shape), a.order, _held(a, way, b.dtype))
                    made[way, b.dtype] = fingerprint(narrow), narrow
                mine, narrow = made[way, b.dtype]
                found = mine == theirs and self._found_rounded(narrow, b, swapped)
                if found:
                    one, other = (b, a) if swapped else (a, b)
                    self._add(one, other, found, [way.step(swapped=swapped)])
                    break

    def _found_rounded(self, narrow: Entry, b: Entry, swapped: bool) -> Moved | None:
        one, other = (b, narrow) if swapped else (narrow, b)
        return between(codes(one.array()), codes(other.array()), one, other, self.state.channels)

    # ---- numbers that were computed --------------------------------------------------------------------------------

    def _computed(self) -> None:
        """Batch normalisation: folded, or its statistics divided; on either side, also in another layout."""
        match_statistics(self.state)
        match_folds(self.state, casts=True)
        self._translate()
        self._statistics()
        for found in folded(self.state):
            self.relations.append(found)
            self._advance([*(self.state.a[n] for n in found.a), *(self.state.b[n] for n in found.b)])
            for left, names in ((self.state.left_a, found.a), (self.state.left_b, found.b)):
                for name in names:
                    del left[name]

    def _scaled(self) -> None:
        """B's numbers are A's, multiplied by one; or, where A is narrower, A's are B's."""
        import numpy as np

        for ours, theirs in list(self._by_size()):
            if ours[0].size < scales.FEWEST:
                continue
            ours, theirs = ([e for e in side if e.dtype.kind == "float"] for side in (ours, theirs))
            one, other = ([(e, p) for e in side if (p := scales.profile(e)) is not None] for side in (ours, theirs))
            if not one or not other:
                continue
            profiles, narrow = np.stack([p for _, p in other]), np.array([scales.narrow(e) for e, _ in other])
            for a, mine in one:
                for place in np.flatnonzero(scales.alike(mine, profiles, narrow | scales.narrow(a))):
                    b = other[place][0]
                    if b.name in self.state.left_b and self._found_scaled(a, b):
                        break

    def _found_scaled(self, a: Entry, b: Entry) -> bool:
        for one, other, swapped in ((a, b, False), (b, a, True)):
            found = scales.scaled(one, other, self.state.channels, swapped=swapped)
            if found is not None:
                self._add(a, b, found.moved, found.steps(swapped=swapped))
                return True
        return False

    def _statistics(self) -> None:
        """Means and variances that are A's divided by Caffe's scale factor, as Caffe divides: not to the last bit."""
        for norm in batch_norms(self.state, ("mean", "variance", "scale_factor")):
            factor = norm.parts["scale_factor"]
            by = float(widened(factor.array().reshape(-1), factor.dtype)[0])
            for part in ("mean", "variance") if by and math.isfinite(by) else ():
                a = norm.parts[part]
                others = [e for e in self.state.left_b.values() if e.shape == a.shape and e.dtype == a.dtype]
                near = [(u, e) for e in others if (u := scales.divided(a, by, e)) is not None]
                # Of several, such as zeros, the one of that name; else the nearest.
                near.sort(key=lambda pair: (pair[1].name != a.name, pair[0]))
                if near:
                    ulp = math.ceil(near[0][0])
                    text = f"divided by the scale factor {by:g}, " + (f"within {ulp} ULP" if ulp else "bit for bit")
                    self._add(a, near[0][1], Moved(), [Step("batch norm scale factor", text, {"ulp": ulp})])
                    self.used[factor.name] = "divided out of the statistics of its layer"

    def _padded(self) -> None:
        """Zeros around it; on either side."""
        sides = [{e.name: d for e in left.values() if (d := _padding(e)) is not None} for left in (self.state.left_a, self.state.left_b)]
        at = defaultdict[tuple[str, int, int], list[str]](list)
        for name, key in sides[1].items():
            at[key].append(name)
        for name, key in sides[0].items():
            for other in at.get(key, []):
                if name not in self.state.left_a or other not in self.state.left_b:
                    continue
                a, b = self.state.a[name], self.state.b[other]
                small, large = (a, b) if a.size < b.size else (b, a)
                found = padding.padded(small, large, self.state.channels) if a.size != b.size else None
                if found is not None:
                    step = found[1] if small is a else Step("padding", f"A is {found[1].text}", found[1].detail)
                    self._add(a, b, found[0], [step])

    # ---- what differs ----------------------------------------------------------------------------------------------

    def _different(self) -> None:
        """What has one name and shape, and other values."""
        for a in list(self.state.left_a.values()):
            b = self.state.left_b.get(a.name)
            if b is not None and a.size and a.size == b.size:
                self._add(a, b, Moved(), [Step("different", "other values")])

    def result(self, a: TensorStore, b: TensorStore) -> LayoutBlind:
        """Everything."""
        order = {name: entry.order for name, entry in self.state.a.items()}
        self.relations.sort(key=lambda r: min(order[n] for n in r.a))
        relations, permutations = gathered(with_losses(self.state, folded_alike(self.relations)))
        permutations = with_strays(self.state, relations, permutations)
        graphs = {side for side, store in (("a", a), ("b", b)) if store.source is not None and store.source.format == "onnx"}
        out = tuple(excused(self.state, self.used, graphs))
        for side, left in (("a", self.state.left_a), ("b", self.state.left_b)):
            for e in out:
                if e.side == side:
                    del left[e.name]
        shared = sum(self.state.b[n].size for r in relations if r.equal for n in r.b if n not in self.weak)
        return LayoutBlind(
            relations,
            permutations,
            out,
            tuple(self.state.left_a),
            tuple(self.state.left_b),
            shared / max(1, sum(e.size for e in self.state.b.values())),
            *(store.source.path if store.source else None for store in (a, b)),
            *(store.source.format if store.source else None for store in (a, b)),
        )


def _own(a: DType, b: DType) -> DType | None:
    return a if a == b else None


def _of_b(a: DType, b: DType) -> DType | None:
    return b if castable(a, b) else None


def _of_a(a: DType, b: DType) -> DType | None:
    return a if castable(a, b) and a.bits < b.bits else None


def _padding(entry: Entry) -> tuple[str, int, int] | None:
    return padding.digest(entry) if entry.size and not entry.dtype.packed else None


def _held(entry: Entry, way: Narrowing, dtype: DType) -> Tensor:
    """A tensor of the rounded values."""
    values = applied(entry, way, dtype).view(dtype.numpy()).reshape(entry.shape)
    return Tensor.from_array(entry.name, values)
