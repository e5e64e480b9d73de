"""Indices run backwards: from the numbers in a name to the captures that they were calculated from.

All that can be decided without a name is decided once: each equation, such as `4*i + j = number`, becomes a step that finds the
captures which no earlier step knows. A step is only made where every number has at most one solution.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from porter.dataclass import dataclass
from porter.errors import MapError
from porter.mapping.captures import Domain, Field, allowed
from porter.mapping.expressions import Linear, Values, evaluate, linear
from porter.mapping.syntax import Arithmetic, Expression

LISTED = 10_000
"""Combinations of values that are tried for one index at most."""


@dataclass(frozen=True, slots=True)
class _Step:
    """How one number gives the captures that are not known yet.

    number: which one. known: captures that are known by now, with their coefficients. free: the capture that is solved for
    by division, with its coefficient; None where all are listed. listed: captures whose values are looked up in
    `combinations`, by what is left of the number (modulo the coefficient of `free`); with each stands what it adds up to.
    """

    number: int
    constant: int
    divisor: int
    known: tuple[tuple[str, int], ...]
    free: tuple[str, int] | None
    listed: tuple[str, ...]
    combinations: Mapping[int, tuple[tuple[int, ...], int]]


class IndexSolver:
    """Solves the calculated indices of one name.

    known: captures that stand alone somewhere in the name. domains: the ranges of captures that have them.
    """

    def __init__(self, equations: Sequence[Field], known: Iterable[str], domains: Mapping[str, Domain], constants: Values) -> None:
        expressions = [field.expression for field in equations if field.expression is not None]
        self._domains = domains
        self._steps: list[_Step] = []
        self._evaluated = [(i, e) for i, e in enumerate(expressions) if _divides(e)]
        self._constants = constants
        found = set(known)
        waiting = {i: linear(e, constants) for i, e in enumerate(expressions)}
        while waiting:
            step = self._next(waiting, found)
            if step is None:
                raise _unsolvable(equations, waiting, found, domains)
            del waiting[step.number]
            self._steps.append(step)
            found.update(step.listed)
            found.update([step.free[0]] if step.free else [])
        self.found = frozenset(found)

    def _next(self, waiting: Mapping[int, Linear], found: set[str]) -> _Step | None:
        """A step for the easiest equation, or None where none of them can be solved."""
        unknown = {i: [name for name in equation.coefficients if name not in found] for i, equation in waiting.items()}
        for i in sorted(waiting, key=lambda i: len(unknown[i])):
            step = _step(i, waiting[i], unknown[i], self._domains)
            if step is not None:
                return step
        return None

    def solve(self, numbers: Sequence[int], found: dict[str, int | str]) -> bool:
        """Add to `found`, which has the known captures, those that give `numbers`; False, and `found` of no use, where none do."""
        indices: dict[str, Any] = found  # what is not an integer is in no equation
        for step in self._steps:
            left = numbers[step.number] * step.divisor - step.constant
            if step.known:
                left -= sum([c * indices[name] for name, c in step.known])
            combination = step.combinations.get(left % step.free[1] if step.free else left)
            if combination is None:
                return False
            indices.update(zip(step.listed, combination[0], strict=True))
            if step.free:
                name, coefficient = step.free
                value = indices[name] = (left - combination[1]) // coefficient
                if not allowed(value, self._domains.get(name)):
                    return False
        return not self._evaluated or all(self._comes_to(expression, indices, numbers[i]) for i, expression in self._evaluated)

    def _comes_to(self, expression: Expression, indices: Values, number: int) -> bool:
        try:
            return evaluate(expression, {**self._constants, **indices}) == number
        except MapError:
            return False


def _divides(expression: Expression) -> bool:
    stack = [expression]
    while stack:
        node = stack.pop()
        if isinstance(node, Arithmetic):
            if node.op == "/":
                return True
            stack += [node.left, node.right]
    return False


def _step(number: int, equation: Linear, unknown: Sequence[str], domains: Mapping[str, Domain]) -> _Step | None:
    """How to solve `equation` for what is unknown in it, or None where some number would have several solutions, or too many
    would have to be tried.
    """
    sizes = {name: _size(domains.get(name)) for name in unknown}
    free = None
    if len(unknown) == 1 or _product(sizes.values()) > LISTED:
        free = max(unknown, key=lambda name: sizes[name])
        del sizes[free]
        if _product(sizes.values()) > LISTED:
            return None
    coefficient = equation.coefficients[free] if free is not None else 0
    combinations: dict[int, tuple[tuple[int, ...], int]] = {}
    factors = [equation.coefficients[name] for name in sizes]
    for values in itertools.product(*[_values(domains[name]) for name in sizes]):
        total = sum([c * v for c, v in zip(factors, values, strict=True)])
        key = total % coefficient if free is not None else total
        if key in combinations:
            return None
        combinations[key] = (values, total)
    known = tuple([(name, c) for name, c in equation.coefficients.items() if name not in sizes and name != free])
    return _Step(
        number, equation.constant, equation.divisor, known, (free, coefficient) if free is not None else None, tuple(sizes), combinations
    )


def _size(domain: Domain | None) -> int:
    """How many values there are; for those without end, more than are ever listed."""
    return LISTED + 1 if domain is None else min(LISTED + 1, sum([high - low + 1 for low, high in domain]))


def _product(sizes: Iterable[int]) -> int:
    product = 1
    for size in sizes:
        product = min(product * size, LISTED + 1)
    return product


def _values(domain: Domain) -> list[int]:
    return [value for low, high in domain for value in range(low, high + 1)]


def _unsolvable(equations: Sequence[Field], waiting: Mapping[int, Linear], found: set[str], domains: Mapping[str, Domain]) -> MapError:
    index = min(waiting)
    unknown = {name: abs(c) for name, c in waiting[index].coefficients.items() if name not in found}
    small, *_, large = sorted(unknown, key=lambda name: unknown[name])
    ratio = unknown[large] // unknown[small]
    names = " and ".join([f"'{name}'" for name in sorted(unknown)])
    if ratio > 1:
        hint = f"give '{small}' a range of at most {ratio} values, such as '{{{small}:0..{ratio - 1}}}'"
    else:
        hint = f"'{{{small}}}' alone elsewhere in the name, or a factor, as in '{{8*{large}+{small}}}' with '{{{small}:0..7}}', would tell"
    return equations[index].capture.span.error(
        "M104", f"a number does not tell both {names}: several values of them give the same one", hint=hint
    )
