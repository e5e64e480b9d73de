"""Few rules with captures for many pairs of names, each checked to match what it stands for and nothing else."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Sequence

from porter.dataclass import replace
from porter.errors import MapError
from porter.mapping.inference.slots import Names, Use, cuts, fit, parts_by, skeleton
from porter.mapping.inference.tables import joined, tabled
from porter.mapping.names import NameMatcher, Scope, capture_types
from porter.mapping.syntax import Capture, CaptureType, Name, Pattern, Table, Variable

_SEGMENTS = re.compile(r"[./|]|[^./|]+")
_DEEP = 4
"""How often uses are cut in two before they are written out one by one."""


class Generaliser:
    """Makes patterns for uses of rules among the names of a file.

    taken: all names of the source; a pattern may match those of its uses only. made: all names of the target, of which the
    same is asked where the rule is to be used backwards.
    """

    def __init__(self, taken: Collection[str], made: Collection[str]) -> None:
        self.taken = sorted(taken)
        self.made = sorted(made)

    def rules(self, uses: Sequence[Use], *, both_ways: bool) -> list[Names]:
        """Patterns for all uses, as few as can be found. Where paths and numbers do as well, numbers: they say more."""
        by_number = self._by_numbers(uses, both_ways)
        best = by_number
        if len(by_number) > 1:
            by_path, rest = self._by_paths(uses, both_ways)
            by_path += self._by_numbers(rest, both_ways)
            best = by_path if cost(by_path) < cost(by_number) else by_number
        return self._with_tables(uses, best, both_ways) if uses and uses[0].targets else best

    # ---- numbers and words -----------------------------------------------------------------------------------------------

    def _by_numbers(self, uses: Sequence[Use], both_ways: bool) -> list[Names]:
        known: dict[frozenset[int], list[Names]] = {}
        return [rule for part in parts_by(uses, skeleton) for rule in self._cover(part, both_ways, _DEEP, known)]

    def _cover(self, uses: Sequence[Use], both_ways: bool, depth: int, known: dict[frozenset[int], list[Names]]) -> list[Names]:
        """One rule if one does, else the fewest that cutting the uses apart gives. `known`: answers so far."""
        if len(uses) == 1:
            return [literal(uses[0])]
        key = frozenset(map(id, uses))
        if key not in known:
            known[key] = self._covered(uses, both_ways, depth, known)
        return known[key]

    def _covered(self, uses: Sequence[Use], both_ways: bool, depth: int, known: dict[frozenset[int], list[Names]]) -> list[Names]:
        for ranged in (False, True):
            names = fit(uses, ranged=ranged)
            if names is not None and self.exact(names, both_ways):
                return [names]
        best = [literal(use) for use in uses]
        if depth == 0:
            return best
        for parts in cuts(uses)[: 4 if len(uses) <= 500 else 1]:
            if len(parts) < cost(best):
                covered = [rule for part in parts for rule in self._cover(part, both_ways, depth - 1, known)]
                best = covered if cost(covered) < cost(best) else best
        return best

    # ---- tables ----------------------------------------------------------------------------------------------------------

    def _with_tables(self, uses: Sequence[Use], rules: Sequence[Names], both_ways: bool) -> list[Names]:
        """`rules`, with a table of layers in place of many of them, where names say nothing of each other."""
        best = list(rules)
        tables = list[Table]()
        for names in sorted(tabled(uses), key=lambda names: -len(names.uses)):
            stood_for = {id(use) for use in names.uses}
            inside = [r for r in best if all(id(u) in stood_for for u in r.uses)]
            if sum(len(r.uses) for r in inside) != len(stood_for):
                continue
            wider = joined(tables, names.tables[0])
            known = next((len(t.rows) for t in tables if wider is not None and t.name == wider.name), 0)
            rows = len((wider or names.tables[0]).rows) - known
            if 1 + rows / 3 < cost(inside) and self.exact(names, both_ways):
                best = [r for r in best if r not in inside] + [names]
                if wider is not None:
                    tables = [wider if t.name == wider.name else t for t in tables]
                else:
                    tables.append(replace(names.tables[0], name=f"t{len(tables)}"))
        return best

    # ---- paths -----------------------------------------------------------------------------------------------------------

    def _by_paths(self, uses: Sequence[Use], both_ways: bool) -> tuple[list[Names], list[Use]]:
        """Rules with one capture for all that names have in common, and the uses that none stands for."""
        frames = defaultdict[tuple[tuple[str, str], ...], list[Use]](list)
        for use in uses:
            for frame in _frames(use):
                frames[frame].append(use)
        left = {id(use): use for use in uses}
        found = []
        for frame, members in sorted(frames.items(), key=lambda f: (-len(f[1]), sum(len(a) + len(b) for a, b in f[0]))):
            open_members = [use for use in members if id(use) in left]
            if len(open_members) < 2 or len(open_members) < len(members):
                continue
            for kind in (None, Name()):
                names = _framed(frame, members, kind)
                if self.exact(names, both_ways):
                    found.append(names)
                    for use in members:
                        del left[id(use)]
                    break
        return found, list(left.values())

    # ---- the check -------------------------------------------------------------------------------------------------------

    def exact(self, names: Names, both_ways: bool) -> bool:
        """Whether the patterns match the names of their uses, make the right targets of them, and match no other name."""
        scope = Scope({t.name: t for t in names.tables}, {})
        try:
            types = capture_types([*names.sources, *names.targets], scope)
            sources, targets = ([NameMatcher(p, types, scope) for p in side] for side in (names.sources, names.targets))
            for use in names.uses:
                bound = [m.match(n) for m, n in zip(sources, use.sources, strict=True)]
                if bound[0] is None or any(b != bound[0] for b in bound):
                    return False
                if tuple(m.render(bound[0]) for m in targets) != use.targets:
                    return False
            if not all(_no_other(m, self.taken, {u.sources[k] for u in names.uses}) for k, m in enumerate(sources)):
                return False
            if not both_ways:
                return True
            if any(m.match(u.targets[k]) is None for k, m in enumerate(targets) for u in names.uses):
                return False
            return all(_no_other(m, self.made, {u.targets[k] for u in names.uses}) for k, m in enumerate(targets))
        except MapError:
            return False


def literal(use: Use) -> Names:
    """The names as they are."""
    return Names(tuple(as_pattern(n) for n in use.sources), tuple(as_pattern(n) for n in use.targets), (use,))


def as_pattern(name: str) -> Pattern:
    """A name without captures."""
    return Pattern((name,) if name else ())


def cost(rules: Sequence[Names]) -> float:
    """How much there is to read: a row of a table counts for a third of a rule."""
    return sum(1 + sum(len(t.rows) for t in rule.tables) / 3 for rule in rules)


def _no_other(matcher: NameMatcher, names: Sequence[str], wanted: set[str]) -> bool:
    """Whether none of `names`, which are sorted, matches but `wanted`."""
    if matcher.literal is not None:
        return wanted == {matcher.literal}
    for place in range(bisect_left(names, matcher.prefix), len(names)):
        name = names[place]
        if not name.startswith(matcher.prefix):
            return True
        if name not in wanted and name.endswith(matcher.suffix) and matcher.match(name) is not None:
            return False
    return True


def _framed(frame: Sequence[tuple[str, str]], members: Sequence[Use], kind: CaptureType | None) -> Names:
    """Patterns that have one capture `p` between these starts and ends."""
    patterns = []
    for k, (before, after) in enumerate(frame):
        capture = Capture(Variable("p"), kind if k == 0 else None)
        patterns.append(Pattern(tuple(part for part in (before, capture, after) if part != "")))
    several = len(members[0].sources)
    return Names(tuple(patterns[:several]), tuple(patterns[several:]), tuple(members))


def _frames(use: Use) -> list[tuple[tuple[str, str], ...]]:
    """What stands before and after a part that all names of a use share, for the longest such part and shorter ones within it."""
    names = [_SEGMENTS.findall(n) for n in (*use.sources, *use.targets)]
    run = names[0]
    for other in names[1:]:
        run = _common_run(run, other)
    while run and run[0] in "./|":
        run = run[1:]
    while run and run[-1] in "./|":
        run = run[:-1]
    found: list[tuple[tuple[str, str], ...]] = []
    for first in range(0, min(len(run), 5), 2):
        for last in range(len(run), max(first, len(run) - 5), -2):
            part = run[first:last]
            if part:
                found.append(tuple(_around(segments, part) for segments in names))
    return list(dict.fromkeys(found))


def _common_run(one: Sequence[str], other: Sequence[str]) -> list[str]:
    """The longest run of segments that both have, in characters; the first of several."""
    best: list[str] = []
    for i in range(len(one)):
        for j in range(len(other)):
            k = 0
            while i + k < len(one) and j + k < len(other) and one[i + k] == other[j + k]:
                k += 1
            run = list(one[i : i + k])
            if sum(map(len, run)) > sum(map(len, best)):
                best = run
    return best


def _around(segments: Sequence[str], part: Sequence[str]) -> tuple[str, str]:
    start = next(i for i in range(len(segments)) if list(segments[i : i + len(part)]) == list(part))
    return "".join(segments[:start]), "".join(segments[start + len(part) :])
