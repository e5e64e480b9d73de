"""Operators that take elements from places, or put them there, and those that look for boxes.

Source: onnx/onnx docs/Operators.md (Gather, ScatterElements, NonMaxSuppression, MaxRoiPool, MaxUnpool, GridSample, OneHot).
"""

from __future__ import annotations

from porter.graph.python_layout import float_literal, tuple_literal
from porter.graph.torch_source.op import Op, options


def gather(op: Op) -> None:
    """Slices along an axis, by their indices; negative ones count from the end."""
    axis, x = op.axis("axis", 0), op.text(0)
    indices = op.array(1)
    size = op.shape(0)[axis]
    if indices is not None and not indices.ndim:
        op.put(f"{x}.select({axis}, {int(indices)})")
        return
    if indices is not None and isinstance(size, int) and indices.ndim == 1 and len(indices):
        import numpy as np

        start, count = int(indices[0]), len(indices)
        if (indices == np.arange(start, start + count)).all() and start >= 0:
            op.put(f"{x}.narrow({axis}, {start}, {count})")
            return
        op.put(f"torch.index_select({x}, {axis}, {op.buffer(np.where(indices < 0, indices + size, indices).astype(np.int64), 'places')})")
        return
    if op.rank(0) == 2 and axis == 0 and op.constant(0) is not None and op.rank(1) > 0 and _is_weight(op):
        layer = op.layer(f"nn.Embedding({op.static(0, [0])[0]}, {op.static(0, [1])[0]})", {"weight": 0})
        if layer is not None:
            op.put(f"{layer}({_long(op, 1)})")
            return
        x = op.text(0)
    places = _long(op, 1)
    op.put(f"{x}[{', '.join([*([':'] * axis), places])}]")


def _is_weight(op: Op) -> bool:
    """Whether the rows are weights, whose indices are never negative, and not a table of something else."""
    constant = op.constant(0)
    return constant is not None and constant.dtype == "float32" and constant.source is not None and constant.source.endswith("weight")


def _long(op: Op, index: int) -> str:
    """Indices in the type that PyTorch wants."""
    return op.text(index) if op.value(index).dtype == "int64" else f"{op.text(index)}.long()"


def gather_elements(op: Op) -> None:
    """An element for each index, along an axis."""
    axis = op.axis("axis", 0)
    op.put(f"torch.gather({op.text(0)}, {axis}, {_counted(op, 1, axis)})")


def _counted(op: Op, index: int, axis: int) -> str:
    """Indices from the front: `torch.gather` and `scatter` take no negative ones."""
    array = op.array(index)
    if array is not None and (not array.size or array.min() >= 0):
        return _long(op, index)
    size = op.shape(0)[axis]
    text = str(size) if isinstance(size, int) else f"{op.text(0)}.shape[{axis}]"
    return op.let(f"torch.remainder({_long(op, index)}, {text})", "places")


def gather_nd(op: Op) -> None:
    """Slices by rows of indices."""
    batch = int(op.attribute("batch_dims", 0))
    depth = op.known(op.shape(1)[-1], "the last axis of its indices")
    indices = _long(op, 1)
    if batch:
        raise op.refuse("it has batch dimensions")
    picks = ", ".join(f"{indices}[..., {i}]" for i in range(depth))
    op.put(f"{op.text(0)}[{picks}]")


def scatter_elements(op: Op) -> None:
    """Elements put at indices along an axis, in place of what is there or added to it."""
    axis = op.axis("axis", 0)
    how = {"none": None, "add": '"sum"', "mul": '"prod"', "max": '"amax"', "min": '"amin"'}[op.attribute("reduction", "none")]
    places = _counted(op, 1, axis)
    if how is None:
        op.put(f"{op.text(0)}.scatter({axis}, {places}, {op.text(2)})")
    else:
        op.put(f"{op.text(0)}.scatter_reduce({axis}, {places}, {op.text(2)}, {how})")


def scatter_nd(op: Op) -> None:
    """Slices put at rows of indices."""
    how = op.attribute("reduction", "none")
    if how not in ("none", "add"):
        raise op.refuse(f"PyTorch puts nothing at places with the reduction '{how}'")
    depth = op.known(op.shape(1)[-1], "the last axis of its indices")
    indices = _long(op, 1)
    picks = tuple_literal([f"{indices}[..., {i}]" for i in range(depth)])
    extra = ", accumulate=True" if how == "add" else ""
    op.put(f"{op.text(0)}.index_put({picks}, {op.text(2)}{extra})")


def one_hot(op: Op) -> None:
    """Two values, one at the index and the other elsewhere, along a new axis."""
    depth = op.array(1)
    values = op.array(2)
    if depth is None or values is None:
        raise op.refuse("its depth or values are known only when the network runs")
    count = int(depth.reshape(-1)[0])
    axis = int(op.attribute("axis", -1))
    axis = axis + op.rank(0) + 1 if axis < 0 else axis
    x = op.text(0)
    counted = op.let(f"torch.where({x} < 0, {x} + {count}, {x})", "counted")
    places = op.let(f"torch.arange({count}, device={x}.device) == {counted}.unsqueeze(-1)", "places")
    from porter.graph.torch_source.source import scalar_text

    off, on = (scalar_text(v, op.dtype(2)) for v in values.reshape(-1)[:2])
    made = f"torch.where({places}, {on}, {off})" + (f".to(torch.{op.dtype(2)})" if op.dtype(2) not in ("float32", "int64", "bool") else "")
    op.put(made if axis == op.rank(0) else f"{made}.movedim(-1, {axis})")


def max_unpool(op: Op) -> None:
    """Values put back where a MaxPool found them; its indices count through the whole tensor."""
    shape = op.out().static
    if shape is None or op.has(2):
        raise op.refuse("the shape that it makes is an input")
    count = 1
    for n in shape:
        count *= n
    flat = op.let(f"torch.zeros({count}, dtype={op.text(0)}.dtype, device={op.text(0)}.device)", "empty")
    filled = op.let(f"{flat}.index_put(({op.text(1)}.flatten(),), {op.text(0)}.flatten())", "filled")
    op.put(f"{filled}.reshape({', '.join(map(str, shape))})")


def non_maximum_suppression(op: Op) -> None:
    """Indices of boxes that no better one overlaps."""
    numbers = []
    for index, default in ((2, "0"), (3, "0.0"), (4, "None")):
        known = op.scalar(index) if op.has(index) else default
        numbers.append(known if known is not None else f"{op.text(index)}.item()")
    name = op.helper("non_maximum_suppression")
    given = f"{op.text(0)}, {op.text(1)}, {', '.join(numbers)}"
    centred = ", centred=True" if op.attribute("center_point_box", 0) else ""
    op.put(f"{name}({given}{centred})")


def max_roi_pool(op: Op) -> None:
    """The maximum of each part of regions."""
    name = op.helper("max_roi_pool")
    scale = float_literal(float(op.attribute("spatial_scale", 1.0)))
    height, width = op.attribute("pooled_shape")
    op.put(f"{name}({op.text(0)}, {op.text(1)}, {height}, {width}, {scale})")


def grid_sample(op: Op) -> None:
    """Values between those of an image, at places of a grid."""
    mode = {"bilinear": "bilinear", "linear": "bilinear", "nearest": "nearest", "bicubic": "bicubic", "cubic": "bicubic"}
    wanted = mode[op.attribute("mode", "bilinear")]
    padding = op.attribute("padding_mode", "zeros")
    given = options(
        mode=f'"{wanted}"' if wanted != "bilinear" else None,
        padding_mode=f'"{padding}"' if padding != "zeros" else None,
        align_corners=str(bool(op.attribute("align_corners", 0))),
    )
    op.put(f"F.grid_sample({op.text(0)}, {op.text(1)}{given})")
