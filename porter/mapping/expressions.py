"""Integers written in maps: `2*i+1` worked out exactly, and taken apart to be run backwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from porter.dataclass import dataclass
from porter.errors import MapError, did_you_mean
from porter.mapping.syntax import Expression, Number, Variable

DIGITS = 100
"""Decimal digits that a number in a name or in an expression has at most."""

LIMIT = 10**DIGITS

DEPTH = 100
"""Operations inside one another that an expression has at most."""

Values = Mapping[str, int | float | bool | str]


def evaluate(expression: Expression, values: Values) -> int:
    """The value of `expression`, exactly.

    Raises:
        MapError: a variable has no value or one that is no integer, a division leaves a remainder, a number is absurdly large.
    """
    return _evaluated(expression, values, DEPTH)


def variables(expression: Expression) -> Iterator[Variable]:
    """The variables of `expression` from left to right; one that is there twice comes twice.

    Raises:
        MapError: it is too deep.
    """
    stack: list[tuple[Expression, int]] = [(expression, DEPTH)]
    while stack:
        node, depth = stack.pop()
        if isinstance(node, Variable):
            yield node
        elif not isinstance(node, Number):
            _refuse_deep(node, depth)
            stack += [(node.right, depth - 1), (node.left, depth - 1)]


def _evaluated(node: Expression, values: Values, depth: int) -> int:
    if isinstance(node, Number):
        value = node.value
    elif isinstance(node, Variable):
        value = _looked_up(node, values)
    else:
        _refuse_deep(node, depth)
        left, right = _evaluated(node.left, values, depth - 1), _evaluated(node.right, values, depth - 1)
        if node.op == "/":
            if right == 0 or left % right:
                reason = "is a division by zero" if right == 0 else f"leaves a remainder of {left % right}"
                raise node.span.error("M110", f"{left} / {right} {reason}", hint="'/' divides integers, and has to divide exactly")
            value = left // right
        else:
            value = left + right if node.op == "+" else left - right if node.op == "-" else left * right
    _refuse_large(node, value)
    return value


def _looked_up(node: Variable, values: Values) -> int:
    if node.name not in values:
        known = sorted(values)
        otherwise = f"known here: {', '.join(known[:20])}" if known else f"declare it: 'param {node.name} : int'"
        raise node.span.error("M109", f"'{node.name}' has no value here", hint=did_you_mean(node.name, known) or otherwise)
    value = values[node.name]
    if not isinstance(value, int) or isinstance(value, bool):
        raise node.span.error("M109", f"'{node.name}' is {value!r:.60}, and arithmetic needs an integer")
    return value


def _refuse_deep(node: Expression, depth: int) -> None:
    if depth <= 0:
        raise node.span.error("M111", f"more than {DEPTH} operations inside one another", hint="write the value out")


def _refuse_large(node: Expression, *numbers: int) -> None:
    if any(abs(number) >= LIMIT for number in numbers):
        raise node.span.error("M111", f"a number of more than {DIGITS} digits", hint="no index and no size is that large")


@dataclass(frozen=True, slots=True)
class Linear:
    """`(sum of coefficient * variable + constant) / divisor`, with no coefficient 0 and a positive divisor."""

    coefficients: Mapping[str, int]
    constant: int
    divisor: int = 1


def linear(expression: Expression, constants: Values) -> Linear:
    """`expression` as a sum of multiples of its variables; `constants` are those whose values are known.

    Divisions inside it count as if they could leave remainders: what is found by it has to be evaluated once more.

    Raises:
        MapError: it multiplies variables or divides by one.
    """
    return _linear(expression, constants, DEPTH)


def _linear(node: Expression, constants: Values, depth: int) -> Linear:
    if isinstance(node, Number):
        return Linear({}, node.value)
    if isinstance(node, Variable):
        return Linear({}, _looked_up(node, constants)) if node.name in constants else Linear({node.name: 1}, 0)
    _refuse_deep(node, depth)
    left, right = _linear(node.left, constants, depth - 1), _linear(node.right, constants, depth - 1)
    if node.op == "*" and left.coefficients:
        left, right = right, left
    if node.op in "+-":
        sign = 1 if node.op == "+" else -1
        made = _combined(left, right.divisor, right, sign * left.divisor, left.divisor * right.divisor)
    elif node.op == "*" and not left.coefficients:
        made = _combined(right, left.constant, right, 0, left.divisor * right.divisor)
    elif node.op == "/" and not right.coefficients:
        if right.constant == 0:
            raise node.span.error("M110", "this is a division by zero")
        sign = 1 if right.constant > 0 else -1
        made = _combined(left, sign * right.divisor, left, 0, left.divisor * abs(right.constant))
    else:
        raise _not_linear(node)
    _refuse_large(node, made.constant, made.divisor, *made.coefficients.values())
    return made


def _combined(one: Linear, times_one: int, other: Linear, times_other: int, divisor: int) -> Linear:
    """The numerators of `one` and `other`, multiplied and added, over `divisor`."""
    names = dict.fromkeys([*one.coefficients, *other.coefficients])
    sums = {n: times_one * one.coefficients.get(n, 0) + times_other * other.coefficients.get(n, 0) for n in names}
    return Linear({n: c for n, c in sums.items() if c}, times_one * one.constant + times_other * other.constant, divisor)


def _not_linear(node: Expression) -> MapError:
    return node.span.error(
        "M103",
        "an index in a name adds captures and multiples of them; this multiplies captures, or divides by one, and cannot be solved",
        hint="a name can have sums and multiples of its captures, such as '{4*i+j}'",
    )
