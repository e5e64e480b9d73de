"""Sizes of axes, worked out from shapes: a dimension is the product of its axes, or the sum of such products."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from porter.dataclass import dataclass
from porter.errors import MapError
from porter.mapping.layout_patterns import REST, Dim, Form, Operand, dim_text, fault

GIVEN = "by parameter or 'where'"

_UNEVEN = "one axis has one size in all tensors of a rule; parts of unequal size are a sum of axes of their own, as '(q + k + v) i'"
_RANK = "a pattern has a name for each dimension; '...' stands for those that stay together"


@dataclass(frozen=True, slots=True)
class _Equation:
    """Dimension `dim` of `operand` is `value`: the sum, over `products`, of the products of their axes."""

    products: tuple[tuple[str, ...], ...]
    value: int
    operand: Operand
    form: Form
    dim: int


class Sizes:
    """What is known of the sizes of axes, and from where; `found` grows."""

    def __init__(self, given: Mapping[str, int]) -> None:
        self.found: dict[str, int] = {}
        self._origin: dict[str, str] = {}
        self._equations: dict[tuple[tuple[tuple[str, ...], ...], int], _Equation] = {}
        self._given = given

    def expect(self, names: Iterable[str], form: Form) -> None:
        """Take what is given for these axes.

        Raises:
            MapError: it is no size.
        """
        for name in names:
            if name in self._given and name not in self.found:
                size = self._given[name]
                if not isinstance(size, int) or isinstance(size, bool) or size < 0:
                    raise fault("M312", f"axis '{name}' cannot have the size {size!r}", form.spans[name], None, None, {})
                self.put(name, size, GIVEN)

    def put(self, name: str, size: int, origin: str) -> None:
        """Take this for the size of an axis not known so far."""
        self.found[name] = size
        self._origin[name] = origin

    def measure(self, operand: Operand, form: Form) -> None:
        """Take the shape of `operand`, whose `...` is written out in `form`.

        Raises:
            MapError: it has another number of dimensions.
        """
        if operand.shape is None:
            return
        if len(operand.shape) != len(form.dims):
            raise wrong_rank(operand, form, len(form.dims), self.found)
        for index, (dim, value) in enumerate(zip(form.dims, operand.shape, strict=True)):
            products = products_of(dim)
            self._equations.setdefault((products, value), _Equation(products, value, operand, form, index))

    def work_out(self) -> None:
        """Find every size that follows.

        Raises:
            MapError: two tensors, or a tensor and what is given, say different things.
        """
        progress = True
        while progress:
            progress = False
            for key, equation in list(self._equations.items()):
                before = len(self.found)
                if self._settled(equation):
                    del self._equations[key]
                progress = progress or len(self.found) > before

    def need(self, names: Iterable[str], operand: Operand, form: Form) -> None:
        """Raise a `MapError` unless the sizes of all these are known."""
        unknown = [name for name in names if name not in self.found]
        if not unknown:
            return
        first = unknown[0]
        if first.startswith(REST):
            raise fault("M310", "no shape says what '...' stands for", form.spans.get(first, form.span), operand, form, self.found)
        together = next((e for e in self._equations.values() if any(first in p for p in e.products)), None)
        hint = f"say 'where {first}=…'"
        if together is not None:
            operand, form = together.operand, together.form
            others = [n for n in dict.fromkeys(n for p in together.products for n in p) if n not in self.found]
            if len(together.products) == 1 and len(others) > 1:
                hint = f"say 'where {' '.join(f'{n}=…' for n in others[1:])}'; one of {', '.join(others)} can be left out"
        raise fault(
            "M304", f"the size of axis '{first}' is not known", form.spans.get(first, form.span), operand, form, self.found, hint=hint
        )

    def shape(self, form: Form) -> tuple[int, ...]:
        """The shape that a pattern of known sizes stands for."""
        return tuple([self.total(dim) for dim in form.dims])

    def total(self, dim: Dim) -> int:
        """How long a dimension is."""
        return sum([self._product(product) for product in products_of(dim)])

    def _product(self, names: Iterable[str]) -> int:
        size = 1
        for name in names:
            size *= self.found[name]
        return size

    def _settled(self, equation: _Equation) -> bool:
        """Whether `equation` says no more; takes what it says."""
        constant, factor, unknown = 0, 0, set[str]()
        for product in equation.products:
            known = self._product([n for n in product if n in self.found])
            left = [n for n in product if n not in self.found]
            if known and left:
                factor += known
                unknown.add(" ".join(left))
            else:
                constant += known
        if not unknown:
            if constant != equation.value:
                raise self._contradiction(equation, constant)
            return not any(n not in self.found for p in equation.products for n in p)
        quotient, odd = divmod(equation.value - constant, factor)
        if len(unknown) > 1:
            return False
        if odd or quotient < 0:
            raise self._indivisible(equation, constant, factor, next(iter(unknown)))
        names = next(iter(unknown)).split(" ")
        if len(names) > 1 and quotient != 1:
            return False
        for name in names:
            self.put(name, quotient, f"by '{equation.operand.name}'")
        return True

    def _contradiction(self, equation: _Equation, constant: int) -> MapError:
        operand, form, value = equation.operand, equation.form, equation.value
        span, names = form.dim_spans[equation.dim], equation.products[0]
        if len(equation.products) == 1 and len(names) == 1 and not names[0].startswith("#"):
            message = f"axis '{_plain(names[0])}' is {value} by '{operand.name}', and {constant} {self._origin[names[0]]}"
        else:
            text = dim_text(form.dims[equation.dim]).replace("#", str(form.count))
            message = f"dimension {equation.dim} of '{operand.name}' is {value}, and '{text}' is {constant}"
            return fault("M303", message, span, operand, form, self.found, hint=self._doubt(form, equation.dim))
        return fault("M303", message, span, operand, form, self.found, hint=self._doubt(form, equation.dim) or _UNEVEN)

    def _doubt(self, form: Form, dim: int) -> str | None:
        """What of a dimension does not come from the shapes, and may be wrong."""
        names = list(dict.fromkeys(name for product in products_of(form.dims[dim]) for name in product))
        said = [f"{name}={self.found[name]}" for name in names if self._origin.get(name) == GIVEN]
        return f"{', '.join(said)}: said by 'where' or a parameter; is that right for this network?" if said else None

    def _indivisible(self, equation: _Equation, constant: int, factor: int, unknown: str) -> MapError:
        operand, form = equation.operand, equation.form
        rest = f" less {constant}" if constant else ""
        message = (
            f"dimension {equation.dim} of '{operand.name}', {equation.value}{rest}, is no multiple of {factor}, "
            f"so that '{_plain(unknown)}' has no size"
        )
        return fault("M303", message, form.dim_spans[equation.dim], operand, form, self.found, hint=self._doubt(form, equation.dim))


def _plain(name: str) -> str:
    return " ".join([REST if n.startswith(REST) else n for n in name.split(" ")])


def products_of(dim: Dim) -> tuple[tuple[str, ...], ...]:
    """What a dimension is the sum of: for each block its axes."""
    common = tuple([item for item in dim if isinstance(item, str)])
    for item in dim:
        if not isinstance(item, str):
            return tuple([common + term for term in item])
    return (common,)


def wrong_rank(operand: Operand, form: Form, wanted: int, sizes: Mapping[str, int]) -> MapError:
    """The error for a tensor that has not as many dimensions as its pattern."""
    rank = len(operand.shape or ())
    more = " or more" if form.run is not None else ""
    message = f"'{operand.name}' has {rank} dimension{'s' * (rank != 1)}, its axis pattern {wanted}{more}"
    return fault("M302", message, form.span, operand, form, sizes, hint=_RANK)


def rest_length(pairs: Sequence[tuple[Operand, Form]]) -> int:
    """How many dimensions `...` stands for, by the tensors with a shape in which it stands by itself; 1 where it is always in a group.

    Raises:
        MapError: they differ, or none is known.
    """
    first: tuple[int, str] | None = None
    for operand, form in pairs:
        if form.run is None or operand.shape is None:
            continue
        length = len(operand.shape) - (len(form.dims) - 1)
        if length < 0:
            raise wrong_rank(operand, form, len(form.dims) - 1, {})
        if first is not None and length != first[0]:
            message = f"'...' is {length} of the dimensions of '{operand.name}', and {first[0]} of those of '{first[1]}'"
            raise fault("M310", message, form.spans[REST], operand, form, {})
        first = first or (length, operand.name)
    if first is not None:
        return first[0]
    for operand, form in pairs:
        if form.run is not None:
            hint = "name its axes, or put '...' into a group on both sides"
            raise fault("M310", "no shape says how many dimensions '...' stands for", form.spans[REST], operand, form, {}, hint=hint)
    return 1
