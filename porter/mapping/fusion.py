"""Two stages as one, where every rule of the first makes what one rule of the second takes, and one of both only renames.

Names in between are then never seen, and nothing is read or refused that would not be with two stages.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from porter.dataclass import replace
from porter.errors import MapError
from porter.mapping.expressions import variables
from porter.mapping.names import Scope, capture_types
from porter.mapping.references import captures_of, names_of, patterns_of, with_captures, with_names
from porter.mapping.syntax import (
    Capture,
    CaptureType,
    Expect,
    Int,
    Param,
    Pattern,
    Ranges,
    Rule,
    Side,
    Stage,
    Statement,
    Table,
    Term,
    Variable,
)


def fused(first: Stage, second: Stage, params: frozenset[str]) -> Stage | None:
    """One stage that does what both do, or None where that is not certain. `params` are the parameters of the whole map."""
    rules, others = _rules(first), _rules(second)
    expect, expect_then = _expect(first), _expect(second)
    if rules is None or others is None or len(rules) != len(others):
        return None
    if expect.targets not in ("all", "any") or expect_then.sources not in ("all", "any") or not _apart(rules):
        return None
    waiting = list(others)
    joined: list[Statement] = []
    for rule in rules:
        found = next(((o, made) for o in waiting if (made := _joined(rule, o, params)) is not None), None)
        if found is None:
            return None
        waiting = [o for o in waiting if o is not found[0]]
        joined.append(found[1])
    declared: list[Statement] = []
    for s in (*first.statements, *second.statements):
        if isinstance(s, Table | Param) and s not in declared:
            declared.append(s)
    expected = Expect(expect.sources, expect_then.targets, expect.span)
    return Stage((*declared, *joined, *([expected] if expected != Expect() else [])))


def _rules(stage: Stage) -> list[Rule] | None:
    """The rules of a stage, or None where it has other statements that do something."""
    rules = [s for s in stage.statements if isinstance(s, Rule)]
    rest = [s for s in stage.statements if not isinstance(s, Rule | Table | Param | Expect)]
    return rules if rules and not rest else None


def _expect(stage: Stage) -> Expect:
    return next((s for s in stage.statements if isinstance(s, Expect)), Expect())


def _apart(rules: Sequence[Rule]) -> bool:
    """Whether what one rule makes is never what another's makes too: the names between the stages start or end differently."""
    edges = [_edges(rule.target.terms[0].pattern) for rule in rules]
    for (start, end), (other_start, other_end) in itertools.combinations(edges, 2):
        alike = start.startswith(other_start) or other_start.startswith(start)
        if alike and (end.endswith(other_end) or other_end.endswith(end)):
            return False
    return True


def _edges(pattern: Pattern) -> tuple[str, str]:
    """The literal start and end of a name."""
    if pattern.literal is not None:
        return pattern.literal, pattern.literal
    first, last = pattern.parts[0], pattern.parts[-1]
    return first if isinstance(first, str) else "", last if isinstance(last, str) else ""


def _joined(rule: Rule, then: Rule, params: frozenset[str]) -> Rule | None:
    """The rule that does `rule` and `then` what is made of it, or None."""
    if rule.arrow != then.arrow or not (_passes(rule) or _passes(then)) or not _one(rule.target) or not _one(then.source):
        return None
    made, taken = rule.target.terms[0].pattern, then.source.terms[0].pattern
    names = _names_between(made, taken, params)
    if names is None or (names_of(then) - names.keys() - params) & names_of(rule):
        return None
    renamed = with_names(then, lambda name: names.get(name, name))
    assert isinstance(renamed, Rule)
    before, after = _types(rule), _types(renamed)
    if before is None or after is None or any(before[name] != after[name] for name in names.values()):
        return None
    if _passes(rule):
        joined = replace(renamed, source=_renamed(renamed.source, rule.source.terms[0]), span=rule.span)
    else:
        joined = replace(rule, target=_renamed(rule.target, renamed.target.terms[0]))
    return _with_types(replace(joined, optional=rule.optional and then.optional), before | after)


def _one(side: Side) -> bool:
    """Whether a side is one tensor by itself."""
    return not side.listed and not side.terms[0].optional


def _passes(rule: Rule) -> bool:
    """Whether a rule changes nothing but names."""
    sides = (rule.source, rule.target)
    return all(_one(s) and not s.calls and s.terms[0].axes is None and s.terms[0].stack is None for s in sides) and not rule.where


def _renamed(side: Side, name: Term) -> Side:
    """The only term of a side under the name of another."""
    return replace(side, terms=(replace(side.terms[0], pattern=name.pattern),))


def _names_between(made: Pattern, taken: Pattern, params: frozenset[str]) -> dict[str, str] | None:
    """What the captures of `taken` are called in `made`, or None where the two are not the same but for that."""
    ours, theirs = _variables(made), _variables(taken)
    names = dict(zip(theirs, ours, strict=False))
    if len(set(names.values())) < len(names) or any(a != b for a, b in names.items() if a in params or b in params):
        return None
    return names if _untyped(with_captures(taken, lambda name: names.get(name, name))) == _untyped(made) else None


def _variables(pattern: Pattern) -> list[str]:
    return [v.name for c in captures_of(pattern) if c.expression is not None for v in variables(c.expression)]


def _untyped(pattern: Pattern) -> list[object]:
    """The parts of a name with what matters at each place: a capture's expression, and to how many digits it is padded."""
    return [part if isinstance(part, str) else (part.expression, _width(part)) for part in pattern.parts]


def _width(capture: Capture) -> int:
    return capture.type.width if isinstance(capture.type, Int | Ranges) else 0


# ---- types of captures -------------------------------------------------------------------------------------------------


def _types(rule: Rule) -> dict[str, CaptureType] | None:
    """The types of a rule's captures, or None where they depend on tables or parameters."""
    try:
        return capture_types(patterns_of(rule), Scope({}, {}))
    except MapError:
        return None


def _with_types(rule: Rule, types: Mapping[str, CaptureType]) -> Rule | None:
    """`rule` with the types of its captures stated where they went with the name in between; None where there is no place for it."""
    now = _types(rule)
    if now is None:
        return None
    lost = {name: types[name] for name in now if now[name] != types[name]}

    def stated(term: Term) -> Term:
        parts = list(term.pattern.parts)
        for i, part in enumerate(parts):
            if isinstance(part, Capture) and isinstance(part.expression, Variable) and part.expression.name in lost:
                kind, width = lost.pop(part.expression.name), _width(part)
                parts[i] = replace(part, type=replace(kind, width=width) if isinstance(kind, Int | Ranges) else kind)
        return replace(term, pattern=replace(term.pattern, parts=tuple(parts)))

    source = replace(rule.source, terms=tuple([stated(t) for t in rule.source.terms]))
    target = replace(rule.target, terms=tuple([stated(t) for t in rule.target.terms]))
    made = replace(rule, source=source, target=target)
    found = _types(made)
    return made if found is not None and all(found[name] == types[name] for name in found) else None
