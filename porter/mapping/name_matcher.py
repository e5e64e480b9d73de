"""Names and patterns: whether a name matches, what its captures are then, and the name that captures make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from porter.errors import MapError
from porter.mapping.captures import Domain, Field, Scope, allowed, domain_of, parts_of
from porter.mapping.expressions import DIGITS, LIMIT, evaluate, variables
from porter.mapping.name_scan import NameScan, TooManyWays, scan_of
from porter.mapping.syntax import Capture, CaptureType, Pattern, Ranges

if TYPE_CHECKING:
    from porter.mapping.index_solving import IndexSolver
    from porter.mapping.name_search import NameSearch

ENDINGS = 64
"""Ways to write the literal start or end of a pattern that are listed at most."""

Bindings = dict[str, int | str]


class NameMatcher:
    """One pattern of a rule, ready for use. The captures' values are integers where they are `Int` or `Ranges`; of a table the
    word of its left column; otherwise text.

    types: from `capture_types` for the whole rule. render_only: names are made by it, and need not say what they were made of, as
    on the right of a one-way rule; whether they can be read is only looked at by `match`.

    literal: the name where there are no captures. captures: those that a match gives, parameters and `*` not among them.

    Raises:
        MapError: an index cannot be solved, or two captures cannot be told apart in any name.
    """

    def __init__(self, pattern: Pattern, types: Mapping[str, CaptureType], scope: Scope, *, render_only: bool = False) -> None:
        self.pattern = pattern
        self._values = scope.values
        self._literals, self._fields = parts_of(pattern, types, scope)
        self.literal = self._literals[0] if not self._fields else None
        self.prefix, self.suffix = self._literals[0], self._literals[-1]
        self._names = [self._captures_of(field) for field in self._fields]
        self.captures = frozenset([name for names in self._names for name in names])
        self._domains: dict[str, Domain] = {}
        for name in self.captures:
            given = types[name]
            if isinstance(given, Ranges):
                self._domains[name] = domain_of(given, pattern_capture(pattern, name), scope)
        self._written: dict[int, Mapping[str, str]] = {}
        self._checked = not render_only
        self._readable = False
        if self._checked and self._fields:
            self._prepare_reading()

    def _captures_of(self, field: Field) -> list[str]:
        if field.expression is None or field.variable is not None:
            return [field.variable] if field.variable is not None else []
        return [*dict.fromkeys([v.name for v in variables(field.expression) if v.name not in self._values])]

    # ---- reading -------------------------------------------------------------------------------------------------------

    def _prepare_reading(self) -> None:
        """Find out how names are taken apart."""
        _refuse_inseparable(self._literals, self._fields)
        self._scan = scan_of(self._literals, self._fields)
        self._search = self._chosen()
        calculated = [field for field in self._fields if field.kind == "digits" and field.variable is None]
        self._solver: IndexSolver | None = None
        self._readers = [
            (field.variable, field.width if field.kind == "digits" else 0, field.words, self._domains.get(field.variable or ""))
            for field in self._fields
        ]
        known = frozenset([field.variable for field in self._fields if field.variable is not None])
        if calculated:
            from porter.mapping.index_solving import IndexSolver

            self._solver = IndexSolver(calculated, known, self._domains, self._values)
            known |= self._solver.found
        for name in sorted(self.captures - known):
            capture = pattern_capture(self.pattern, name)
            raise capture.span.error("M104", f"the number does not depend on '{name}', so it does not tell what '{name}' is")
        self._certain = self._search is None and all(
            (before or i == 0) and (after or i == len(self._fields) - 1)
            for i, (before, after, field) in enumerate(zip(self._literals, self._literals[1:], self._fields, strict=False))
            if field.kind == "digits"
        )
        self._readable = True

    def _chosen(self) -> NameSearch | NameScan | None:
        """What finds the ways in which a name matches, where there may be several."""
        if self._scan is None:
            from porter.mapping.name_search import NameSearch

            return NameSearch(self._literals, self._fields)
        return self._scan if len(self._scan.gaps) == 2 else None

    def match(self, name: str) -> Bindings | None:
        """The captures' values with which this pattern is `name`, or None where there are none.

        Raises:
            MapError: there are several, or too many to try.
        """
        if self.literal is not None:
            return {} if name == self.literal else None
        if not self._readable:
            self._prepare_reading()
        if self._search is not None:
            return self._only(name, self._search)
        assert self._scan is not None
        texts = self._scan.only(name)
        return None if texts is None else self._bound(texts)

    def _only(self, name: str, search: NameSearch | NameScan) -> Bindings | None:
        """The one way in which `name` matches, of all that there are."""
        first: Bindings | None = None
        try:
            for texts in search.ways(name):
                bound = self._bound(texts)
                if bound is None or bound == first:
                    continue
                if first is not None:
                    raise self._several(name, first, bound)
                first = bound
                if not self.captures:
                    break
        except TooManyWays:
            message = f"'{short(name)}' could match in so many ways that they are not all tried"
            raise self.pattern.span.error("M108", message, tensor=name, hint=_narrower(self._fields)) from None
        return first

    def _several(self, name: str, one: Bindings, other: Bindings) -> MapError:
        key = next(k for k in one if one[k] != other[k])
        message = f"'{short(name)}' matches in more than one way: '{key}' could be '{short(str(one[key]))}' or '{short(str(other[key]))}'"
        return self.pattern.span.error("M107", message, tensor=name, hint=_narrower(self._fields))

    def _bound(self, texts: Sequence[str]) -> Bindings | None:
        """The captures' values where the fields are `texts`."""
        found: Bindings = {}
        numbers = []
        for (variable, width, words, domain), text in zip(self._readers, texts, strict=True):
            value: int | str = text
            if width:
                size = len(text)
                if size != width and (size < width or text[0] == "0" or size > DIGITS):
                    return None
                value = int(text)
                if variable is None:
                    numbers.append(value)
                elif domain is not None and not allowed(value, domain):
                    return None
            elif words is not None:
                value = words[text]
            if variable is not None and found.setdefault(variable, value) != value:
                return None
        if self._solver is not None and not self._solver.solve(numbers, found):
            return None
        return found

    # ---- making names --------------------------------------------------------------------------------------------------

    def render(self, bindings: Mapping[str, int | str]) -> str:
        """The name with these values of the captures; more than it has may be given. What it gives, `match` reads back as it was,
        unless the pattern was made to render only.

        Raises:
            MapError: a value is missing or not of the capture's type, an index is negative or no integer, or the name would be
                read as something else.
        """
        if self.literal is not None:
            return self.literal
        pieces = [self._literals[0]]
        for index, field in enumerate(self._fields):
            pieces.append(self._number(index, field, bindings) if field.kind == "digits" else self._text(index, field, bindings))
            pieces.append(self._literals[index + 1])
        name = "".join(pieces)
        if self._checked and not self._certain:
            self._refuse_misread(name, bindings)
        return name

    def _number(self, index: int, field: Field, bindings: Mapping[str, int | str]) -> str:
        assert field.expression is not None
        span = field.capture.span
        for variable in self._names[index]:
            value = self._given(field, variable, bindings)
            if not isinstance(value, int) or not allowed(value, self._domains.get(variable)):
                shown = short(str(value)) if not isinstance(value, int) or abs(value) < LIMIT else "a number of absurd size"
                raise span.error(
                    "M113", f"'{variable}' would be '{shown}', which is none of the integers it can be", hint=self._choices(variable)
                )
        if field.variable is not None:
            number = bindings[field.variable]
            assert isinstance(number, int)
        else:
            number = evaluate(field.expression, {**bindings, **self._values} if self._values else bindings)
        if number < 0:
            raise span.error("M112", f"the index would be {number}{self._where(index, bindings)}", hint="an index in a name is 0 or more")
        if number >= LIMIT:
            raise span.error("M111", f"an index of more than {DIGITS} digits")
        return str(number).zfill(field.width)

    def _where(self, index: int, bindings: Mapping[str, int | str]) -> str:
        given = [f"{name}={bindings[name]}" for name in self._names[index]]
        return f" where {', '.join(given)}" if given else ""

    def _choices(self, name: str) -> str:
        domain = self._domains.get(name)
        ranges = [str(low) if low == high else f"{low}..{high}" for low, high in domain or ()]
        return f"it is one of {short(', '.join(ranges))}" if ranges else "it is an integer, 0 or more"

    def _text(self, index: int, field: Field, bindings: Mapping[str, int | str]) -> str:
        span = field.capture.span
        if field.variable is None:
            raise span.error(
                "M119", "'*' says nothing of what a name is, so no name can be made with it", hint="use a capture, such as '{p}'"
            )
        value = self._given(field, field.variable, bindings)
        if field.words is not None:
            if index not in self._written:
                self._written[index] = {bound: word for word, bound in field.words.items()}
            word = self._written[index].get(value) if isinstance(value, str) else None
            if word is None:
                known = short(", ".join(self._written[index]))
                hint = f"it is one of {known}" if known else "its table has no rows"
                raise span.error("M113", f"'{field.variable}' would be '{short(str(value))}', which is none of its words", hint=hint)
            return word
        if not isinstance(value, str) or not value or (field.kind == "segment" and ("." in value or "/" in value)):
            what = "text without '.' and '/'" if field.kind == "segment" else "text"
            raise span.error("M113", f"'{field.variable}' would be '{short(str(value))}', and it is {what}, at least one character")
        return value

    def _given(self, field: Field, variable: str, bindings: Mapping[str, int | str]) -> int | str:
        if variable not in bindings:
            raise field.capture.span.error(
                "M114", f"nothing says what '{variable}' is here", hint=f"write '{{{variable}}}' on the other side too"
            )
        return bindings[variable]

    def _refuse_misread(self, name: str, bindings: Mapping[str, int | str]) -> None:
        """Refuse a name that does not say what it was made of."""
        back = self.match(name)
        if back is None or any(bindings[capture] != back[capture] for capture in self.captures):
            given = ", ".join([f"{c}={short(str(bindings[c]))}" for c in sorted(self.captures)])
            message = f"'{short(name)}' is made with {given}, and would be read as something else"
            raise self.pattern.span.error("M115", message, tensor=name, hint="put text between the captures that tells them apart")

    # ---- what an index of patterns looks at ----------------------------------------------------------------------------

    def starts(self) -> list[str]:
        """What every name that matches begins with: one of these."""
        return _endings(self._literals, self._fields)

    def ends(self) -> list[str]:
        """What every name that matches ends with: one of these."""
        return [end[::-1] for end in _endings([t[::-1] for t in reversed(self._literals)], self._fields[::-1], -1)]

    def between(self) -> list[str]:
        """What every name that matches has between its start and its end."""
        return [literal for literal in self._literals[1:-1] if literal]


def pattern_capture(pattern: Pattern, name: str) -> Capture:
    """The first capture of `pattern` that has the capture `name` in it."""
    captures = [part for part in pattern.parts if isinstance(part, Capture) and part.expression is not None]
    return next(c for c in captures if c.expression is not None and any(v.name == name for v in variables(c.expression)))


def short(text: str) -> str:
    """`text`, with its middle left out where it is too long for a message."""
    return text if len(text) <= 100 else f"{text[:60]}…{text[-30:]}"


def _endings(literals: Sequence[str], fields: Sequence[Field], direction: int = 1) -> list[str]:
    """The texts that a pattern can begin with as far as its first field that is not one of a few words."""
    found = [literals[0]]
    for field, literal in zip(fields, literals[1:], strict=True):
        if field.words is None or len(field.words) * len(found) > ENDINGS:
            break
        found = [start + word[::direction] + literal for start in found for word in field.words]
    return found


def _refuse_inseparable(literals: Sequence[str], fields: Sequence[Field]) -> None:
    """Refuse captures of which no name tells where they begin or end."""
    often = [field.variable for field in fields]
    for index, field in enumerate(fields):
        span, before, after = field.capture.span, literals[index], literals[index + 1]
        if field.kind == "digits":
            beside = before[-1:] if before[-1:].isdecimal() and before[-1:].isascii() else after[:1]
            if beside.isdecimal() and beside.isascii():
                message = f"an integer beside the digit '{beside}': all digits that stand together are one number"
                raise span.error("M105", message, hint="put something between them, or make the digit part of the number")
            if not after and index + 1 < len(fields) and fields[index + 1].kind == "digits":
                raise fields[index + 1].capture.span.error(
                    "M105", "two integers side by side: all digits that stand together are one number", hint="put something between them"
                )
        elif field.kind != "words" and not after and index + 1 < len(fields) and fields[index + 1].kind in ("text", "segment"):
            following = fields[index + 1]
            named = [n for n in (field.variable, following.variable) if n is not None]
            if named and all(often.count(name) == 1 for name in named):
                raise following.capture.span.error(
                    "M106",
                    "nothing between two texts tells where one ends and the other begins",
                    hint="put something between them, or make them one capture",
                )


def _narrower(fields: Sequence[Field]) -> str:
    """How to make a pattern match in fewer ways."""
    open_fields = [field.variable for field in fields if field.kind == "text" and field.variable is not None]
    if open_fields:
        return (
            f"'{{{open_fields[0]}:name}}' takes no dots and slashes, '{{{open_fields[0]}:int}}' only digits; or write more of the name out"
        )
    return "write more of the name out, or list what a capture can be: '{k:a|b}'"
