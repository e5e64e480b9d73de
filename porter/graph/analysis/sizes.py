"""Short vectors of sizes, as exported graphs compute them to give them to a Reshape: known in part before the network runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from porter.dataclass import replace
from porter.graph.analysis.values import Constant, Dimension, Element, Node, Size, Value, computed

_LONGEST = 64
_ARITHMETIC = {"Add": "+", "Sub": "-", "Mul": "*", "Div": "//"}


def elements_of(node: Node, values: dict[str, Value]) -> bool:
    """Record what the elements of the node's output are, if they are integers and sizes; whether that is so."""
    compute = _RULES.get(node.op_type)
    if compute is None or node.domain or len(node.outputs) != 1 or not all(node.inputs):
        return False
    found = compute(node, values)
    if found is None or len(found) > _LONGEST:
        return False
    name = node.outputs[0]
    value = values[name]
    if value.dtype not in ("int64", "int32") or value.rank not in (0, 1):
        return False
    shape = (len(found),) if value.rank else ()
    numbers = [n for n in found if isinstance(n, int)]
    if len(numbers) < len(found):
        values[name] = replace(value, elements=tuple(found), shape=shape)
    else:
        values[name] = replace(value, constant=_numbers(numbers, value.dtype, shape), shape=shape)
    return True


def _numbers(numbers: Sequence[int], dtype: str, shape: tuple[int, ...]) -> Constant:
    import numpy as np

    return computed(np.asarray(numbers, dtype).reshape(shape))


def reshaped_by(node: Node, values: dict[str, Value]) -> None:
    """The shape of what Reshape, Expand or ConstantOfShape makes, from sizes that onnx's shape inference does not follow."""
    if node.domain or node.op_type not in ("Reshape", "Expand", "ConstantOfShape") or len(node.outputs) != 1:
        return
    sizes = known_elements(values.get(node.inputs[-1]))
    out = values[node.outputs[0]]
    if sizes is None or not any(isinstance(n, Size) for n in sizes):
        return
    shape: list[Dimension] = [n.symbol if isinstance(n, Size) else n for n in sizes]
    if node.op_type == "Reshape":
        data = values.get(node.inputs[0])
        copied = data.shape if data is not None and data.shape is not None else ()
        if not node.attributes.get("allowzero"):
            shape = [(copied[i] if i < len(copied) else None) if n == 0 else n for i, n in enumerate(shape)]
        shape = [None if n == -1 else n for n in shape]
    elif node.op_type == "Expand":
        shape = [None if isinstance(n, str) or n in (1, None) else n for n in shape]
    values[out.name] = replace(out, shape=_with(out, shape))


def known_elements(value: Value | None) -> Sequence[Element] | None:
    """The integers of a short constant, or sizes; None where they are not known."""
    if value is None:
        return None
    if value.elements is not None:
        return value.elements
    constant = value.constant
    if constant is None or constant.size > _LONGEST or len(constant.shape) > 1 or constant.dtype not in ("int64", "int32"):
        return None
    return [int(n) for n in constant.array().reshape(-1)]


def _with(value: Value, shape: Sequence[Dimension]) -> tuple[Dimension, ...]:
    if value.shape is None or len(value.shape) != len(shape):
        return tuple(shape)
    return tuple([a if isinstance(a, int) else b for a, b in zip(value.shape, shape, strict=True)])


def _inputs(node: Node, values: Mapping[str, Value]) -> list[Sequence[Element]] | None:
    found = [known_elements(values.get(name)) for name in node.inputs]
    return [f for f in found if f is not None] if all(f is not None for f in found) else None


def _shape(node: Node, values: dict[str, Value]) -> list[Element] | None:
    data = values.get(node.inputs[0])
    if data is None or data.shape is None or data.constant is not None:
        return None
    sizes: list[Element] = [n if isinstance(n, int) else Size(node.inputs[0], i, n) for i, n in enumerate(data.shape)]
    start, end = node.attributes.get("start", 0), node.attributes.get("end", len(sizes))
    return sizes[start:end]


def _gather(node: Node, values: dict[str, Value]) -> list[Element] | None:
    found = _inputs(node, values)
    if found is None or node.attributes.get("axis", 0) not in (0, -1):
        return None
    data, places = found
    if not all(isinstance(i, int) and -len(data) <= i < len(data) for i in places):
        return None
    return [data[i] for i in places if isinstance(i, int)]


def _concat(node: Node, values: dict[str, Value]) -> list[Element] | None:
    found = _inputs(node, values)
    return None if found is None else [e for part in found for e in part]


def _same(node: Node, values: dict[str, Value]) -> list[Element] | None:
    found = known_elements(values.get(node.inputs[0]))
    return None if found is None else list(found)


def _slice(node: Node, values: dict[str, Value]) -> list[Element] | None:
    data = known_elements(values.get(node.inputs[0]))
    if data is None:
        return None
    if node.version < 10:
        bounds = [node.attributes["starts"], node.attributes["ends"], [0], [1]]
    else:
        found = _inputs(node, values)
        if found is None:
            return None
        bounds = [*found[1:], *([0], [1])[len(found) - 3 :]]
    if any(len(b) != 1 or not isinstance(b[0], int) for b in bounds):
        return None
    start, end, _, step = (int(b[0]) for b in bounds)
    return list(data[start:end:step]) if step > 0 else None


def _arithmetic(node: Node, values: dict[str, Value]) -> list[Element] | None:
    found = _inputs(node, values)
    if found is None:
        return None
    left, right = found
    if len(left) != len(right) and 1 not in (len(left), len(right)):
        return None
    count = max(len(left), len(right))
    pairs = [(left[i if len(left) > 1 else 0], right[i if len(right) > 1 else 0]) for i in range(count)]
    return [_combined(_ARITHMETIC[node.op_type], a, b) for a, b in pairs]


def _combined(op: str, a: Element, b: Element) -> Element:
    if isinstance(a, int) and isinstance(b, int):
        return {"+": a + b, "-": a - b, "*": a * b}.get(op, int(a / b) if b else 0)
    if b == 1 and op in "*//":
        return a
    return Size(op=op, left=a, right=b)


_RULES: dict[str, Callable[[Node, dict[str, Value]], list[Element] | None]] = {
    "Shape": _shape,
    "Gather": _gather,
    "Concat": _concat,
    "Slice": _slice,
    **dict.fromkeys(("Unsqueeze", "Squeeze", "Cast", "Identity"), _same),
    **dict.fromkeys(_ARITHMETIC, _arithmetic),
}
