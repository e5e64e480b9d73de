"""What a layer is, whatever its framework calls it: coarse enough that two frameworks' ways of saying one thing are one kind."""

from __future__ import annotations

from collections.abc import Mapping

from porter.parity.side import Step

LINEAR, NORM, AFFINE, PERMUTE, NOTHING = "linear", "norm", "affine", "permute", "nothing"
"""Kinds that are matched in a special way: what a converter folds into each other, or merges, and layers that only move values."""

_TYPES: Mapping[str, tuple[str, ...]] = {
    LINEAR: (
        *("Convolution", "ConvolutionDepthwise", "DepthwiseConvolution", "Deconvolution", "InnerProduct"),
        *(
            "Conv",
            "ConvTranspose",
            "Gemm",
            "MatMul",
            "Conv1d",
            "Conv2d",
            "Conv3d",
            "ConvTranspose2d",
            "Linear",
            "conv2d",
            "linear",
            "matmul",
        ),
        *("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY"),
    ),
    NORM: ("BatchNorm", "BN", "BatchNormalization", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "batch_norm"),
    AFFINE: ("Scale", "Bias", "SCALE"),
    "layer norm": ("LayerNormalization", "LayerNorm", "layer_norm"),
    "local response norm": ("LRN", "LocalResponseNorm", "local_response_norm"),
    "pool": (
        *("Pooling", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "POOLING"),
        *("MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "ReduceMean", "mean"),
    ),
    "relu": (
        *("ReLU", "Relu", "relu", "relu_", "LeakyRelu", "LeakyReLU", "leaky_relu", "RELU", "LEAKY_RELU"),
        *("ReLU6", "Clip", "clamp", "relu6", "Clamp", "CLIP"),
    ),
    "prelu": ("PReLU", "PRelu", "prelu", "PARAMETRIC_RELU"),
    "sigmoid": ("Sigmoid", "sigmoid", "SIGMOID"),
    "tanh": ("TanH", "Tanh", "tanh", "TANH"),
    "elu": ("ELU", "Elu", "elu"),
    "softmax": ("Softmax", "softmax", "SOFTMAX"),
    "concat": ("Concat", "cat", "CONCATENATION"),
    "eltwise": ("Eltwise", "Add", "Mul", "Sub", "Max", "Sum", "add", "mul", "sub", "iadd", "imul", "maximum", "ELEMENTWISE"),
    "resize": ("Resize", "Upsample", "Interp", "interpolate", "RESIZE"),
    PERMUTE: ("Permute", "Transpose", "permute", "transpose"),
    "slice": ("Slice", "Split", "split", "chunk", "SLICE"),
    NOTHING: (
        *("Dropout", "Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Pad", "Cast", "Constant", "Shape"),
        *("flatten", "reshape", "view", "squeeze", "unsqueeze", "pad", "dropout", "contiguous", "size", "getattr", "to", "float"),
        *("SHUFFLE", "CAST", "CONSTANT", "IDENTITY", "PADDING", "ZeroPad2d", "ConstantPad2d"),
    ),
}

_KINDS = {name: kind for kind, names in _TYPES.items() for name in names}

_ARITHMETIC = frozenset({"Add", "Mul", "Sub", "Div", "add", "mul", "sub", "truediv", "iadd", "imul", "div", "ELEMENTWISE"})


def kind_of(step: Step) -> str:
    """The kind of a layer: its own type where that is of no kind that several frameworks have."""
    if step.type in _ARITHMETIC and len(step.inputs) == 1:
        return AFFINE
    # TensorRT has one layer for all activations.
    name = str(step.settings.get("kind", step.type)) if step.type == "ACTIVATION" else step.type
    return _KINDS.get(name, name.lower())


def are_alike(a: str | None, b: str | None) -> bool:
    """Whether layers of two kinds may be one: a batch normalisation of known statistics is a scale, and TensorRT's shuffles do a lot."""
    return a == b or {a, b} == {NORM, AFFINE} or NOTHING in (a, b)
