"""What to do about a pattern that matches nothing."""

from __future__ import annotations

from collections.abc import Iterable

from porter.mapping.names import NameMatcher, Scope, capture_types
from porter.mapping.nearest import nearest_name
from porter.mapping.references import captures_of
from porter.mapping.syntax import InTable, Pattern, Table


def way_to_match(pattern: Pattern, names: Iterable[str], scope: Scope) -> str | None:
    """A hint that says what `pattern` could be instead, or None where nothing is near."""
    known = list(names)
    for name in [c.type.table for c in captures_of(pattern) if isinstance(c.type, InTable)]:
        rows = tuple([(right, left) for left, right in scope.tables[name].rows])
        turned = Scope({**scope.tables, name: Table(name, rows)}, scope.values)
        matcher = NameMatcher(pattern, capture_types([pattern], turned), turned)
        if any(matcher.match(n) is not None for n in known):
            return f"the names have right words of table '{name}', and '{{…:{name}}}' reads left ones: turn the table's rows around"
    near = nearest_name(pattern, known)
    if near is None:
        return None
    return f"the nearest name is '{near}'" if pattern.literal is None else f"did you mean '{near}'?"
