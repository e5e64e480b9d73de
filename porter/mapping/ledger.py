"""The books of one stage: which source went where, which result was made by what, and whether everything is accounted for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from porter.errors import MapError
from porter.mapping.names import NameIndex
from porter.mapping.scope import StageScope
from porter.mapping.steps import Described, StagePlan, Step
from porter.mapping.syntax import NOWHERE, Drop, Expect, Fill, Keep, Remaining, Rule, Span, Stage, Statement, Tie
from porter.mapping.takers import Taker, place_of, taker
from porter.tensor import TensorSpec

SHOWN = 5
"""Names that an error lists before it only counts."""

HINTS = 20
"""Statements that match nothing for which the nearest name is looked for; where there are more, the file is another one."""

MOST = 1_000_000
"""Tensors that a stage makes at most."""

_WAYS = "drop one of its sources, or give it another name"
_COUNTS = "is it the file that the map is for? Without a number all have to be there: 'sources=all', 'targets=all'"


class Ledger:
    """One stage on certain tensors.

    `specs` are the tensors at hand; `wanted` those that should come out, or None where that is not known or not for this stage.
    """

    def __init__(self, stage: Stage, scope: StageScope, specs: Mapping[str, TensorSpec], wanted: Mapping[str, Described] | None) -> None:
        self.stage = stage
        self.scope = scope
        self.specs = specs
        self.wanted = wanted
        self.problems: list[MapError] = []
        self._wrong = False
        self.steps: list[Step] = []
        self.result: dict[str, TensorSpec] = {}
        self.makers: dict[str, Step] = {}
        self.expect = next((s for s in stage.statements if isinstance(s, Expect)), Expect())
        self.left: tuple[str, ...] = ()

    def balance(self) -> StagePlan:
        """Account for everything; what is wrong is in `problems` afterwards."""
        takers = self._takers()
        untaken = self._offer(takers)
        self._collect(takers)
        self._remaining(untaken)
        self._refuse_rings()
        self._in_order()
        self._enter(self.steps)
        self._additions()
        self._expectations()
        maker = {spec.name: number for number, step in enumerate(self.steps) for spec in step.targets}
        return StagePlan(tuple(self.steps), self.result, maker, self.left)

    # ---- taking --------------------------------------------------------------------------------------------------------

    def _takers(self) -> list[Taker]:
        ready = []
        for statement in self.stage.statements:
            if isinstance(statement, Rule | Drop | Keep):
                try:
                    ready.append(taker(statement, self.scope, self.specs, self.wanted))
                except MapError as error:
                    self.problems.append(error)
                    self._wrong = True
        return ready

    def _offer(self, takers: Sequence[Taker]) -> list[str]:
        """Give every source to the statement that matches it; the sources that nothing matches are returned."""
        index = NameIndex([((t, term), matcher) for t in takers for term, matcher in enumerate(t.patterns)])
        matched: set[int] = set()
        twice: dict[tuple[Span, Span], list[str]] = {}
        untaken = []
        for name in self.specs:
            try:
                hits = index.matches(name)
                if len(hits) == 1:
                    (((found, term), bound),) = hits
                    matched.add(id(found))
                    step = found.take(term, name, bound)
                    if step is not None:
                        self.steps.append(step)
                elif hits:
                    matched.update(id(t) for (t, _), _ in hits)
                    first, second = (place_of(*hit) for hit, _ in hits[:2])
                    twice.setdefault((first, second), []).append(name)
                else:
                    untaken.append(name)
            except MapError as error:
                self.problems.append(error.located(tensor=name))
                # A pattern that matches in several ways does match.
                at = (error.where.line, error.where.column)
                matched.update(id(t) for t in takers for p in t.patterns if (p.pattern.span.line, p.pattern.span.column) == at)
        for (first, second), names in twice.items():
            self._taken_twice(names, first, second)
        idle = [t for t in takers if id(t) not in matched and not t.statement.optional]
        if idle:
            self._unmatched(idle)
        return untaken

    def _taken_twice(self, names: Sequence[str], first: Span, second: Span) -> None:
        self._problem(
            second,
            "M201",
            f"{_counted(names)} taken here and on {first.seen_from(second)} already",
            names[0],
            "two statements for one tensor are an error; make one of the patterns narrower, or use 'rest' for what is left",
        )

    def _unmatched(self, takers: Sequence[Taker]) -> None:
        """Report statements that matched nothing."""
        from porter.mapping.nearest import way_to_match

        for number, idle in enumerate(takers):
            pattern = idle.patterns[0].pattern
            way = way_to_match(pattern, self.specs, self.scope.names) if number < HINTS else None
            hint = f"{way}{' ' if way.endswith('?') else '; '}" if way is not None else ""
            what = "no tensor has a name like this" if pattern.literal is None else f"there is no tensor '{pattern.literal}'"
            self._problem(place_of(idle, 0), "M202", what, hint=hint + "'optional' before the rule allows it to match nothing")

    def _collect(self, takers: Sequence[Taker]) -> None:
        """The steps that take several tensors together."""
        made = sum([len(step.targets) for step in self.steps])
        for found in takers:
            for step in found.steps():
                if isinstance(step, MapError):
                    self.problems.append(step)
                    continue
                self.steps.append(step)
                made += len(step.targets)
                if made > MOST:
                    hint = "perhaps another axis is meant to be taken apart"
                    self._problem(found.statement.span, "M218", f"the map would make more than {MOST:,} tensors", step.sources[0], hint)
                    return

    def _remaining(self, untaken: Sequence[str]) -> None:
        rest = next((s for s in self.stage.statements if isinstance(s, Remaining)), None)
        if rest is not None:
            for name in untaken:
                made = (self.specs[name],) if rest.action == "keep" else ()
                self.steps.append(Step(rest.action, rest, (name,), made))
            if rest.action == "keep" and untaken:
                from porter.mapping.way_back import confused

                self.problems += confused(self.stage, self.scope, untaken)
        elif self.expect.sources == "any":
            self.left = tuple(untaken)
        elif untaken and not self._wrong:
            # A statement that is wrong might have taken them.
            self._uncovered(untaken)

    def _uncovered(self, names: Sequence[str]) -> None:
        from porter.mapping.nearest import nearest_pattern
        from porter.mapping.render import pattern_text

        rules = [s for s in self.stage.statements if isinstance(s, Rule | Drop | Keep)]
        patterns = [p for s in rules for p in ([t.pattern for t in s.source.terms] if isinstance(s, Rule) else [s.pattern])]
        near = nearest_pattern(names[0], patterns)
        hint = f"the nearest pattern is {near}; " if near is not None else ""
        nearest = next((p.span for p in patterns if pattern_text(p) == near), None) if near is not None else None
        last = self.stage.statements[-1].span if self.stage.statements else NOWHERE
        count = "a tensor" if len(names) == 1 else f"{len(names):,} tensors"
        shown = ", ".join([f"'{n}' {list(self.specs[n].shape)}" for n in names[:SHOWN]])
        self._problem(
            nearest or last,
            "M204",
            f"nothing is said of {count}: {shown}" + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""),
            names[0],
            hint + "map it, say '… -> drop', or 'rest <-> keep' for all that is left"
            if self.stage.statements
            else "this stage says nothing: after 'then' everything is mentioned again, if only by 'rest <-> keep'",
        )

    def _refuse_rings(self) -> None:
        """Refuse drops that are conditions of each other: the values would be gone."""
        drops = {step.sources[0]: step for step in self.steps if isinstance(step.same_as, str)}
        safe: set[str] = set()
        for name in drops:
            chain = []
            while name in drops and name not in safe and name not in chain:
                chain.append(name)
                name = str(drops[name].same_as)
            if name in chain:
                ring = chain[chain.index(name) :]
                message = f"{listed(ring)} are to be dropped for being equal to each other, so that none would be left"
                self._problem(_made_at(drops[name].statement), "M203", message, name, "map one of them")
            safe.update(chain)

    # ---- making --------------------------------------------------------------------------------------------------------

    def _in_order(self) -> None:
        order = {name: position for position, name in enumerate(self.specs)}
        self.steps.sort(key=lambda step: order[step.sources[0]] if len(step.sources) == 1 else min([order[n] for n in step.sources]))

    def _enter(self, steps: Iterable[Step]) -> None:
        """Note what steps make."""
        twice: dict[int, list[tuple[str, Step]]] = {}
        for step in steps:
            for spec in step.targets:
                if spec.name in self.result:
                    twice.setdefault(id(step.statement), []).append((spec.name, step))
                else:
                    self.result[spec.name] = spec
                    self.makers[spec.name] = step
        for found in twice.values():
            names, (_, step) = list(dict.fromkeys([name for name, _ in found])), found[0]
            first = self.makers[names[0]]
            # What comes out twice needs no word about the way back.
            self.problems = [p for p in self.problems if p.code != "M225" or p.where.tensor not in names]
            self._problem(
                _made_at(step.statement),
                "M205",
                f"{_counted(names)} made {_said(first, step)}, and {_said(step, step)} again",
                names[0],
                "two tensors would have one name: " + ("a capture is lost on the way" if first.statement is step.statement else _WAYS),
            )

    def _additions(self) -> None:
        """Fills, then ties."""
        added = [s for s in self.stage.statements if isinstance(s, Fill | Tie)]
        if not added:
            return
        from porter.mapping.additions import fill_steps, tie_steps

        for statement in sorted(added, key=lambda s: isinstance(s, Tie)):
            try:
                if isinstance(statement, Fill):
                    steps = fill_steps(statement, self.scope, self.result)
                else:
                    steps = tie_steps(statement, self.scope, self.result)
            except MapError as error:
                self.problems.append(error)
                continue
            self._enter(steps)
            self.steps += steps

    def _expectations(self) -> None:
        if isinstance(self.expect.sources, int) and self.expect.sources != len(self.specs):
            message = f"{self.expect.sources:,} sources are expected, and there are {len(self.specs):,}"
            self._problem(self.expect.span, "M207", message, hint=_COUNTS)
        if isinstance(self.expect.targets, int) and self.expect.targets != len(self.result) and not self.problems:
            message = f"{self.expect.targets:,} targets are expected, and {len(self.result):,} are made"
            self._problem(self.expect.span, "M207", message, hint=_COUNTS)

    def _problem(self, span: Span, code: str, message: str, tensor: str | None = None, hint: str | None = None) -> None:
        self.problems.append(span.error(code, message, tensor=tensor, hint=hint))


def _said(step: Step, here: Step) -> str:
    """What a step makes something of, and where, for an error at the statement of `here`: `of 'conv1.bias' on line 2`."""
    return f"{f'of {listed(step.sources)} ' if step.sources else ''}on {step.statement.span.seen_from(here.statement.span)}"


def _made_at(statement: Statement) -> Span:
    """Where a statement says what it makes."""
    if isinstance(statement, Rule):
        return statement.target.terms[0].pattern.span
    return statement.pattern.span if isinstance(statement, Drop | Keep | Fill) else statement.span


def listed(names: Sequence[str]) -> str:
    """Some names, and how many more."""
    shown = ", ".join([f"'{n}'" for n in names[:SHOWN]])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN:,} more"


def _counted(names: Sequence[str]) -> str:
    """Names and a verb: `'a' is`, `2 tensors ('a', 'b') are`."""
    return f"'{names[0]}' is" if len(names) == 1 else f"{len(names):,} tensors ({listed(names)}) are"
