"""`porter tensorrt verify` as a library: a network is built, or someone's own is, read back, run without a GPU, and compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from porter.check.compare import compare
from porter.check.measures import TOLERANCE, measured
from porter.dataclass import dataclass, field
from porter.errors import TensorRTError
from porter.graph import feeds, recording
from porter.graph.analysis.values import DTYPES
from porter.graph.network import Network as Graph
from porter.graph.npz_arrays import read_arrays
from porter.graph.porting import PortOptions, open_network
from porter.store import TensorStore
from porter.tensor import Tensor
from porter.tensorrt import hand_built
from porter.tensorrt.building import open_values
from porter.tensorrt.checking.values import Compared, Verification, compare_outputs, renamed, verify
from porter.tensorrt.checking.weights import check
from porter.tensorrt.hand_built import Matching
from porter.tensorrt.layers import Network, stored, weights_of
from porter.tensorrt.live import engine_run
from porter.tensorrt.live.live import build
from porter.tensorrt.lowering.lower import lower
from porter.tensorrt.lowering.precision import narrowed
from porter.tensorrt.package import Package, find
from porter.tensorrt.substitution import has_codes, with_values
from porter.tensorrt.walk.walk import read

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

TOLERANCES = {"float32": TOLERANCE, "float16": 2e-2, "bfloat16": 1e-1}
"""Of a value's largest magnitude, by the type that a network computes in: half precision loses a digit every few dozen layers."""


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """What a caller may say about verifying.

    graph: how the original is taken over. network: `FILE.py:FUNCTION`, which builds the network instead of porter. wts: a file with the
    weights. dtype: what porter's network computes in. inputs, golden: .npz files. seed: of the values that are fed without them.
    tolerance: None for that of `TOLERANCES`. gpu: run the engine as well where there is a GPU.
    """

    graph: PortOptions = field(default_factory=PortOptions)
    network: str | None = None
    wts: str | None = None
    dtype: str = "float32"
    inputs: str | None = None
    golden: str | None = None
    seed: int = 0
    tolerance: float | None = None
    gpu: bool = True


@dataclass(frozen=True, slots=True)
class WeightsFound:
    """The weights that TensorRT holds. equal: how many are, bit for bit, what they should be. others: a line for each of the rest."""

    held: int
    equal: int
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verified:
    """What came of it.

    by_hand: whether someone's own function built the network. engine: the engine's outputs compared with the original's, None without a
    GPU. notices: a line each.
    """

    network: Network
    package: Package
    verification: Verification
    weights: WeightsFound
    by_hand: bool
    engine: tuple[Compared, ...] | None
    notices: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether all values that were compared agree; porter's own network has to hold the weights bit for bit as well."""
        weights = self.by_hand or not self.weights.others
        return weights and self.verification.same and all(c.problem is None for c in self.engine or ())


def verify_network(source: str, weights: str | None, options: VerifyOptions) -> Verified:
    """Build the network in `source`, or take the user's own for it, and compare what TensorRT holds with the original, value by value.

    source, weights: as for `porter.graph.porting.port`. Runs the file of `options.network`. Writes nothing.

    Raises:
        PorterError: a file is broken, a network cannot be taken over, built, read or run, or the two have nothing in common.
    """
    package = find()
    with open_network(source, weights, options.graph) as graph, open_values(options.wts) as wts:
        record = recording.read(options.golden) if options.golden is not None else {}
        if options.network is None:
            side = _built(_lowered(graph, wts, options.dtype), package)
        else:
            side = _hand_built(options.network, graph, wts, package)
        fed, notices = _feeds(graph, record, options)
        records = recording.recorded(record, graph.layers, [v.name or "" for v in graph.model.graph.outputs])
        tolerance = options.tolerance if options.tolerance is not None else TOLERANCES[_computed_in(side.held)]
        matching = side.matching
        verification = verify(
            graph.model, side.held, fed, values=matching.values, inputs=matching.inputs, records=records, tolerance=tolerance
        )
        engine = None
        if options.gpu and engine_run.device() is not None:
            theirs = renamed(side.held, fed, matching.inputs)
            outputs = engine_run.run(package, engine_run.plan(package, *side.live, theirs), theirs, side.held.outputs)
            engine = compare_outputs(graph.model, side.held, fed, outputs, matching.values, tolerance)
        by_order = [f"matched by their order: {', '.join(matching.by_order)}"] if matching.by_order else []
        other = _other_bits(graph, wts, options.wts or "") if wts is not None else ()
        said = (*_said(graph), *other, *side.notices, *by_order, *notices)
        return Verified(side.held, package, verification, side.weights, options.network is not None, engine, said)


@dataclass(frozen=True, slots=True)
class _Side:
    """A network that TensorRT holds. live: its builder and its definition. memory: what has to stay alive for them."""

    held: Network
    matching: Matching
    weights: WeightsFound
    live: tuple[Any, Any]
    memory: object
    notices: tuple[str, ...]


def _built(lowered: Network, package: Package) -> _Side:
    live = build(lowered, package)
    held = read(live.network, package, copy=False)
    report = check(lowered, held, None)
    found = WeightsFound(len(report.weights), sum(c.equal for c in report.weights), report.problems)
    return _Side(
        held,
        Matching(lowered.values, {i.name: i.name for i in held.inputs}, ()),
        found,
        (live.builder, live.network),
        live,
        lowered.notices,
    )


def _hand_built(where: str, graph: Graph, wts: TensorStore | None, package: Package) -> _Side:
    lowered = _layers_of_its_own(graph)
    arrays = _arrays(graph, wts, lowered)
    made = hand_built.build(where, package, arrays)
    held = read(made.definition, package)
    found = _looked_up(held, [s for s in (wts, graph.store) if s is not None], lowered)
    return _Side(held, hand_built.match(graph.model, held), found, (made.builder, made.definition), (made, arrays), held.notices)


def _lowered(graph: Graph, wts: TensorStore | None, dtype: str) -> Network:
    """porter's own layers, with the weights that it was told to take."""
    network = lower(graph.model, codes=has_codes(wts))
    if wts is not None:
        network = with_values(network, wts)
    return network if dtype == "float32" else narrowed(network, dtype)


def _other_bits(graph: Graph, wts: TensorStore, path: str) -> Iterator[str]:
    """What is said of weights in the file that are not the original's own, however near the outputs come."""
    lowered = _layers_of_its_own(graph)
    held = dict(graph.store.items()) if graph.store is not None else {}
    held |= {name: w.tensor for name, w in stored(lowered).items()} if lowered is not None else {}
    pairs = [(tensor, wts[name]) for name, tensor in held.items() if name in wts and wts[name].size == tensor.size]
    apart = [(a, measured(a.numpy(), b.numpy(), 0.0).relative) for a, b in pairs if a.dtype != b.dtype or a.digest() != b.digest()]
    if apart:
        worst, far = max(apart, key=lambda found: found[1])
        most = f"by {far:.1e} of a tensor's largest magnitude at most, at '{worst.name}'"
        yield f"{len(apart):,} of {len(pairs):,} tensors of '{path}' are not the original's bit for bit: {most}"


def _layers_of_its_own(graph: Graph) -> Network | None:
    """What porter would have written as a program, to name differences by; None where it has no layers for the original."""
    try:
        return lower(graph.model, codes=False)
    except TensorRTError:
        return None


def _computed_in(network: Network) -> str:
    """The narrowest type of floating point that a tensor has."""
    return next((t for t in ("bfloat16", "float16") if t in network.dtypes.values()), "float32")


def _arrays(graph: Graph, wts: TensorStore | None, lowered: Network | None) -> dict[str, NDArray[Any]]:
    """The weights that a user's function is given."""
    store = wts if wts is not None else graph.store
    if store is not None:
        return {name: tensor.numpy() for name, tensor in store.items()}
    return {name: w.tensor.numpy() for name, w in stored(lowered).items()} if lowered is not None else {}


def _looked_up(held: Network, stores: Sequence[TensorStore], lowered: Network | None) -> WeightsFound:
    """Weights of a network that someone built, looked for in the files, and in what porter would have given the layer of that name."""
    known = {tensor.digest() for store in stores for tensor in store.values()}
    mine = {layer.name: weights_of(layer.operation) for layer in lowered.layers} if lowered is not None else {}
    equal, others, count = 0, [], 0
    for layer in held.layers:
        roles = weights_of(layer.operation)
        for role, weights in roles.items():
            count += 1
            like = mine.get(layer.name, {}).get(role)
            if weights.tensor.digest() in known or (like is not None and like.tensor.digest() == weights.tensor.digest()):
                equal += 1
            else:
                others.append(f"{role} of '{layer.name}': {_apart(weights.tensor, like.tensor if like is not None else None)}")
        for role, like in mine.get(layer.name, {}).items() if roles else ():
            if role not in roles:
                others.append(f"{role} of '{layer.name}': there is none, and porter's layer of that name has {like.tensor.size:,} values")
    return WeightsFound(count, equal, tuple(others))


def _apart(held: Tensor, wanted: Tensor | None) -> str:
    if wanted is None:
        return "no tensor of the files has these values, and porter's network has no such layer"
    if held.size != wanted.size or held.dtype != wanted.dtype:
        return f"{held.size:,} values of {held.dtype}, and porter's layer of that name has {wanted.size:,} of {wanted.dtype}"
    difference = compare(TensorStore([wanted]), TensorStore([held.with_spec(name=wanted.name, shape=wanted.shape)])).tensors[0].difference
    assert difference is not None
    apart = f"{difference.differing:,} of {held.size:,} values are others, by {difference.max_ulp:,} ULP at most"
    return f"{apart}, than in porter's layer of that name"


def _feeds(graph: Graph, record: Mapping[str, NDArray[Any]], options: VerifyOptions) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """What both networks are fed: from a file, from the record, or made up."""
    arrays = read_arrays(options.inputs) if options.inputs is not None else recording.inputs(record)
    path = options.inputs or options.golden
    notices: list[str] = []
    found: dict[str, NDArray[Any]] = {}
    for value in graph.model.graph.inputs:
        name = value.name or ""
        if name in graph.model.graph.initializers:
            continue
        given = _given(value)
        if path is not None:
            found[name] = feeds.taken(arrays, (name,), given, path, notices)
        else:
            hint = f"feed values of the shape that you want: '--input x.npz', with an array '{name}'"
            found[name] = feeds.made_up(name, given, seed=options.seed, number=len(found), fill="normal", notices=notices, hint=hint)
    if options.inputs is not None:
        notices += feeds.not_taken(arrays, found)
    return found, notices


def _given(value: ir.Value) -> feeds.Given:
    assert value.dtype is not None
    return feeds.Given(tuple([n if isinstance(n, int) else None for n in value.shape or ()]), DTYPES[value.dtype.name])


def _said(graph: Graph) -> Iterator[str]:
    if graph.generated:
        yield "no weights were given: these are made up, and the network computes nothing of use"
    yield from graph.notices
