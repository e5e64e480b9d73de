"""The books of one stage: which source went where, which result was made by what, and whether everything is accounted for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from porter.errors import MapError
from porter.mapping.computation import Applied, Program
from porter.mapping.instances import Matches, plain_step, renamed, steps_of
from porter.mapping.names import NameIndex, NameMatcher, capture_types, nearest_name, nearest_pattern
from porter.mapping.ops.base import Operand, OperationError
from porter.mapping.rule import CompiledRule, captures_of, compile_rule
from porter.mapping.scope import StageScope
from porter.mapping.steps import Described, StagePlan, Step
from porter.mapping.syntax import Call, Drop, Expect, Fill, Keep, Pattern, Remaining, Rule, Span, Stage, Statement, Tie
from porter.tensor import TensorSpec

Taker = tuple[int, int]
"""Index of a statement, and of the term in it."""

SHOWN = 5
"""Names that an error lists before it only counts."""


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
        self.steps: list[tuple[int, Step]] = []
        self.result: dict[str, TensorSpec] = {}
        self.order = {name: position for position, name in enumerate(specs)}
        self.expect = next((s for s in stage.statements if isinstance(s, Expect)), Expect())
        self.left: tuple[str, ...] = ()

    def balance(self) -> StagePlan:
        """Account for everything; what is wrong is in `problems` afterwards."""
        compiled, takers = self._compile()
        matches, untaken = self._match(compiled, takers)
        self._rules(compiled, matches)
        self._remaining(untaken)
        steps = self._in_order()
        for step in steps:
            self._enter(step)
        self._fills(steps)
        self._ties(steps)
        self._expectations()
        maker = {spec.name: number for number, step in enumerate(steps) for spec in step.targets}
        return StagePlan(tuple(steps), self.result, maker, self.left)

    # ---- matching ------------------------------------------------------------------------------------------------------

    def _compile(self) -> tuple[dict[int, CompiledRule], list[tuple[Taker, NameMatcher]]]:
        compiled: dict[int, CompiledRule] = {}
        takers: list[tuple[Taker, NameMatcher]] = []
        for index, statement in enumerate(self.stage.statements):
            try:
                if isinstance(statement, Rule):
                    compiled[index] = ready = compile_rule(statement, self.scope)
                    takers += [((index, term), matcher) for term, matcher in enumerate(ready.sources)]
                elif isinstance(statement, Drop | Keep):
                    takers.append(((index, 0), self._matcher(statement.pattern, _partner(statement))))
            except MapError as error:
                self.problems.append(error)
        return compiled, takers

    def _matcher(self, pattern: Pattern, other: Pattern | None = None) -> NameMatcher:
        types = capture_types([pattern, other] if other is not None else [pattern], self.scope.names)
        return NameMatcher(pattern, types, self.scope.names)

    def _match(
        self, compiled: Mapping[int, CompiledRule], takers: Sequence[tuple[Taker, NameMatcher]]
    ) -> tuple[dict[int, Matches], list[str]]:
        """Give every source to the statement that matches it. What rules get is returned, with the sources that nothing matches."""
        statements = self.stage.statements
        found = {i: Matches([{} for _ in c.sources]) for i, c in compiled.items()}
        index = NameIndex(takers)
        matched: set[Taker] = set()
        untaken = []
        for name, spec in self.specs.items():
            try:
                hits = index.matches(name)
            except MapError as error:
                self.problems.append(error)
                continue
            if not hits:
                untaken.append(name)
                continue
            if len(hits) > 1:
                self._taken_twice(name, [self._span(taker) for taker, _ in hits])
                matched.update(taker for taker, _ in hits)
                continue
            ((taker, bound),) = hits
            matched.add(taker)
            statement = statements[taker[0]]
            try:
                if isinstance(statement, Rule):
                    rule = compiled[taker[0]]
                    if rule.plain and not rule.gathered and not rule.spread:
                        self.steps.append((taker[0], plain_step(rule, name, bound, spec)))
                    else:
                        found[taker[0]].add(rule, taker[1], name, bound)
                elif isinstance(statement, Keep):
                    self.steps.append((taker[0], Step("keep", statement, (name,), (spec,), bound)))
                elif isinstance(statement, Drop):
                    self.steps.append((taker[0], self._drop(statement, name, bound)))
            except MapError as error:
                self.problems.append(error.located(tensor=name))
        self._unmatched_statements(takers, matched)
        return found, untaken

    def _span(self, taker: Taker) -> Span:
        statement = self.stage.statements[taker[0]]
        if isinstance(statement, Rule):
            return statement.source.terms[taker[1]].pattern.span
        assert isinstance(statement, Drop | Keep)
        return statement.pattern.span

    def _taken_twice(self, name: str, spans: Sequence[Span]) -> None:
        other = spans[0]
        self.problems.append(
            spans[1].error(
                "M201",
                f"'{name}' is taken here and on line {other.line} already",
                tensor=name,
                hint="two statements for one tensor are an error; make one of the patterns narrower, or use 'rest' for what is left",
            )
        )

    def _unmatched_statements(self, takers: Sequence[tuple[Taker, NameMatcher]], matched: set[Taker]) -> None:
        """Report statements that matched nothing and are not optional."""
        live = {statement for statement, _ in matched}
        reported: set[int] = set()
        for taker, matcher in takers:
            statement = self.stage.statements[taker[0]]
            if taker[0] in live or taker[0] in reported or getattr(statement, "optional", False):
                continue
            reported.add(taker[0])
            near = nearest_name(matcher.pattern, self.specs)
            hint = f"the nearest name is '{near}'; " if near is not None else ""
            self.problems.append(
                self._span(taker).error(
                    "M202", "no tensor has a name like this", hint=hint + "'optional' before the rule allows it to match nothing"
                )
            )

    def _drop(self, statement: Drop, name: str, bound: Mapping[str, int | str]) -> Step:
        condition = statement.same_as
        if condition is None:
            return Step("drop", statement, (name,), (), bound)
        if isinstance(condition, Call):
            program = self._filled(condition, Operand(name, self.specs[name].dtype, self.specs[name].shape))
            made = program.before[0][0].outputs[0]
            if made.shape != self.specs[name].shape or made.dtype != self.specs[name].dtype:
                raise condition.span.error(
                    "M203", f"'{name}' is {_described(self.specs[name])}, and is to be dropped if it is {made.dtype} {list(made.shape)}"
                )
            return Step("drop", statement, (name,), (), bound, same_as=program)
        types = capture_types([statement.pattern, condition], self.scope.names)
        other = NameMatcher(condition, types, self.scope.names).render(bound)
        if other not in self.specs:
            raise condition.span.error("M203", f"there is no tensor '{other}' that '{name}' could be equal to")
        mine, theirs = self.specs[name], self.specs[other]
        if (mine.dtype, mine.shape) != (theirs.dtype, theirs.shape):
            raise condition.span.error(
                "M203", f"'{name}' is {_described(mine)}, and '{other}' is {_described(theirs)}: they cannot be equal"
            )
        return Step("drop", statement, (name,), (), bound, same_as=other)

    # ---- making --------------------------------------------------------------------------------------------------------

    def _rules(self, compiled: Mapping[int, CompiledRule], matches: Mapping[int, Matches]) -> None:
        for index, found in matches.items():
            for step, error in steps_of(compiled[index], found, self.specs, self.wanted):
                if step is not None:
                    self.steps.append((index, step))
                elif isinstance(error, MapError):
                    self.problems.append(error)
                elif error is not None:
                    raise error

    def _remaining(self, untaken: Sequence[str]) -> None:
        rest = next((s for s in self.stage.statements if isinstance(s, Remaining)), None)
        if rest is not None:
            for name in untaken:
                made = (self.specs[name],) if rest.action == "keep" else ()
                self.steps.append((len(self.stage.statements), Step(rest.action, rest, (name,), made)))
        elif self.expect.sources == "any":
            self.left = tuple(untaken)
        elif untaken:
            self._uncovered(untaken)

    def _uncovered(self, names: Sequence[str]) -> None:
        rules = [s for s in self.stage.statements if isinstance(s, Rule | Drop | Keep)]
        patterns = [t.pattern for s in rules for t in (s.source.terms if isinstance(s, Rule) else [_AsTerm(s.pattern)])]
        near = nearest_pattern(names[0], patterns)
        hint = f"the nearest pattern is {near}; " if near is not None else ""
        span = self.expect.span if self.expect.span.line else next((s.span for s in rules), _whole(self.stage))
        count = "a tensor" if len(names) == 1 else f"{len(names):,} tensors"
        self.problems.append(
            span.error(
                "M204",
                f"nothing is said of {count}: {_listed(names)}",
                tensor=names[0],
                hint=hint + "map it, say '… -> drop', or 'rest <-> keep' for all that is left",
            )
        )

    def _in_order(self) -> list[Step]:
        last = len(self.order)
        ordered = sorted(self.steps, key=lambda item: min((self.order[n] for n in item[1].sources), default=last))
        return [step for _, step in ordered]

    def _enter(self, step: Step) -> None:
        for spec in step.targets:
            if spec.name in self.result:
                self._made_twice(spec.name, step)
                return
        for spec in step.targets:
            self.result[spec.name] = spec

    def _made_twice(self, name: str, step: Step) -> None:
        self.problems.append(
            _target_span(step.statement).error(
                "M205",
                f"'{name}' is made twice" + (f", of {_listed(step.sources)} too" if step.sources else ""),
                tensor=name,
                hint="two tensors would have one name: a capture is lost on the way, or two statements overlap",
            )
        )

    # ---- fills and ties ------------------------------------------------------------------------------------------------

    def _fills(self, steps: list[Step]) -> None:
        for statement in self.stage.statements:
            if isinstance(statement, Fill):
                try:
                    for step in self._filling(statement):
                        self._enter(step)
                        steps.append(step)
                except MapError as error:
                    self.problems.append(error)

    def _filling(self, statement: Fill) -> list[Step]:
        types = capture_types([p for p in (statement.pattern, statement.for_each) if p is not None], self.scope.names)
        target = NameMatcher(statement.pattern, types, self.scope.names)
        if statement.for_each is None:
            _refuse_unbound(statement.pattern, target.captures, "'for pattern' binds them")
            uses: list[tuple[Mapping[str, int | str], TensorSpec | None]] = [({}, None)]
        else:
            partner = NameMatcher(statement.for_each, types, self.scope.names)
            _refuse_unbound(statement.pattern, target.captures - partner.captures, "they have to be in the pattern after 'for'")
            uses = [(found, spec) for name, spec in self.result.items() if (found := partner.match(name)) is not None]
            if not uses and not statement.if_absent:
                near = nearest_name(statement.for_each, self.result)
                hint = f"the nearest name is '{near}'" if near is not None else None
                raise statement.for_each.span.error("M206", "no tensor of the result has a name like this", hint=hint)
        steps = []
        for bound, like in uses:
            name = target.render(bound)
            if name in self.result and statement.if_absent:
                continue
            program = self._filled(statement.call, Operand(like.name, like.dtype, like.shape) if like is not None else None)
            made = program.before[0][0].outputs[0]
            steps.append(Step("fill", statement, (), (TensorSpec(name, made.dtype, made.shape),), bound, program))
        return steps

    def _filled(self, call: Call, like: Operand | None) -> Program:
        from porter.mapping.ops.registry import bind

        operation = bind(call, self.scope.values)
        try:
            applied = Applied(operation, call, (like,) if like is not None else (), operation.outputs((like,) if like is not None else ()))
        except OperationError as error:
            raise call.span.error(error.code, error.message, hint=error.hint) from error
        return Program(((applied,),), None, ((),), (0,))

    def _ties(self, steps: list[Step]) -> None:
        for statement in self.stage.statements:
            if isinstance(statement, Tie):
                try:
                    for step in self._tying(statement):
                        self._enter(step)
                        steps.append(step)
                except MapError as error:
                    self.problems.append(error)

    def _tying(self, statement: Tie) -> list[Step]:
        types = capture_types([statement.alias, statement.tensor], self.scope.names)
        alias, tensor = (NameMatcher(p, types, self.scope.names) for p in (statement.alias, statement.tensor))
        _refuse_unbound(statement.alias, alias.captures - tensor.captures, "they have to be in the other name")
        steps = []
        for name, spec in self.result.items():
            bound = tensor.match(name)
            if bound is not None:
                steps.append(Step("tie", statement, (name,), (renamed(spec, alias.render(bound)),), bound))
        if not steps and not statement.optional:
            near = nearest_name(statement.tensor, self.result)
            hint = f"the nearest name is '{near}'" if near is not None else "both names of a tie are names of the result"
            raise statement.tensor.span.error("M206", "no tensor of the result has a name like this", hint=hint)
        return steps

    # ---- expectations --------------------------------------------------------------------------------------------------

    def _expectations(self) -> None:
        if isinstance(self.expect.sources, int) and self.expect.sources != len(self.specs):
            self.problems.append(
                self.expect.span.error("M207", f"{self.expect.sources:,} sources are expected, and there are {len(self.specs):,}")
            )
        if isinstance(self.expect.targets, int) and self.expect.targets != len(self.result) and not self.problems:
            self.problems.append(
                self.expect.span.error("M207", f"{self.expect.targets:,} targets are expected, and {len(self.result):,} are made")
            )


class _AsTerm:
    """A pattern where a term is looked for."""

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern


def _partner(statement: Drop | Keep) -> Pattern | None:
    condition = statement.same_as if isinstance(statement, Drop) else None
    return condition if isinstance(condition, Pattern) else None


def _refuse_unbound(pattern: Pattern, names: Iterable[str], way: str) -> None:
    unbound = sorted(names)
    if unbound:
        span = next((c.span for c in captures_of(pattern)), pattern.span)
        raise span.error("M208", f"nothing says what '{unbound[0]}' is", hint=way)


def _target_span(statement: Statement) -> Span:
    if isinstance(statement, Rule):
        return statement.target.terms[0].pattern.span
    return statement.pattern.span if isinstance(statement, Drop | Keep | Fill) else statement.span


def _whole(stage: Stage) -> Span:
    from porter.mapping.syntax import NOWHERE

    return stage.statements[0].span if stage.statements else NOWHERE


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{n}'" for n in names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN:,} more"


def _described(spec: TensorSpec) -> str:
    return f"{spec.dtype} {list(spec.shape)}"
