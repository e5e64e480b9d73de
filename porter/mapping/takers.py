"""Statements that take tensors of the source, made ready to be offered every one that matches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from porter.errors import MapError
from porter.mapping.names import NameMatcher, capture_types
from porter.mapping.rule import CompiledRule, compile_rule
from porter.mapping.scope import StageScope
from porter.mapping.steps import Bindings, Described, Step, renamed
from porter.mapping.syntax import Call, Drop, Keep, Rule, Span
from porter.tensor import TensorSpec


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
        from porter.mapping.instances import RuleUses

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
            import difflib

            near = difflib.get_close_matches(other, list(self._specs), 1)
            hint = f"did you mean '{near[0]}'?" if near else "the name after 'if =' is that of another source"
            self._refuse(f"there is no tensor '{other}' that '{name}' could be equal to", hint)
        if other == name:
            self._refuse(f"'{name}' is to be dropped for being equal to itself", "name the tensor that it is a copy of")
        theirs = self._specs[other]
        if (spec.dtype, spec.shape) != (theirs.dtype, theirs.shape):
            message = f"'{name}' is {_described(spec)}, and '{other}' is {_described(theirs)}: they cannot be equal"
            self._refuse(message, "name the tensor that it is a copy of, or map it")
        return Step("drop", self.statement, (name,), (), bound, same_as=other)

    def _refuse(self, message: str, hint: str) -> None:
        assert self.statement.same_as is not None
        raise self.statement.same_as.span.error("M203", message, hint=hint)

    def steps(self) -> Iterable[Step]:
        return ()


def _described(spec: TensorSpec) -> str:
    return f"{spec.dtype} {list(spec.shape)}"
