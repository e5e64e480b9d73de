"""Layers that put several values together, or pick and sum up some of one."""

from __future__ import annotations

from collections.abc import Sequence

from porter.graph.builder import Batch, GraphBuilder, Named, merged
from porter.graph.caffe.layer import Layer
from porter.graph.caffe.layers.shape import reversed_along


def eltwise(layer: Layer) -> None:
    """Product, sum with coefficients, or maximum of bottoms of one shape. Source: BVLC eltwise_layer.cpp."""
    layer.need_bottoms(2, max(2, len(layer.bottoms)))
    operation = layer.parameters.choice("eltwise_param.operation", ("PROD", "SUM", "MAX"), "SUM")
    coefficients = layer.parameters.numbers("eltwise_param.coeff")
    layer.parameters.ignore("eltwise_param.stable_prod_grad")  # about the gradient
    first = layer.bottoms[0]
    for other in layer.bottoms[1:]:
        if not _same(first.shape, other.shape):
            raise layer.error("G001", f"its bottoms are {list(first.shape)} and {list(other.shape)}, and have to be of one shape")
    if coefficients and (operation == "PROD" or len(coefficients) != len(layer.bottoms)):
        raise layer.error("G010", f"it has {len(coefficients)} coefficients; a sum takes one for each of its {len(layer.bottoms)} bottoms")
    if operation == "MAX":
        layer.put(layer.builder.op("Max", layer.bottoms, first.shape))
    elif operation == "PROD":
        layer.put(_chain(layer.builder, "Mul", layer.bottoms))
    else:
        layer.put(_sum(layer.builder, layer.bottoms, coefficients or [1.0] * len(layer.bottoms)))


def axpy(layer: Layer) -> None:
    """a · x + y, with one factor for each channel. Source: hujie-frank/SENet axpy_layer.cpp."""
    layer.need_bottoms(3)
    a, x, y = layer.bottoms
    builder = layer.builder
    if x.rank < 2 or not _same(x.shape, y.shape) or not _same(a.shape[:2], x.shape[:2]) or any(n != 1 for n in a.shape[2:]):
        raise layer.error("G001", f"factors {list(a.shape)} do not go with {list(x.shape)} and {list(y.shape)}")
    factors = builder.reshape(a, (*x.shape[:2], *[1] * (x.rank - 2)), hint="factors")
    layer.put(builder.binary("Add", builder.binary("Mul", x, factors, hint="scaled"), y))


def argmax(layer: Layer) -> None:
    """Places of the largest values as floats, the values, or both; among equal ones the last comes first. Source: BVLC argmax_layer.cpp."""
    layer.need_bottoms(1)
    (x,) = layer.bottoms
    builder = layer.builder
    values_too = layer.parameters.flag("argmax_param.out_max_val", False)
    top_k = layer.parameters.integer("argmax_param.top_k", 1)
    stated = layer.parameters.optional_integer("argmax_param.axis")
    axis = 1
    if stated is not None:
        axis = layer.axis(stated)
    else:
        x = builder.reshape(x, (x.shape[0], merged(x.shape[1:])), hint="flat")
    layer.need_fixed(x, axis, "it looks for the largest values in that dimension")
    if not 1 <= top_k <= x.shape[axis]:
        raise layer.error("G010", f"argmax_param.top_k is {top_k}, and there are {x.shape[axis]} values")
    if stated is not None:
        layer.put(_largest(builder, x, axis, top_k) if values_too else _places(builder, x, axis, top_k))
        return
    ones = [1] * (max(layer.bottoms[0].rank, 3) - 3)
    places = _places(builder, x, 1, top_k, hint="places")
    if not values_too:
        layer.put(builder.reshape(places, (x.shape[0], 1, top_k, *ones), hint=None))
        return
    largest = _largest(builder, x, 1, top_k, hint="values")
    rows = [builder.reshape(part, (x.shape[0], 1, top_k, *ones), hint="row") for part in (places, largest)]
    layer.put(builder.concat(rows, 1))


def batch_reindex(layer: Layer) -> None:
    """Items of the first bottom picked by the numbers in the second. Source: BVLC batch_reindex_layer.cpp."""
    layer.need_bottoms(2)
    x, index = layer.bottoms
    if index.rank != 1:
        raise layer.error("G001", f"its second bottom has {index.rank} dimensions, and is a list of numbers")
    places = layer.builder.op("Cast", [index], index.shape, {"to": 7}, dtype="int64", hint="index")
    layer.put(layer.builder.op("Gather", [x, places], (index.shape[0], *x.shape[1:]), {"axis": 0}))


def filter_(layer: Layer) -> None:
    """The items of each bottom for which the last bottom is not 0; how many is known only when the net runs.

    Source: BVLC filter_layer.cpp.
    """
    layer.need_bottoms(2, max(2, len(layer.bottoms)))
    *bottoms, selector = layer.bottoms
    builder = layer.builder
    if any(n != 1 for n in selector.shape[1:]) or any(not _same(b.shape[:1], selector.shape[:1]) for b in bottoms):
        raise layer.error("G001", f"a selector {list(selector.shape)} does not have one value for each item of its other bottoms")
    flat = builder.reshape(selector, selector.shape[:1], hint="selector")
    chosen = builder.op("Cast", [flat], flat.shape, {"to": 9}, dtype="bool", hint="chosen")
    left = Batch(selector.shape[0], symbol=f"{layer.name}_items")
    for bottom in bottoms:
        layer.put(builder.op("Compress", [bottom, chosen], (left, *bottom.shape[1:]), {"axis": 0}))


def reduction(layer: Layer) -> None:
    """Sum, sum of magnitudes or squares, or mean over all axes from `axis` on, times a coefficient. Source: BVLC reduction_layer.cpp."""
    layer.need_bottoms(1)
    (x,) = layer.bottoms
    # In Caffe's enum the numbers begin with 1.
    operation = layer.parameters.choice("reduction_param.operation", ("", "SUM", "ASUM", "SUMSQ", "MEAN"), "SUM")
    axis = layer.axis(layer.parameters.integer("reduction_param.axis", 0))
    coefficient = layer.parameters.number("reduction_param.coeff", 1.0)
    operators = {"SUM": "ReduceSum", "ASUM": "ReduceL1", "SUMSQ": "ReduceSumSquare", "MEAN": "ReduceMean"}
    if operation not in operators:
        raise layer.error("G010", f"reduction_param.operation is {operation!r}, which is not one of {', '.join(operators)}")
    plain = coefficient == 1
    total = layer.builder.reduce(operators[operation], x, list(range(axis, x.rank)), False, hint=None if plain else "reduced")
    layer.put(total if plain else layer.builder.scalar("Mul", total, coefficient))


def dropout(layer: Layer) -> None:
    """Nothing at test time; where forks scale then instead of in training, a factor.

    Source: BVLC dropout_layer.cpp, weiliu89/caffe dropout_layer.cpp (scale_train), alexgkendall/caffe-segnet (sample_weights_test).
    """
    layer.need_bottoms(1)
    (x,) = layer.bottoms
    ratio = layer.parameters.number("dropout_param.dropout_ratio", 0.5)
    if layer.parameters.flag("dropout_param.sample_weights_test", False):
        raise layer.error("G010", "dropout_param.sample_weights_test draws random numbers at test time, which no graph gives again")
    if layer.parameters.flag("dropout_param.scale_train", True):
        layer.put(x)
    else:
        layer.put(layer.builder.scalar("Mul", x, 1.0 - ratio))


def _sum(builder: GraphBuilder, parts: Sequence[Named], coefficients: Sequence[float]) -> Named:
    """The parts times their coefficients, added in their order."""
    first = parts[0] if coefficients[0] == 1 else builder.scalar("Mul", parts[0], coefficients[0], hint="scaled")
    for i, (part, factor) in enumerate(zip(parts[1:], coefficients[1:], strict=True), 1):
        hint = None if i == len(parts) - 1 else "sum"
        if factor == -1:
            first = builder.binary("Sub", first, part, hint=hint)
        else:
            scaled = part if factor == 1 else builder.scalar("Mul", part, factor, hint="scaled")
            first = builder.binary("Add", first, scaled, hint=hint)
    return first


def _chain(builder: GraphBuilder, op_type: str, parts: Sequence[Named]) -> Named:
    made = parts[0]
    for i, part in enumerate(parts[1:], 1):
        made = builder.binary(op_type, made, part, hint=None if i == len(parts) - 1 else "part")
    return made


def _largest(builder: GraphBuilder, x: Named, axis: int, top_k: int, hint: str | None = None) -> Named:
    """The `top_k` largest values along `axis`, from the largest on."""
    if top_k == 1:
        return builder.reduce("ReduceMax", x, [axis], True, hint=hint)
    return _top_k(builder, x, axis, top_k, hint)[0]


def _places(builder: GraphBuilder, x: Named, axis: int, top_k: int, hint: str | None = None) -> Named:
    """Where the `top_k` largest values along `axis` are, as float32; of equal values the last comes first."""
    shape = (*x.shape[:axis], top_k, *x.shape[axis + 1 :])
    if top_k == 1:
        place = builder.op("ArgMax", [x], shape, {"axis": axis, "keepdims": 1, "select_last_index": 1}, dtype="int64", hint="place")
        return builder.op("Cast", [place], shape, {"to": 1}, hint=hint)
    # TopK puts the first of equal values first, so it looks from the end.
    found = _top_k(builder, reversed_along(builder, x, [axis], hint="backwards"), axis, top_k, "top")[1]
    counted = builder.op("Cast", [found], shape, {"to": 1}, hint="from_end")
    return builder.op("Sub", [builder.constant(float(x.shape[axis] - 1), "last"), counted], shape, hint=hint)


def _top_k(builder: GraphBuilder, x: Named, axis: int, top_k: int, hint: str | None) -> list[Named]:
    """The largest values and their places."""
    shape = (*x.shape[:axis], top_k, *x.shape[axis + 1 :])
    k = builder.constant([top_k], "k")
    return builder.ops("TopK", [x, k], [shape, shape], {"axis": axis}, dtypes=["float32", "int64"], hint=hint)


def _same(a: Sequence[int], b: Sequence[int]) -> bool:
    """Whether two shapes are equal for every size of the batch."""
    return len(a) == len(b) and all(
        m.is_as(n) if isinstance(m, Batch) else m == n and not isinstance(n, Batch) for m, n in zip(a, b, strict=True)
    )
