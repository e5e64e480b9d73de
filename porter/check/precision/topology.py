"""What follows what, by the graph that a weight file has or belongs to: normalisations to fold, neighbours to equalise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from porter.check.precision.equalisation import Neighbours
from porter.check.precision.folding import FoldedTensor
from porter.graph.builder import made_of
from porter.graph.fold import Folded, fold_batch_norm
from porter.store import TensorStore
from porter.tensor import Tensor

if TYPE_CHECKING:
    import onnx_ir as ir

_EVEN = frozenset(
    (
        *("Relu", "LeakyRelu", "PRelu", "Identity", "Dropout", "Flatten"),
        *("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool"),
    )
)
"""Operators f with f(s · x) = s · f(x) for each channel and s > 0."""

_OUTPUT_AXIS = {"Conv": 0, "ConvTranspose": 1, "Gemm": 0, "MatMul": -1}
_INPUT_AXIS = {"Conv": 1, "ConvTranspose": 0, "Gemm": 1, "MatMul": -2}


class Topology:
    """The graph `model` over the tensors of `store`. Folding changes it for good."""

    def __init__(self, model: ir.Model, store: TensorStore) -> None:
        self._model = model
        self._store = store
        names = made_of(model)
        # Old models list their weights as inputs too, for whoever runs them with others.
        for value in [v for v in model.graph.inputs if v.name in model.graph.initializers]:
            model.graph.inputs.remove(value)
        # What folding puts in the place of a value is another one, whatever its name.
        self._names = {value: names.get(name, (name,)) for name, value in model.graph.initializers.items()}
        for number, node in enumerate(model.graph):
            if not node.name:
                node.name = f"{node.op_type}_{number}"

    @property
    def epsilons(self) -> tuple[float, ...]:
        """What the normalisations that are left add to their variances, each once."""
        nodes = [n for n in self._model.graph if n.op_type == "BatchNormalization"]
        found = [n.attributes["epsilon"].as_float() if "epsilon" in n.attributes else 1e-5 for n in nodes]
        return tuple(dict.fromkeys(found))

    def fold(self) -> Iterator[FoldedTensor]:
        """Fold every normalisation that can be, into the weights and biases before it, as `port --fold-bn` does; what became of them."""
        inputs = {node.name: list(node.inputs) for node in self._model.graph}
        folded = fold_batch_norm(self._model)
        nodes = {node.name: node for node in self._model.graph}
        for one in folded:
            node = nodes[one.into]
            # A normalisation into which a factor went is no weight.
            if node.op_type != "BatchNormalization":
                yield from self._tensors(node, inputs[one.into], self._sources(one, inputs))

    def _tensors(self, node: ir.Node, before: Sequence[ir.Value | None], names: tuple[str, ...]) -> Iterator[FoldedTensor]:
        for index in (1, 2):
            old = self._of_file(before[index]) if index < len(before) else None
            new = node.inputs[index]
            if new is not None and new.const_value is not None:
                yield FoldedTensor(_tensor(new, old), old, names)

    def _sources(self, folded: Folded, inputs: Mapping[str | None, Sequence[ir.Value | None]]) -> tuple[str, ...]:
        """Tensors of the file that went in."""
        read = [v for name in folded.nodes for v in inputs[name] if v is not None]
        return tuple(dict.fromkeys([name for v in read for name in self._names.get(v, ()) if name in self._store]))

    def _of_file(self, value: ir.Value | None) -> Tensor | None:
        names = self._names.get(value, ()) if value is not None else ()
        return self._store.get(names[0]) if len(names) == 1 else None

    def neighbours(self, among: Iterable[str]) -> Iterator[Neighbours]:
        """Weights that follow each other with nothing between that would not let a factor through, and that nothing else reads."""
        chosen = set(among)
        for node in self._model.graph:
            following = _following(node) if node.op_type in _OUTPUT_AXIS else None
            first, second = (self._weight(n) if n is not None else None for n in (node, following))
            if first is None or second is None or following is None or not {first.name, second.name} <= chosen:
                continue
            if _integer(node, "group") == 1 or node.op_type == "Conv":
                yield Neighbours(first, _axis(node, _OUTPUT_AXIS, first), second, _axis(following, _INPUT_AXIS, second))

    def _weight(self, node: ir.Node) -> Tensor | None:
        value = node.inputs[1] if len(node.inputs) > 1 else None
        if value is None or value.const_value is None or not value.is_initializer():
            return None
        old = self._of_file(value)
        return old if old is not None and old.shape == _shape(value) else _tensor(value, old)


def _following(node: ir.Node) -> ir.Node | None:
    """The next node with weights behind `node`, if each value on the way has one reader."""
    while True:
        value = node.outputs[0]
        uses = list(value.uses())
        if len(uses) != 1 or value.is_graph_output() or uses[0].idx:
            return None
        node = uses[0].node
        if node.op_type in _INPUT_AXIS:
            return node
        if node.op_type not in _EVEN and not _is_bias(node):
            return None


def _is_bias(node: ir.Node) -> bool:
    """Whether constants are added, which can take the factor as well."""
    return node.op_type == "Add" and node.inputs[1] is not None and node.inputs[1].is_initializer()


def _axis(node: ir.Node, axes: Mapping[str, int], tensor: Tensor) -> int:
    turned = node.op_type == "Gemm" and not _integer(node, "transB", 0)
    axis = 1 - axes[node.op_type] if turned else axes[node.op_type] % len(tensor.shape)
    # A depthwise convolution has its channels along the other axis.
    return 0 if axes is _INPUT_AXIS and node.op_type == "Conv" and tensor.shape[axis] == 1 else axis


def _integer(node: ir.Node, name: str, default: int = 1) -> int:
    return node.attributes[name].as_int() if name in node.attributes else default


def _shape(value: ir.Value) -> tuple[int, ...]:
    assert value.const_value is not None
    return tuple([int(n) for n in value.const_value.shape.numpy()])


def _tensor(value: ir.Value, old: Tensor | None) -> Tensor:
    """A constant of the graph, described as the file's tensor that it comes from is. Reads its values."""
    assert value.const_value is not None
    array = value.const_value.numpy()
    name = old.name if old is not None else value.name or ""
    if old is None or old.shape != array.shape:
        return Tensor.from_array(name, array)
    return Tensor.from_array(name, array, axes=old.axes, role=old.role, attributes=old.attributes)
