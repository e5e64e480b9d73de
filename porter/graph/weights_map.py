"""The map from the file that weights came from to the state of a PyTorch network, or of TensorRT: what it says is proven bit for bit.

The emitter's own map leads from the initialisers of the graph, whose shapes are those that nodes need, and whose statistics are
divided by Caffe's scale factor already. Here every rule is said of the file's tensors instead, and the whole is then applied to
the file and compared with the state. What no rule makes exactly is left out of the map and named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

from porter.check.compare import compare
from porter.dataclass import dataclass, replace
from porter.errors import MapError
from porter.graph.state_map import axes_of
from porter.mapping.execution import apply
from porter.mapping.syntax import (
    Argument,
    Axes,
    Axis,
    Call,
    Expect,
    Group,
    Keep,
    Map,
    Pattern,
    Remaining,
    Rule,
    Side,
    Stage,
    Statement,
    Term,
    Variable,
)
from porter.store import TensorStore
from porter.tensor import Tensor

if TYPE_CHECKING:
    import onnx_ir as ir


class State(Protocol):
    """What a network's weights became: the tensors, by name, and the map that leads to them from the initialisers of the graph."""

    @property
    def map(self) -> Map: ...

    @property
    def state(self) -> TensorStore: ...


@dataclass(frozen=True, slots=True)
class WeightsMap:
    """The map, and the tensors of the state that it does not make, since they are no copies of the file's: folded, or computed."""

    map: Map
    without: tuple[str, ...]


def weights_map(model: ir.Model, made: State, store: TensorStore) -> WeightsMap:
    """The map from `store` to the state. Reads both."""
    rules, without = _Rules(model, store, made.state), set[str]()
    statements = [rules.of(statement) for stage in made.map.stages for statement in stage.statements]
    while True:
        found = _map(made.map, statements, without, store)
        try:
            mapped = apply(found, store)
            wrong = _different(mapped, made.state, without)
            if not wrong:
                return WeightsMap(found, tuple([name for name in made.state if name not in mapped]))
        except MapError:
            # A rule that does not fit the file at all speaks of what the graph computed.
            wrong = [name for s in statements if (name := _target(s)) is not None and name not in without and not _fits(s, store)]
            if not wrong:
                raise
        without.update(wrong)


def _map(old: Map, statements: list[Statement], without: set[str], store: TensorStore) -> Map:
    """The statements that are left, and what becomes of the rest of the file."""
    kept: list[Statement] = [s for s in statements if _target(s) not in without and not isinstance(s, Remaining | Expect)]
    named = {name for s in kept for name in _sources(s)}
    if any(name not in named for name in store):
        kept.append(Remaining("drop"))
    if without or any(isinstance(s, Expect) for s in statements):
        kept.append(Expect("all", "any"))
    return Map((Stage(tuple(kept)),))


def _different(mapped: Mapping[str, Tensor], state: TensorStore, without: set[str]) -> list[str]:
    """Tensors that the map makes, and that are not the state's."""
    return [
        name
        for name, tensor in mapped.items()
        if name not in without and (name not in state or not compare(TensorStore([tensor]), TensorStore([state[name]])).equal)
    ]


class _Rules:
    """Rewrites rules of initialisers as rules of the tensors in a file."""

    def __init__(self, model: ir.Model, store: TensorStore, state: TensorStore) -> None:
        self.store = store
        self.state = state
        self.shapes = {n: tuple(v.const_value.shape.numpy()) for n, v in model.graph.initializers.items() if v.const_value is not None}
        self.statistics = dict(self._statistics(model))

    def of(self, statement: Statement) -> Statement:
        if not isinstance(statement, Keep | Rule):
            return statement
        (source,) = _sources(statement)
        target = _target(statement)
        assert target is not None
        if source in self.statistics:
            name, call = self.statistics[source]
            return Rule(Side((Term(Pattern((name,))),), calls=(call,)), Side((Term(Pattern((target,))),)), "->")
        if source not in self.store:
            return statement
        if self.store[source].shape != self.shapes.get(source):
            statement = self._reshaped(statement, source, target)
        return self._cast(statement, source, target)

    def _cast(self, statement: Statement, source: str, target: str) -> Statement:
        """The graph computes in float32, whatever the file has."""
        old, new = self.store[source].dtype, self.state[target].dtype
        if old == new or not isinstance(statement, Keep | Rule):
            return statement
        rule = Rule(_side(source), _side(target)) if isinstance(statement, Keep) else statement
        call = Call("cast", (Argument(None, Variable(new.short)),))
        return replace(rule, source=replace(rule.source, calls=(*rule.source.calls, call)), arrow="->")

    def _reshaped(self, statement: Keep | Rule, source: str, target: str) -> Statement:
        """The file has the values in another shape than the graph."""
        if isinstance(statement, Rule) and not _same_order(statement):
            return statement
        old, new = self.store[source].shape, self.state[target].shape
        if old == new:
            return Keep(Pattern((source,))) if source == target else Rule(_side(source), _side(target))
        axes = axes_of(old, None, new)
        return statement if axes is None else Rule(_side(source, axes[0]), _side(target, axes[1]), where=axes[2])

    def _statistics(self, model: ir.Model) -> Iterator[tuple[str, tuple[str, Call]]]:
        """Initialisers that are a statistic of a BatchNorm times one over its scale factor in float32, as Caffe computes it."""
        import numpy as np

        held = {tensor.tobytes(): name for name, tensor in self._vectors(model)}
        for name, factor in self.store.items():
            layer = name.removesuffix(".scale_factor")
            if layer == name or factor.size != 1:
                continue
            by = np.float32(factor.numpy().reshape(-1)[0])
            if by in (0, 1):
                continue
            times = np.float32(1) / by
            for role in ("mean", "variance"):
                statistic = self.store.get(f"{layer}.{role}")
                if statistic is None or statistic.dtype.name != "float32":
                    continue
                found = held.get((statistic.numpy() * times).tobytes())
                if found is not None:
                    yield found, (statistic.name, Call("mul", (Argument(None, float(times)),)))

    def _vectors(self, model: ir.Model) -> Iterator[tuple[str, ir.TensorProtocol]]:
        for name, value in model.graph.initializers.items():
            tensor = value.const_value
            if name not in self.store and tensor is not None and tensor.dtype.name == "FLOAT" and len(tensor.shape) == 1:
                yield name, tensor


def _side(name: str, axes: Axes | None = None) -> Side:
    return Side((Term(Pattern((name,)), axes),))


def _sources(statement: Statement) -> list[str]:
    """Names of the file that a statement reads, where they are literal."""
    if isinstance(statement, Keep):
        return [_literal(statement.pattern)]
    return [_literal(t.pattern) for t in statement.source.terms] if isinstance(statement, Rule) else []


def _target(statement: Statement) -> str | None:
    if isinstance(statement, Keep):
        return _literal(statement.pattern)
    return _literal(statement.target.terms[0].pattern) if isinstance(statement, Rule) else None


def _literal(pattern: Pattern) -> str:
    return "".join(part for part in pattern.parts if isinstance(part, str))


def _same_order(rule: Rule) -> bool:
    """Whether a rule changes the shape only, not the order of the values."""
    before, after = rule.source.terms[0].axes, rule.target.terms[0].axes
    return before is None or after is None or list(_names(before)) == list(_names(after))


def _names(axes: Axes) -> Iterator[str]:
    for element in axes.elements:
        if isinstance(element, Axis):
            yield element.name
        elif isinstance(element, Group):
            for part in element.terms:
                yield from (e.name for e in part if isinstance(e, Axis))


def _fits(statement: Statement, store: TensorStore) -> bool:
    """Whether a rule alone can be applied to the file."""
    try:
        apply(Map((Stage((statement, Remaining("drop"))),)), store)
    except MapError:
        return False
    return True
