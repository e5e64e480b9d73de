"""LSTM, GRU and RNN as PyTorch's layers, and Scan as a loop.

ONNX has the gates of an LSTM as i, o, f, c and of a GRU as z, r, h; PyTorch as i, f, g, o and r, z, n.

Source: onnx/onnx docs/Operators.md (LSTM, GRU, RNN, Scan), PyTorch 2.13 torch/nn/modules/rnn.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from porter.graph.analysis.values import Constant
from porter.graph.torch_source.op import Op, options

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
"""Which of ONNX's gates each of PyTorch's is."""
_ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}


def recurrent(op: Op) -> None:
    """`nn.LSTM`, `nn.GRU` or `nn.RNN`; its outputs as ONNX lays them out."""
    kind, direction = op.node.op_type, op.attribute("direction", "forward")
    both = direction == "bidirectional"
    _check(op, kind, direction, both)
    w, r, b = op.constant(1), op.constant(2), op.constant(3) if op.has(3) else None
    if w is None or r is None or (op.has(3) and b is None):
        raise op.refuse("its weights are computed when the network runs")
    directions, _, inputs = w.shape
    hidden = r.shape[2]
    activations = op.attribute("activations") or _ACTIVATIONS[kind] * directions
    relu = kind == "RNN" and set(activations) == {"Relu"}
    given = options(
        nonlinearity='"relu"' if relu else None,
        bias=None if b is not None else "False",
        bidirectional="True" if both else None,
    )
    state: dict[str, int | Constant] = {}
    for d in range(directions):
        end = "_l0_reverse" if d else "_l0"
        state[f"weight_ih{end}"] = _part(w, kind, d, hidden)
        state[f"weight_hh{end}"] = _part(r, kind, d, hidden)
        if b is not None:
            half = len(_GATES[kind]) * hidden
            state[f"bias_ih{end}"] = _part(b, kind, d, hidden, 0, half)
            state[f"bias_hh{end}"] = _part(b, kind, d, hidden, half, 2 * half)
    layer = op.layer(f"nn.{kind}({inputs}, {hidden}{given})", state)
    assert layer is not None
    _call(op, layer, kind, directions, direction == "reverse", hidden)


def _call(op: Op, layer: str, kind: str, directions: int, backwards: bool, hidden: int) -> None:
    x = op.text(0)
    if backwards:
        x = op.let(f"{x}.flip(0)", "backwards")
    states = [op.text(i) for i in ((5, 6) if kind == "LSTM" else (5,)) if op.has(i)]
    if kind == "LSTM" and len(states) == 1:
        present, index = states[0], 5 if op.has(5) else 6
        states = [present, f"torch.zeros_like({present})"] if index == 5 else [f"torch.zeros_like({present})", present]
    given = f", ({states[0]}, {states[1]})" if len(states) == 2 else f", {states[0]}" if states else ""
    steps = op.let_name(0, "steps")
    last, cell = op.let_name(1, "last") if op.used(1) else "_", op.let_name(2, "cell") if op.used(2) else "_"
    target = f"({last}, {cell})" if kind == "LSTM" and (last, cell) != ("_", "_") else "_" if kind == "LSTM" else last
    op.source.line(f"{steps}, {target} = {layer}({x}{given})")
    if op.used(0):
        if backwards:
            steps = f"{steps}.flip(0)"
        if directions == 1:
            op.put(f"{steps}.unsqueeze(1)")
        else:
            split = op.let(f"{steps}.unflatten(2, (2, {hidden}))", "directions")
            op.put(f"{split}.permute(0, 2, 1, 3)")
    for index, name in ((1, last), (2, cell)):
        if op.used(index):
            op.put(name, index)


def _check(op: Op, kind: str, direction: str, both: bool) -> None:
    """Refuse what PyTorch's layers do not do."""
    if op.has(4):
        raise op.refuse("its sequences have lengths of their own")
    if op.has(7) or op.attribute("clip") is not None or op.attribute("input_forget", 0) or op.attribute("layout", 0):
        raise op.refuse("it has peepholes, a bound, coupled gates or the batch first")
    activations = op.attribute("activations")
    usual = _ACTIVATIONS[kind] * (2 if both else 1)
    if activations and activations != usual and not (kind == "RNN" and set(activations) == {"Relu"}):
        raise op.refuse(f"its activations are {', '.join(activations)}")
    if kind == "GRU" and not op.attribute("linear_before_reset", 0):
        raise op.refuse("it resets before the product with the weights, which PyTorch's GRU does behind it")
    if direction not in ("forward", "reverse", "bidirectional"):
        raise op.refuse(f"its direction is '{direction}'")


def _part(whole: Constant, kind: str, direction: int, hidden: int, start: int = 0, stop: int | None = None) -> Constant:
    """The weights of one direction with PyTorch's order of gates."""
    gates = _GATES[kind]
    rows = (whole.shape[1] if stop is None else stop) - start

    def load() -> NDArray[Any]:
        import numpy as np

        part = whole.array()[direction, start : start + rows]
        return np.concatenate([part[g * hidden : (g + 1) * hidden] for g in gates])

    return Constant(whole.dtype, (rows, *whole.shape[2:]), load)


def scan(op: Op) -> None:
    """A loop over the steps, with the body's statements in it."""
    body = op.node.graphs["body"]
    count = int(op.attribute("num_scan_inputs"))
    if op.version < 9:
        raise op.refuse("Scan of opset 8 has a batch")
    names = ("scan_input_axes", "scan_input_directions", "scan_output_axes", "scan_output_directions")
    if any(any(op.attribute(name) or []) for name in names):
        raise op.refuse("it goes along another axis than the first, or backwards")
    states = len(op.node.inputs) - count
    outer = op.source
    carried = []
    for i in range(states):
        # The name stands for the state in every step.
        name = outer.variable(body.inputs[i])
        outer.line(f"{name} = {op.text(i)}")
        carried.append(name)
    lists = [outer.names.take(f"{name}_steps") for name in op.node.outputs[states:]]
    for name, used in zip(lists, range(states, len(op.node.outputs)), strict=True):
        if op.used(used):
            outer.line(f"{name} = []")
    parts = [op.text(states + i) for i in range(count)]
    step = outer.names.take("step")
    outer.line(f"for {step} in range({parts[0]}.shape[0]):")
    op.source.depth += 1
    for part, name in zip(parts, body.inputs[states:], strict=True):
        outer.line(f"{outer.variable(name)} = {part}[{step}]")
    op.write(body)
    for i, name in enumerate(lists):
        if op.used(states + i):
            outer.line(f"{name}.append({outer.expression(body.outputs[states + i])})")
    made = [outer.expression(name) for name in body.outputs[:states]]
    outer.line(f"{', '.join(carried)} = {', '.join(made)}")
    op.source.depth -= 1
    for i, name in enumerate(carried):
        if op.used(i):
            op.put(name, i)
    for i, name in enumerate(lists):
        if op.used(states + i):
            op.put(f"torch.stack({name})", states + i)
