"""Operators that work on each element by itself.

Source: onnx/onnx docs/Operators.md and docs/Changelog.md; NVIDIA/TensorRT, include/NvInfer.h, tag v11.1 (ElementWiseOperation,
UnaryOperation, ICastLayer).
"""

from __future__ import annotations

from porter.dataclass import replace
from porter.graph.analysis.values import Constant, dtype_of
from porter.tensorrt import layers
from porter.tensorrt.lowering.op import Op

_UNARY = {"Reciprocal": "RECIP"}
_ARITHMETIC = {"Add": "SUM", "Mul": "PROD", "Sub": "SUB", "Div": "DIV"}
_COMPARISON = {"Equal": "EQUAL", "Greater": "GREATER", "Less": "LESS"}
_NUMBERS = ("float32", "float16", "bfloat16", "int32", "int64")


def unary(op: Op) -> None:
    """A function of each element."""
    kind = op.node.op_type
    numbers = _NUMBERS if kind in ("Abs", "Neg", "Sign") else _NUMBERS[:3]
    if op.dtype(0) not in numbers:
        raise op.refuse(f"TensorRT has none of {op.dtype(0)}")
    op.put(layers.Unary(_UNARY.get(kind, kind.upper())), [op.tensor(0)])


def logical_not(op: Op) -> None:
    """Of booleans."""
    op.put(layers.Unary("NOT"), [op.tensor(0)])


def is_nan(op: Op) -> None:
    """Whether elements are NaN."""
    op.put(layers.Unary("ISNAN"), [op.tensor(0)])


def is_inf(op: Op) -> None:
    """Whether elements are infinite, of either sign or one."""
    negative, positive = op.attribute("detect_negative", 1), op.attribute("detect_positive", 1)
    x = op.tensor(0)
    if negative and positive:
        op.put(layers.Unary("ISINF"), [x])
        return
    if not (negative or positive):
        raise op.refuse("it detects neither sign")
    infinite = op.add(layers.Unary("ISINF"), [x], "infinite")
    sign = op.add(layers.Elementwise("GREATER" if positive else "LESS"), [x, op.scalar(0, x, "zero")], "sign")
    op.put(layers.Elementwise("AND"), [infinite, sign])


# ---- two inputs ------------------------------------------------------------------------------------------------------------


def arithmetic(op: Op) -> None:
    """A scale of each channel where the other input is a constant that lies over the channels; else a layer of two inputs.

    Integers are divided as ONNX does it, towards zero.
    """
    if op.dtype(0) not in _NUMBERS:
        raise op.refuse(f"TensorRT has no arithmetic of {op.dtype(0)}")
    if op.node.op_type in ("Add", "Mul") and _scaled(op):
        return
    _put(op, _ARITHMETIC[op.node.op_type])


def _put(op: Op, kind: str) -> None:
    op.put(layers.Elementwise(kind), _operands(op))


def _operands(op: Op) -> list[str]:
    """The two inputs with one rank; before opset 7, `axis` says where the second one lies."""
    if op.version < 7 and op.attribute("broadcast") and op.attribute("axis") is not None:
        shape, axis, rank = op.shape(1), op.axis(), op.rank(0)
        behind = [1] * (rank - axis - len(shape))
        constant = op.constant(1)
        if constant is not None:
            return [op.tensor(0), op.constant_tensor(constant.reshaped((1,) * axis + shape + tuple(behind)), "second")]
        return [op.tensor(0), op.reshaped(op.tensor(1), (*([1] * axis), *shape, *behind), "second")]
    return op.operands()


def _scaled(op: Op) -> bool:
    """Whether the node became a scale, or a part of the one before it."""
    sides = [i for i in (0, 1) if op.constant(i) is not None]
    if len(sides) != 1 or not op.is_float(0) or (op.version < 7 and op.attribute("broadcast")):
        return False
    constant, index = op.constant(sides[0]), 1 - sides[0]
    assert constant is not None
    shape = op.shape(index)
    vector = _over_channels(constant, shape) if len(shape) in (4, 5) else None
    if vector is None:
        return False
    mode = "CHANNEL" if vector.size > 1 or shape[1] == 1 else "UNIFORM"
    x = op.tensor(index)
    shifts = op.node.op_type == "Add"
    before = _scale_before(op, x, index, mode) if shifts else None
    weights = op.weights(vector, "bias" if shifts else "weight")
    if before is not None:
        _join(op, before, weights)
    else:
        op.put(layers.Scale(mode, weights if shifts else None, None if shifts else weights), [x])
    return True


def _over_channels(constant: Constant, shape: tuple[int, ...]) -> Constant | None:
    """A constant that lies over the channels and nothing else, or is one number, as a vector."""
    if constant.size == 1 and len(constant.shape) <= len(shape):
        return constant.reshaped((1,))
    aligned = (1,) * (len(shape) - len(constant.shape)) + constant.shape
    if len(aligned) != len(shape) or constant.size != shape[1] or aligned[1] != shape[1]:
        return None
    return constant.reshaped((constant.size,))


def _scale_before(op: Op, x: str, index: int, mode: str) -> layers.Layer | None:
    """The layer that made `x`, if it is a scale that nothing has been added to and nothing else reads what it made."""
    made = op.assembly.layers[-1] if op.assembly.layers else None
    if made is None or made.outputs != (x,) or op.node.inputs[index] != x or op.readers.get(x) != 1:
        return None
    scale = made.operation
    if not isinstance(scale, layers.Scale) or scale.mode != mode or scale.shift is not None or scale.power is not None:
        return None
    return made


def _join(op: Op, before: layers.Layer, shift: layers.Weights) -> None:
    """Put the shift into the scale before it, whose tensor is no more then."""
    assert isinstance(before.operation, layers.Scale)
    (x,) = before.outputs
    output = op.node.outputs[0]
    op.assembly.layers.pop()
    del op.assembly.types[x], op.assembly.tensors[x]
    op.layer(replace(before.operation, shift=shift), before.inputs, (output,), before.name)


def comparison(op: Op) -> None:
    """Of two inputs, to booleans. Not less is not the same as greater or equal: NaNs are neither."""
    kind = op.node.op_type
    types = (*_NUMBERS, "bool") if kind == "Equal" else _NUMBERS
    if op.dtype(0) not in types:
        raise op.refuse(f"TensorRT has no such comparison of {op.dtype(0)}")
    if kind in _COMPARISON:
        _put(op, _COMPARISON[kind])
        return
    sides = _operands(op)
    strictly = op.add(layers.Elementwise("GREATER" if kind == "GreaterOrEqual" else "LESS"), sides, "strictly")
    equal = op.add(layers.Elementwise("EQUAL"), sides, "equal")
    op.put(layers.Elementwise("OR"), [strictly, equal])


def logic(op: Op) -> None:
    """Of booleans."""
    _put(op, op.node.op_type.upper())


def power(op: Op) -> None:
    """Squares and cubes as products, of which a negative base is sure to have the right sign."""
    if op.dtype(0) not in _NUMBERS:
        raise op.refuse(f"TensorRT has no powers of {op.dtype(0)}")
    exponent = op.constant(1)
    number = float(exponent.array().reshape(-1)[0]) if exponent is not None and exponent.size == 1 else None
    fits = exponent is not None and len(exponent.shape) <= op.rank(0)
    x = op.tensor(0)
    if fits and number == 1:
        op.alias(x)
    elif fits and number in (2, 3):
        square = op.put_or_add(layers.Elementwise("PROD"), [x, x], "square", number == 2)
        if number == 3:
            op.put(layers.Elementwise("PROD"), [square, x])
    elif op.dtype(1) == op.dtype(0):
        _put(op, "POW")
    elif number is not None:
        like = op.scalar(number, x, "exponent")
        if fits:
            op.put(layers.Elementwise("POW"), [x, like])
        else:
            raise op.refuse("its exponent has more axes than its base")
    else:
        sides = _operands(op)
        op.put(layers.Elementwise("POW"), [sides[0], op.cast(sides[1], op.dtype(0), "exponent")])


def modulo(op: Op) -> None:
    """x less the quotient, rounded towards zero or down, times y: exact for integers."""
    if op.is_float(0):
        raise op.refuse("TensorRT has no remainder of floating-point numbers, and composing one would round")
    if op.dtype(0) not in _NUMBERS:
        raise op.refuse(f"TensorRT has no arithmetic of {op.dtype(0)}")
    x, y = _operands(op)
    quotient = op.add(layers.Elementwise("DIV" if op.attribute("fmod", 0) else "FLOOR_DIV"), [x, y], "quotient")
    whole = op.add(layers.Elementwise("PROD"), [quotient, y], "whole")
    op.put(layers.Elementwise("SUB"), [x, whole])


def several(op: Op) -> None:
    """Max, Min, Sum or Mean of any number of inputs, two by two from the left."""
    kind = op.node.op_type
    if op.dtype(0) not in _NUMBERS:
        raise op.refuse(f"TensorRT has no arithmetic of {op.dtype(0)}")
    current, *others = op.operands()
    steps = len(others) + (kind == "Mean")
    if not steps:
        op.alias(current)
        return
    operation = layers.Elementwise({"Max": "MAX", "Min": "MIN"}.get(kind, "SUM"))
    for number, other in enumerate(others, 1):
        current = op.put_or_add(operation, [current, other], f"{kind.lower()}{number}", number == steps)
    if kind == "Mean":
        op.put(layers.Elementwise("DIV"), [current, op.scalar(len(others) + 1, current, "count")])


# ---- types -----------------------------------------------------------------------------------------------------------------


def cast(op: Op) -> None:
    """To another type."""
    to = op.attribute("to")
    dtype = str(to).lower() if isinstance(to, str) else dtype_of(to)
    _cast(op, {"float": "float32", "double": "float64"}.get(dtype, dtype) if dtype is not None else "type of that kind")


def cast_like(op: Op) -> None:
    """To the type of another tensor."""
    _cast(op, op.dtype(1))


def _cast(op: Op, dtype: str) -> None:
    op.require(dtype)
    if dtype.startswith("float8") or dtype in ("int4", "float4_e2m1fn"):
        raise op.refuse(f"TensorRT makes {dtype} by quantising, and what a cast does beyond its range is not documented")
    x = op.tensor(0)
    if op.type_of(x).dtype == dtype:
        op.alias(x)
    else:
        op.put(layers.Cast(dtype), [x])


def dropout(op: Op) -> None:
    """Nothing, but in training."""
    training = op.array(2) if op.has(2) else None
    if op.has(2) and (training is None or training.any()):
        raise op.refuse("it is in training")
    if op.used(1):
        raise op.refuse("its mask is read")
    op.alias(op.tensor(0))
