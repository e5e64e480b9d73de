"""An ONNX graph as PyTorch: the source of a module, the state that it loads, and the map from the graph's names to the state's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from porter.dataclass import dataclass
from porter.errors import GraphError, PorterError
from porter.graph.analysis.fusion import fuse
from porter.graph.analysis.values import Network
from porter.graph.analysis.walk import Analysis
from porter.graph.python_layout import WIDTH, statement, text_literal, tuple_literal
from porter.graph.state_map import map_of
from porter.graph.torch_source.op import Op
from porter.graph.torch_source.source import Source
from porter.graph.torch_source.state import state_of
from porter.graph.torch_source.table import is_supported, writer
from porter.mapping.syntax import Map
from porter.store import TensorStore

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True, slots=True)
class TorchSource:
    """A network as PyTorch.

    text: the source of `class Net`, as `ruff format` leaves it.
    state: what `Net().load_state_dict` takes, all of it, in the order of `Net().state_dict()`. Values are read when they are written.
    names: initialiser to the name in the state that holds its values; initialisers that became numbers in the source are not in it.
    map: from the initialisers to the state; it makes all of that but what was computed from several of them.
    """

    text: str
    state: TensorStore
    names: Mapping[str, str]
    map: Map


def emit(model: ir.Model) -> TorchSource:
    """Write `model`, of static shapes but for the batch, as PyTorch. Reads only small constants' values.

    Raises:
        GraphError: it has operators that are not in `SUPPORTED`, all of which are named, or one in a form that PyTorch has not.
    """
    if model.functions:
        raise GraphError("G081", "the model has functions of its own", hint="inline them first: 'onnx.inliner.inline_local_functions'")
    analysis = Analysis(model, is_supported)
    network = analysis.graph(model.graph, {})
    if analysis.unsupported:
        said = ", ".join(f"{name} ({count})" if count > 1 else name for name, count in sorted(analysis.unsupported.items()))
        raise GraphError("G082", f"operators that cannot be written as PyTorch: {said}", hint="write ONNX, which keeps them")
    fuse(network)
    source = Source(network)
    for name in network.inputs:
        source.variable(name)
    _write(source, network)
    text = _text(source, network)
    stored = {**source.parameters, **source.buffers, **source.modules}
    found = {s.constant.source: name for name, s in stored.items() if s.constant.source is not None}
    return TorchSource(text, state_of(stored), found, map_of(model, stored))


def _write(source: Source, network: Network) -> None:
    """The statements for the nodes of a network, or of the body of a loop."""
    source.values |= network.values
    used = _used(network)
    for node in network.nodes:
        op = Op(source, node, used, lambda body: _write(source, body))
        try:
            writer(node.op_type)(op)
        except (LookupError, ValueError, TypeError, ArithmeticError, AttributeError, AssertionError) as error:
            if isinstance(error, PorterError):
                raise
            raise op.refuse(f"the node is broken: {type(error).__name__}: {error}") from error


def _used(network: Network) -> frozenset[str]:
    """Values that something reads."""
    from porter.graph.analysis.values import Size

    used = set(network.outputs)
    for node in network.nodes:
        used.update(node.inputs)
        for body in node.graphs.values():
            used |= _used(body)
    for value in network.values.values():
        used.update(n for e in value.elements or () if isinstance(e, Size) for n in e.values())
    return frozenset(used)


def _text(source: Source, network: Network) -> str:
    """The whole file."""
    outputs = [source.expression(name) for name in network.outputs]
    inputs = [source.expressions[name] for name in network.inputs]
    several = f"tuple[{', '.join(['Tensor'] * len(outputs))}]" if len(outputs) <= 4 else "tuple[Tensor, ...]"
    kind = "Tensor" if len(outputs) == 1 else several
    forward = [*_signature(inputs, kind), *_docstring(network), *source.lines(f"return {', '.join(outputs)}")]
    lines = "\n".join([*_class_header(network), "", *_init(source), *forward, ""])
    parts = [_imports(lines, source), *source.helpers.values(), lines]
    return '"""A network as PyTorch, written by porter."""\n\n' + "\n\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _class_header(network: Network) -> list[str]:
    lines = ["class Net(nn.Module):", '    """The network; call `eval()` before use, as for any module."""', ""]
    for what, given in (("input_names", network.inputs), ("output_names", network.outputs)):
        lines += statement(f"{what} = {tuple_literal(map(text_literal, given))}", 1)
    return lines


def _init(source: Source) -> list[str]:
    if not source.tensors and not source.layers:
        return []
    return ["    def __init__(self) -> None:", "        super().__init__()", *source.tensors, *source.layers, ""]


def _signature(inputs: Sequence[str], kind: str) -> list[str]:
    """The first lines of `forward`."""
    given = ["self", *(f"{name}: Tensor" for name in inputs)]
    short = f"    def forward({', '.join(given)}) -> {kind}:"
    if len(short) <= WIDTH:
        return [short]
    line = f"        {', '.join(given)}"
    return ["    def forward(", *([line] if len(line) <= WIDTH else [f"        {g}," for g in given]), f"    ) -> {kind}:"]


def _docstring(network: Network) -> list[str]:
    """The shapes of what comes in and goes out."""
    shown = []
    for name in network.inputs:
        shape = network.values[name].shape
        shown.append("?" if shape is None else " x ".join(str(n) if isinstance(n, int) else "N" for n in shape) or "()")
    text = f'        """Inputs of shapes {", ".join(shown)}."""' if len(shown) != 1 else f'        """Input of shape {shown[0]}."""'
    return [text if len(text) <= WIDTH else '        """Inputs in the order of `input_names`."""']


def _imports(text: str, source: Source) -> str:
    everything = "\n".join([text, *source.helpers.values()])
    lines = ["import torch"] if "torch." in everything else []
    if "F." in everything and any(f"{mark}F." in everything for mark in (" ", "(", "[", "-")):
        lines.append("import torch.nn.functional as F")
    return "\n".join([*lines, "from torch import Tensor, nn"])
