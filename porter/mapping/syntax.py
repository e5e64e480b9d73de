"""What a map says, as a tree: the statements of a `.pmap` file, before anything is known of tensors.

`porter.mapping.parser` makes it from text, `porter.mapping.render` makes text from it, and whoever writes maps by program
(inverse, composition, inference) makes these nodes directly. Nodes compare by what they say, not by where they stand.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from porter.dataclass import dataclass, field
from porter.errors import MapError


@dataclass(frozen=True, slots=True)
class MapText:
    """The text that nodes stand in: the path that errors show (None for text made in memory) and the text itself."""

    path: str | None
    text: str

    def __repr__(self) -> str:
        return f"MapText({self.path!r})"  # every node of a map refers to it

    def excerpt(self, line: int) -> str:
        """Line `line`, 1-based, without its end."""
        lines = _lines(self.text)
        return lines[line - 1].rstrip("\r") if 0 < line <= len(lines) else ""


@lru_cache(maxsize=4)
def _lines(text: str) -> list[str]:
    return text.split("\n")


@dataclass(frozen=True, slots=True)
class Span:
    """Where a node stands: 1-based line and column, and how many characters of that line it takes."""

    text: MapText
    line: int
    column: int
    width: int = 1

    def seen_from(self, other: Span) -> str:
        """The line, for a message that points to `other`: `line 3`, or ``line 3 of 'norms.pmap'`` where that is another text."""
        return f"line {self.line}" + (f" of '{self.text.path or '<map>'}'" if self.text is not other.text else "")

    def error(self, code: str, message: str, *, hint: str | None = None, tensor: str | None = None) -> MapError:
        """A `MapError` that points here."""
        return MapError(
            code,
            message,
            path=self.text.path or "<map>",
            line=self.line or None,
            column=self.column or None,
            width=self.width,
            tensor=tensor,
            hint=hint,
            excerpt=self.text.excerpt(self.line) if self.line else None,
        )


NOWHERE = Span(MapText(None, ""), 0, 0, 0)
"""The place of nodes that no text holds."""


# ---- integers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Number:
    """An integer written out."""

    value: int
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Variable:
    """The value of a capture, a size or a parameter."""

    name: str
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """`left op right`; `/` must divide exactly."""

    op: Literal["+", "-", "*", "/"]
    left: Expression
    right: Expression
    span: Span = field(default=NOWHERE, compare=False)


Expression = Number | Variable | Arithmetic


# ---- names -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Int:
    """`int`: 0, 1, 2 … in decimal; with `width` (written `03`) padded with zeros to at least so many digits."""

    width: int = 0


@dataclass(frozen=True, slots=True)
class Path:
    """`path`: any text but none, dots and slashes included."""


@dataclass(frozen=True, slots=True)
class Name:
    """`name`: any text but none without a dot or a slash."""


@dataclass(frozen=True, slots=True)
class Choice:
    """`q|k|v`: one of these words."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ranges:
    """`0..23` or `0,2,8..11`: the integers of these ranges, ends included; `width` as for `Int`."""

    ranges: tuple[tuple[Expression, Expression], ...]
    width: int = 0


@dataclass(frozen=True, slots=True)
class InTable:
    """The name of a `table`: this occurrence reads and writes its left column, occurrences without a type its right column."""

    table: str


CaptureType = Int | Path | Name | Choice | Ranges | InTable


@dataclass(frozen=True, slots=True)
class Capture:
    """`{p}`, `{L:int}`, `{2*i+1}`, `{e:0..7}`, `{L+1:03}`; `*` has `expression` None.

    A type is stated at one or more of a capture's occurrences in a rule, with the same meaning; where none is, it is a `Path`.
    In `{L+1:03}` the width is that of this occurrence alone.
    """

    expression: Expression | None
    type: CaptureType | None = None
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A name with captures: anchored, literal but for its captures. `parts` never holds two literals in a row, nor an empty one."""

    parts: tuple[str | Capture, ...]
    span: Span = field(default=NOWHERE, compare=False)

    @property
    def literal(self) -> str | None:
        """The name, where there are no captures."""
        if not self.parts:
            return ""
        return self.parts[0] if len(self.parts) == 1 and isinstance(self.parts[0], str) else None


# ---- layouts -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis by name."""

    name: str
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Count:
    """An axis of this many: 1, or the members of the list on the other side."""

    value: int
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Rest:
    """`...`: the remaining dimensions, the same on both sides."""

    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Group:
    """`(c h w)`: one dimension that holds several axes, the last running fastest. `(q + k + v)`: blocks one after the other,
    the j-th being the j-th tensor of the list on the other side. `terms` has a tuple of axes for each block; one for a plain group.
    """

    terms: tuple[tuple[AxisElement, ...], ...]
    span: Span = field(default=NOWHERE, compare=False)


AxisElement = Axis | Count | Rest | Group


@dataclass(frozen=True, slots=True)
class Axes:
    """An axis pattern: one element for each dimension."""

    elements: tuple[AxisElement, ...]
    span: Span = field(default=NOWHERE, compare=False)


# ---- values ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of an operation: `name=value`, or `value` alone with `name` None.

    A value is a number, `true`/`false`, a text in quotes, a list of values, or an `Expression` over parameters. A bare word
    (`f16`) is a `Variable`: the operation takes it for a word where no parameter of that name is declared.
    """

    name: str | None
    value: int | float | bool | str | Expression | tuple[object, ...]
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Call:
    """An operation: `neg`, `add(1e-5)`, `fold_bn(eps=1e-3)`."""

    name: str
    arguments: tuple[Argument, ...] = ()
    span: Span = field(default=NOWHERE, compare=False)


# ---- statements --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Term:
    """A tensor, or all that match: `label=pattern?[stack] : axes`.

    label: what an operation calls this input or output (`mean=`), or None.
    optional: `?`: it may be missing from a list.
    stack: `[e]`: these are the slices of one tensor along a new first axis, which capture `e` counts.
    """

    pattern: Pattern
    axes: Axes | None = None
    label: str | None = None
    optional: bool = False
    stack: Variable | None = None
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a rule: a tensor, or a list in brackets, and the operations on it from left to right.

    An axis pattern after the bracket is that of every term that has none of its own; the parser puts it there.
    """

    terms: tuple[Term, ...]
    listed: bool = False
    calls: tuple[Call, ...] = ()
    span: Span = field(default=NOWHERE, compare=False)


Arrow = Literal["<->", "->"]


@dataclass(frozen=True, slots=True)
class Rule:
    """`source <-> target` or `source -> target`, with `where` sizes. The source's operations come before the change of layout,
    the target's after it, each in the order they are written. `optional`: it may match nothing.
    """

    source: Side
    target: Side
    arrow: Arrow = "<->"
    where: tuple[tuple[str, Expression], ...] = ()
    optional: bool = False
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Drop:
    """`pattern -> drop`, `pattern -> drop if = other` (equal to the source tensor `other`), `… if = fill(0)` (every element equal).

    A drop with a condition is undone by a tie or a fill; one without cannot be.
    """

    pattern: Pattern
    same_as: Pattern | Call | None = None
    optional: bool = False
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Keep:
    """`pattern <-> keep`: passed on as it is."""

    pattern: Pattern
    optional: bool = False
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Remaining:
    """`rest <-> keep`, `rest -> drop`: what happens to sources that no other statement mentions."""

    action: Literal["keep", "drop"]
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Tie:
    """`alias = tensor`: in the result, `alias` is another name of `tensor`. Captures of `alias` come from `tensor`."""

    alias: Pattern
    tensor: Pattern
    optional: bool = False
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Fill:
    """`fill(0, shape=[c], dtype=f32) -> pattern if absent for other`: a tensor that no source has.

    if_absent: only where no other statement makes it; otherwise that is an error.
    for_each: once for every tensor of the result that matches (with `if_absent` there may be none); binds the captures of
        `pattern`. Without a shape or dtype it takes that tensor's.
    """

    call: Call
    pattern: Pattern
    if_absent: bool = False
    for_each: Pattern | None = None
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Expect:
    """`expect sources=all targets=all`: what has to be covered; a number is how many tensors there have to be.

    sources: "all" (the default): a source that no statement mentions is an error; "any": it is dropped, and reported.
    targets: "all" (the default): where the target is known, each of its tensors has to be made; "any": some may be missing.
    """

    sources: int | Literal["all", "any"] = "all"
    targets: int | Literal["all", "any"] = "all"
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Table:
    """`table name { a=0 b=1 }`: words of the left and of the right column, each at most once in its column.

    `provider`, for `table name from caffe.scale_after_batch_norm`, names what computes the rows from the source (or the
    target, where the map is used backwards); `rows` is empty then.
    """

    name: str
    rows: tuple[tuple[str, str], ...] = ()
    provider: str | None = None
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Param:
    """`param heads : int = 32`: a value that `--param heads=32` gives; without a default it has to."""

    name: str
    type: Literal["int", "float", "bool", "str"] = "int"
    default: int | float | bool | str | None = None
    span: Span = field(default=NOWHERE, compare=False)


Statement = Rule | Drop | Keep | Remaining | Tie | Fill | Expect | Table | Param


@dataclass(frozen=True, slots=True)
class Stage:
    """Statements that are applied together. Includes are resolved: their statements stand where the `include` did."""

    statements: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Map:
    """A whole map: stages, each applied to the result of the one before (`then` between them in the text).

    name: what the user called it: a path, or the name of a built-in map; None for one made in memory.
    """

    stages: tuple[Stage, ...]
    name: str | None = None
