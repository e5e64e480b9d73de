"""Which function writes which operator, and as what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from porter.dataclass import dataclass
from porter.graph.caffe_source.op import Op
from porter.graph.caffe_source.operators import (
    activation,
    arithmetic,
    convolution,
    linear,
    normalisation,
    pooling,
    reduction,
    resize,
    shape,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """An operator: the function, the layers that it becomes, and what is refused."""

    write: Callable[[Op], None]
    layers: str
    limits: str = ""


_SLOPE = "a slope for each channel, or one"
_WINDOWS = "undilated windows; those that Caffe lacks are refused"

OPERATORS: Mapping[str, Entry] = MappingProxyType(
    {
        "Abs": Entry(activation.plain("AbsVal"), "AbsVal"),
        "Add": Entry(arithmetic.add, "Eltwise; Power, Scale or Bias"),
        "ArgMax": Entry(reduction.argmax, "ArgMax", "the last of equal values; an output, or made a float"),
        "AveragePool": Entry(pooling.average_pool, "Pooling, with Slice and Scale where Caffe counts otherwise", _WINDOWS),
        "BatchNormalization": Entry(normalisation.batch_normalization, "BatchNorm and Scale", "stored statistics"),
        "Cast": Entry(shape.cast, "nothing", "to float32"),
        "Clip": Entry(activation.clip, "ReLU, ReLU6 or Clip", "as far as the fork has a layer"),
        "Concat": Entry(shape.concat, "Concat"),
        "Conv": Entry(convolution.conv, "Convolution", "constant weights"),
        "ConvTranspose": Entry(convolution.conv_transpose, "Deconvolution", "constant weights"),
        "DepthToSpace": Entry(convolution.depth_to_space, "Deconvolution"),
        "Div": Entry(arithmetic.div, "Power, Scale, Eltwise"),
        "Dropout": Entry(shape.same, "nothing"),
        "Elu": Entry(activation.elu, "ELU"),
        "Exp": Entry(activation.plain("Exp"), "Exp"),
        "Expand": Entry(shape.expand, "Tile"),
        "Flatten": Entry(shape.reshape, "Flatten or Reshape"),
        "Gather": Entry(shape.gather, "Slice and Concat", "constant indices"),
        "Gemm": Entry(linear.gemm, "InnerProduct", "a constant matrix from the right"),
        "GlobalAveragePool": Entry(pooling.global_pool, "Pooling"),
        "GlobalMaxPool": Entry(pooling.global_pool, "Pooling"),
        "Greater": Entry(activation.threshold, "Threshold", "than one number, made a float"),
        "GroupNormalization": Entry(normalisation.group_normalization, "BatchNorm and Scale"),
        "HardSigmoid": Entry(activation.hard_sigmoid, "Power and Clip", "as Clip"),
        "HardSwish": Entry(activation.hard_swish, "Power, Clip and Eltwise", "as Clip"),
        "Identity": Entry(shape.same, "nothing"),
        "InstanceNormalization": Entry(normalisation.instance_normalization, "BatchNorm and Scale"),
        "LRN": Entry(normalisation.lrn, "LRN", "an odd size"),
        "LayerNormalization": Entry(normalisation.layer_normalization, "BatchNorm and Scale"),
        "LeakyRelu": Entry(activation.leaky_relu, "ReLU"),
        "Log": Entry(activation.plain("Log"), "Log"),
        "MatMul": Entry(linear.matmul, "InnerProduct", "a constant matrix from the right"),
        "Max": Entry(arithmetic.maximum, "Eltwise, ReLU or Clip", "as Clip"),
        "MaxPool": Entry(pooling.max_pool, "Pooling, with Slice where Caffe has more windows", _WINDOWS),
        "Mean": Entry(arithmetic.mean, "Eltwise"),
        "Min": Entry(arithmetic.minimum, "Power and Eltwise, or Clip", "as Clip"),
        "Mish": Entry(activation.mish, "BNLL, TanH and Eltwise"),
        "Mul": Entry(arithmetic.mul, "Eltwise; Power or Scale"),
        "Neg": Entry(activation.powers(scale=-1.0), "Power"),
        "PRelu": Entry(activation.prelu, "PReLU", _SLOPE),
        "Pad": Entry(convolution.pad, "the padding of a Convolution, or a Convolution", "zeros around planes"),
        "Pow": Entry(arithmetic.power, "Power or Exp", "one exponent, or one base"),
        "Reciprocal": Entry(activation.powers(power=-1.0), "Power"),
        "ReduceL1": Entry(reduction.reduction, "Reduction; AbsVal, Pooling and Power"),
        "ReduceL2": Entry(reduction.reduction, "Reduction; Power and Pooling"),
        "ReduceMax": Entry(reduction.reduction, "Pooling"),
        "ReduceMean": Entry(reduction.reduction, "Pooling"),
        "ReduceMin": Entry(reduction.reduction, "Power and Pooling"),
        "ReduceSum": Entry(reduction.reduction, "Reduction; Pooling and Power"),
        "ReduceSumSquare": Entry(reduction.reduction, "Reduction; Power and Pooling"),
        "Relu": Entry(activation.plain("ReLU"), "ReLU"),
        "Reshape": Entry(shape.reshape, "Reshape or Flatten"),
        "Resize": Entry(resize.resize, "Deconvolution", "nearest, by whole factors"),
        "Selu": Entry(activation.selu, "ELU and Power"),
        "Sigmoid": Entry(activation.plain("Sigmoid"), "Sigmoid"),
        "Slice": Entry(shape.slice_, "Slice", "steps of one"),
        "Softmax": Entry(activation.softmax, "Softmax"),
        "Softplus": Entry(activation.plain("BNLL"), "BNLL"),
        "SpaceToDepth": Entry(convolution.space_to_depth, "Convolution"),
        "Split": Entry(shape.split, "Slice"),
        "Sqrt": Entry(activation.powers(power=0.5), "Power"),
        "Squeeze": Entry(shape.reshape, "Reshape"),
        "Sub": Entry(arithmetic.sub, "Eltwise; Power, Scale or Bias"),
        "Sum": Entry(arithmetic.sum_, "Eltwise"),
        "Tanh": Entry(activation.plain("TanH"), "TanH"),
        "Tile": Entry(shape.tile, "Tile"),
        "Transpose": Entry(shape.transpose, "Permute, Reshape, or Slice and Concat", "64 parts at most where the fork has no Permute"),
        "Unsqueeze": Entry(shape.reshape, "Reshape"),
        "Upsample": Entry(resize.resize, "Deconvolution", "nearest, by whole factors"),
    }
)
"""Operators of ONNX's own domain."""
