"""The operators that can be written as PyTorch, and the function that writes each."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from porter.graph.torch_source.op import Op

Writer = Callable[[Op], None]

_MODULES = {
    "convolution": {
        "conv": "Conv",
        "conv_transpose": "ConvTranspose",
        "max_pool": "MaxPool",
        "average_pool": "AveragePool",
        "lp_pool": "LpPool",
        "global_pool": "GlobalAveragePool GlobalMaxPool GlobalLpPool",
    },
    "linear": {
        "gemm": "Gemm",
        "matmul": "MatMul",
        "einsum": "Einsum",
        "batch_normalization": "BatchNormalization",
        "instance_normalization": "InstanceNormalization",
        "layer_normalization": "LayerNormalization",
        "group_normalization": "GroupNormalization",
        "lrn": "LRN",
        "lp_normalization": "LpNormalization",
        "prelu": "PRelu",
    },
    "elementwise": {
        "unary": (
            "Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Ceil Cos Cosh Det Erf Exp Floor HardSwish IsNaN Log Mish Neg Not "
            "Reciprocal Relu Round Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Tan Tanh"
        ),
        "identity": "Identity",
        "binary": "Add Sub Mul Div And Or Xor BitwiseAnd BitwiseOr BitwiseXor Equal Greater GreaterOrEqual Less LessOrEqual",
        "power": "Pow",
        "modulo": "Mod",
        "shift": "BitShift",
        "extremum": "Max Min",
        "total": "Sum Mean",
        "clip": "Clip",
        "cast": "Cast",
        "cast_like": "CastLike",
        "where": "Where",
        "is_inf": "IsInf",
        "activation": "LeakyRelu Elu Celu Selu HardSigmoid ThresholdedRelu Shrink Gelu",
        "softmax": "Softmax LogSoftmax Hardmax",
        "dropout": "Dropout",
        "cumulative_sum": "CumSum",
        "mean_variance": "MeanVarianceNormalization",
    },
    "quantization": {"quantize": "QuantizeLinear", "dequantize": "DequantizeLinear"},
    "reduction": {
        "reduce": ("ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp"),
        "arg_extremum": "ArgMax ArgMin",
        "top_k": "TopK",
        "non_zero": "NonZero",
        "compress": "Compress",
    },
    "shape": {
        "reshape": "Reshape",
        "flatten": "Flatten",
        "transpose": "Transpose",
        "squeeze": "Squeeze",
        "unsqueeze": "Unsqueeze",
        "concat": "Concat",
        "split": "Split",
        "slice_": "Slice",
        "expand": "Expand",
        "tile": "Tile",
        "pad": "Pad",
        "shape_of": "Shape",
        "size_of": "Size",
        "constant_of_shape": "ConstantOfShape",
        "range_": "Range",
        "depth_to_space": "DepthToSpace",
        "space_to_depth": "SpaceToDepth",
        "trilu": "Trilu",
    },
    "selection": {
        "gather": "Gather",
        "gather_elements": "GatherElements",
        "gather_nd": "GatherND",
        "scatter_elements": "ScatterElements Scatter",
        "scatter_nd": "ScatterND",
        "one_hot": "OneHot",
        "max_unpool": "MaxUnpool",
        "non_maximum_suppression": "NonMaxSuppression",
        "max_roi_pool": "MaxRoiPool",
        "grid_sample": "GridSample",
    },
    "resize": {"resize": "Resize Upsample"},
    "recurrent": {"recurrent": "LSTM GRU RNN", "scan": "Scan"},
}

SUPPORTED: dict[str, tuple[str, str]] = {
    op_type: (module, function)
    for module, functions in _MODULES.items()
    for function, names in functions.items()
    for op_type in names.split()
}
"""For each operator of ONNX's own domain the module and the function that writes it."""


def is_supported(op_type: str, domain: str) -> bool:
    """Whether an operator can be written; some of its forms may still be refused."""
    return not domain and (op_type in SUPPORTED or op_type == "Constant")


@cache
def writer(op_type: str) -> Writer:
    """The function that writes an operator."""
    import importlib

    module, function = SUPPORTED[op_type]
    found: Writer = getattr(importlib.import_module(f"porter.graph.torch_source.operators.{module}"), function)
    return found
