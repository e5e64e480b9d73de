"""An ONNX graph as a Caffe net: `deploy.prototxt`, and the weights under the names of its layers.

No layer works in place, so every value of the graph has a blob of its own, under its name. Shapes are numbers, the batch as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from porter.dataclass import dataclass
from porter.errors import GraphError
from porter.graph.analysis.values import Network, Node
from porter.graph.analysis.walk import Analysis
from porter.graph.caffe_source.forks import layers_of
from porter.graph.caffe_source.net import Blob, Net
from porter.graph.caffe_source.op import Context, Op, Refused
from porter.graph.caffe_source.table import OPERATORS
from porter.store import TensorStore

if TYPE_CHECKING:
    import onnx_ir as ir

_MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class CaffeSource:
    """A Caffe net. store: its weights, computed when they are read, and as notices what is not as in the model."""

    prototxt: str
    store: TensorStore


def emit(model: ir.Model, *, fork: str = "bvlc") -> CaffeSource:
    """`model` as a net for the Caffe called `fork`, one of `FORKS`. Reads small weights only.

    Raises:
        GraphError: a shape is open, or Caffe has no layers for some operators, which are all listed.
        UsageError: porter does not know the fork.
    """
    extra = layers_of(fork)
    network = Analysis(model, lambda op_type, domain: True).graph(model.graph, {})
    net = Net(model.graph.name or "net")
    for name in network.inputs:
        value = network.values[name]
        if value.static is None or value.dtype != "float32":
            what = (
                f"is {value.dtype}"
                if value.static is not None
                else f"has the shape {list(value.shape) if value.shape is not None else None}"
            )
            raise GraphError(
                "G061", f"the input '{name}' {what}; Caffe's are float32 of a fixed shape", hint="make the model for one size of batch"
            )
        net.inputs[name] = net.values[name] = Blob(value.static)
    _write(network, net, extra)
    for name in network.outputs:
        net.outputs[name] = net.values[name]
    return CaffeSource(*net.finish())


def _write(network: Network, net: Net, extra: frozenset[str]) -> None:
    """All nodes as layers.

    Raises:
        GraphError: for all that cannot be together.
    """
    readers: dict[str, list[Node]] = {}
    for node in network.nodes:
        for name in dict.fromkeys(n for n in node.inputs if n):
            readers.setdefault(name, []).append(node)
    context = Context(net, network.values, extra, readers, frozenset(network.outputs))
    refused: dict[tuple[str, str], list[str]] = {}

    def refuse(node: Node, why: str) -> None:
        kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        refused.setdefault((kind, why), []).append(node.name or next((o for o in node.outputs if o), ""))

    for number, node in enumerate(network.nodes):
        if node.outputs[0] in context.absorbed:
            continue
        entry = OPERATORS.get(node.op_type) if not node.domain else None
        if entry is None:
            refuse(node, "Caffe has no layers for it")
            continue
        try:
            entry.write(Op(context, node, number))
        except Refused as why:
            refuse(node, str(why))
        except (LookupError, ValueError, TypeError, ArithmeticError, AttributeError) as error:
            raise GraphError("G083", f"{node.op_type} '{node.name}' is broken: {type(error).__name__}: {error}") from error
    for name in network.outputs:
        if name not in net.values and not refused:
            try:
                context.blob(name)
            except Refused as why:
                refused[("output", str(why))] = [name]
    if refused:
        raise _refusal(refused)


def _refusal(refused: dict[tuple[str, str], list[str]]) -> GraphError:
    said = []
    for (kind, why), names in refused.items():
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        said.append(f"{kind} {', '.join(repr(n) for n in names[:_MOST_NAMED])}{more}: {why}")
    count = sum(map(len, refused.values()))
    hint = "cut the model in front of these, or write it for another Caffe: '--to caffe:ssd'"
    return GraphError("G060", f"{count} operator{'s' * (count != 1)} cannot be written as layers of Caffe. {'; '.join(said)}", hint=hint)
