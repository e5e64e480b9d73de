"""The operators that TensorRT has layers for, and the function that lowers each."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from porter.tensorrt.lowering.op import Op

Lowering = Callable[[Op], None]

_MODULES = {
    "convolution": {"conv": "Conv", "conv_transpose": "ConvTranspose"},
    "pooling": {
        "max_pool": "MaxPool",
        "average_pool": "AveragePool",
        "global_pool": "GlobalAveragePool GlobalMaxPool",
    },
    "linear": {"gemm": "Gemm", "matmul": "MatMul", "einsum": "Einsum"},
    "normalization": {
        "batch_normalization": "BatchNormalization",
        "instance_normalization": "InstanceNormalization",
        "group_normalization": "GroupNormalization",
        "layer_normalization": "LayerNormalization",
        "lrn": "LRN",
        "lp_normalization": "LpNormalization",
        "mean_variance": "MeanVarianceNormalization",
    },
    "elementwise": {
        "unary": "Abs Exp Log Sqrt Neg Sin Cos Tan Sinh Cosh Asin Acos Atan Asinh Acosh Atanh Ceil Floor Erf Sign Round Reciprocal",
        "logical_not": "Not",
        "is_nan": "IsNaN",
        "is_inf": "IsInf",
        "arithmetic": "Add Mul Sub Div",
        "comparison": "Equal Greater Less GreaterOrEqual LessOrEqual",
        "logic": "And Or Xor",
        "power": "Pow",
        "modulo": "Mod",
        "several": "Max Min Sum Mean",
        "cast": "Cast",
        "cast_like": "CastLike",
        "dropout": "Dropout",
    },
    "activation": {
        "activation": "Relu Sigmoid Tanh LeakyRelu Elu Selu Softplus Softsign HardSigmoid HardSwish Mish Gelu ThresholdedRelu Celu",
        "clip": "Clip",
        "prelu": "PRelu",
        "softmax": "Softmax",
        "log_softmax": "LogSoftmax",
    },
    "reduction": {
        "reduce": "ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp",
        "cumulative_sum": "CumSum",
    },
    "shape": {
        "reshape": "Reshape",
        "flatten": "Flatten",
        "transpose": "Transpose",
        "squeeze": "Squeeze",
        "unsqueeze": "Unsqueeze",
        "concat": "Concat",
        "expand": "Expand",
        "constant_of_shape": "ConstantOfShape",
        "tile": "Tile",
        "shape_of": "Shape",
        "size_of": "Size",
        "depth_to_space": "DepthToSpace",
        "space_to_depth": "SpaceToDepth",
        "identity": "Identity",
    },
    "slicing": {"slice_": "Slice", "split": "Split", "pad": "Pad"},
    "resize": {"resize": "Resize Upsample"},
    "selection": {
        "gather": "Gather",
        "gather_elements": "GatherElements",
        "gather_nd": "GatherND",
        "scatter_elements": "ScatterElements Scatter",
        "scatter_nd": "ScatterND",
        "where": "Where",
        "top_k": "TopK",
        "arg_extremum": "ArgMax ArgMin",
        "one_hot": "OneHot",
        "non_zero": "NonZero",
        "compress": "Compress",
    },
    "detection": {
        "non_maximum_suppression": "NonMaxSuppression",
        "max_roi_pool": "MaxRoiPool",
        "grid_sample": "GridSample",
    },
    "quantization": {"quantize": "QuantizeLinear", "dequantize": "DequantizeLinear"},
}

SUPPORTED: dict[str, tuple[str, str]] = {
    op_type: (module, function)
    for module, functions in _MODULES.items()
    for function, names in functions.items()
    for op_type in names.split()
}
"""For each operator of ONNX's own domain the module and the function that lowers it."""

_LOOPS = frozenset(["LSTM", "GRU", "RNN", "Scan", "Loop", "If"])


def reason(op_type: str) -> str:
    """Why an operator cannot be lowered."""
    if op_type in _LOOPS:
        return "TensorRT says it by loops or conditions, which porter does not write"
    return "porter knows no layers of TensorRT that do it; a plugin would be needed"


def is_supported(op_type: str, domain: str) -> bool:
    """Whether an operator can be lowered; some of its forms may still be refused."""
    return not domain and op_type in SUPPORTED


@cache
def lowering(op_type: str) -> Lowering:
    """The function that lowers an operator."""
    import importlib

    module, function = SUPPORTED[op_type]
    found: Lowering = getattr(importlib.import_module(f"porter.tensorrt.lowering.operators.{module}"), function)
    return found
