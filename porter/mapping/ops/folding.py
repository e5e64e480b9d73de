"""`fold_bn`: a layer and the batch normalisation after it as one layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass
from porter.mapping.ops.base import FloatOperation, Irreversible, Operand, OperationError
from porter.mapping.ops.batch_norm import PARAMETERS, STATISTICS, batch_norm, check_batch_norm, check_eps
from porter.mapping.ops.channels import Channels, channels_of, check_vector, shape_or
from porter.mapping.ops.checks import floating, integer
from porter.mapping.ops.labels import by_label

if TYPE_CHECKING:
    from numpy.typing import NDArray

_REQUIRED = ("weight", *STATISTICS)
_OPTIONAL = ("bias", *PARAMETERS)


@dataclass(frozen=True, slots=True)
class FoldBn(FloatOperation):
    """A layer and the batch normalisation after it as one layer.

    `[weight=…, bias=…?, gamma=…?, beta=…?, mean=…, variance=…, scale_factor=…?] | fold_bn(eps=1e-5) -> [weight=…, bias=…]`:

        weight · (gamma / sqrt(variance + eps))        (bias - mean) · (gamma / sqrt(variance + eps)) + beta

    A missing bias or beta is 0, a missing gamma 1; with `scale_factor`, mean and variance are divided by it first, as in
    `bn_stats`. Caffe's Scale layer gives gamma and beta. The bias that comes out has the shape and dtype of the one that
    goes in, or is a vector of the weight's dtype.

    eps: a float64. Caffe and ONNX keep it in float32, where 1e-5 is 9.999999747378752e-06; written so, it is exactly theirs.
    output_axis: the weight's axis of output channels: 0 in a convolution (O, I/groups, …), depthwise or not, and in a linear
        layer (O, I); 1 in a deconvolution (I, O/groups, …); -1 in Keras kernels (H, W, I, O) and (I, O).
    groups: of a deconvolution with `output_axis=1`; elsewhere the output axis counts the channels of all groups.
    arithmetic: `f32` computes everything in float32, in the order above, as the ONNX exporter of torch does: its folded
        files come out bit for bit. `f64`, the default, is the most exact.

    Exactness in float64: a weight has taken at most five roundings to 53 bits (each 2**-53 of the value) before the one
    to its dtype, so a float32 is at most 0.5 + 2**-26 ULP from the true value, a float64 4 ULP. A bias is a sum; with t its
    larger term, a float32 is at most 0.5 + 2**-26 · |t / bias| ULP away, a float64 5 ULP of t.

    Source: pytorch torch/csrc/jit/passes/onnx/eval_peephole.cpp (2.0) for the order in float32; checked against files.
    """

    eps: float = 1e-5
    output_axis: int = 0
    groups: int = 1
    arithmetic: str = "f64"

    name = "fold_bn"
    takes = "weight, bias?, gamma?, beta?, mean, variance, scale_factor?"
    undone = "never: many pairs of a layer and a batch normalisation give the same layer"

    def __post_init__(self) -> None:
        check_eps(self.eps)
        integer(self.output_axis, "output_axis")
        if integer(self.groups, "groups") < 1:
            raise OperationError("M403", f"'groups' is 1 or more, not {self.groups}", argument="groups")
        if self.arithmetic not in ("f64", "f32"):
            raise OperationError("M403", f"'arithmetic' is f64 or f32, not {self.arithmetic!r:.40}", argument="arithmetic")
        if self.groups > 1 and self.output_axis != 1:
            message = f"'groups' says nothing with output_axis={self.output_axis}: that axis counts the channels of all groups"
            hint = "leave 'groups' out, or write 'output_axis=1' for a deconvolution"
            raise OperationError("M457", message, argument="groups", hint=hint)

    def outputs(self, inputs: Sequence[Operand]) -> tuple[Operand, ...]:
        found = by_label(self.name, inputs, _REQUIRED, _OPTIONAL)
        floating(self.name, inputs)
        self._check_arithmetic(inputs)
        weight = inputs[found["weight"]]
        channels = self._channels(inputs, found)
        self._check_axis(channels, inputs[found["variance"]], found["variance"])
        check_batch_norm(inputs, found, channels.size)
        bias = found.get("bias")
        if bias is not None:
            check_vector(inputs[bias], bias, channels.size, "output channels")
        out = weight if bias is None else inputs[bias]
        return (
            Operand(weight.name, weight.dtype, weight.shape, "weight"),
            Operand(out.name, out.dtype, shape_or(inputs, bias, channels.size), "bias"),
        )

    def _channels(self, inputs: Sequence[Operand], found: Mapping[str, int]) -> Channels:
        return channels_of(self.name, inputs[found["weight"]], self.output_axis, self.groups, found["weight"])

    def _check_arithmetic(self, inputs: Sequence[Operand]) -> None:
        for index, operand in enumerate(inputs):
            if self.arithmetic == "f32" and operand.dtype.name == "float64":
                message = "arithmetic=f32 would round this float64 tensor before anything is computed"
                raise OperationError("M457", message, input=index, hint="leave 'arithmetic' out")

    def _check_axis(self, channels: Channels, variance: Operand, index: int) -> None:
        """Say which axis would fit, where the stated one does not."""
        size = max(variance.shape, default=1)
        if size == channels.size:
            return
        shape = channels.shape
        other = next((axis for axis in (1, 0, len(shape) - 1) if axis < len(shape) and shape[axis] == size), None)
        message = f"the weight {list(shape)} has {channels.size} output channels on axis {channels.axis}, the batch normalisation {size}"
        hint = "does this batch normalisation follow this layer?"
        if other is not None:
            hint = f"'output_axis={other}' would fit" + (", as in a deconvolution" if other == 1 else "")
        raise OperationError("M455", message, input=index, hint=hint)

    def inverse(self, inputs: Sequence[Operand] | None) -> Irreversible:
        return Irreversible("the batch normalisation is multiplied into the weights, and many pairs of the two give the same layer")

    def compute(self, inputs: Sequence[NDArray[Any]], operands: Sequence[Operand]) -> Sequence[NDArray[Any]]:
        import numpy as np

        found = by_label(self.name, operands, _REQUIRED, _OPTIONAL)
        dtype = np.float32 if self.arithmetic == "f32" else np.float64
        values = {label: inputs[index].astype(dtype, copy=False) for label, index in found.items()}
        channels = self._channels(operands, found)
        with np.errstate(all="ignore"):
            norm = batch_norm(values, self.eps, found["variance"])
            weight = (channels.apart(values["weight"]) * channels.along(norm.scale)).reshape(channels.shape)
            bias = norm.bias(values.get("bias"))
        shape = shape_or(operands, found.get("bias"), channels.size)
        return [weight.astype(np.float64, copy=False), bias.reshape(shape).astype(np.float64, copy=False)]
