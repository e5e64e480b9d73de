"""Which layers can be said as ONNX: one table, which `--list-layers` prints."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from porter.dataclass import dataclass
from porter.tensorrt import layers

if TYPE_CHECKING:
    import onnx_ir as ir

    from porter.tensorrt.expression.graph import Op


@dataclass(frozen=True, slots=True)
class Entry:
    """One layer type.

    operation: the record. type: TensorRT's `LayerType`. onnx: what it becomes. refused: what of it has no expression, "" for nothing.
    function: `module:name` below `porter.tensorrt.expression.operators`. read_as: other types that are read as this one.
    """

    operation: type
    type: str
    onnx: str
    refused: str
    function: str
    read_as: tuple[str, ...] = ()

    def load(self) -> _Function:
        """The function that expresses it."""
        module, _, name = self.function.partition(":")
        found: _Function = getattr(importlib.import_module(f"porter.tensorrt.expression.operators.{module}"), name)
        return found


class _Function(Protocol):
    """`function(op)` gives a layer's outputs."""

    def __call__(self, op: Op) -> Sequence[ir.Value]: ...


_ALL: tuple[tuple[Any, ...], ...] = (
    (layers.Convolution, "CONVOLUTION", "Conv", "bias as a tensor", "windows:convolution"),
    (layers.Deconvolution, "DECONVOLUTION", "ConvTranspose", "bias as a tensor", "windows:deconvolution"),
    (layers.Pooling, "POOLING", "MaxPool, AveragePool", "MAX_AVERAGE_BLEND", "windows:pooling"),
    (layers.Activation, "ACTIVATION", "Relu, Elu, Softplus, …", "", "pointwise:activation"),
    (layers.ParametricRelu, "PARAMETRIC_RELU", "PRelu", "", "pointwise:parametric_relu"),
    (layers.Scale, "SCALE", "Mul, Add, Pow", "results of int8", "pointwise:scale"),
    (layers.Lrn, "LRN", "LRN", "", "means:lrn"),
    (layers.Softmax, "SOFTMAX", "Softmax", "", "means:softmax"),
    (layers.Elementwise, "ELEMENTWISE", "Add, Mul, Max, …", "arithmetic on int8, uint8", "pointwise:elementwise"),
    (layers.Unary, "UNARY", "Exp, Log, Abs, …", "", "pointwise:unary"),
    (layers.Concatenation, "CONCATENATION", "Concat", "", "moves:concatenation"),
    (layers.Shuffle, "SHUFFLE", "Transpose, Reshape, Transpose", "", "moves:shuffle", ("SQUEEZE", "UNSQUEEZE")),
    (layers.MatrixMultiply, "MATRIX_MULTIPLY", "MatMul", "", "products:matrix_multiply"),
    (layers.Constant, "CONSTANT", "initialiser", "fp4", "products:constant"),
    (layers.Reduce, "REDUCE", "ReduceSum, ReduceMean, …", "AVG of integers, NONE", "means:reduce"),
    (layers.Slice, "SLICE", "Gather, Where", "axes as a setting", "moves:slice_", ("PADDING",)),
    (layers.Resize, "RESIZE", "Resize", "", "samples:resize"),
    (layers.Gather, "GATHER", "Gather, GatherElements, GatherND", "positions out of bounds", "indices:gather"),
    (layers.Scatter, "SCATTER", "ScatterElements, ScatterND", "", "indices:scatter"),
    (layers.TopK, "TOPK", "TopK", "indices of int64, k as a tensor", "indices:topk"),
    (layers.Select, "SELECT", "Where", "", "pointwise:select"),
    (layers.Cast, "CAST", "Cast", "fp4", "pointwise:cast"),
    (layers.Identity, "IDENTITY", "Identity, Cast", "", "pointwise:identity"),
    (layers.Quantize, "QUANTIZE", "QuantizeLinear", "fp4, scales for blocks", "quantisation:quantize"),
    (layers.Dequantize, "DEQUANTIZE", "DequantizeLinear", "fp4, scales for blocks", "quantisation:dequantize"),
    (layers.Normalization, "NORMALIZATION", "ReduceMean, Sub, Mul, …", "", "means:normalization"),
    (layers.NonMaximumSuppression, "NMS", "NonMaxSuppression, TopK", "indices of int64", "boxes:non_maximum_suppression"),
    (layers.NonZero, "NON_ZERO", "NonZero", "indices of int64", "indices:non_zero"),
    (layers.Shape, "SHAPE", "Shape", "", "moves:shape"),
    (layers.Einsum, "EINSUM", "Einsum", "", "products:einsum"),
    (layers.OneHot, "ONE_HOT", "OneHot", "", "indices:one_hot"),
    (layers.GridSample, "GRID_SAMPLE", "GridSample", "modes other than FILL, CLAMP, REFLECT", "samples:grid_sample"),
    (layers.CumulativeSum, "CUMULATIVE", "CumSum", "", "means:cumulative_sum"),
)

TABLE: Mapping[type, Entry] = MappingProxyType({entry[0]: Entry(*entry) for entry in _ALL})
