"""Matches as statements of a map: rules with captures, drops, ties, fills, and what is expected."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from porter.dataclass import dataclass, replace
from porter.mapping.inference.entries import Entry, fingerprint
from porter.mapping.inference.equal_values import duplicates
from porter.mapping.inference.generalise import Generaliser, as_pattern
from porter.mapping.inference.slots import Names, Use
from porter.mapping.inference.state import PLAIN, Form, Match, State
from porter.mapping.inference.tokens import layer_of, role_of
from porter.mapping.syntax import (
    Argument,
    Call,
    Capture,
    Drop,
    Expect,
    Fill,
    InTable,
    Keep,
    Number,
    Pattern,
    Remaining,
    Rule,
    Side,
    Statement,
    Table,
    Term,
    Tie,
    Variable,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class InferredRule:
    """A statement, how sure it is (that of its weakest match, from 0 to 1), why, and the matches it stands for.

    tensors: of B that it makes; of A where it drops them.
    """

    statement: Statement
    confidence: float
    reason: str
    tensors: int
    matches: tuple[Match, ...] = ()

    @property
    def comment(self) -> str:
        """What stands behind the statement in the map: `0.97: equal bytes, 12 tensors`."""
        return f"{self.confidence:.2f}: {self.reason}, {self.tensors} tensor{'s' if self.tensors != 1 else ''}"


def rules_of(state: State) -> list[InferredRule]:
    """The statements for all matches, in the order of A's file."""
    generaliser = Generaliser(state.a, [n for m in state.matches for n in m.targets])
    by_form = defaultdict[Form, list[Match]](list)
    for match in state.matches:
        by_form[match.form].append(match)
    kept = [m for m in by_form.get(PLAIN, []) if m.sources == m.targets]
    found: list[InferredRule] = []
    if 2 * len(kept) >= len(state.matches) and len(kept) > 2:
        found.append(_rule(Remaining("keep"), kept))
        by_form[PLAIN] = [m for m in by_form[PLAIN] if m.sources != m.targets]
    for form, matches in by_form.items():
        by_use = {Use(m.sources, m.targets): m for m in matches}
        for names in generaliser.rules(list(by_use), both_ways=form.arrow == "<->"):
            statement: Statement = _statement(names, form)
            if form == PLAIN and names.sources == names.targets:
                statement = Keep(names.sources[0])
            found.append(_rule(statement, [by_use[u] for u in names.uses], names.tables))
    return found


def _rule(statement: Statement, matches: Sequence[Match], tables: tuple[Table, ...] = ()) -> InferredRule:
    counts = defaultdict[str, int](int)
    for match in matches:
        counts[match.reason] += len(match.targets)
    reasons = sorted(counts.items(), key=lambda c: -c[1])
    text = reasons[0][0] if len(reasons) == 1 else "; ".join(f"{n}× {reason}" for reason, n in reasons[:3])
    if len(reasons) > 3:
        text += f"; {sum(n for _, n in reasons[3:])}× otherwise"
    rivals = sum(bool(m.rivals) for m in matches)
    if rivals:
        text += f"; {rivals} ambiguous"
    confidence = min(m.confidence for m in matches)
    return InferredRule(_Tabled(statement, tables) if tables else statement, confidence, text, sum(counts.values()), tuple(matches))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class _Tabled:
    """A statement with the tables it needs, until these have names that no other has."""

    statement: Statement
    tables: tuple[Table, ...]


def _statement(names: Names, form: Form) -> Rule:
    source_axes, target_axes = form.layout.axes() if form.layout.moves else (None, None)
    sources = tuple(Term(p, source_axes, label) for p, label in zip(names.sources, form.source_labels, strict=True))
    targets = tuple(Term(p, target_axes, label) for p, label in zip(names.targets, form.target_labels, strict=True))
    source = Side(sources, len(sources) > 1, form.calls)
    return Rule(source, Side(targets, len(targets) > 1), form.arrow, form.layout.sizes_given())


def casts_of(state: State) -> list[InferredRule]:
    """The second stage: casts of what the first one makes in another dtype than B has it, and everything else as it is."""
    by_dtype = defaultdict[str, list[Match]](list)
    for match in state.matches:
        if match.form.cast_after is not None:
            by_dtype[match.form.cast_after].append(match)
    made = [n for m in state.matches for n in m.targets]
    found = []
    for dtype, matches in by_dtype.items():
        call = Call("cast", (Argument(None, Variable(dtype)),))
        by_name = {m.targets[0]: m for m in matches}
        uses = [Use((name,), (name,)) for name in by_name]
        for names in Generaliser(made, made).rules(uses, both_ways=False):
            rule = Rule(Side((Term(names.sources[0]),), False, (call,)), Side((Term(names.targets[0]),)), "->")
            confidence = min(by_name[u.targets[0]].confidence for u in names.uses)
            found.append(InferredRule(rule, confidence, f"B has {dtype} here", len(names.uses)))
    if len(made) > sum(map(len, by_dtype.values())) and found:
        found.append(InferredRule(Remaining("keep"), 1.0, "as the rules above make them", len(made) - sum(map(len, by_dtype.values()))))
    return found


# ---- tables ------------------------------------------------------------------------------------------------------------


def with_tables(rules: Sequence[InferredRule]) -> tuple[list[Table], list[InferredRule]]:
    """The tables of all rules, equal ones once, and the rules with the names these have got."""
    tables: dict[tuple[tuple[str, str], ...], Table] = {}
    found = []
    for rule in rules:
        if not isinstance(rule.statement, _Tabled):
            found.append(rule)
            continue
        new = {}
        for table in rule.statement.tables:
            key = tuple(sorted(table.rows))
            named = tables.setdefault(key, replace(table, name=f"t{len(tables) + 1}", rows=key))
            new[table.name] = named.name
        found.append(replace(rule, statement=_retabled(rule.statement.statement, new)))
    return list(tables.values()), found


def _retabled(statement: Statement, names: dict[str, str]) -> Statement:
    assert isinstance(statement, Rule)
    sides = [
        replace(side, terms=tuple(replace(t, pattern=_with_names(t.pattern, names)) for t in side.terms))
        for side in (statement.source, statement.target)
    ]
    return replace(statement, source=sides[0], target=sides[1])


def _with_names(pattern: Pattern, names: dict[str, str]) -> Pattern:
    return Pattern(
        tuple(
            replace(part, type=InTable(names[part.type.table])) if isinstance(part, Capture) and isinstance(part.type, InTable) else part
            for part in pattern.parts
        )
    )


# ---- what one side alone has -------------------------------------------------------------------------------------------


def drops_of(state: State) -> list[InferredRule]:
    """Statements that leave out the sources that nothing was found for."""
    left = list(state.left_a.values())
    twins = dict(duplicates(state, left, [n for m in state.matches for n in m.sources], "a")) if state.values else {}
    found = [
        InferredRule(Drop(as_pattern(name), as_pattern(other)), 0.9, f"the same bytes as '{other}', which B has once", 1)
        for name, other in twins.items()
    ]
    plain = [e.name for e in left if e.name not in twins]
    generaliser = Generaliser(state.a, ())
    by_end = defaultdict[str, list[str]](list)
    for name in plain:
        by_end[name[len(layer_of(name)) :]].append(name)
    uses = []
    for end, names in by_end.items():
        if len(names) > 1 and end[:1] in ("/", ".") and sum(n.endswith(end) and n != end for n in state.a) == len(names):
            found.append(_drop(Pattern((Capture(None), end)), names))
        else:
            uses += [Use((name,), ()) for name in names]
    return found + [_drop(rule.sources[0], [u.sources[0] for u in rule.uses]) for rule in generaliser.rules(uses, both_ways=False)]


def _drop(pattern: Pattern, names: Sequence[str]) -> InferredRule:
    return InferredRule(Drop(pattern), 0.7, "nothing in B has these values", len(names))


def ties_of(state: State) -> list[InferredRule]:
    """Ties for tensors of B that have the bytes of another one that is made. They are no longer left."""
    if not state.values:
        return []
    made = [n for m in state.matches for n in m.targets]
    found = []
    for alias, tensor in duplicates(state, list(state.left_b.values()), made, "b"):
        del state.left_b[alias]
        found.append(InferredRule(Tie(as_pattern(alias), as_pattern(tensor)), 0.9, f"the same bytes as '{tensor}' in B", 1))
    return found


def fills_of(state: State) -> list[InferredRule]:
    """Fills for parts of layers that B has and A lacks, where all their elements are alike. They are no longer left."""
    alike: dict[tuple[object, ...], list[Entry]] = defaultdict(list)
    for entry in list(state.left_b.values()):
        value = _value_of(entry)
        if value is not None:
            alike[value, entry.dtype.short, entry.shape].append(entry)
            del state.left_b[entry.name]
    found = []
    made = [n for m in state.matches for n in m.targets]
    for group in alike.values():
        value = _value_of(group[0])
        assert value is not None
        shape = tuple(Number(n) for n in group[0].shape)
        call = Call("fill", (Argument(None, value), Argument("shape", shape), Argument("dtype", Variable(group[0].dtype.short))))
        reason = f"A has nothing for it, and B has {value} in every element"
        pattern = _for_each([e.name for e in group], made) if len(group) > 1 else None
        if pattern is not None:
            found.append(InferredRule(Fill(call, pattern[0], True, pattern[1]), 0.6, reason, len(group)))
        else:
            found += [InferredRule(Fill(call, as_pattern(e.name)), 0.6, reason, 1) for e in group]
    return found


def _value_of(entry: Entry) -> int | float | None:
    """The value that all elements have, if the tensor plays a part in a layer and the value can be written."""
    if entry.tensor is None or not entry.size or role_of(entry.spec) is None or entry.dtype.kind not in ("float", "int", "uint"):
        return None
    if not fingerprint(entry).constant:
        return None
    first: NDArray[object] = entry.array().reshape(-1)[:1]
    value = float(first[0]) if entry.dtype.kind == "float" else int(first[0])  # type: ignore[call-overload]
    written = value == value and abs(value) != float("inf") and str(value) != "-0.0"
    return int(value) if written and value == int(value) else value if written else None


def _for_each(names: Sequence[str], made: Sequence[str]) -> tuple[Pattern, Pattern] | None:
    """`{p}.num_batches_tracked` and the `{p}.running_mean` beside it, where there is one beside each of `names` and nowhere else."""
    end = names[0][len(layer_of(names[0])) :]
    layers = {layer_of(n) for n in names}
    if not end or any(n[len(layer_of(n)) :] != end for n in names):
        return None
    by_end = defaultdict[str, set[str]](set)
    for name in made:
        by_end[name[len(layer_of(name)) :]].add(layer_of(name))
    other = next((e for e, found in by_end.items() if found == layers), None)
    if other is None:
        return None
    capture = Capture(Variable("p"))
    return Pattern((capture, end)), Pattern((capture, other))


def expectation(state: State) -> Expect | None:
    """`expect targets=any` where B has tensors that nothing makes."""
    return Expect(targets="any") if state.left_b else None
