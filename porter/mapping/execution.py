"""A checked map carried out: a store whose tensors are computed when they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from porter.dataclass import dataclass
from porter.errors import UsageError
from porter.mapping.plan import plan
from porter.mapping.providers import provider_of
from porter.mapping.scope import ParamValue, Provider
from porter.mapping.steps import Described, Plan, StagePlan, Step
from porter.mapping.syntax import Map
from porter.store import TensorStore
from porter.tensor import CHUNK, Json, Payload, Tensor, TensorSpec

if TYPE_CHECKING:
    from porter.mapping.computation import Report


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a tensor of a mapped store comes from: the step that made it and the tensors that went in.

    Tensors that went in may themselves come out of an earlier stage; `MappedStore.path` follows them.
    """

    step: Step
    inputs: tuple[Tensor, ...]

    def to_json(self, digest: Callable[[Tensor], str] | None = None) -> dict[str, Json]:
        """Rule, place and inputs, as JSON; with `digest`, such as `Tensor.digest`, which reads them, the inputs' SHA-256."""
        from porter.mapping.render import statement_text

        span = self.step.statement.span
        inputs: list[dict[str, Json]] = [{"name": t.name, "dtype": t.dtype.name, "shape": list(t.shape)} for t in self.inputs]
        if digest is not None:
            for entry, tensor in zip(inputs, self.inputs, strict=True):
                entry["sha256"] = digest(tensor)
        return {
            "action": self.step.action,
            "map": span.text.path,
            "line": span.line or None,
            "rule": statement_text(self.step.statement),
            "inputs": inputs,
        }


class MappedStore(TensorStore):
    """What a map makes of a store.

    Attributes:
        plan: the checked map.
        origins: for each stage, name to origin of every tensor that comes out of it.
    """

    plan: Plan
    origins: list[dict[str, Origin]]

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self.origins = []

    def path(self, name: str) -> list[tuple[int, str, Origin]]:
        """How the tensor `name` came to be, the last step first, through all stages: the stage (from 0), what it makes, its origin.

        Raises:
            UsageError: there is no such tensor.
        """
        if name not in self:
            raise UsageError("U013", "the map makes no tensor of this name", tensor=name)
        found: list[tuple[int, str, Origin]] = []
        names = [name]
        for number, origins in reversed(list(enumerate(self.origins))):
            # What a tie refers to is made in the same stage.
            tied = [t.name for n in names if origins[n].step.action == "tie" for t in origins[n].inputs]
            steps = [(number, n, origins[n]) for n in dict.fromkeys([*names, *tied])]
            found += steps
            names = list(dict.fromkeys(t.name for _, _, o in steps if o.step.action != "tie" for t in o.inputs))
        return found


def apply(
    map: Map,
    store: TensorStore,
    *,
    params: Mapping[str, ParamValue] | None = None,
    targets: Iterable[Tensor | TensorSpec | Described] | None = None,
    provider: Provider | None = None,
) -> MappedStore:
    """What `map` makes of `store`, checked first. Values are read and computed when the result is written.

    Tables that the map takes from a file are computed from `store` unless `provider` says otherwise. Only drops with a
    condition (`-> drop if = other`) read values here.

    Raises:
        MapError: the map does not fit, or a tensor is not equal to what it is to be dropped for.
        UsageError: a parameter that the map does not have.
        PorterError: the file does not tell the rows of a table.
    """
    checked = plan(map, store.values(), params=params, targets=targets, provider=provider or provider_of(store))
    return execute(checked, store)


def execute(checked: Plan, store: TensorStore) -> MappedStore:
    """Carry out a plan without problems on the tensors it was made for. See `apply`.

    Raises:
        MapError: a tensor is not equal to what it is to be dropped for.
    """
    mapped = MappedStore(checked)
    mapped.source = store.source
    mapped.metadata = dict(store.metadata)
    mapped.manage(store)
    tensors: dict[str, Tensor] = dict(store)
    ties = dict(store.ties)
    for stage in checked.stages:
        origins: dict[str, Origin] = {}
        _verify_drops(stage, tensors)
        made = _made(stage, tensors, origins, mapped)
        ties = _ties(stage, ties, mapped)
        mapped.origins.append(origins)
        tensors = {name: made[name] for name in stage.result}
    for name, tensor in tensors.items():
        if name not in ties:
            mapped.add(tensor)
        elif ties[name] in mapped:
            mapped.tie(tensor, ties[name])
    for name, target in ties.items():
        if name not in mapped:
            mapped.tie(tensors[name], target)
    _carry_attachments(mapped, store)
    return mapped


def _made(stage: StagePlan, tensors: Mapping[str, Tensor], origins: dict[str, Origin], mapped: MappedStore) -> dict[str, Tensor]:
    """The tensors that come out of a stage."""
    said: set[tuple[str, str]] = set()

    def report(name: str, what: str) -> None:
        # A tensor that is read twice is computed twice.
        if (name, what) not in said:
            said.add((name, what))
            mapped.note("changed", what, name)

    made: dict[str, Tensor] = {}
    for step in stage.steps:
        inputs = tuple([made[n] if step.action == "tie" else tensors[n] for n in step.sources])
        for spec, payload in zip(step.targets, _payloads(step, inputs, report), strict=True):
            made[spec.name] = Tensor(spec, payload)
            origins[spec.name] = Origin(step, inputs)
        if step.action == "drop":
            mapped.note("skipped", _why_dropped(step), step.sources[0])
    for name in stage.left:
        mapped.note("skipped", "left out, as 'expect sources=any' in the map allows", name)
    return made


def _why_dropped(step: Step) -> str:
    if step.same_as is None:
        return "dropped, as the map says"
    of = "another tensor" if isinstance(step.same_as, str) else "a constant that the map has"
    return f"dropped, as the map says, and found equal to {of}"


def _payloads(step: Step, inputs: tuple[Tensor, ...], report: Report) -> Iterable[Payload]:
    if step.program is None:
        return [inputs[0].payload for _ in step.targets]
    return step.program.payloads(inputs, step.targets, report)


def _ties(stage: StagePlan, before: Mapping[str, str], mapped: MappedStore) -> dict[str, str]:
    """The ties of a stage's result: those of its sources that last, and those that the map makes."""
    ties = _lasting_ties(stage, before, mapped) if before else {}
    for step in stage.steps:
        if step.action == "tie":
            target = step.sources[0]
            ties[step.targets[0].name] = ties.get(target, target)
    return ties


def _lasting_ties(stage: StagePlan, before: Mapping[str, str], mapped: MappedStore) -> dict[str, str]:
    """The ties of the sources whose bytes pass through or move in the same way. Those that end though both tensors go on are noted."""
    passed: dict[str, tuple[str, int | None]] = {}
    for step in stage.steps:
        if step.action in ("keep", "rename"):
            passed |= {n: (t.name, None) for n, t in zip(step.sources, step.targets, strict=True)}
        elif step.action == "layout" and len(step.sources) == len(step.targets) == 1:
            passed[step.sources[0]] = step.targets[0].name, id(step.program)
    used = {name for step in stage.steps if step.targets for name in step.sources}
    ties: dict[str, str] = {}
    heirs = {(target, passed[target][1]): passed[target][0] for target in before.values() if target in passed}
    for alias, target in before.items():
        if alias in passed:
            # Where the tensor itself goes another way, its other names stay tied to each other.
            name, way = passed[alias]
            leader = heirs.setdefault((target, way), name)
            if leader != name:
                ties[name] = leader
                continue
        if alias in used and target in used:
            mapped.note("changed", f"no longer tied to '{target}': what the map makes of the two is kept apart", alias)
    return ties


def _carry_attachments(mapped: MappedStore, store: TensorStore) -> None:
    """Keep what the file says of its network where every tensor has kept name and shape; otherwise it would speak of other tensors."""
    if not store.attachments:
        return
    if [(t.name, t.shape) for t in mapped.values()] == [(t.name, t.shape) for t in store.values()]:
        mapped.attachments = dict(store.attachments)
        return
    kinds = ", ".join(sorted(store.attachments))
    mapped.note("skipped", f"{kinds} is left out: it speaks of the tensors as they were before the map")


def _verify_drops(stage: StagePlan, tensors: Mapping[str, Tensor]) -> None:
    for step in stage.steps:
        if step.action != "drop" or step.same_as is None:
            continue
        name = step.sources[0]
        tensor = tensors[name]
        if isinstance(step.same_as, str):
            other, what = tensors[step.same_as], f"'{step.same_as}'"
        else:
            (payload,) = step.same_as.payloads((), (tensor.spec,), lambda name, what: None)
            other, what = Tensor(tensor.spec, payload), "what it is to be dropped for"
        if tensor.payload is not other.payload and not _equal(tensor, other):
            raise step.statement.span.error(
                "M240",
                f"'{name}' is not equal to {what}",
                tensor=name,
                hint="map it under a name of its own; dropping it would lose its values",
            )


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.nbytes == b.nbytes and all(x == y for x, y in zip(_even(a), _even(b), strict=True))


def _even(tensor: Tensor) -> Iterator[bytes]:
    """The bytes in pieces of equal length, whatever the chunks are."""
    rest = bytearray()
    for chunk in tensor.chunks():
        rest += chunk
        while len(rest) >= CHUNK:
            yield bytes(rest[:CHUNK])
            del rest[:CHUNK]
    yield bytes(rest)
