"""An ONNX graph as layers of TensorRT: the network that someone who builds such networks by hand would write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from porter.errors import PorterError, TensorRTError
from porter.graph.analysis.fusion import fuse
from porter.graph.analysis.values import Network, Node, Size
from porter.graph.analysis.walk import Analysis
from porter.tensorrt import layers
from porter.tensorrt.lowering.assembly import Assembly
from porter.tensorrt.lowering.codes import weights_as_codes
from porter.tensorrt.lowering.op import Op, Refusal
from porter.tensorrt.lowering.precision import narrowed
from porter.tensorrt.lowering.table import is_supported, lowering, reason
from porter.tensorrt.lowering.types import TensorType

if TYPE_CHECKING:
    import onnx_ir as ir

PRECISIONS = ("float32", "float16", "bfloat16")
"""What a network can compute in."""


def lower(model: ir.Model, *, precision: str = "float32", codes: bool = True) -> layers.Network:
    """`model` as layers of TensorRT. Reads small constants' values, and all weights where `precision` narrows them.

    codes: whether weights that are stored as int8 stay that; else they become the numbers that they stand for.

    Raises:
        TensorRTError: it has operators, or forms of them, that TensorRT has no layers for; all of them are named.
    """
    if precision not in PRECISIONS:
        raise TensorRTError("T004", f"no network computes in {precision}", hint=f"there are {', '.join(PRECISIONS)}")
    if model.functions:
        raise TensorRTError("T003", "the model has functions of its own", hint="inline them first: 'onnx.inliner.inline_local_functions'")
    _check_tensors(model)
    kept = weights_as_codes(model)
    analysis = Analysis(model, is_supported, kept)
    network = analysis.graph(model.graph, {})
    fuse(network)
    assembly = Assembly(network, frozenset(model.graph.initializers), kept if codes else None)
    _lower(assembly)
    outputs = _outputs(assembly)
    values = {value: tensor for value, tensor in assembly.tensors.items() if value in network.values}
    made = layers.Network(
        tuple([layers.Input(n, assembly.types[n].dtype, assembly.types[n].shape) for n in network.inputs]),
        tuple(assembly.layers),
        outputs,
        values,
        {name: t.shape for name, t in assembly.types.items()},
        {name: t.dtype for name, t in assembly.types.items()},
        tuple(assembly.notices),
    )
    return made if precision == "float32" else narrowed(made, precision)


def _check_tensors(model: ir.Model) -> None:
    """Refuse sequences, optional values and the like, which the analysis takes for what is in them."""
    import onnx_ir as ir

    others = [v.name for v in (*model.graph.inputs, *model.graph.outputs) if v.type is not None and not isinstance(v.type, ir.TensorType)]
    if others:
        raise _refused([f"'{name}': it is no tensor" for name in others])


def _lower(assembly: Assembly) -> None:
    """The layers of all nodes.

    Raises:
        TensorRTError: some have none; the others were looked at all the same.
    """
    refused = _inputs(assembly)
    readers = _readers(assembly.network)
    for node in assembly.network.nodes:
        # What depends on a value that nothing is known of would be refused for that alone.
        unknown = [name for name in node.inputs if name and not _is_known(assembly, name)]
        why = _unsupported(node, unknown, assembly) if unknown else _lowered(assembly, node, readers)
        if why is not None:
            refused.append(f"{node.op_type} '{node.name or node.outputs[0]}': {why}")
        if why is not None or unknown:
            _stand_in(assembly, node)
    if not refused:
        refused = [f"output '{name}': TensorRT has no such type" for name in assembly.network.outputs if not _is_known(assembly, name)]
    if refused:
        raise _refused(refused)


def _is_known(assembly: Assembly, name: str) -> bool:
    value = assembly.network.values.get(name)
    return name in assembly.tensors or (value is not None and (value.constant is not None or value.elements is not None))


def _inputs(assembly: Assembly) -> list[str]:
    """Put the inputs in their place; what TensorRT cannot take of them."""
    refused = []
    for name in assembly.network.inputs:
        value = assembly.network.values[name]
        shape = tuple([n if isinstance(n, int) else -1 for n in value.shape or ()])
        if value.shape is None or len(shape) > 8:
            refused.append(f"input '{name}': {'its shape is not known' if value.shape is None else 'it has more than 8 axes'}")
        elif value.dtype not in layers.DTYPES:
            refused.append(f"input '{name}': TensorRT has no {value.dtype or 'such type'}")
        if value.shape is not None and value.dtype is not None:
            assembly.types[name] = TensorType(shape, value.dtype)
            assembly.tensors[name] = name
    return refused


def _lowered(assembly: Assembly, node: Node, readers: dict[str, int]) -> str | None:
    """Lower one node; why that cannot be, or None."""
    if not is_supported(node.op_type, node.domain):
        return reason(node.op_type)
    try:
        lowering(node.op_type)(Op(assembly, node, readers))
    except Refusal as refusal:
        return str(refusal)
    except TensorRTError as error:
        return error.message
    except PorterError:
        raise
    except (LookupError, ValueError, TypeError, ArithmeticError, AttributeError, AssertionError) as error:
        return f"the node is broken: {type(error).__name__}: {error}"
    return None


def _unsupported(node: Node, unknown: list[str], assembly: Assembly) -> str | None:
    """Why a node cannot be lowered whatever it is that is unknown of its inputs, or None."""
    if not is_supported(node.op_type, node.domain):
        return reason(node.op_type)
    held = [name for name in unknown if name in assembly.initializers]
    return f"TensorRT has no type like that of '{held[0]}'" if held else None


def _stand_in(assembly: Assembly, node: Node) -> None:
    """Let the nodes behind one that was refused be looked at, too."""
    for output in node.outputs:
        value = assembly.network.values[output] if output else None
        if value is None or output in assembly.tensors or value.shape is None or value.dtype is None:
            continue
        assembly.tensors[output] = output
        assembly.types[output] = TensorType(tuple([n if isinstance(n, int) else -1 for n in value.shape]), value.dtype)


def _refused(refused: list[str]) -> TensorRTError:
    count = f"{len(refused)} parts of the network" if len(refused) > 1 else "a part of the network"
    hint = "write another target ('porter port --to onnx'), or cut the network before them and do the rest on the host"
    return TensorRTError("T001", f"TensorRT has no form of {count}: {'; '.join(refused)}", hint=hint)


def _readers(network: Network) -> dict[str, int]:
    """How many nodes, outputs and sizes read each value."""
    found: dict[str, int] = {}
    names = [name for node in network.nodes for name in node.inputs] + network.outputs
    names += [n for v in network.values.values() for e in v.elements or () if isinstance(e, Size) for n in e.values()]
    for name in names:
        found[name] = found.get(name, 0) + 1
    return found


def _outputs(assembly: Assembly) -> tuple[str, ...]:
    """The outputs' tensors, called as the graph calls them: what is called otherwise is copied."""
    marked: list[str] = []
    for name in assembly.network.outputs:
        tensor = assembly.tensor(name)
        if tensor != name or name in assembly.network.inputs or name in marked:
            copy = name if tensor != name and name not in marked else assembly.tensor_names.take(f"{name}/output")
            assembly.add(layers.Identity(), (tensor,), (copy,), assembly.layer_names.take(copy))
            assembly.tensors[name] = copy
        marked.append(assembly.tensors[name])
    return tuple(marked)
