"""Matches as statements of a map: rules with captures, drops, ties, fills, and what is expected."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from porter.dataclass import dataclass, replace
from porter.mapping.inference.entries import Entry, fingerprint
from porter.mapping.inference.equal_values import duplicates
from porter.mapping.inference.generalise import Generaliser, as_pattern
from porter.mapping.inference.roles import layer_of, role_of
from porter.mapping.inference.slots import Names, Use
from porter.mapping.inference.state import PLAIN, Form, Match, State
from porter.mapping.inference.tables import joined
from porter.mapping.syntax import (
    Argument,
    Call,
    Capture,
    Drop,
    Expect,
    Fill,
    InTable,
    Keep,
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


def rules_of(state: State) -> tuple[list[Table], list[InferredRule]]:
    """The statements for all matches, and the tables that they need."""
    generaliser = Generaliser(state.a, [n for m in state.matches for n in m.targets])
    by_form = defaultdict[Form, list[Match]](list)
    for match in state.matches:
        by_form[match.form].append(match)
    kept = [m for m in by_form.get(PLAIN, []) if m.sources == m.targets]
    found: list[InferredRule] = []
    if 2 * len(kept) >= len(state.matches) and len(kept) > 2:
        found.append(_rule(Remaining("keep"), kept))
        by_form[PLAIN] = [m for m in by_form[PLAIN] if m.sources != m.targets]
    named: list[tuple[Names, Form]] = []
    for form, matches in by_form.items():
        uses = [Use(m.sources, m.targets) for m in matches]
        named += [(names, form) for names in generaliser.rules(uses, both_ways=form.arrow == "<->")]
    tables, named = _with_tables(generaliser, named)
    by_use = {Use(m.sources, m.targets): m for m in state.matches}
    for names, form in named:
        keep = form == PLAIN and names.sources == names.targets
        found.append(_rule(Keep(names.sources[0]) if keep else _statement(names, form), [by_use[u] for u in names.uses]))
    return tables, found


def _rule(statement: Statement, matches: Sequence[Match]) -> InferredRule:
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
    return InferredRule(statement, confidence, text, sum(counts.values()), tuple(matches))


def _statement(names: Names, form: Form) -> Rule:
    source_axes, target_axes = form.layout.axes() if form.layout.moves else (None, None)
    sources = tuple(Term(p, source_axes, label) for p, label in zip(names.sources, form.source_labels, strict=True))
    targets = tuple(Term(p, target_axes, label) for p, label in zip(names.targets, form.target_labels, strict=True))
    source = Side(sources, len(sources) > 1, form.calls)
    return Rule(source, Side(targets, len(targets) > 1), form.arrow, form.layout.sizes_given())


def gather_casts(state: State) -> None:
    """Where a second stage casts some tensors, let it cast those too that rules of the first would cast alike: one rule does."""
    later = {m.form.cast_after for m in state.matches}
    for place, match in enumerate(state.matches):
        calls = match.form.calls
        if len(calls) == 1 and calls[0].name == "cast" and state.b[match.targets[0]].dtype.short in later:
            form = replace(match.form, calls=(), arrow="<->", cast_after=state.b[match.targets[0]].dtype.short)
            state.matches[place] = replace(match, form=form)


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


def _with_tables(generaliser: Generaliser, named: Sequence[tuple[Names, Form]]) -> tuple[list[Table], list[tuple[Names, Form]]]:
    """The tables of all rules, those with rows in common as one, and the rules with the names these have got."""
    tables: list[Table] = []
    found: list[tuple[Names, Form]] = []
    for names, form in sorted(named, key=lambda n: -sum(len(t.rows) for t in n[0].tables)):
        new = dict[str, Table]()
        for table in names.tables:
            new[table.name] = _shared(generaliser, tables, found, names, table) or replace(table, name=f"t{len(tables) + 1}")
            tables = [new[table.name] if t.name == new[table.name].name else t for t in tables]
            if all(t.name != new[table.name].name for t in tables):
                tables.append(new[table.name])
        found.append((_retabled(names, new), form))
    order = {id(n.uses): k for k, (n, _) in enumerate(named)}
    return tables, sorted(found, key=lambda n: order[id(n[0].uses)])


def _shared(
    generaliser: Generaliser, tables: Sequence[Table], found: Sequence[tuple[Names, Form]], names: Names, table: Table
) -> Table | None:
    """A table of other rules that can be this one's too, if all of them still match what they did and nothing else."""
    wider = joined(tables, table)
    if wider is None or len(names.tables) > 1:
        return None
    mine = [(_retabled(names, {table.name: wider}), "<->")]
    theirs = [(_retabled(n, {wider.name: wider}), form.arrow) for n, form in found if any(t.name == wider.name for t in n.tables)]
    return wider if all(generaliser.exact(n, arrow == "<->") for n, arrow in mine + theirs) else None


def _retabled(names: Names, tables: dict[str, Table]) -> Names:
    """`names` with other tables in place of those of these names."""
    new = {old: t.name for old, t in tables.items()}
    return Names(
        tuple(_with_names(p, new) for p in names.sources),
        tuple(_with_names(p, new) for p in names.targets),
        names.uses,
        tuple(tables.get(t.name, t) for t in names.tables),
    )


def _with_names(pattern: Pattern, names: dict[str, str]) -> Pattern:
    return Pattern(
        tuple(
            replace(part, type=InTable(names.get(part.type.table, part.type.table)))
            if isinstance(part, Capture) and isinstance(part.type, InTable)
            else part
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
        if len(names) > 1 and end[:1] in ("/", ".") and {n for n in state.a if n.endswith(end) and n != end} == set(names):
            found.append(_drop(state, Pattern((Capture(None), end)), names))
        else:
            uses += [Use((name,), ()) for name in names]
    return found + [_drop(state, rule.sources[0], [u.sources[0] for u in rule.uses]) for rule in generaliser.rules(uses, both_ways=False)]


def _drop(state: State, pattern: Pattern, names: Sequence[str]) -> InferredRule:
    reason = "nothing in B has these values" if state.values else "nothing in B was found for it, values unknown"
    return InferredRule(Drop(pattern), 0.7 if state.values else 0.3, reason, len(names))


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
            alike[value, entry.name[len(layer_of(entry.name)) :]].append(entry)
            del state.left_b[entry.name]
    made = [state.b[n] for m in state.matches for n in m.targets]
    return [rule for (value, _), group in alike.items() for rule in _fills(value, group, made)]  # type: ignore[arg-type]


def _fills(value: int | float, group: Sequence[Entry], made: Sequence[Entry]) -> list[InferredRule]:
    """One fill for tensors of several layers, where each of them has another tensor like it beside it; else one for each tensor."""
    reason = f"A has nothing for it, and B has {value} in every element"
    beside = _beside(group, made) if len(group) > 1 else None
    if beside is not None:
        end, like = beside
        call = Call("fill", (Argument(None, value),)) if like else _filling(value, group[0])
        capture = Capture(Variable("p"))
        patterns = (Pattern((capture, e)) for e in (group[0].name[len(layer_of(group[0].name)) :], end))
        return [InferredRule(Fill(call, next(patterns), True, next(patterns)), 0.6, reason, len(group))]
    return [InferredRule(Fill(_filling(value, e), as_pattern(e.name)), 0.6, reason, 1) for e in group]


def _filling(value: int | float, entry: Entry) -> Call:
    return Call("fill", (Argument(None, value), Argument("shape", entry.shape), Argument("dtype", Variable(entry.dtype.short))))


def _value_of(entry: Entry) -> int | float | None:
    """The value that all elements have, if the tensor plays a part in a layer and the value can be written."""
    if entry.tensor is None or not entry.size or role_of(entry.spec) is None or entry.dtype.kind not in ("float", "int", "uint"):
        return None
    if not fingerprint(entry).constant:
        return None
    first = entry.array().reshape(-1)[0]
    if entry.dtype.kind != "float":
        return int(first)
    value = float(first)
    if not math.isfinite(value) or str(value) == "-0.0":
        return None
    return int(value) if value.is_integer() else value


def _beside(group: Sequence[Entry], made: Sequence[Entry]) -> tuple[str, bool] | None:
    """The end of the names of tensors (`.running_mean`) of which the layer of each of `group` has one and no other layer has,
    and whether these have the shapes and dtypes of the group; None where there is none, or no one shape for all.
    """
    wanted = {layer_of(e.name): e for e in group}
    by_end = defaultdict[str, dict[str, Entry]](dict)
    for entry in made:
        layer = layer_of(entry.name)
        by_end[entry.name[len(layer) :]][layer] = entry
    ends = [end for end, found in by_end.items() if end and set(found) == set(wanted) and "" not in wanted]
    alike = [e for e in ends if all((by_end[e][k].shape, by_end[e][k].dtype) == (w.shape, w.dtype) for k, w in wanted.items())]
    if alike:
        return alike[0], True
    return (ends[0], False) if ends and len({(e.shape, e.dtype) for e in group}) == 1 else None


def expectation(state: State) -> Expect | None:
    """`expect targets=any` where B has tensors that nothing makes."""
    return Expect(targets="any") if state.left_b else None
