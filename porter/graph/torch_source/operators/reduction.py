"""Operators that reduce axes, and those that look for places: ArgMax, TopK, NonZero.

Source: onnx/onnx docs/Operators.md and docs/Changelog.md.
"""

from __future__ import annotations

from porter.graph.python_layout import tuple_literal
from porter.graph.torch_source.op import Op

_CALLS = {
    "ReduceSum": "{x}.sum({given})",
    "ReduceMean": "{x}.mean({given})",
    "ReduceMax": "{x}.amax({given})",
    "ReduceMin": "{x}.amin({given})",
    "ReduceL1": "torch.linalg.vector_norm({x}, 1, {given})",
    "ReduceL2": "torch.linalg.vector_norm({x}, 2, {given})",
    "ReduceLogSumExp": "torch.logsumexp({x}, {given})",
}


def reduce(op: Op) -> None:
    """Over some axes, or all."""
    kind, x, rank = op.node.op_type, op.text(0), op.rank(0)
    axes = op.integers(1, "axes", [])
    assert axes is not None
    if not axes:
        if op.attribute("noop_with_empty_axes", 0):
            op.put(x)
            return
        axes = list(range(rank))
    axes = [a + rank if a < 0 else a for a in axes]
    keep = bool(op.attribute("keepdims", 1))
    if not axes:
        op.put(
            x
            if kind not in ("ReduceSumSquare", "ReduceLogSum")
            else f"torch.square({x})"
            if kind == "ReduceSumSquare"
            else f"torch.log({x})"
        )
        return
    given = (str(axes[0]) if len(axes) == 1 else tuple_literal(axes)) + (", keepdim=True" if keep else "")
    if kind == "ReduceSumSquare":
        op.put(f"{op.let(f'torch.square({x})', 'squares')}.sum({given})")
    elif kind == "ReduceLogSum":
        op.put(f"torch.log({op.let(f'{x}.sum({given})', 'sum')})")
    elif kind == "ReduceProd":
        _product(op, x, sorted(axes, reverse=True), keep)
    elif kind == "ReduceSum" and op.dtype(0) in ("int32", "uint8", "int8", "int16"):
        op.put(f"{x}.sum({given}, dtype=torch.{op.dtype(0)})")
    elif op.dtype(0) == "bool":
        op.put(f"{x}.{'any' if kind == 'ReduceMax' else 'all'}({given})")
    else:
        op.put(_CALLS[kind].replace("{x}", x).replace("{given}", given))


def _product(op: Op, x: str, axes: list[int], keep: bool) -> None:
    for i, axis in enumerate(axes):
        made = f"{x}.prod({axis}{', keepdim=True' if keep else ''})"
        x = made if i == len(axes) - 1 else op.let(made, "product")
    op.put(x)


def arg_extremum(op: Op) -> None:
    """Where the largest or smallest element is; the first of several, or the last where the node says so."""
    call = "argmax" if op.node.op_type == "ArgMax" else "argmin"
    axis = op.axis("axis", 0)
    keep = ", keepdim=True" if op.attribute("keepdims", 1) else ""
    if not op.attribute("select_last_index", 0):
        op.put(f"{op.text(0)}.{call}({axis}{keep})")
        return
    last = op.known(op.shape(0)[axis], f"axis {axis}") - 1
    flipped = op.let(f"{op.text(0)}.flip({axis}).{call}({axis}{keep})", "from_behind")
    op.put(f"{last} - {flipped}")


def top_k(op: Op) -> None:
    """The k largest or smallest along an axis; of equal ones the first ones, as ONNX asks for."""
    axis = op.axis("axis", -1)
    if op.version < 10:
        count = str(op.attribute("k"))
    else:
        known = op.elements(1)
        count = op.size(known[0]) if known is not None else f"int({op.text(1)})"
    largest = bool(op.attribute("largest", 1))
    order = f"{axis}, descending={largest}, stable=True" if largest else f"{axis}, stable=True"
    names = [op.let_name(i, hint) for i, hint in ((0, "sorted"), (1, "order"))]
    op.source.line(f"{', '.join(names)} = torch.sort({op.text(0)}, dim={order})")
    for index, name in enumerate(names):
        if op.used(index):
            op.put(f"{name}.narrow({axis}, 0, {count})", index)


def non_zero(op: Op) -> None:
    """The places of what is not zero, one a column."""
    op.put(f"torch.nonzero({op.text(0)}).T")


def compress(op: Op) -> None:
    """The slices that a condition picks along an axis, or elements."""
    mask = op.text(1)
    if op.attribute("axis") is None:
        op.put(f"{op.text(0)}.flatten()[torch.nonzero({mask}).flatten()]")
    else:
        places = op.let(f"torch.nonzero({mask}).flatten()", "places")
        op.put(f"torch.index_select({op.text(0)}, {op.axis('axis')}, {places})")
