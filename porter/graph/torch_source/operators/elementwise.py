"""Operators that work on each element by itself, comparisons, casts and activations.

Source: onnx/onnx docs/Operators.md and docs/Changelog.md.
"""

from __future__ import annotations

from porter.graph.analysis.values import dtype_of
from porter.graph.python_layout import float_literal, tuple_literal
from porter.graph.torch_source.op import Op, options

UNARY = {
    "Abs": "torch.abs({x})",
    "Acos": "torch.acos({x})",
    "Acosh": "torch.acosh({x})",
    "Asin": "torch.asin({x})",
    "Asinh": "torch.asinh({x})",
    "Atan": "torch.atan({x})",
    "Atanh": "torch.atanh({x})",
    "BitwiseNot": "torch.bitwise_not({x})",
    "Ceil": "torch.ceil({x})",
    "Cos": "torch.cos({x})",
    "Cosh": "torch.cosh({x})",
    "Det": "torch.linalg.det({x})",
    "Erf": "torch.erf({x})",
    "Exp": "torch.exp({x})",
    "Floor": "torch.floor({x})",
    "HardSwish": "F.hardswish({x})",
    "IsNaN": "torch.isnan({x})",
    "Log": "torch.log({x})",
    "Mish": "F.mish({x})",
    "Neg": "torch.neg({x})",
    "Not": "torch.logical_not({x})",
    "Reciprocal": "torch.reciprocal({x})",
    "Relu": "F.relu({x})",
    "Round": "torch.round({x})",
    "Sigmoid": "torch.sigmoid({x})",
    "Sign": "torch.sign({x})",
    "Sin": "torch.sin({x})",
    "Sinh": "torch.sinh({x})",
    "Softplus": "F.softplus({x}, threshold=80.0)",
    "Softsign": "F.softsign({x})",
    "Sqrt": "torch.sqrt({x})",
    "Tan": "torch.tan({x})",
    "Tanh": "torch.tanh({x})",
}
"""What becomes one call on the input. PyTorch's softplus is the identity above its threshold, where at 80 float32 is exact."""

BINARY = {
    "Add": "+",
    "Sub": "-",
    "Mul": "*",
    "Div": "/",
    "And": "&",
    "Or": "|",
    "Xor": "^",
    "BitwiseAnd": "&",
    "BitwiseOr": "|",
    "BitwiseXor": "^",
    "Equal": "==",
    "Greater": ">",
    "GreaterOrEqual": ">=",
    "Less": "<",
    "LessOrEqual": "<=",
}


def unary(op: Op) -> None:
    """A function of one tensor."""
    op.put(UNARY[op.node.op_type].replace("{x}", op.text(0)))


def identity(op: Op) -> None:
    """The same value under another name."""
    op.put(op.text(0))


def binary(op: Op) -> None:
    """An operator between two tensors that are broadcast as numpy does; before opset 7 `axis` says where the second one lies."""
    sign = BINARY[op.node.op_type]
    if op.version < 7 and (op.attribute("broadcast") or op.attribute("axis") is not None):
        op.put(f"{op.text(0)} {sign} {_aligned(op)}")
        return
    left, right = operand(op, 0), operand(op, 1)
    if sign == "/" and not _floats(op):
        op.put(f'torch.div({op.text(0)}, {right}, rounding_mode="trunc")')
    else:
        op.put(f"{left} {sign} {right}")


def operand(op: Op, index: int) -> str:
    """An input as an expression: a number where it is one that does not change the shape of the result."""
    constant, other = op.constant(index), op.value(1 - index)
    if (
        constant is not None
        and constant.size == 1
        and other.rank is not None
        and len(constant.shape) <= other.rank
        and other.constant is None
    ):
        number = op.scalar(index)
        assert number is not None
        return number
    return op.text(index)


def _aligned(op: Op) -> str:
    axis = op.attribute("axis")
    rank, inner = op.rank(0), op.rank(1)
    if axis is None or inner == 0:
        return op.text(1)
    behind = rank - (axis + rank if axis < 0 else axis) - inner
    return op.text(1) if behind <= 0 else f"{op.text(1)}[(...,{' None,' * behind})]".replace(",)]", ")]")


def _floats(op: Op) -> bool:
    return op.dtype(0).startswith(("float", "bfloat"))


def power(op: Op) -> None:
    """The first to the power of the second, in the type of the first."""
    base, exponent = op.text(0), operand(op, 1)
    if op.dtype(0) == op.dtype(1) or _floats(op):
        square = op.scalar(1)
        op.put(f"torch.square({base})" if square in ("2", "2.0") and exponent == square else f"torch.pow({base}, {exponent})")
    else:
        op.put(f"torch.pow({base}, {exponent}).to(torch.{op.dtype(0)})")


def modulo(op: Op) -> None:
    """The remainder, with the sign of the divisor, or of the dividend with `fmod`."""
    call = "torch.fmod" if op.attribute("fmod", 0) else "torch.remainder"
    op.put(f"{call}({op.text(0)}, {operand(op, 1)})")


def shift(op: Op) -> None:
    """Bits moved to the left or right."""
    sign = "<<" if op.attribute("direction") == "LEFT" else ">>"
    op.put(f"torch.bitwise_{'left' if sign == '<<' else 'right'}_shift({op.text(0)}, {op.text(1)})")


def extremum(op: Op) -> None:
    """The largest or smallest of several tensors, element by element; NaN where one is NaN."""
    call = "torch.maximum" if op.node.op_type == "Max" else "torch.minimum"
    _over_all(op, call)


def total(op: Op) -> None:
    """The sum of several tensors, or their mean."""
    names = [op.text(i) for i in range(len(op.node.inputs))]
    if op.node.op_type == "Sum":
        op.put(" + ".join(names))
    elif len(names) == 1:
        op.put(names[0])
    else:
        op.put(f"{op.let(' + '.join(names), 'sum')} / {len(names)}")


def _over_all(op: Op, call: str) -> None:
    found = op.text(0)
    for i in range(1, len(op.node.inputs)):
        made = f"{call}({found}, {op.text(i)})"
        found = made if i == len(op.node.inputs) - 1 else op.let(made, "of_some")
    op.put(found)


def clip(op: Op) -> None:
    """Kept between two bounds."""
    bounds = []
    for index, name in ((1, "min"), (2, "max")):
        if op.version < 11:
            bounds.append(float_literal(op.attribute(name)) if op.attribute(name) is not None else None)
        elif not op.has(index):
            bounds.append(None)
        else:
            bounds.append(op.scalar(index) or op.text(index))
    if bounds == [None, None]:
        op.put(op.text(0))
    elif bounds == ["0.0", "6.0"]:
        op.put(f"F.relu6({op.text(0)})")
    else:
        given = options(min=bounds[0], max=bounds[1])
        op.put(f"torch.clamp({op.text(0)}{given})")


def cast(op: Op) -> None:
    """To another type; floats lose their fraction when they become integers."""
    dtype = dtype_of(op.attribute("to")) if not isinstance(op.attribute("to"), str) else None
    _refuse_narrow(op, dtype)
    op.put(op.text(0) if dtype == op.value(0).dtype else f"{op.text(0)}.to(torch.{dtype})")


def _refuse_narrow(op: Op, dtype: str | None) -> None:
    # What is too large for eight bits PyTorch makes a NaN, and ONNX the largest number.
    if dtype is None or dtype.startswith("float8"):
        raise op.refuse("PyTorch does not compute with the type that it casts to")


def cast_like(op: Op) -> None:
    """To the type of another tensor."""
    _refuse_narrow(op, op.value(1).dtype)
    op.put(f"{op.text(0)}.to({op.text(1)}.dtype)")


def where(op: Op) -> None:
    """One or the other, as a condition says."""
    sides = []
    for index in (1, 2):
        constant, other = op.constant(index), op.value(3 - index)
        plain = constant is not None and constant.size == 1 and not constant.shape and other.constant is None
        sides.append((op.scalar(index) or "") if plain else op.text(index))
    op.put(f"torch.where({op.text(0)}, {sides[0]}, {sides[1]})")


def is_inf(op: Op) -> None:
    """Whether elements are infinite, of either sign or one."""
    negative, positive = op.attribute("detect_negative", 1), op.attribute("detect_positive", 1)
    call = "isinf" if negative and positive else "isposinf" if positive else "isneginf"
    op.put(f"torch.{call}({op.text(0)})" if negative or positive else f"torch.zeros_like({op.text(0)}, dtype=torch.bool)")


def activation(op: Op) -> None:
    """Activations with parameters."""
    x, kind = op.text(0), op.node.op_type
    alpha, beta, gamma = op.attribute("alpha"), op.attribute("beta"), op.attribute("gamma")

    def number(value: float | None, default: float) -> str:
        return float_literal(float(default if value is None else value))

    if kind == "LeakyRelu":
        op.put(f"F.leaky_relu({x}, {number(alpha, 0.01)})")
    elif kind == "Elu":
        op.put(f"F.elu({x})" if alpha in (None, 1.0) else f"F.elu({x}, {number(alpha, 1.0)})")
    elif kind == "Celu":
        op.put(f"F.celu({x}, {number(alpha, 1.0)})")
    elif kind == "Selu":
        outer, inner = number(gamma, 1.0507009873554805), number(alpha, 1.6732632423543772)
        if alpha is None and gamma is None:
            op.put(f"F.selu({x})")
        else:
            op.put(f"F.elu({x}, {inner}) * {outer}")
    elif kind == "HardSigmoid":
        line = op.let(f"{x} * {number(alpha, 0.2)} + {number(beta, 0.5)}", "line")
        op.put(f"torch.clamp({line}, 0.0, 1.0)")
    elif kind == "ThresholdedRelu":
        op.put(f"F.threshold({x}, {number(alpha, 1.0)}, 0.0)")
    elif kind == "Shrink":
        bias, bound = number(op.attribute("bias"), 0.0), number(op.attribute("lambd"), 0.5)
        upper = op.let(f"torch.where({x} > {bound}, {x} - {bias}, 0.0)", "upper")
        op.put(f"torch.where({x} < -{bound}, {x} + {bias}, {upper})")
    elif kind == "Gelu":
        tanh = op.attribute("approximate", "none") == "tanh"
        op.put(f"F.gelu({x}{', approximate=' + chr(34) + 'tanh' + chr(34) if tanh else ''})")
    else:
        op.put(f"F.softmax({x}, {op.attribute('axis', 1)})")


def softmax(op: Op) -> None:
    """Along one axis; before opset 13 along all axes from it on."""
    call = {"Softmax": "F.softmax", "LogSoftmax": "F.log_softmax"}.get(op.node.op_type)
    x = op.text(0)
    axis = op.axis("axis", -1 if op.version >= 13 else 1)
    shape = op.shape(0)
    if op.version >= 13 or all(n == 1 for n in shape[axis + 1 :]):
        if call is None:
            op.put(f"F.one_hot({x}.argmax({axis}), {_known(op, axis)}).to(torch.{op.dtype(0)}){_moved(op, axis)}")
        else:
            op.put(f"{call}({x}, {axis})")
        return
    if call is None:
        raise op.refuse("it is along several axes at once")
    flat = op.let(f"{x}.flatten({axis})", "flat")
    op.put(f"{call}({flat}, {axis}).reshape({x}.shape)")


def _known(op: Op, axis: int) -> int:
    return op.known(op.shape(0)[axis], f"axis {axis}")


def _moved(op: Op, axis: int) -> str:
    return "" if axis == op.rank(0) - 1 else f".movedim(-1, {axis})"


def dropout(op: Op) -> None:
    """`F.dropout`, which does nothing but in training."""
    ratio = op.attribute("ratio", 0.5)
    if op.version >= 12:
        array = op.array(1) if op.has(1) else None
        ratio = float(array.reshape(-1)[0]) if array is not None else 0.5
        training = op.array(2) if op.has(2) else None
        if op.has(2) and (training is None or training.any()):
            raise op.refuse("it is in training")
    x = op.text(0)
    if op.used(0):
        op.put(f"F.dropout({x}, {float_literal(ratio)}, self.training)")
    if op.used(1):
        op.put(f"torch.ones_like({x}, dtype=torch.{op.out(1).dtype or 'bool'})", 1)


def cumulative_sum(op: Op) -> None:
    """Sums of all before, along one axis."""
    axis = op.array(1)
    if axis is None:
        raise op.refuse("its axis is known only when the network runs")
    n = int(axis.reshape(-1)[0])
    x = op.text(0)
    if op.attribute("reverse", 0):
        x = op.let(f"{x}.flip({n})", "flipped")
    dtype = op.dtype(0)
    exact = f", dtype=torch.{dtype}" if dtype.startswith(("int", "uint")) and dtype != "int64" else ""
    total = f"torch.cumsum({x}, {n}{exact})"
    if op.attribute("exclusive", 0):
        total = f"{op.let(total, 'sums')} - {x}"
    if op.attribute("reverse", 0):
        total = f"{op.let(total, 'total')}.flip({n})"
    op.put(total)


def mean_variance(op: Op) -> None:
    """Less the mean, over the standard deviation."""
    axes = tuple_literal(op.attribute("axes") or [0, 2, 3])
    centred = op.let(f"{op.text(0)} - {op.text(0)}.mean({axes}, keepdim=True)", "centred")
    variance = op.let(f"torch.square({centred}).mean({axes}, keepdim=True)", "variance")
    op.put(f"{centred} / (torch.sqrt({variance}) + 1e-9)")
