"""Few rules with captures for many pairs of names, each checked to match what it stands for and nothing else."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence

from porter.errors import MapError
from porter.mapping.inference.slots import Names, Use, cuts, fit, parts_by, skeleton
from porter.mapping.names import NameMatcher, Scope, capture_types
from porter.mapping.syntax import Capture, CaptureType, Name, Pattern, Variable

_SEGMENTS = re.compile(r"[./|]|[^./|]+")
_DEEP = 4
"""How often uses are cut in two before they are written out one by one."""


class Generaliser:
    """Makes patterns for uses of rules among the names of a file.

    taken: all names of the source; a pattern may match those of its uses only. made: all names of the target, of which the
    same is asked where the rule is to be used backwards.
    """

    def __init__(self, taken: Collection[str], made: Collection[str]) -> None:
        self.taken = list(taken)
        self.made = list(made)

    def rules(self, uses: Sequence[Use], *, both_ways: bool) -> list[Names]:
        """Patterns for all uses, as few as can be found. Where paths and numbers do as well, numbers: they say more."""
        by_number = self._by_numbers(uses, both_ways)
        if len(by_number) == 1:
            return by_number
        by_path, rest = self._by_paths(uses, both_ways)
        by_path += self._by_numbers(rest, both_ways)
        return by_path if len(by_path) < len(by_number) else by_number

    # ---- numbers and words -----------------------------------------------------------------------------------------------

    def _by_numbers(self, uses: Sequence[Use], both_ways: bool) -> list[Names]:
        return [rule for part in parts_by(uses, skeleton) for rule in self._cover(part, both_ways, _DEEP)]

    def _cover(self, uses: Sequence[Use], both_ways: bool, depth: int) -> list[Names]:
        """One rule if one does, else the fewest that cutting the uses apart gives."""
        if len(uses) == 1:
            return [literal(uses[0])]
        for ranged in (False, True):
            names = fit(uses, ranged=ranged)
            if names is not None and self.exact(names, both_ways):
                return [names]
        best = [literal(use) for use in uses]
        if depth == 0:
            return best
        for parts in cuts(uses)[: 4 if len(uses) <= 500 else 1]:
            covered = [rule for part in parts for rule in self._cover(part, both_ways, depth - 1)]
            if len(covered) < len(best):
                best = covered
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
            if not all(_only(m, self.taken, {u.sources[k] for u in names.uses}) for k, m in enumerate(sources)):
                return False
            if not both_ways:
                return True
            return all(_only(m, self.made, {u.targets[k] for u in names.uses}) for k, m in enumerate(targets))
        except MapError:
            return False


def literal(use: Use) -> Names:
    """The names as they are."""
    return Names(tuple(as_pattern(n) for n in use.sources), tuple(as_pattern(n) for n in use.targets), (use,))


def as_pattern(name: str) -> Pattern:
    """A name without captures."""
    return Pattern((name,) if name else ())


def _only(matcher: NameMatcher, names: Sequence[str], wanted: set[str]) -> bool:
    """Whether of `names` exactly `wanted` match."""
    if matcher.literal is not None:
        return wanted == {matcher.literal}
    near = [n for n in names if n.startswith(matcher.prefix) and n.endswith(matcher.suffix)]
    return all((matcher.match(n) is not None) == (n in wanted) for n in near)


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
    return found


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
