"""Statements that take tensors of the source, made ready to be offered every one that matches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from porter.errors import MapError, did_you_mean
from porter.mapping.names import NameMatcher, capture_types
from porter.mapping.rule import CompiledRule, compile_rule
from porter.mapping.scope import StageScope
from porter.mapping.steps import Bindings, Described, Step, renamed
from porter.mapping.syntax import Call, Drop, Keep, Rule, Span
from porter.tensor import TensorSpec

HINTS = 5
"""Tensors of one statement for which the nearest name is looked for."""


class Taker(Protocol):
    """A statement and the patterns of what it takes."""

    @property
    def statement(self) -> Rule | Drop | Keep: ...

    @property
    def patterns(self) -> tuple[NameMatcher, ...]: ...

    def take(self, term: int, name: str, bound: Bindings) -> Step | None:
        """Take the tensor `name`, which matches pattern number `term`; the step, where it is known now.

        Raises:
            MapError: the statement does not fit this tensor.
        """
        ...

    def steps(self) -> Iterable[Step | MapError]:
        """The steps that are known when all was taken, or what is wrong with them."""
        ...


def taker(
    statement: Rule | Drop | Keep, scope: StageScope, specs: Mapping[str, TensorSpec], wanted: Mapping[str, Described] | None
) -> Taker:
    """`statement` made ready to take from `specs`.

    Raises:
        MapError: it is wrong whatever the tensors are.
    """
    if isinstance(statement, Rule):
        compiled = compile_rule(statement, scope)
        if compiled.plain:
            return _Renamed(compiled, specs)
        from porter.mapping.rule_uses import RuleUses

        return RuleUses(compiled, specs, wanted)
    return _Kept(statement, scope, specs) if isinstance(statement, Keep) else _Dropped(statement, scope, specs)


def place_of(taker: Taker, term: int) -> Span:
    """Where pattern number `term` stands."""
    return taker.patterns[term].pattern.span


class _Renamed:
    """A rule that changes names alone."""

    def __init__(self, compiled: CompiledRule, specs: Mapping[str, TensorSpec]) -> None:
        self.statement = compiled.rule
        self.patterns = compiled.sources
        self._target = compiled.targets[0]
        self._specs = specs

    def take(self, term: int, name: str, bound: Bindings) -> Step:
        return Step("rename", self.statement, (name,), (renamed(self._specs[name], self._target.render(bound)),), bound)

    def steps(self) -> Iterable[Step]:
        return ()


class _Kept:
    """`pattern <-> keep`."""

    def __init__(self, statement: Keep, scope: StageScope, specs: Mapping[str, TensorSpec]) -> None:
        self.statement = statement
        self.patterns = (NameMatcher(statement.pattern, capture_types([statement.pattern], scope.names), scope.names),)
        self._specs = specs

    def take(self, term: int, name: str, bound: Bindings) -> Step:
        return Step("keep", self.statement, (name,), (self._specs[name],), bound)

    def steps(self) -> Iterable[Step]:
        return ()


class _Dropped:
    """`pattern -> drop`, with its condition."""

    def __init__(self, statement: Drop, scope: StageScope, specs: Mapping[str, TensorSpec]) -> None:
        condition = statement.same_as
        self.statement = statement
        self._specs = specs
        self._filling = None
        if isinstance(condition, Call):
            from porter.mapping.additions import filling

            self._filling = filling(condition, scope)
        named = [statement.pattern] if condition is None or isinstance(condition, Call) else [statement.pattern, condition]
        types = capture_types(named, scope.names)
        self.patterns = (NameMatcher(statement.pattern, types, scope.names),)
        self._other = NameMatcher(named[1], types, scope.names, render_only=True) if len(named) > 1 else None
        self._originals: set[str] = set()
        self._searches = 0

    def take(self, term: int, name: str, bound: Bindings) -> Step:
        spec = self._specs[name]
        if self._filling is not None:
            program = self._filling(spec)
            made = program.before[0][0].outputs[0]
            if (made.dtype, made.shape) != (spec.dtype, spec.shape):
                message = f"'{name}' is {_described(spec)}, and is to be dropped if it is {made.dtype} {list(made.shape)}"
                self._refuse(message, "without 'shape' and 'dtype' it is compared as what it is")
            return Step("drop", self.statement, (name,), (), bound, same_as=program)
        if self._other is None:
            return Step("drop", self.statement, (name,), (), bound)
        other = self._other.render(bound)
        if other not in self._specs:
            self._refuse(f"there is no tensor '{other}' that '{name}' could be equal to", self._nearest(other))
        if other == name:
            self._refuse(f"'{name}' is to be dropped for being equal to itself", "name the tensor that it is a copy of")
        theirs = self._specs[other]
        if (spec.dtype, spec.shape) != (theirs.dtype, theirs.shape):
            message = f"'{name}' is {_described(spec)}, and '{other}' is {_described(theirs)}: they cannot be equal"
            self._refuse(message, "name the tensor that it is a copy of, or map it")
        self._originals.add(other)
        return Step("drop", self.statement, (name,), (), bound, same_as=other)

    def _nearest(self, name: str) -> str:
        self._searches += 1
        near = did_you_mean(name, self._specs) if self._searches <= HINTS else None
        return near or "the name after 'if =' is that of another source"

    def _refuse(self, message: str, hint: str) -> None:
        assert self.statement.same_as is not None
        raise self.statement.same_as.span.error("M203", message, hint=hint)

    def steps(self) -> Iterable[MapError]:
        """What is wrong where some tensors have a copy to be dropped and others have none: the inverse would make one for each."""
        if self._other is None or not self._originals or self.statement.optional or self._other.captures != self.patterns[0].captures:
            return
        try:
            lonely = [n for n in self._specs if n not in self._originals and self._other.match(n) is not None]
        except MapError as error:
            yield error
            return
        if lonely:
            bound = self._other.match(lonely[0])
            assert bound is not None
            more = f", and so for {len(lonely) - 1:,} more" if len(lonely) > 1 else ""
            yield self.patterns[0].pattern.span.error(
                "M227",
                f"'{lonely[0]}' has no copy '{self.patterns[0].render(bound)}' to be dropped, as others have{more}",
                tensor=lonely[0],
                hint="'optional' before the statement allows that; the map then goes one way",
            )


def _described(spec: TensorSpec) -> str:
    return f"{spec.dtype} {list(spec.shape)}"
