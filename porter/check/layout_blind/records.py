"""What `porter diff --layout-blind` finds: which tensors of two files are equal up to what, and what is left over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Literal

from porter.dataclass import dataclass, field
from porter.tensor import Json

Kind = Literal[
    "name",
    "reshape",
    "layout",
    "flip",
    "channel order",
    "permutation",
    "type",
    "rounding",
    "scale",
    "padding",
    "batch norm folded",
    "batch norm scale factor",
    "batch norm epsilon",
    "lost",
    "near",
    "different",
]
"""What two tensors may be equal up to; the last three are no equality."""

_MOVES = ("name", "reshape", "layout", "flip", "channel order", "permutation")
_NO_EQUALITY = ("lost", "near", "different")

WORDS: Mapping[str, str] = {
    "name": "names",
    "reshape": "reshapes",
    "layout": "transposes",
    "flip": "flips",
    "channel order": "RGB/BGR",
    "permutation": "permutations",
    "type": "element types",
    "rounding": "rounding",
    "scale": "a scale",
    "padding": "padding with zeros",
    "batch norm folded": "BatchNorm folding",
    "batch norm scale factor": "BatchNorm's scale factor",
    "batch norm epsilon": "BatchNorm's epsilon",
    "tied": "tied tensors",
    "counter": "counters",
    "neutral": "tensors that change nothing",
    "constant": "small constants of graphs",
}
"""How a verdict says what files are equal up to."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that lies between a tensor of A and one of B. text: for people. detail: the same for programs."""

    kind: Kind
    text: str
    detail: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Relation:
    """Tensors of A and B that belong together, and what lies between them; no steps where they are equal, names included.

    permuted: for each axis of the first tensor of B that is permuted, the index in A of each of its channels. rivals: other tensors of
    B that the same evidence fits. why: how the pair was told from these, or what else there is to say.
    """

    a: tuple[str, ...]
    b: tuple[str, ...]
    shape_a: tuple[int, ...]
    shape_b: tuple[int, ...]
    steps: tuple[Step, ...]
    permuted: tuple[tuple[int, tuple[int, ...]], ...] = ()
    rivals: tuple[str, ...] = ()
    why: str = ""

    @property
    def equal(self) -> bool:
        """Whether the two are equal up to the steps."""
        return not any(s.kind in _NO_EQUALITY for s in self.steps)

    def to_json(self) -> dict[str, Json]:
        """This relation as JSON values."""
        return {
            "a": list(self.a),
            "b": list(self.b),
            "equal": self.equal,
            "shape_a": list(self.shape_a),
            "shape_b": list(self.shape_b),
            "steps": [{"kind": s.kind, "text": s.text, **s.detail} for s in self.steps],
            "rivals": list(self.rivals),
            "why": self.why,
        }


@dataclass(frozen=True, slots=True)
class Use:
    """An axis of a tensor of B that a permutation orders; blocks: neighbours that move together; repeats: how often it is repeated.

    Both are more than 1 where channels were flattened as blocks on one side and are repeated on the other.
    """

    tensor: str
    axis: int
    blocks: int = 1
    repeats: int = 1


@dataclass(frozen=True, slots=True)
class Permutation:
    """An order of channels. `order[i]` is the index in A of B's channel i. stray: tensors of B that would have to be in this order for
    the networks to be the same, and are not.
    """

    name: str
    order: tuple[int, ...]
    uses: tuple[Use, ...]
    stray: tuple[str, ...] = ()

    @property
    def followed(self) -> bool:
        """Whether axes of two kinds have it, such as the outputs of one layer and the inputs of another."""
        return len({(u.axis, u.blocks, u.repeats) for u in self.uses}) > 1

    def to_json(self) -> dict[str, Json]:
        """This permutation as JSON values."""
        return {
            "name": self.name,
            "order": list(self.order),
            "uses": [{"tensor": u.tensor, "axis": u.axis, "blocks": u.blocks, "repeats": u.repeats} for u in self.uses],
            "followed": self.followed,
            "stray": list(self.stray),
        }


@dataclass(frozen=True, slots=True)
class Excused:
    """A tensor that only one side has, and that says nothing of the network's values. side: `a` or `b`."""

    side: str
    name: str
    kind: Literal["tied", "counter", "neutral", "constant"]
    text: str


@dataclass(frozen=True, slots=True)
class LayoutBlind:
    """Two stores compared, whatever names and layouts they have.

    relations: in the order of A. only_a, only_b: tensors that nothing on the other side is like. shared: the share of B's numbers that
    is equal up to something.
    """

    relations: tuple[Relation, ...]
    permutations: tuple[Permutation, ...]
    excused: tuple[Excused, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    shared: float
    path_a: str | None = None
    path_b: str | None = None
    format_a: str | None = None
    format_b: str | None = None

    @property
    def verdict(self) -> Literal["equal", "differs", "unrelated"]:
        """What all of it comes to."""
        astray = any(p.stray for p in self.permutations)
        if not self.only_a and not self.only_b and not astray and all(r.equal for r in self.relations):
            return "equal"
        related = self.shared >= UNRELATED or any(s.kind in ("lost", "near") for r in self.relations for s in r.steps)
        return "differs" if related else "unrelated"

    @property
    def equal(self) -> bool:
        """Whether everything is equal up to what is named."""
        return self.verdict == "equal"

    @property
    def up_to(self) -> tuple[str, ...]:
        """The kinds of steps between what is equal, and of tensors that are excused, in the order of `WORDS`."""
        return tuple(self.counts)

    @property
    def counts(self) -> dict[str, int]:
        """For each of `up_to` how many tensors of B are equal up to it, or how many are excused for it."""
        found = Counter[str](e.kind for e in self.excused)
        for r in self.relations:
            if r.equal:
                # Where there are several tensors, it is the first whose elements move.
                found.update({s.kind: 1 if s.kind in _MOVES else len(r.b) for s in r.steps})
        return {kind: found[kind] for kind in WORDS if kind in found}

    def to_json(self) -> dict[str, Json]:
        """The result as JSON values, in the form of `schemas/diff.schema.json`."""
        return {
            "layout_blind": True,
            "equal": self.equal,
            "verdict": self.verdict,
            "up_to": list(self.up_to),
            "counts": dict(self.counts),
            "shared": self.shared,
            "a": {"path": self.path_a, "format": self.format_a},
            "b": {"path": self.path_b, "format": self.format_b},
            "relations": [r.to_json() for r in self.relations],
            "permutations": [p.to_json() for p in self.permutations],
            "excused": [{"side": e.side, "name": e.name, "kind": e.kind, "text": e.text} for e in self.excused],
            "only_a": list(self.only_a),
            "only_b": list(self.only_b),
        }


UNRELATED = 0.05
"""The share of equal numbers below which two files are called unrelated: small vectors may be alike by chance or by habit."""
