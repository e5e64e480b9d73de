"""`fold_preprocess`: what was done to images before the first layer, done by that layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass
from porter.mapping.ops.base import FloatOperation, Irreversible, Operand, OperationError
from porter.mapping.ops.channels import Channels, channels_of, check_vector, shape_or
from porter.mapping.ops.checks import flag, floating, integer, number
from porter.mapping.ops.labels import by_label

if TYPE_CHECKING:
    from numpy.typing import NDArray

Values = float | tuple[float, ...]

_PADDING = ("none", "mean", "zero")


@dataclass(frozen=True, slots=True)
class FoldPreprocess(FloatOperation):
    """Mean, scale and channel order of the input, folded into the first layer.

    `[weight=…, bias=…?] | fold_preprocess(mean=[104, 117, 123], scale=0.017, padding=none) -> [weight=…, bias=…]`: the layer
    was given (x - mean) · scale, and is given x from now on. For a convolution (O, I/groups, …) or a linear layer (O, I):

        weight · scale          bias - Σ (weight · scale) · mean        sums over the inputs and the kernel

    mean, scale, std: a number, or one for each channel in the order of the weight as it is. `std` divides instead of `scale`.
    flip: the layer is given the channels in reverse order from now on: BGR for RGB.
    padding: what the layer pads its input with, which has to be said where there is a mean and the input is an image. Padding
        with 0 before the fold is padding with the mean after it. `none`: the layer pads nothing. `mean`: whoever runs it will
        pad with the mean. `zero`: it will go on padding with 0, and what comes out near the border is not the same.
    groups: of a grouped convolution, as axis 1 then counts the channels of one group.
    channels: of a linear layer after a flatten, whose axis 1 holds (c h w): how many c.

    Without a bias and a mean, no bias comes out. Padding does not matter to `scale` and `flip`.

    Exactness: a weight is rounded once to 53 bits and once to its dtype, so a float32 is at most 0.5 + 2**-28 ULP from the
    true value, a float64 0.5 ULP. A bias is a sum of n terms (inputs × kernel, and itself); with t the sum of their sizes, a
    float32 is at most 0.5 + n · 2**-28 · |t / bias| ULP away.
    """

    mean: Values = 0.0
    scale: Values | None = None
    std: Values | None = None
    flip: bool = False
    padding: str | None = None
    groups: int = 1
    channels: int | None = None

    name = "fold_preprocess"
    takes = "weight, bias?"
    undone = "never: products and sums are rounded"

    def __post_init__(self) -> None:
        _numbers(self.mean, "mean")
        if self.scale is not None and self.std is not None:
            raise OperationError("M402", "'scale' and 'std' are both given", argument="std", hint="'std' divides, 'scale' multiplies")
        argument, values = ("std", self.std) if self.std is not None else ("scale", self.scale)
        if values is not None and 0 in _numbers(values, argument):
            raise OperationError("M403", f"'{argument}' has a 0", argument=argument)
        flag(self.flip, "flip")
        if self.padding is not None and self.padding not in _PADDING:
            message = f"'padding' is {', '.join(_PADDING[:-1])} or {_PADDING[-1]}, not {self.padding!r:.40}"
            raise OperationError("M403", message, argument="padding")
        if integer(self.groups, "groups") < 1:
            raise OperationError("M403", f"'groups' is 1 or more, not {self.groups}", argument="groups")
        if self.channels is not None and integer(self.channels, "channels") < 1:
            raise OperationError("M403", f"'channels' is 1 or more, not {self.channels}", argument="channels")
        if self.flip and self.groups > 1:
            message = "'flip' would move channels from one group to another, which one convolution cannot do"
            raise OperationError("M459", message, argument="flip")
        if self.mean == 0 and values is None and not self.flip:
            raise OperationError("M402", f"'{self.name}' has nothing to fold", hint="give 'mean', 'scale', 'std' or 'flip'")

    def outputs(self, inputs: Sequence[Operand]) -> tuple[Operand, ...]:
        found = self._labels(inputs)
        floating(self.name, inputs)
        weight = inputs[found["weight"]]
        channels = self._channels(inputs, found)
        for argument in ("mean", "scale", "std"):
            values = getattr(self, argument)
            if isinstance(values, tuple) and len(values) != channels.size:
                message = f"'{argument}' has {len(values)} values, the weight {list(weight.shape)} {channels.size} input channels"
                hint = f"write 'channels={len(values)}' if it follows a flatten of (c h w)" if len(weight.shape) == 2 else None
                raise OperationError("M460", message, input=found["weight"], argument=argument, hint=hint)
        self._check_border(weight, found["weight"])
        out = Operand(weight.name, weight.dtype, weight.shape, "weight")
        bias = found.get("bias")
        if bias is not None:
            check_vector(inputs[bias], bias, weight.shape[0], "output channels")
        elif not self._shifts:
            return (out,)
        of = weight if bias is None else inputs[bias]
        return out, Operand(of.name, of.dtype, shape_or(inputs, bias, weight.shape[0]), "bias")

    @property
    def _shifts(self) -> bool:
        return any(_numbers(self.mean, "mean"))

    def _labels(self, inputs: Sequence[Operand]) -> dict[str, int]:
        if len(inputs) == 1 and inputs[0].label is None:
            return {"weight": 0}
        return by_label(self.name, inputs, ("weight",), ("bias",))

    def _channels(self, inputs: Sequence[Operand], found: Mapping[str, int]) -> Channels:
        """The input channels; after a flatten, of the weight as (o c (h w))."""
        index = found["weight"]
        channels = channels_of(self.name, inputs[index], 1, self.groups, index)
        if self.channels is None or self.channels == channels.size:
            return channels
        rows, size = channels.shape[0], channels.shape[1]
        if len(channels.shape) != 2 or size % self.channels:
            message = f"the weight {list(channels.shape)} has {channels.size} inputs, which are not {self.channels} channels"
            raise OperationError("M460", message, input=index, argument="channels")
        return Channels((rows, self.channels, size // self.channels), 1)

    def _check_border(self, weight: Operand, index: int) -> None:
        if self._shifts and self.padding is None and len(weight.shape) > 2:
            message = "whether this fold is exact depends on the layer's padding, which the map does not say"
            ways = (
                "none' if it pads nothing",
                "mean' if images will be padded with the mean",
                "zero' if values near the border may differ",
            )
            hint = "write " + ", ".join(["'padding=" + way for way in ways])
            raise OperationError("M461", message, input=index, hint=hint)

    def inverse(self, inputs: Sequence[Operand] | None) -> Irreversible:
        return Irreversible("the products and sums are rounded, so that several layers give the same one")

    def compute(self, inputs: Sequence[NDArray[Any]], operands: Sequence[Operand]) -> Sequence[NDArray[Any]]:
        import numpy as np

        found = self._labels(operands)
        channels = self._channels(operands, found)
        given = inputs[found["weight"]]
        weight = channels.apart(given.reshape(channels.shape))
        with np.errstate(all="ignore"):
            if self.scale is not None:
                weight = weight * self._along(self.scale, channels)
            elif self.std is not None:
                weight = weight / self._along(self.std, channels)
            terms = weight * self._along(self.mean, channels) if self._shifts else None
        axis = 1 if channels.groups == 1 else 2
        folded = (np.flip(weight, axis) if self.flip else weight).reshape(given.shape)
        if terms is None:
            return [folded] if "bias" not in found else [folded, inputs[found["bias"]]]
        rows = given.shape[0]
        shift = terms.reshape(rows, math.prod(terms.shape) // rows if rows else 0).sum(axis=1)
        bias = inputs[found["bias"]].reshape(-1) - shift if "bias" in found else -shift
        return [folded, bias.reshape(shape_or(operands, found.get("bias"), rows))]

    def _along(self, values: Values, channels: Channels) -> NDArray[Any]:
        import numpy as np

        return channels.along(np.broadcast_to(np.asarray(values, np.float64), (channels.size,)))


def _numbers(values: object, argument: str) -> tuple[float, ...]:
    """The values of an argument that is a number or a list of numbers."""
    return tuple([number(v, argument) for v in values]) if isinstance(values, tuple) else (number(values, argument),)
