"""Which value of one network is which of another: by name, by the `layers.json` of a port, else by structure and order.

Names are tried first: the values' own, then those of their layers, then all of them as identifiers (`conv4-1` is `conv4_1` in Python).
What a converter folds into one layer (convolution, batch normalisation, scale) is matched at its last value, whatever the layers in it
are called. Where names match little, values are the same that are made in the same way of the same inputs; and where one side does not
say how its values are made, layers that are of the same kinds and shapes in the same order.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import pairwise

from porter.dataclass import dataclass
from porter.errors import UsageError, access_error
from porter.parity.kinds import AFFINE, LINEAR, NORM, NOTHING, PERMUTE, are_alike, kind_of
from porter.parity.side import Side

FEW = 0.5
"""The part of the smaller side's values that has to match by name, or else structure is looked at."""

WAYS = ("name", "layers.json", "output", "structure", "order")


@dataclass(frozen=True, slots=True)
class Pair:
    """A value of A and the same of B. way: of `WAYS`, how that is known."""

    a: str
    b: str
    way: str


@dataclass(frozen=True, slots=True)
class Matching:
    """How two networks are laid beside each other.

    pairs: in the order of A's layers. only_a, only_b: values that have no partner. ambiguous: values of A that may be another's of
    several of B that are made alike; they were taken in their order. outputs: of A, and of B. lost: those of them that have no partner;
    all of them where no output is another's.
    """

    pairs: tuple[Pair, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    ambiguous: tuple[str, ...] = ()
    outputs: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    lost: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    @property
    def ways(self) -> Mapping[str, int]:
        """How many pairs were found in each way."""
        counts = Counter(pair.way for pair in self.pairs)
        return {way: counts[way] for way in WAYS if way in counts}


def read_layers(path: str) -> dict[str, str]:
    """`layers.json` as `porter port` writes it: for each `layer/top` the name of the value that holds it.

    Raises:
        FileAccessError, UsageError: it cannot be read, or is no such file.
    """
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
        return {f"{r['name']}/{top}": str(value) for r in document["layers"] for top, value in r["tops"].items()}
    except OSError as error:
        raise access_error(error, path, "reading") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f"it is no JSON, {error}" if isinstance(error, ValueError) else "it has no list 'layers' of objects with 'name' and 'tops'"
        raise UsageError("U952", f"this is no layers.json: {why}", path=path, hint="'porter port' writes it") from error


def match(a: Side, b: Side, layers: Mapping[str, str] | None = None) -> Matching:
    """Lay `b` beside `a`. layers: as `read_layers` gives it."""
    search = _Search(_Layers(a, layers or {}), _Layers(b, layers or {}))
    # An output is first of all another output, whatever else has its name.
    search.by_names(outputs=True)
    if not (search.a.is_graph and search.b.is_graph):
        search.outputs()
    search.by_names()
    search.outputs()
    # A name that an output had as well is now one value's alone.
    search.by_names()
    if len(search.found) < FEW * min(len(search.a.values), len(search.b.values)):
        search.by_structure()
        search.by_order()
    return search.result()


class _Layers:
    """What is looked at of a side. own, by_layers, others: names of each value. ends: of each value, the last one of what may be one
    layer elsewhere. is_graph: whether the side says what its layers read. folds: whether a layer of it may be several elsewhere.
    """

    def __init__(self, side: Side, layers: Mapping[str, str]) -> None:
        self.side = side
        self.makers = {v: step for step in side.steps for v in step.outputs}
        self.values = list(dict.fromkeys([*self.makers, *(v for v in side.outputs if v not in side.inputs)]))
        self.is_graph = any(step.inputs for step in side.steps)
        self.folds = self.is_graph or side.kind == "torch"
        self.kinds = {v: kind_of(step) for v, step in self.makers.items()}
        self.own = {v: [v] for v in self.values}
        self.by_layers = {
            v: [n for n in (layers.get(name) for name in (v, *side.aliases.get(v, ()))) if n is not None] for v in self.values
        }
        self.others = {v: list(side.aliases.get(v, ())) for v in self.values}
        self.next: dict[str, str] = {}
        self.ends = self._ends()
        self.known = frozenset(name for v in self.values for name in self.identifiers(v))

    def identifiers(self, v: str) -> frozenset[str]:
        """All names of a value as they can be names in Python."""
        return frozenset(map(_identifier, (*self.own[v], *self.by_layers[v], *self.others[v])))

    def _ends(self) -> dict[str, str]:
        readers: dict[str, list[str]] = defaultdict(list)
        for v, step in self.makers.items():
            for name in step.inputs:
                readers[name].append(v)
        if not self.is_graph:
            # Recorded one after the other, a normalisation and a scale are a pair.
            for v, w in pairwise(self.values):
                if (self.kinds.get(v), self.kinds.get(w)) == (NORM, AFFINE):
                    readers[v].append(w)
        # What is divided to be rounded is quantised: a layer of its own elsewhere, and folded into nothing.
        quantised = {name for v, step in self.makers.items() if self.kinds[v] == "round" for name in step.inputs}
        ends: dict[str, str] = {}
        for v in reversed(self.values):
            after = readers[v]
            folds = len(after) == 1 and v not in self.side.outputs and self.kinds.get(v) in (LINEAR, NORM, AFFINE)
            ends[v] = ends[after[0]] if folds and self.kinds[after[0]] in (NORM, AFFINE) and after[0] not in quantised else v
            if ends[v] != v:
                self.next[v] = after[0]
        return ends

    def behind(self, v: str) -> frozenset[str]:
        """Names, as identifiers, of the values from the one behind `v` to the end of what may be one layer elsewhere."""
        names: set[str] = set()
        while v in self.next:
            v = self.next[v]
            names |= self.identifiers(v)
        return frozenset(names)

    def read_by(self, v: str) -> set[str]:
        """The values that the maker of `v` reads, before what only moves them."""
        read: set[str] = set()
        for name in self.makers[v].inputs:
            while name in self.makers and self.kinds[name] == NOTHING and self.makers[name].inputs:
                name = self.makers[name].inputs[0]
            if name in self.makers:
                read.add(name)
        return read

    def is_bare(self, v: str) -> bool:
        """Whether it is made by a normalisation of PyTorch's that has no scale of its own."""
        return v in self.makers and self.makers[v].settings.get("affine") is False


class _Search:
    """Pairs as they are found, each value in one of them."""

    def __init__(self, a: _Layers, b: _Layers) -> None:
        self.a = a
        self.b = b
        self.found: dict[str, Pair] = {}
        self.taken: set[str] = set()
        self.ambiguous: list[str] = []

    def add(self, a: str, b: str, way: str) -> None:
        # Without a name nothing says of two transpositions that they are the same: converters merge them. What follows shows it.
        moves = way in ("structure", "order") and PERMUTE in (self.a.kinds.get(a), self.b.kinds.get(b))
        if not moves and a not in self.found and b not in self.taken:
            self.found[a] = Pair(a, b, way)
            self.taken.add(b)

    def by_names(self, outputs: bool = False) -> None:
        """Pair what is called the same; outputs: outputs with outputs alone."""
        of_a, of_b = ([v for v in side.values if not outputs or v in side.side.outputs] for side in (self.a, self.b))
        (own_a, by_a, all_a), (own_b, by_b, all_b) = (_names(self.a, of_a), _names(self.b, of_b))
        self._equal(own_a, own_b, "name")
        self._equal(by_a, own_b, "layers.json")
        self._equal(own_a, by_b, "layers.json")
        # A layer's own name says more than that of another which may be part of it.
        for x, y in ((all_a, own_b), (own_a, all_b), (all_a, all_b)):
            self._equal(x, y, "name")
            self._equal(_identifiers(x), _identifiers(y), "name")

    def _equal(self, a: Mapping[str, Sequence[str]], b: Mapping[str, Sequence[str]], way: str) -> None:
        """Pair what has a name in common that nothing else has on its side."""
        of_a, of_b = self._free(a, self.found), self._free(b, self.taken)
        for v, names in a.items():
            for name in names:
                if len(of_a.get(name, ())) == len(of_b.get(name, ())) == 1 and v in of_a[name]:
                    w = next(iter(of_b[name]))
                    # Numbers are given out anew by whatever writes a model.
                    if not name.isdigit() or are_alike(self.a.kinds.get(v), self.b.kinds.get(w)):
                        self._named(v, w, way)
                        break

    @staticmethod
    def _free(names: Mapping[str, Sequence[str]], taken: Iterable[str]) -> dict[str, set[str]]:
        taken = set(taken)
        found: dict[str, set[str]] = defaultdict(set)
        for v, all_of_it in names.items():
            if v not in taken:
                for name in all_of_it:
                    found[name].add(v)
        return found

    def _named(self, v: str, w: str, way: str) -> None:
        """Two values of one name; where one side has folded what follows into it, they meet at the end of that."""
        end_v, end_w = self.a.ends[v], self.b.ends[w]
        known = (self.a.folds and self.b.folds) or self.a.kinds.get(v) == self.b.kinds.get(w) == NORM
        if known and (end_v == v) != (end_w == w):
            # A side that has something of the names behind it has not folded that, unless it is the name of what it has folded.
            names = self.a.behind(v) - self.b.identifiers(w) if end_w == w else self.b.behind(w) - self.a.identifiers(v)
            there = names & (self.b.known if end_w == w else self.a.known)
            v, w = (v, w) if there or self.a.is_bare(v) or self.b.is_bare(w) else (end_v, end_w)
        self.add(v, w, way)

    def outputs(self) -> None:
        """Outputs that no name matches, in their order, where there are as many."""
        left = [v for v in self.a.side.outputs if v not in self.found]
        right = [w for w in self.b.side.outputs if w not in self.taken]
        if len(left) == len(right):
            for v, w in zip(left, right, strict=True):
                self.add(v, w, "output")

    def by_structure(self) -> None:
        """Pair values that are made in the same way of the same inputs."""
        ours, theirs = _grown(self.a), _grown(self.b)
        for signature, chains in ours.items():
            others = theirs.get(signature, [])
            if len(chains) != len(others):
                continue
            if len(chains) > 1:
                shapes = [[side.shapes.get(c[-1]) for c in group] for side, group in ((self.a.side, chains), (self.b.side, others))]
                if len(set(shapes[0])) == len(chains) and set(shapes[0]) == set(shapes[1]):
                    others = [others[shapes[1].index(shape)] for shape in shapes[0]]
                else:
                    others = self._readers(chains, others)
                    self.ambiguous += [c[-1] for c in chains if c[-1] not in self.found]
            for chain, other in zip(chains, others, strict=True):
                if [self.a.kinds[v] for v in chain] == [self.b.kinds[w] for w in other]:
                    for v, w in zip(chain, other, strict=True):
                        self.add(v, w, "structure")
                else:
                    self.add(chain[-1], other[-1], "structure")

    def _readers(self, chains: list[list[str]], others: list[list[str]]) -> list[list[str]]:
        """Chains of B in the order of A's, which are all made alike: what they read tells them apart, else their order."""
        left, told = list(others), {}
        for number, chain in enumerate(chains):
            read = {self.found[v].b if v in self.found else v for v in self.a.read_by(chain[0])}
            same = [other for other in left if read == self.b.read_by(other[0])]
            if len(same) == 1:
                told[number] = same[0]
                left.remove(same[0])
        return [told[number] if number in told else left.pop(0) for number in range(len(chains))]

    def by_order(self) -> None:
        """Pair what is left, where kinds and shapes follow each other in the same order on both sides."""
        ours = [v for v in self._left(self.a) if v not in self.found]
        theirs = [w for w in self._left(self.b) if w not in self.taken]
        a, b = ([(side.kinds[v], side.side.shapes.get(v)) for v in left] for side, left in ((self.a, ours), (self.b, theirs)))
        for start, other, size in SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks():
            for i in range(size):
                self.add(ours[start + i], theirs[other + i], "order")

    @staticmethod
    def _left(side: _Layers) -> Iterator[str]:
        """One value for each layer as others have it: the ends of chains, and nothing that only moves values."""
        return (v for v in side.makers if side.ends[v] == v and side.kinds[v] != NOTHING)

    def result(self) -> Matching:
        order = {v: number for number, v in enumerate(self.a.values)}
        pairs = sorted(self.found.values(), key=lambda pair: order.get(pair.a, len(order)))
        only_a = tuple([v for v in self.a.values if v not in self.found and not self._is_another(v, self.a, self.b, self.taken)])
        only_b = tuple([w for w in self.b.values if w not in self.taken and not self._is_another(w, self.b, self.a, self.found)])
        outputs = (tuple(self.a.side.outputs), tuple(self.b.side.outputs))
        return Matching(tuple(pairs), only_a, only_b, tuple(self.ambiguous), outputs, self._lost(*outputs))

    def _lost(self, of_a: tuple[str, ...], of_b: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        if of_a and of_b and not any(pair.a in of_a and pair.b in of_b for pair in self.found.values()):
            return of_a, of_b
        return tuple([v for v in of_a if v not in self.found]), tuple([w for w in of_b if w not in self.taken])

    @staticmethod
    def _is_another(value: str, side: _Layers, other: _Layers, taken: Collection[str]) -> bool:
        """Whether it is recorded of a layer that changes nothing (Dropout): elsewhere that is one value with what it reads, and matched."""
        return not side.is_graph and any(value in other.others[v] for v in taken if v in other.others)


def _names(side: _Layers, values: Sequence[str]) -> tuple[dict[str, list[str]], dict[str, list[str]], dict[str, list[str]]]:
    """Names of the values: their own, those of layers.json, and their own with those of their layers."""
    own = {v: side.own[v] for v in values}
    return own, {v: side.by_layers[v] for v in values}, {v: side.own[v] + side.others[v] for v in values}


def _identifiers(names: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    return {v: list(map(_identifier, some)) for v, some in names.items()}


def _identifier(name: str) -> str:
    """A name as it can be one in Python, in lower case. Where it begins with a digit, porter puts `x_` before it.

    PyTorch's exporter calls values `/ln/Add_output_0`, and identifiers made of that lack the first slash. Its nodes, such as `/Add_1`, keep
    it: when PyTorch traces a module, it numbers what has no name in the same way, but counts other things.
    """
    plain = re.sub(r"\W", "_", re.sub(r"^/(?=.*_output_\d+$)", "", name)).lower()
    return f"x_{plain}" if plain[:1].isdigit() else plain


def _grown(side: _Layers) -> dict[int, list[list[str]]]:
    """For each way in which values are made, the chains of values that are: those that one layer elsewhere may make together."""
    signatures: dict[str, int] = {name: hash(("input", number)) for number, name in enumerate(side.side.inputs)}
    found: dict[int, dict[str, list[str]]] = {}
    for step in side.side.steps:
        if not step.inputs:
            continue
        # Constants are not told of by everyone: PyTorch's modules hold theirs.
        kind, made = kind_of(step), [signatures[name] for name in step.inputs if name in signatures]
        if not made:
            continue
        for number, v in enumerate(step.outputs):
            if kind == NOTHING:
                signatures[v] = made[0]
                continue
            inside = kind in (NORM, AFFINE) and side.ends.get(step.inputs[0], step.inputs[0]) == side.ends[v]
            signatures[v] = made[0] if inside else hash((kind, number, tuple(sorted(made) if kind == "eltwise" else made)))
            found.setdefault(signatures[v], {}).setdefault(side.ends[v], []).append(v)
    return {signature: list(chains.values()) for signature, chains in found.items()}
