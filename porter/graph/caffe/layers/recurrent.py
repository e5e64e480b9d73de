"""Recurrent layers, unrolled over their steps as Caffe unrolls them; where `cont` is 0, the state begins anew.

Source: BVLC recurrent_layer.cpp, lstm_layer.cpp, lstm_unit_layer.cpp, rnn_layer.cpp.
"""

from __future__ import annotations

from porter.dataclass import dataclass
from porter.graph.builder import GraphBuilder, Named
from porter.graph.caffe.layer import Layer
from porter.graph.caffe.layers.shape import split_in

MOST_STEPS = 2000
"""The longest sequence that is unrolled: a graph of more than 20,000 nodes takes minutes to open."""


@dataclass(frozen=True, slots=True)
class Sequences:
    """What goes into the steps: for each the input's share of the gates and `cont`, as (streams, gates) and (streams, 1).

    state: hidden values (and cells) before the first step, as (streams, num_output); None where they are 0.
    recurrent: index of the blob that the hidden values meet.
    """

    steps: int
    streams: int
    units: int
    inputs: list[Named]
    cont: list[Named]
    state: list[Named | None]
    exposed: bool
    recurrent: int


def lstm(layer: Layer) -> None:
    """Long short-term memory; gates in Caffe's order: input, forget, output, candidate."""
    sequences = _sequences(layer, gates=4, states=("h", "c"))
    builder = layer.builder
    weight = layer.weight(sequences.recurrent, (4 * sequences.units, sequences.units))
    hidden, cell = sequences.state
    outputs = []
    for t in range(sequences.steps):
        gates = _gates(builder, sequences, t, hidden, weight)
        i, f, o, g = split_in(builder, gates, 1, [sequences.units] * 4, hint=f"gates_{t + 1}")
        i, o = (builder.unary("Sigmoid", gate, hint=f"{name}_{t + 1}") for gate, name in ((i, "i"), (o, "o")))
        fresh = builder.binary("Mul", i, builder.unary("Tanh", g, hint=f"g_{t + 1}"), hint=f"fresh_{t + 1}")
        if cell is None:
            cell = fresh
        else:
            kept = builder.binary("Mul", builder.unary("Sigmoid", f, hint=f"f_{t + 1}"), sequences.cont[t], hint=f"keep_{t + 1}")
            cell = builder.binary("Add", builder.binary("Mul", kept, cell, hint=f"kept_{t + 1}"), fresh, hint=f"c_{t + 1}")
        hidden = builder.binary("Mul", o, builder.unary("Tanh", cell, hint=f"tanh_{t + 1}"), hint=f"h_{t + 1}")
        outputs.append(hidden)
    _put(layer, sequences, outputs, [hidden, cell])


def rnn(layer: Layer) -> None:
    """tanh(W h + W x + b), and tanh of a linear map of that as the top."""
    sequences = _sequences(layer, gates=1, states=("h",))
    builder, units = layer.builder, sequences.units
    weight = layer.weight(sequences.recurrent, (units, units))
    out_weight, out_bias = layer.weight(sequences.recurrent + 1, (units, units)), layer.weight(sequences.recurrent + 2, (units,))
    (hidden,) = sequences.state
    outputs = []
    for t in range(sequences.steps):
        hidden = builder.unary("Tanh", _gates(builder, sequences, t, hidden, weight), hint=f"h_{t + 1}")
        mapped = builder.op("Gemm", [hidden, out_weight, out_bias], hidden.shape, {"transB": 1}, hint=f"map_{t + 1}")
        outputs.append(builder.unary("Tanh", mapped, hint=f"o_{t + 1}"))
    _put(layer, sequences, outputs, [hidden])


def _sequences(layer: Layer, gates: int, states: tuple[str, ...]) -> Sequences:
    """The bottoms: x, cont, a static input where there is one, and the states before the first step where they are exposed."""
    units = layer.parameters.integer("recurrent_param.num_output", 0)
    exposed = layer.parameters.flag("recurrent_param.expose_hidden", False)
    least = 2 + len(states) * exposed
    layer.need_bottoms(least, least + 1)
    static = layer.bottoms[2] if len(layer.bottoms) > least else None
    x, cont = layer.bottoms[:2]
    for bottom in (x, cont):
        layer.need_fixed(bottom, 0, "it counts the steps of a sequence, each of which is a part of the graph")
    if units < 1:
        raise layer.error("G010", "recurrent_param.num_output has to be stated, and at least 1")
    if x.rank < 2 or tuple(cont.shape) != tuple(x.shape[:2]):
        raise layer.error(
            "G001", f"its second bottom is {list(cont.shape)}, and says for each step and stream of {list(x.shape)} if it goes on"
        )
    if static is not None and (not static.rank or static.shape[0] != x.shape[1]):
        raise layer.error("G001", f"its static input is {list(static.shape)}, and has to be one for each of {x.shape[1]} streams")
    steps, streams = x.shape[:2]
    if steps > MOST_STEPS:
        raise layer.error("G019", f"its sequences have {steps} steps, each of which would be a part of the graph")
    builder = layer.builder
    inputs = split_in(builder, _projected(layer, x, steps * streams, gates * units, 0, bias=True), 0, [streams] * steps, hint="x")
    if static is not None:
        fixed = _projected(layer, static, streams, gates * units, 2, bias=False)
        inputs = [builder.binary("Add", part, fixed, hint=f"x_static_{t + 1}") for t, part in enumerate(inputs)]
    goes_on = split_in(builder, builder.reshape(cont, (steps * streams, 1), hint="cont"), 0, [streams] * steps, hint="cont")
    state: list[Named | None] = [None] * len(states)
    if exposed:
        for i, bottom in enumerate(layer.bottoms[-len(states) :]):
            if tuple(bottom.shape) != (1, streams, units):
                raise layer.error("G001", f"its state {states[i]} is {list(bottom.shape)}, and has to be {[1, streams, units]}")
            state[i] = builder.reshape(bottom, (streams, units), hint=f"{states[i]}_0")
    else:
        layer.assume("the state before the first step is 0; Caffe goes on from its last run where cont is not 0 there")
    return Sequences(steps, streams, units, inputs, goes_on, state, exposed, 2 if static is None else 3)


def _projected(layer: Layer, x: Named, rows: int, columns: int, blob: int, *, bias: bool) -> Named:
    """All rows of `x` times a weight, in one product."""
    flat = layer.builder.reshape(x, (rows, _rest(x, rows)), hint="flat")
    inputs = [flat, layer.weight(blob, (columns, flat.shape[1]))]
    if bias:
        inputs.append(layer.weight(blob + 1, (columns,)))
    return layer.builder.op("Gemm", inputs, (rows, columns), {"transB": 1}, hint="projected")


def _rest(x: Named, rows: int) -> int:
    import math

    return math.prod(x.shape) // rows


def _gates(builder: GraphBuilder, sequences: Sequences, t: int, hidden: Named | None, weight: Named) -> Named:
    """What goes into the gates of step `t` from the hidden values before it, which `cont` keeps or forgets, and from the input."""
    if hidden is None:
        return sequences.inputs[t]
    kept = builder.binary("Mul", hidden, sequences.cont[t], hint=f"h_conted_{t}")
    return builder.op("Gemm", [kept, weight, sequences.inputs[t]], sequences.inputs[t].shape, {"transB": 1}, hint=f"gate_input_{t + 1}")


def _put(layer: Layer, sequences: Sequences, outputs: list[Named], states: list[Named | None]) -> None:
    """The outputs of all steps, and the states after the last where they are exposed."""
    builder = layer.builder
    joined = builder.concat(outputs, 0, hint="steps")
    layer.put(builder.reshape(joined, (sequences.steps, sequences.streams, sequences.units), hint=None))
    if sequences.exposed:
        for state in states:
            assert state is not None
            layer.put(builder.reshape(state, (1, sequences.streams, sequences.units), hint="state"))
