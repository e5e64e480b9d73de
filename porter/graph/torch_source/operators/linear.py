"""Products of matrices, and normalisations with weights of their own.

Source: onnx/onnx docs/Operators.md (Gemm, MatMul, BatchNormalization, InstanceNormalization, LayerNormalization, LRN, PRelu, Einsum).
"""

from __future__ import annotations

from porter.graph.analysis.values import Constant
from porter.graph.python_layout import float_literal, text_literal, tuple_literal
from porter.graph.torch_source.op import Op, options


def gemm(op: Op) -> None:
    """`nn.Linear` where the second matrix and the vector that is added are weights; `torch.addmm` or `@` elsewhere."""
    alpha, beta = op.attribute("alpha", 1.0), op.attribute("beta", 1.0)
    a = op.text(0) if not op.attribute("transA", 0) else f"{op.text(0)}.T"
    weight, bias = op.constant(1), op.constant(2) if op.has(2) else None
    transposed = bool(op.attribute("transB", 0))
    if weight is not None and alpha == 1 and (not op.has(2) or (bias is not None and beta == 1)) and len(weight.shape) == 2:
        matrix = weight if transposed else weight.transposed((1, 0))
        vector = _as_vector(bias, matrix.shape[0]) if bias is not None else None
        if not op.has(2) or vector is not None:
            layer = _linear(op, matrix, vector)
            if layer is not None:
                op.put(f"{layer}({a})")
                return
    b = f"{op.text(1)}.T" if transposed else op.text(1)
    if op.has(2) and op.dtype(0).startswith(("float", "bfloat")):
        given = options(beta=float_literal(beta) if beta != 1 else None, alpha=float_literal(alpha) if alpha != 1 else None)
        op.put(f"torch.addmm({op.text(2)}, {a}, {b}{given})")
        return
    scaled = f" * {_number(alpha, op)}" if alpha != 1 else ""
    added = f" + {op.text(2)}{f' * {_number(beta, op)}' if beta != 1 else ''}" if op.has(2) else ""
    product = op.let(f"torch.mm({a}, {b})", "product") if scaled or added else ""
    op.put(f"{product}{scaled}{added}" if product else f"torch.mm({a}, {b})")


def _number(value: float, op: Op) -> str:
    return float_literal(value) if op.dtype(0).startswith(("float", "bfloat")) else str(int(value))


def _as_vector(bias: Constant, outputs: int) -> Constant | None:
    """A bias of one row as the vector that `nn.Linear` has."""
    if bias.size != outputs or any(n != 1 for n in bias.shape[:-1]) or (bias.shape and bias.shape[-1] != outputs):
        return None
    return bias.reshaped((outputs,))


def _linear(op: Op, matrix: Constant, bias: Constant | None) -> str | None:
    outputs, inputs = matrix.shape
    last = options(bias=None if bias is not None else "False", dtype=None if matrix.dtype == "float32" else f"torch.{matrix.dtype}")
    state = {"weight": matrix} if bias is None else {"weight": matrix, "bias": bias}
    return op.layer(f"nn.Linear({inputs}, {outputs}{last})", state)


def matmul(op: Op) -> None:
    """`nn.Linear` where the second factor is a matrix of weights; a third input is a bias that was added behind."""
    weight, bias = op.constant(1), op.constant(2) if op.has(2) else None
    if weight is not None and len(weight.shape) == 2 and op.value(0).constant is None and op.dtype(0).startswith(("float", "bfloat")):
        layer = _linear(op, weight.transposed((1, 0)), bias)
        if layer is not None:
            op.put(f"{layer}({op.text(0)})")
            return
    product = f"torch.matmul({op.text(0)}, {op.text(1)})"
    op.put(f"{op.let(product, 'product')} + {op.text(2)}" if op.has(2) else product)


def einsum(op: Op) -> None:
    """Sums of products, as the equation says."""
    operands = ", ".join(op.text(i) for i in range(len(op.node.inputs)))
    op.put(f"torch.einsum({text_literal(op.attribute('equation'))}, {operands})")


def batch_normalization(op: Op) -> None:
    """`nn.BatchNorm2d`, without weights of its own where they change nothing."""
    if op.attribute("training_mode", 0) or (op.version < 7 and not op.attribute("is_test", 0)):
        raise op.refuse("it normalises by statistics of the batch, as in training")
    if op.attribute("spatial", 1) != 1:
        raise op.refuse("it has statistics for each position")
    if any(op.used(i) for i in range(1, len(op.node.outputs))):
        raise op.refuse("the statistics that come out of it are read")
    eps = float(op.attribute("epsilon", 1e-5))
    given = float_literal(eps)
    state = [op.constant(i) for i in range(1, 5)]
    rank = op.rank(0)
    x = op.text(0)
    if all(c is not None for c in state) and rank in (2, 3, 4, 5):
        weight, bias, mean, variance = (c for c in state if c is not None)
        tensors = {"weight": weight, "bias": bias, "running_mean": mean, "running_var": variance}
        plain = _is_all(weight, 1) and _is_all(bias, 0)
        if plain:
            del tensors["weight"], tensors["bias"]
        dimensions = max(rank - 2, 1)
        said = options(eps=given if given != "1e-5" else None, affine="False" if plain else None)
        name = op.layer(f"nn.BatchNorm{dimensions}d({mean.size}{said}{_dtype(mean)})", tensors, named=mean)
        if name is not None:
            op.put(f"{name}({x})")
            return
    statistics = f"{op.text(3)}, {op.text(4)}, {op.text(1)}, {op.text(2)}"
    op.put(f"F.batch_norm({x}, {statistics}, eps={given})")


def _dtype(constant: Constant) -> str:
    return "" if constant.dtype == "float32" else f", dtype=torch.{constant.dtype}"


def _is_all(constant: Constant, number: int) -> bool:
    """Whether all elements are this number, and the file has nothing else to say of them."""
    if constant.fill is not None:
        return constant.fill == number
    return bool((constant.array() == number).all())


def instance_normalization(op: Op) -> None:
    """Each plane by its own mean and variance."""
    eps = float_literal(float(op.attribute("epsilon", 1e-5)))
    op.put(f"F.instance_norm({op.text(0)}, weight={op.text(1)}, bias={op.text(2)}, eps={eps})")


def layer_normalization(op: Op) -> None:
    """`nn.LayerNorm` over the last axes."""
    if op.used(1) or op.used(2):
        raise op.refuse("the mean or deviation that comes out of it is read")
    axis = op.axis("axis", -1)
    shape = op.static(0, range(axis, op.rank(0)))
    eps = float_literal(float(op.attribute("epsilon", 1e-5)))
    weight, bias = op.constant(1), op.constant(2) if op.has(2) else None
    said = options(eps=eps if eps != "1e-5" else None, bias=None if op.has(2) else "False")
    if weight is not None and weight.shape == tuple(shape) and (not op.has(2) or (bias is not None and bias.shape == tuple(shape))):
        sizes = str(shape[0]) if len(shape) == 1 else tuple_literal(shape)
        state = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
        layer = op.layer(f"nn.LayerNorm({sizes}{said}{_dtype(weight)})", state)
        if layer is not None:
            op.put(f"{layer}({op.text(0)})")
            return
    normal = op.let(f"F.layer_norm({op.text(0)}, {tuple_literal(shape)}, eps={eps})", "normalised")
    op.put(f"{normal} * {op.text(1)}{f' + {op.text(2)}' if op.has(2) else ''}")


def group_normalization(op: Op) -> None:
    """Each group of channels by its own mean and variance."""
    if op.version < 21:
        raise op.refuse("before opset 21 its scale is one for each group, which PyTorch does not have")
    eps = float_literal(float(op.attribute("epsilon", 1e-5)))
    op.put(f"F.group_norm({op.text(0)}, {op.attribute('num_groups')}, {op.text(1)}, {op.text(2)}, eps={eps})")


def lrn(op: Op) -> None:
    """`F.local_response_norm`, which has ONNX's definition for windows of odd size."""
    size = int(op.attribute("size"))
    if size % 2 == 0:
        raise op.refuse("its window is of even size, which lies differently in PyTorch")
    alpha, beta, bias = (op.attribute(name, default) for name, default in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    op.put(
        f"F.local_response_norm({op.text(0)}, {size}, alpha={float_literal(alpha)}, beta={float_literal(beta)}, k={float_literal(bias)})"
    )


def lp_normalization(op: Op) -> None:
    """Over the norm along one axis."""
    axis, p = op.axis("axis", -1), op.attribute("p", 2)
    norm = op.let(f"torch.linalg.vector_norm({op.text(0)}, {p}, {axis}, keepdim=True)", "norm")
    op.put(f"torch.where({norm} == 0, 0.0, {op.text(0)} / {norm})")


def prelu(op: Op) -> None:
    """`nn.PReLU` where there is one slope, or one for each channel."""
    slope, rank = op.constant(1), op.rank(0)
    if slope is not None and rank >= 2:
        channels = op.shape(0)[1]
        # From the right, the slope lies over the channels and nothing else.
        shape = (1,) * (rank - len(slope.shape)) + slope.shape
        per_channel = slope.size == channels and shape[1] == channels
        if len(slope.shape) <= rank and (slope.size == 1 or per_channel):
            made = f"nn.PReLU({slope.size}{_dtype(slope)})" if slope.size != 1 or _dtype(slope) else "nn.PReLU()"
            layer = op.layer(made, {"weight": slope.reshaped((slope.size,))})
            if layer is not None:
                op.put(f"{layer}({op.text(0)})")
                return
    op.put(f"torch.where({op.text(0)} < 0, {op.text(0)} * {op.text(1)}, {op.text(0)})")
