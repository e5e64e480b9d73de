"""A network of mixed precision: each layer computes in the type that a plan gives its weights, with casts where types meet.

TensorRT computes in the types that its tensors have. A layer that holds weights takes the widest type that the plan gives one of them,
float32 where they are not named; a product with a constant takes the constant's. Other layers follow what they read, the widest of it.
float16 and bfloat16 together make float32, which alone holds both. Numbers that the graph states outside of its weights have the type
of the layer that reads them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from porter.check.precision.plan import check_names
from porter.dataclass import replace
from porter.errors import TensorRTError
from porter.tensorrt import layers
from porter.tensorrt.layers import Layer, Network, Operation, Weights, stored, weights_of
from porter.tensorrt.lowering.naming import Names
from porter.tensorrt.lowering.weight_casts import WIDE, WeightCasts

COMPUTED = ("float32", "float16", "bfloat16")
"""What layers compute in."""


def mixed(
    network: Network,
    plan: Mapping[str, str],
    known: Collection[str] = (),
    made_of: Mapping[str, Sequence[str]] | None = None,
    path: str | None = None,
) -> Network:
    """`network` with the element types of `plan`, by the names of `stored`, of the weights' sources, or of the file's tensors that
    these come from; reads the weights that change.

    Its inputs and outputs stay as they are. known: names of the weights' file, which a plan may name though the network holds no such
    tensor, such as Caffe's scale factors. made_of: see `porter.graph.builder.made_of`. path: of the plan, for errors.

    Raises:
        UsageError: the plan names a tensor that is nowhere.
        TensorRTError: it gives a type that no layer computes in, or narrows what is no float32.
    """
    made_of = made_of or {}
    held = _held(network, made_of)
    _check(plan, held, known, path)
    unused = [n for n in plan if n not in held]
    through = {n: _widest(plan.get(f, WIDE) for f in files) for n, files in made_of.items() if any(f in plan for f in files)}
    mixing = _Mixing(network, {**through, **plan}, frozenset(n for n, files in made_of.items() if not files))
    for layer in network.layers:
        mixing.layer(layer)
    for name in network.outputs:
        mixing.leave(name)
    return mixing.result(unused)


def _held(network: Network, made_of: Mapping[str, Sequence[str]]) -> dict[str, Weights]:
    """What is held, by its own name, by the names of what it was made of, and of what that was made of."""
    own = {**stored(network), **{w.tensor.name: w for la in network.layers for w in weights_of(la.operation).values()}}
    sources = {source: w for w in own.values() for source in w.sources}
    return {**{file: w for source, w in sources.items() for file in made_of.get(source, ())}, **sources, **own}


def _check(plan: Mapping[str, str], held: Mapping[str, Weights], known: Collection[str], path: str | None) -> None:
    check_names(plan, {*held, *known}, path)
    for name, dtype in plan.items():
        own = held[name].tensor.dtype.name if name in held else dtype
        if own == dtype:
            continue
        if dtype not in COMPUTED:
            hint = f"give it one of {', '.join(COMPUTED)}; narrower types need scales: 'porter quantize'"
            raise TensorRTError("T004", f"no layer computes in {dtype}", path=path, tensor=name, hint=hint)
        if own != WIDE:
            raise TensorRTError("T004", f"the plan makes {dtype} of {own}, and only {WIDE} is narrowed", path=path, tensor=name)


def _widest(dtypes: Iterable[str]) -> str:
    found = set(dtypes)
    return found.pop() if len(found) == 1 else WIDE


class _Mixing:
    """The network while it is made. now: the type of each float32 tensor of the original; free: constants that follow their readers.

    stated: sources that are numbers of the graph's own.
    """

    def __init__(self, network: Network, plan: Mapping[str, str], stated: Collection[str]) -> None:
        self.network = network
        self.plan = plan
        self.stated = stated
        self.casts = WeightCasts()
        self.layers: list[Layer] = []
        self.shapes, self.dtypes = dict(network.shapes), dict(network.dtypes)
        self.now = {name: WIDE for name, dtype in network.dtypes.items() if dtype == WIDE}
        self.free: dict[str, Layer] = {}
        self.constants: set[str] = set()
        self.counts = Counter[str]()
        self.called: dict[str, str] = {}
        self.wider: list[str] = []
        self._made: dict[tuple[str, str], str] = {}
        self.tensors, self.names = Names(), Names()
        for name in network.shapes:
            self.tensors.reserve(name)
        for layer in network.layers:
            self.names.reserve(layer.name)

    def layer(self, layer: Layer) -> None:
        """A layer in its type, and before it the casts that it needs."""
        operation = layer.operation
        if isinstance(operation, layers.Constant) and self._is_free(operation.weights) and not set(layer.outputs) & {*self.network.outputs}:
            self.free[layer.outputs[0]] = layer
        if isinstance(operation, layers.Cast | layers.Quantize | layers.Dequantize | layers.NonMaximumSuppression):
            # They have types of their own, or, for a cast, take any.
            dtype = WIDE
            inputs = layer.inputs if isinstance(operation, layers.Cast) else tuple([self._as(i, WIDE) for i in layer.inputs])
        else:
            dtype = self._type(layer)
            operation = self.casts.operation(operation, dtype)
            inputs = tuple([self._as(i, dtype) for i in layer.inputs])
        inputs = tuple([self.called.get(i, i) for i in inputs])
        self.layers.append(Layer(layer.name, operation, inputs, tuple([self._output(o, dtype) for o in layer.outputs])))
        if isinstance(operation, layers.Constant):
            self.constants.update(layer.outputs)

    def _is_free(self, weights: Weights) -> bool:
        named = weights.tensor.name in self.plan or any(s in self.plan for s in weights.sources)
        return not named and all(s in self.stated for s in weights.sources)

    def _type(self, layer: Layer) -> str:
        operation = layer.operation
        held = self._fixed(operation)
        if held:
            wanted = {w.tensor.name: self._planned(w) for w in held}
            dtype = _widest(wanted.values())
            self.counts[dtype] += 1
            if any(w not in (dtype, WIDE) for w in wanted.values()):
                others = ", ".join(f"'{name}' in {w}" for name, w in wanted.items())
                self.wider.append(f"layer '{layer.name}' computes in {dtype}, since its weights are planned so: {others}")
            return dtype
        read = [i for i in layer.inputs if i in self.now and i not in self.free]
        if isinstance(operation, layers.MatrixMultiply | layers.Einsum):
            read = [i for i in read if i in self.constants] or read
        return _widest(self.now[i] for i in read) if read else WIDE

    def _fixed(self, operation: Operation) -> list[Weights]:
        """The float32 weights of an operation whose types are the plan's; for a normalisation what its scale and shift are made of."""
        norm = operation.batch_norm if isinstance(operation, layers.Scale) else None
        held = [norm.weight, norm.bias, norm.mean, norm.variance] if norm is not None else list(weights_of(operation).values())
        return [w for w in held if w.tensor.dtype.name == WIDE and not self._is_free(w)]

    def _planned(self, weights: Weights) -> str:
        """The type of the plan, by the tensor's own name or by all that it was made of; a part that is not named stays as it is."""
        if weights.tensor.name in self.plan:
            return self.plan[weights.tensor.name]
        return _widest(self.plan.get(s, WIDE) for s in weights.sources) if weights.sources else WIDE

    def _as(self, name: str, dtype: str) -> str:
        """The tensor that holds `name` in `dtype`; made by a cast, or a constant once more, where there is none."""
        if self.now.get(name, dtype) == dtype:
            return name
        if (name, dtype) not in self._made:
            made = self._new(name, dtype)
            if name in self.free:
                constant = self.free[name].operation
                assert isinstance(constant, layers.Constant)
                weights = self.casts.weights(constant.weights, dtype, f"{constant.weights.tensor.name}/{dtype}")
                self.layers.append(Layer(self.names.take(made), layers.Constant(weights), (), (made,)))
            else:
                self.layers.append(Layer(self.names.take(made), layers.Cast(dtype), (self.called.get(name, name),), (made,)))
            self._made[name, dtype] = made
        return self._made[name, dtype]

    def _new(self, name: str, dtype: str) -> str:
        made = self.tensors.take(f"{name}/{dtype}")
        self.shapes[made], self.dtypes[made] = self.shapes[name], dtype
        return made

    def _output(self, name: str, dtype: str) -> str:
        """What an output is called: its own name, unless it is marked and has to be cast back."""
        if name not in self.now:
            return name
        self.now[name] = dtype
        if name in self.network.outputs and dtype != WIDE:
            self.called[name] = self._new(name, dtype)
            return self.called[name]
        self.dtypes[name] = dtype
        return name

    def leave(self, name: str) -> None:
        """A cast before an output that is computed in another type."""
        if name in self.called:
            self.layers.append(Layer(self.names.take(f"{name}/{WIDE}"), layers.Cast(WIDE), (self.called[name],), (name,)))

    def result(self, unused: list[str]) -> Network:
        """The network; constants that nothing reads any more are left out."""
        read = {i for layer in self.layers for i in layer.inputs} | {*self.network.outputs}
        kept = [
            la
            for la in self.layers
            if not (isinstance(la.operation, layers.Constant) and la.outputs[0] in self.free) or la.outputs[0] in read
        ]
        notices = (*self.network.notices, *self._notices(unused))
        return replace(self.network, layers=tuple(kept), shapes=self.shapes, dtypes=self.dtypes, notices=notices)

    def _notices(self, unused: list[str]) -> Iterator[str]:
        parts = ", ".join(f"{self.counts[d]} in {d}" for d in COMPUTED if self.counts[d])
        casts = sum(isinstance(la.operation, layers.Cast) for la in self.layers)
        before = sum(isinstance(la.operation, layers.Cast) for la in self.network.layers)
        yield f"layers with weights, as planned: {parts}; {casts - before} casts between types, {self.casts.inexact} values were rounded"
        yield from self.wider
        if unused:
            few = ", ".join(unused[:3]) + (" …" if len(unused) > 3 else "")
            yield f"the plan names {len(unused)} tensors of the file that the network does not hold: {few}"
        yield from self.casts.losses()
