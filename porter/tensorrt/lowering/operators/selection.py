"""Operators that take elements from places, or put them there, and those that look for the places.

Source: onnx/onnx docs/Operators.md; NVIDIA/TensorRT, include/NvInfer.h, tag v11.1 (IGatherLayer, IScatterLayer, ITopKLayer,
INonZeroLayer, IOneHotLayer, ISelectLayer).
"""

from __future__ import annotations

from collections.abc import Sequence

from porter.tensorrt import layers
from porter.tensorrt.lowering.op import Op
from porter.tensorrt.lowering.operators.shape import typed

LARGEST_K = 3840
"""The most elements that a TopK layer finds. Source: NvInfer.h, ITopKLayer::setK."""


# ---- places that are given -------------------------------------------------------------------------------------------------


def gather(op: Op) -> None:
    """Slices along an axis."""
    axis = op.axis("axis", 0)
    op.put(layers.Gather("DEFAULT", axis), [op.tensor(0), _places(op, 1, [op.shape(0)[axis]])])


def gather_elements(op: Op) -> None:
    """An element for each index, along an axis."""
    axis = op.axis("axis", 0)
    op.put(layers.Gather("ELEMENT", axis), [op.tensor(0), _places(op, 1, [op.shape(0)[axis]])])


def gather_nd(op: Op) -> None:
    """Slices by rows of indices."""
    batch = int(op.attribute("batch_dims", 0))
    op.put(layers.Gather("ND", batch_axes=batch), [op.tensor(0), _places(op, 1, op.shape(0)[batch:])])


def _places(op: Op, index: int, sizes: Sequence[int]) -> str:
    """Indices, counted from the front where they are known.

    sizes: of the axis that all of them go along, or of those that the columns of their last axis go along.
    """
    import numpy as np

    constant = op.constant(index)
    array = constant.array() if constant is not None else None
    if array is None or not array.size or array.min() >= 0:
        return op.tensor(index)
    columns = len(sizes) > 1
    bounds = np.asarray(sizes[: array.shape[-1]] if columns else sizes[0], array.dtype)
    if (np.broadcast_to(bounds, array.shape)[array < 0] < 0).any():
        raise op.refuse("it counts from the end of an axis whose size is known only when the network runs")
    return op.constant_tensor(np.where(array < 0, array + bounds, array), "places")


def scatter_elements(op: Op) -> None:
    """Elements put at indices along an axis, in place of what is there."""
    _refuse_reduction(op)
    axis = op.axis("axis", 0)
    op.put(layers.Scatter("ELEMENT", axis), [op.tensor(0), _places(op, 1, [op.shape(0)[axis]]), op.tensor(2)])


def scatter_nd(op: Op) -> None:
    """Slices put at rows of indices, in place of what is there."""
    _refuse_reduction(op)
    op.put(layers.Scatter("ND"), [op.tensor(0), _places(op, 1, op.shape(0)), op.tensor(2)])


def _refuse_reduction(op: Op) -> None:
    how = op.attribute("reduction", "none")
    if how != "none":
        raise op.refuse(f"TensorRT's Scatter puts values in place of others, and this one takes their '{how}'")


def where(op: Op) -> None:
    """One of two values, as a condition says."""
    op.put(layers.Select(), op.operands(3))


def one_hot(op: Op) -> None:
    """Two values, one at the index and the other elsewhere, along a new axis."""
    import numpy as np

    depth = op.array(1)
    if depth is None:
        raise op.refuse("its depth is known only when the network runs")
    count = int(depth.reshape(-1)[0])
    axis, rank = int(op.attribute("axis", -1)), op.rank(0)
    axis = axis + rank + 1 if axis < 0 else axis
    places = op.array(0)
    if places is not None:
        indices = op.constant_tensor(np.where(places < 0, places + count, places).astype(np.int32), "places")
    else:
        indices = op.cast(op.tensor(0), "int32", "places")
        op.notice("indices below 0 count from the end in ONNX; what TensorRT makes of them is not documented")
    op.put(layers.OneHot(axis), [indices, op.tensor(2), op.constant_tensor(np.full((), count, np.int32), "depth")])
    shape = op.shape(0)
    typed(op, op.node.outputs[0], (*shape[:axis], count, *shape[axis:]))


# ---- places that are looked for --------------------------------------------------------------------------------------------


def top_k(op: Op) -> None:
    """The largest or the smallest along an axis, in order, and where they are."""
    found = op.integers(1, "k")
    assert found is not None
    axis = op.axis("axis", -1)
    kind = "MAX" if op.attribute("largest", 1) else "MIN"
    op.notice(f"of equal values ONNX takes that which comes first; which TensorRT's TopK takes is not documented{_fallen(op)}")
    _top_k(op, layers.TopK(kind, found[0], axis), [op.node.outputs[0], op.node.outputs[1]])


def _fallen(op: Op) -> str:
    return "" if op.attribute("sorted", 1) else "; its values are in order although that was not asked for"


def _top_k(op: Op, operation: layers.TopK, outputs: list[str]) -> None:
    """A TopK layer, its indices cast to int64; a vector is made a row before it and a vector again behind it."""
    if operation.k > LARGEST_K:
        raise op.refuse(f"it takes {operation.k} elements, and TensorRT's TopK {LARGEST_K} at most")
    rank = op.rank(0)
    if operation.axis < rank - 4:
        raise op.refuse("TensorRT's TopK goes along one of the last four axes")
    x = op.tensor(0)
    values, places = outputs[0] or op.step("values"), op.step("places")
    name = op.name
    if rank > 1:
        op.layer(operation, [x], (values, places), name)
    else:
        row = op.step("row_values")
        x = op.reshaped(x, (1, op.shape(0)[0]), "row")
        op.layer(layers.TopK(operation.kind, operation.k, 1), [x], (row, places), name)
        places = op.reshaped(places, (operation.k,), "vector")
        if outputs[0]:
            op.layer(layers.Shuffle(shape=(operation.k,)), [row], (values,), op.assembly.layer_names.take(f"{op.name}/{values}"))
    if outputs[1]:
        op.put(layers.Cast("int64"), [places], op.node.outputs.index(outputs[1]))


def arg_extremum(op: Op) -> None:
    """Where the largest or the smallest along an axis is: a TopK of one; the last of equal ones by a search of its own."""
    axis = op.axis("axis", 0)
    keep = bool(op.attribute("keepdims", 1))
    kind = "MAX" if op.node.op_type == "ArgMax" else "MIN"
    if op.attribute("select_last_index", 0):
        _last_extremum(op, kind, axis, keep)
        return
    op.notice("of equal values ONNX takes that which comes first; which TensorRT's TopK takes is not documented")
    rank = op.rank(0)
    x = op.tensor(0) if rank > 1 else op.reshaped(op.tensor(0), (1, op.shape(0)[0]), "row")
    if axis < rank - 4:
        raise op.refuse("TensorRT's TopK goes along one of the last four axes")
    places = op.step("places")
    name = op.assembly.layer_names.take(f"{op.name}/best")
    op.layer(layers.TopK(kind, 1, axis if rank > 1 else 1), [x], (op.step("best"), places), name)
    shape = [1 if a == axis else n for a, n in enumerate(op.shape(0)) if keep or a != axis]
    op.put(layers.Cast("int64"), [op.reshaped(places, shape, "squeezed")])


def _last_extremum(op: Op, kind: str, axis: int, keep: bool) -> None:
    """The largest of the places at which the extremum stands."""
    import numpy as np

    x = op.tensor(0)
    shape = [1] * op.rank(0)
    shape[axis] = op.static(0, [axis])[0]
    best = op.add(layers.Reduce(kind, (axis,), True), [x], "best")
    stands = op.add(layers.Elementwise("EQUAL"), [x, best], "is_best")
    places = op.constant_tensor(np.arange(shape[axis], dtype=np.int64).reshape(shape), "places")
    nowhere = op.constant_tensor(np.full([1] * len(shape), -1, np.int64), "nowhere")
    found = op.add(layers.Select(), [stands, places, nowhere], "found")
    op.notice("where it meets a NaN it gives -1: a NaN is no largest value in TensorRT")
    op.put(layers.Reduce("MAX", (axis,), keep), [found])


# ---- as many as the values say ---------------------------------------------------------------------------------------------


def notice_open(op: Op) -> None:
    """Say that how much there is depends on the values."""
    op.notice("how many there are depends on the values; TensorRT for RTX (as of 1.7) defines such layers and builds no engine of them")


def non_zero(op: Op) -> None:
    """The places of what is not zero, in order."""
    if not op.rank(0):
        raise op.refuse("its input has no axes")
    notice_open(op)
    op.put(layers.Cast("int64"), [op.add(layers.NonZero(), [_comparable(op, 0)], "places")])
    # What the graph states of it is not known to TensorRT.
    typed(op, op.node.outputs[0], (op.rank(0), -1))


def _comparable(op: Op, index: int) -> str:
    """An input of a type that NonZero takes: FLOAT, HALF, INT32 or BOOL."""
    return op.tensor(index) if op.dtype(index) in ("float32", "float16", "int32", "bool") else op.cast(op.tensor(index), "bool", "is_set")


def compress(op: Op) -> None:
    """The slices along an axis at which a condition holds."""
    import numpy as np

    x, axis = op.tensor(0), 0
    if "axis" in op.node.attributes:
        axis = op.axis("axis")
    elif op.rank(0) != 1:
        x = op.add(layers.Shuffle(shape=(-1,)), [x], "flat")
    known = op.array(1)
    if known is not None:
        places = op.constant_tensor(np.flatnonzero(known).astype(np.int64), "places")
    else:
        notice_open(op)
        found = op.add(layers.NonZero(), [op.tensor(1)], "set")
        places = op.add(layers.Shuffle(shape=(-1,)), [found], "places")
    op.put(layers.Gather("DEFAULT", axis), [x, places])
    if known is None:
        typed(op, op.node.outputs[0], tuple([-1 if a == axis else n for a, n in enumerate(op.type_of(x).shape)]))
