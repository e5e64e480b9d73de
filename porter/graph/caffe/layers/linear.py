"""Layers that multiply by weights and add them: InnerProduct, Embed, Scale, Bias.

Source: BVLC/caffe inner_product_layer.cpp, embed_layer.cpp, scale_layer.cpp, bias_layer.cpp at 9b891540183d.
"""

from __future__ import annotations

import math

from porter.graph.builder import Shape, merged
from porter.graph.caffe.layer import Layer


def inner_product(layer: Layer) -> None:
    """All axes from `axis` on as one vector, times a matrix."""
    layer.need_bottoms(1)
    (x,) = layer.bottoms
    outputs = layer.parameters.integer("inner_product_param.num_output", 0)
    if outputs < 1:
        raise layer.error("G010", f"num_output is {outputs}, and there must be an output")
    axis = layer.axis(layer.parameters.integer("inner_product_param.axis", 1))
    transposed = layer.parameters.flag("inner_product_param.transpose", False)
    lead, inner = x.shape[:axis], math.prod(x.shape[axis:])
    _need_fixed(layer, axis, x.rank)
    inputs = [layer.weight(0, (inner, outputs) if transposed else (outputs, inner))]
    if layer.parameters.flag("inner_product_param.bias_term", True):
        inputs.append(layer.weight(1, (outputs,)))
    rows = merged(lead) if lead else 1
    flat = x if axis == 1 and x.rank == 2 else layer.builder.op("Flatten", [x], (rows, inner), {"axis": axis}, hint="flatten")
    attributes = {} if transposed else {"transB": 1}
    made = layer.builder.op("Gemm", [flat, *inputs], (rows, outputs), attributes, hint=None if axis == 1 else "product")
    layer.put(layer.builder.reshape(made, (*lead, outputs), hint=None))


def embed(layer: Layer) -> None:
    """The row of a matrix for each index; indices come as floats and lose their fraction."""
    layer.need_bottoms(1)
    (x,) = layer.bottoms
    rows = layer.parameters.integer("embed_param.input_dim", 0)
    outputs = layer.parameters.integer("embed_param.num_output", 0)
    if rows < 1 or outputs < 1:
        raise layer.error("G010", f"input_dim is {rows} and num_output {outputs}, and both must be stated")
    bias = layer.parameters.flag("embed_param.bias_term", True)
    indices = layer.builder.op("Cast", [x], x.shape, {"to": 7}, dtype="int64", hint="index")
    shape = (*x.shape, outputs)
    found = layer.builder.op("Gather", [layer.weight(0, (rows, outputs)), indices], shape, {"axis": 0}, hint="rows" if bias else None)
    layer.put(layer.builder.binary("Add", found, layer.weight(1, (outputs,))) if bias else found)


def scale(layer: Layer) -> None:
    """Times a blob or a second bottom that lies over some axes, plus a bias that lies over the same."""
    layer.need_bottoms(1, 2)
    x = layer.bottoms[0]
    axis, over = _covered(layer, "scale_param")
    bias = layer.parameters.flag("scale_param.bias_term", False)
    aligned = _aligned(x.shape, axis, over)
    factor = (
        layer.builder.reshape(layer.bottoms[1], aligned, "factor") if len(layer.bottoms) == 2 else layer.weight(0, over, aligned=aligned)
    )
    made = layer.builder.binary("Mul", x, factor, hint="scaled" if bias else None)
    if bias:
        _need_fixed(layer, axis, axis + len(over))
        made = layer.builder.binary("Add", made, layer.weight(2 - len(layer.bottoms), over, aligned=aligned))
    layer.put(made)


def bias(layer: Layer) -> None:
    """Plus a blob or a second bottom that lies over some axes."""
    layer.need_bottoms(1, 2)
    x = layer.bottoms[0]
    axis, over = _covered(layer, "bias_param")
    aligned = _aligned(x.shape, axis, over)
    addend = (
        layer.builder.reshape(layer.bottoms[1], aligned, "addend") if len(layer.bottoms) == 2 else layer.weight(0, over, aligned=aligned)
    )
    layer.put(layer.builder.binary("Add", x, addend))


def _covered(layer: Layer, param: str) -> tuple[int, Shape]:
    """The first axis that the factor or addend lies over, and its shape. One without axes is the same everywhere."""
    x = layer.bottoms[0]
    stated = layer.parameters.integer(f"{param}.axis", 1)
    count = layer.parameters.integer(f"{param}.num_axes", 1)
    if len(layer.bottoms) == 2:
        # `num_axes` does not count here: Caffe takes all that the second bottom has.
        over = layer.bottoms[1].shape
        axis = layer.axis(stated) if over else 0
        if tuple(x.shape[axis : axis + len(over)]) != tuple(over):
            raise layer.error("G017", f"its second bottom, {list(over)}, does not lie over {list(x.shape)} from axis {axis} on")
        return axis, over
    if count == 0:
        return 0, ()
    axis = layer.axis(stated)
    if count < -1 or axis + count > x.rank:
        raise layer.error("G015", f"{count} axes from axis {axis} on are more than the bottom's {x.rank}")
    over = x.shape[axis:] if count == -1 else x.shape[axis : axis + count]
    _need_fixed(layer, axis, axis + len(over))
    return axis, over


def _need_fixed(layer: Layer, first: int, stop: int) -> None:
    for axis in range(first, stop):
        layer.need_fixed(layer.bottoms[0], axis, "its weights span it")


def _aligned(shape: Shape, axis: int, over: Shape) -> Shape:
    """`over` with ones behind it, so that broadcasting lays it over `shape` from `axis` on."""
    return (*over, *[1] * (len(shape) - axis - len(over))) if over else ()
