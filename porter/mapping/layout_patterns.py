"""Axis patterns made flat: for each dimension the axes that it holds, checked as far as no shape is needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from porter.dataclass import dataclass, field
from porter.errors import MapError
from porter.mapping.syntax import Axes, AxisElement, Count, Group, Rest, Span
from porter.mapping.syntax import Axis as AxisNode

Sum = tuple[tuple[str, ...], ...]
"""Blocks one after the other, each the axes of one."""

Dim = tuple[str | Sum, ...]
"""The axes of one dimension, the last running fastest; none for a unit axis."""

REST, LIST = "...", "#"
"""Stand for axes that a pattern does not name: the run of dimensions, and the one that counts the members of a list."""

DEPTH = 50
"""Parentheses in parentheses; more mean nothing."""


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor on one side of a rule: its name, shape (None: not known, to be worked out), axis pattern (None: as the other
    side's, dimension by dimension), and, where it is one slice of the other side's tensor, `at`: the index on those axes
    (`{"e": 3}` for the capture `e`).

    `block` is its place in its list, None outside one.
    """

    name: str
    shape: tuple[int, ...] | None
    axes: Axes | None
    at: Mapping[str, int] = field(default_factory=dict)
    block: int | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """A flat axis pattern.

    run: which of `dims` is a `...` that stands for dimensions of its own, not in a group; None for none.
    count: how many members the list axis counts, 0 without one. terms: how many blocks the sum has, 0 without one.
    spans: where an axis stands. dim_spans: where a dimension stands. span: where all stands.
    """

    dims: tuple[Dim, ...]
    run: int | None
    count: int
    terms: int
    spans: Mapping[str, Span]
    dim_spans: tuple[Span, ...]
    span: Span

    @property
    def text(self) -> str:
        """The pattern as a map would say it."""
        text = " ".join([dim_text(dim) for dim in self.dims]).replace(LIST, str(self.count))
        while f"{REST} {REST}" in text:
            text = text.replace(f"{REST} {REST}", REST)
        return text

    def path(self, block: int) -> list[str]:
        """The axes that the `block`-th member of a list has, the list axis included."""
        return [name for dim in self.dims for item in dim for name in ((item,) if isinstance(item, str) else item[block])]


def fault(
    code: str, message: str, span: Span, operand: Operand | None, form: Form | None, sizes: Mapping[str, int], *, hint: str | None = None
) -> MapError:
    """An error that says what is known of the tensor: shape, pattern, and the sizes of axes found so far."""
    known = ", ".join(f"{name}={size}" for name, size in list(sizes.items())[:12] if name[0] not in ".#")
    facts = []
    if operand is not None:
        if operand.shape is not None:
            facts.append(f"'{operand.name}' is {list(operand.shape)}")
        if form is not None:
            facts.append(f"its axes are '{form.text}'" if facts else f"the axes of '{operand.name}' are '{form.text}'")
    if known:
        facts.append(f"so far {known}")
    full = f"{message} ({'; '.join(facts)})" if facts else message
    return span.error(code, full, hint=hint, tensor=operand.name if operand is not None else None)


def form_of(axes: Axes, operand: Operand) -> Form:
    """The pattern made flat; remembered.

    Raises:
        MapError: an axis stands twice, there are two lists or two `...`, or a count or a sum stands where it means nothing.
    """
    known = _FORMS.get(id(axes))
    if known is None:
        if len(_FORMS) >= _MOST:
            _FORMS.clear()
        # The pattern is kept so that no other takes its id.
        known = _FORMS[id(axes)] = _flat(axes, operand), axes
    return known[0]


_FORMS: dict[int, tuple[Form, Axes]] = {}
_MOST = 4096


def _flat(axes: Axes, operand: Operand) -> Form:
    found = _Flattening(axes, operand)
    dims = tuple([tuple(found.items((element,))) for element in axes.elements])
    run = next((i for i, e in enumerate(axes.elements) if isinstance(e, Rest)), None)
    return Form(dims, run, found.count, found.terms, found.spans, tuple([e.span for e in axes.elements]), axes.span)


class _Flattening:
    """One pattern on its way to a `Form`."""

    def __init__(self, axes: Axes, operand: Operand) -> None:
        self.operand = operand
        self.spans: dict[str, Span] = {}
        self.count = 0
        self.terms = 0
        self._check_depth(axes)

    def items(self, elements: Iterable[AxisElement]) -> list[str | Sum]:
        """The axes of `elements`, plain groups opened up."""
        found: list[str | Sum] = []
        for element in elements:
            if isinstance(element, AxisNode):
                found.append(self._named(element.name, element.span))
            elif isinstance(element, Rest):
                found.append(self._named(REST, element.span))
            elif isinstance(element, Count):
                if element.value != 1:
                    found.append(self._counted(element))
            elif len(element.terms) == 1:
                found += self.items(element.terms[0])
            else:
                found.append(self._sum(element))
        return found

    def _check_depth(self, axes: Axes) -> None:
        level, depth = list(axes.elements), 0
        while level and depth <= DEPTH:
            level = [e for group in level if isinstance(group, Group) for term in group.terms for e in term]
            depth += 1
        if level:
            raise axes.span.error("M311", f"parentheses stand in parentheses more than {DEPTH} deep", tensor=self.operand.name)

    def _error(self, code: str, message: str, span: Span, hint: str | None = None) -> MapError:
        name, shape = self.operand.name, self.operand.shape
        shown = f" ('{name}' is {list(shape)})" if shape is not None else ""
        return span.error(code, message + shown, tensor=name, hint=hint)

    def _named(self, name: str, span: Span) -> str:
        if name in self.spans:
            what = "'...' stands" if name == REST else f"axis '{name}' stands"
            hint = "give one of them another name; a pattern takes no diagonals" if name != REST else "name the dimensions of one of them"
            raise self._error("M301", f"{what} twice in one tensor", span, hint)
        self.spans[name] = span
        return name

    def _counted(self, element: Count) -> str:
        if element.value < 1:
            raise self._error("M305", f"no list has {element.value} members", element.span)
        if self.count or self.terms:
            raise self._error("M306", "the members of the list have two places in one tensor", element.span, _NAME_IT)
        self.count = element.value
        self.spans[LIST] = element.span
        return LIST

    def _sum(self, group: Group) -> Sum:
        if self.count or self.terms:
            raise self._error(
                "M306", "the members of the list have two places in one tensor", group.span, "only one sum or number can say it"
            )
        self.terms = len(group.terms)
        self.spans[LIST] = group.span
        outer, inner, terms = self.spans, dict[str, Span](), []
        for term in group.terms:
            self.spans = dict(outer)
            items = self.items(term)
            if REST in self.spans and REST not in outer:
                raise self._error("M310", "'...' stands in a sum", self.spans[REST], "name its axes")
            terms.append(tuple([i for i in items if isinstance(i, str)]))
            inner.update(self.spans)
        self.spans = outer | inner
        return tuple(terms)


_NAME_IT = "the number of members stands once; give other axes a name and their size with 'where'"


def without(form: Form, gone: Iterable[str], block: int) -> Form:
    """The pattern of one slice: the axes `gone` and the list's place taken out, and with them dimensions that held nothing else."""
    left_out = {*gone, LIST}
    dims, spans, run = list[Dim](), list[Span](), None
    for index, (dim, span) in enumerate(zip(form.dims, form.dim_spans, strict=True)):
        opened = [name for item in dim for name in ((item,) if isinstance(item, str) else item[block])]
        kept: Dim = tuple([name for name in opened if name not in left_out])
        if kept or not any(name in left_out for name in opened):
            if index == form.run:
                run = len(dims)
            dims.append(kept)
            spans.append(span)
    places = {name: span for name, span in form.spans.items() if name not in left_out}
    return Form(tuple(dims), run, 0, 0, places, tuple(spans), form.span)


def with_first(form: Form, names: Sequence[str]) -> Form:
    """The pattern with `names` as new first dimensions."""
    if not names:
        return form
    dims = (*[(name,) for name in names], *form.dims)
    spans = dict.fromkeys(names, form.span) | dict(form.spans)
    run = None if form.run is None else form.run + len(names)
    return Form(dims, run, form.count, form.terms, spans, (*[form.span] * len(names), *form.dim_spans), form.span)


def rest_only(span: Span) -> Form:
    """`...`: any tensor as it is."""
    return Form(((REST,),), 0, 0, 0, {REST: span}, (span,), span)


def expanded(form: Form, rest: Sequence[str]) -> Form:
    """The pattern with `...` replaced by the axes `rest`, a dimension each where it stands on its own."""
    if REST not in form.spans:
        return form
    dims, spans = list[Dim](), list[Span]()
    for index, (dim, span) in enumerate(zip(form.dims, form.dim_spans, strict=True)):
        if index == form.run:
            dims += [(name,) for name in rest]
            spans += [span] * len(rest)
        else:
            dims.append(tuple([x for item in dim for x in (rest if item == REST else (item,))]))
            spans.append(span)
    places = {name: span for name, span in form.spans.items() if name != REST} | dict.fromkeys(rest, form.spans[REST])
    return Form(tuple(dims), None, form.count, form.terms, places, tuple(spans), form.span)


def dim_text(dim: Dim) -> str:
    """One dimension as a map would say it."""
    items = [_shown(i) if isinstance(i, str) else f"({' + '.join(' '.join(map(_shown, term)) or '1' for term in i)})" for i in dim]
    return items[0] if len(items) == 1 else f"({' '.join(items)})" if items else "1"


def _shown(name: str) -> str:
    return REST if name.startswith(REST) else name
