"""Layers that normalise: BatchNorm, the two kinds of BN, LRN, MVN, Normalize.

Source: BVLC/caffe batch_norm_layer.cpp, lrn_layer.cpp, mvn_layer.cpp at 9b891540183d; forks are named where they differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from porter.dataclass import dataclass
from porter.graph.builder import Named
from porter.graph.caffe.layer import Layer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PARAM = "batch_norm_param"


@dataclass(frozen=True, slots=True)
class Blobs:
    """Which blob of a BatchNorm is what; None where there is none."""

    mean: int = 0
    variance: int = 1
    factor: int = 2
    scale: int | None = None
    bias: int | None = None


def batch_norm(layer: Layer) -> None:
    """(x - mean) / sqrt(variance + eps), and in forks times a scale plus a bias.

    The stored statistics are divided by the scale factor, a factor of zero makes them zero. With `use_global_stats: false` they
    are those of the batch, with the biased variance.

    Source: for forks, NVCaffe (nvcaffe 0.17.3 batch_norm_layer.cpp: `scale_bias`; stored statistics at test time whatever
    `use_global_stats` says, not divided; eps at least 1e-5), Intel (intel/caffe mkldnn_batch_norm_layer.cpp, at d1a25ad7).
    """
    x = _with_channels(layer)
    nvidia = layer.parameters.flag(f"{_PARAM}.scale_bias", False)
    eps = layer.parameters.number(f"{_PARAM}.eps", 1e-5)
    stored = layer.parameters.flag(f"{_PARAM}.use_global_stats", True) or nvidia
    blobs = _batch_norm_blobs(layer, nvidia)
    if not stored:
        layer.has_blobs(layer.weight_count or 0)
        layer.put(_affine(layer, _by_batch(layer, x, eps, None if blobs.scale is None else "normalised"), blobs.scale, blobs.bias))
        return
    factor = 1.0 if nvidia else float(layer.weight_values(blobs.factor, (1,))[0])
    mean, variance = (_statistic(layer, i, factor, what) for i, what in ((blobs.mean, "mean"), (blobs.variance, "variance")))
    scale, bias = (_by_channel(layer, i) if i is not None else None for i in (blobs.scale, blobs.bias))
    layer.put(_normalised(layer, x, scale, bias, mean, variance, max(eps, 1e-5) if nvidia else eps))


def bn(layer: Layer) -> None:
    """BN of SegNet with two blobs, or of PSPNet and others with four. They have nothing but the name in common."""
    segnet = any(layer.parameters.stated(f"bn_param.{name}") for name in ("bn_mode", "shift_filler"))
    count = layer.weight_count
    if count is None:
        count = 2 if segnet else 4
        layer.assume(f"BN has {count} blobs, as in {'SegNet' if segnet else 'PSPNet'}")
    if count == 2:
        _bn_segnet(layer)
    elif count == 4:
        _bn_pspnet(layer)
    else:
        raise layer.error("G025", f"the weights have {count} blobs for it; SegNet's BN has 2, PSPNet's 4")


def _bn_segnet(layer: Layer) -> None:
    """In mode LEARN, the default, statistics of the batch even at test time. Source: alexgkendall/caffe-segnet bn_layer.cpp."""
    x = _with_channels(layer)
    mode = layer.parameters.choice("bn_param.bn_mode", ("LEARN", "INFERENCE"), "LEARN")
    if mode == "INFERENCE":
        layer.put(_affine(layer, x, 0, 1))
        return
    b = layer.builder
    axes = _all_but_channels(x)
    mean = b.reduce("ReduceMean", x, axes, True, hint="mean")
    squares = b.reduce("ReduceMean", b.binary("Mul", x, x, hint="square"), axes, True, hint="mean_square")
    variance = b.binary("Sub", squares, b.binary("Mul", mean, mean, hint="squared_mean"), hint="variance")
    centred = b.binary("Sub", x, mean, hint="centred")
    normalised = b.binary("Div", centred, _deviation(layer, variance, 1e-9), hint="normalised")
    layer.put(_affine(layer, normalised, 0, 1))
    for value in (mean, variance)[: len(layer.top_names) - 1]:
        layer.put(value)


def _bn_pspnet(layer: Layer) -> None:
    """slope · (x - mean) / sqrt(variance + eps) + bias.

    Source: PSPNet's Caffe (bn_layer.cpp with `frozen`, `momentum`, `eps`), and an earlier one with `var_eps`, `decay` and
    `moving_average` (hszhao/PSPNet at 88d0b3ee, danxuhk/ContinuousCRF-CNN).
    """
    x = _with_channels(layer)
    # Both are about training; at test time the stored statistics are used in either case.
    layer.parameters.ignore("bn_param.frozen", "bn_param.momentum", "bn_param.decay")
    early = any(layer.parameters.stated(f"bn_param.{name}") for name in ("var_eps", "decay", "moving_average"))
    eps = layer.parameters.number("bn_param.eps", 1e-5)
    if early:
        eps = layer.parameters.number("bn_param.var_eps", 1e-10)
    if layer.parameters.integer("bn_param.axis", 1) != 1:
        raise layer.error("G010", "it normalises along another axis than that of the channels")
    if not layer.parameters.flag("bn_param.moving_average", True):
        layer.has_blobs(4)
        layer.put(_affine(layer, _by_batch(layer, x, eps, "normalised"), 0, 1))
        return
    slope, bias, mean, variance = (_by_channel(layer, i) for i in range(4))
    layer.put(_normalised(layer, x, slope, bias, mean, variance, eps))


def lrn(layer: Layer) -> None:
    """x over a power of the squares near it: in the channels beside, or in its own plane (where `k` does not count)."""
    layer.need_bottoms(1)
    (x,) = layer.bottoms
    if x.rank != 4:
        raise layer.error("G017", f"its bottom has {x.rank} axes, and Caffe takes four")
    size = layer.parameters.integer("lrn_param.local_size", 5)
    alpha, beta, k = (
        layer.parameters.number(f"lrn_param.{name}", default) for name, default in (("alpha", 1.0), ("beta", 0.75), ("k", 1.0))
    )
    region = layer.parameters.choice("lrn_param.norm_region", ("ACROSS_CHANNELS", "WITHIN_CHANNEL"), "ACROSS_CHANNELS")
    if size < 1 or size % 2 == 0:
        raise layer.error("G010", f"local_size is {size}, and must be odd")
    if region == "ACROSS_CHANNELS":
        layer.put(layer.builder.unary("LRN", x, {"size": size, "alpha": alpha, "beta": beta, "bias": k}))
        return
    b = layer.builder
    attributes = {"kernel_shape": [size, size], "strides": [1, 1], "pads": [size // 2] * 4, "count_include_pad": 1}
    mean = b.unary("AveragePool", b.binary("Mul", x, x, hint="square"), attributes, hint="mean")
    base = b.scalar("Add", b.scalar("Mul", mean, alpha, hint="alpha"), 1.0, hint="base")
    layer.put(b.binary("Div", x, b.scalar("Pow", base, beta, hint="norm")))


def mvn(layer: Layer) -> None:
    """Less the mean, and over the standard deviation, to which eps is added. What comes out always has four axes."""
    layer.need_bottoms(1)
    (x,) = layer.bottoms
    if x.rank > 4:
        raise layer.error("G017", f"its bottom has {x.rank} axes, and Caffe takes no more than four")
    b = layer.builder
    across = layer.parameters.flag("mvn_param.across_channels", False)
    divide = layer.parameters.flag("mvn_param.normalize_variance", True)
    eps = layer.parameters.number("mvn_param.eps", 1e-9)
    x = b.reshape(x, (*x.shape, *[1] * (4 - x.rank)), "four_axes")
    axes = [1, 2, 3] if across else [2, 3]
    centred = b.binary("Sub", x, b.reduce("ReduceMean", x, axes, True, hint="mean"), hint="centred" if divide else None)
    if not divide:
        layer.put(centred)
        return
    variance = b.reduce("ReduceMean", b.binary("Mul", centred, centred, hint="square"), axes, True, hint="variance")
    deviation = b.scalar("Add", b.unary("Sqrt", variance, hint="deviation"), eps, hint="divisor")
    layer.put(b.binary("Div", centred, deviation))


def normalize(layer: Layer) -> None:
    """x over its length along the channels, or over everything of an image, times a learned scale.

    Source: SSD (weiliu89/caffe) normalize_layer.cpp.
    """
    x = _with_channels(layer)
    if x.rank > 4:
        raise layer.error("G017", f"its bottom has {x.rank} axes, and Caffe takes no more than four")
    b = layer.builder
    everything = layer.parameters.flag("norm_param.across_spatial", True)
    shared = layer.parameters.flag("norm_param.channel_shared", True)
    eps = layer.parameters.number("norm_param.eps", 1e-10)
    axes = list(range(1, x.rank)) if everything else [1]
    squares = b.reduce("ReduceSum", b.binary("Mul", x, x, hint="square"), axes, True, hint="squares")
    normalised = b.binary("Div", x, _deviation(layer, squares, eps), hint="normalised")
    channels = int(x.shape[1])
    scale = layer.weight(0, ()) if shared else layer.weight(0, (channels,), aligned=(channels, *[1] * (x.rank - 2)))
    layer.put(b.binary("Mul", normalised, scale))


def _with_channels(layer: Layer) -> Named:
    layer.need_bottoms(1)
    (x,) = layer.bottoms
    if x.rank < 2:
        raise layer.error("G017", f"its bottom has {x.rank} axes, and the second is that of the channels")
    return x


def _batch_norm_blobs(layer: Layer, nvidia: bool) -> Blobs:
    """Where the blobs are; an early Intel version had scale and shift first, and the scale factor, one value, at the end."""
    intel = layer.parameters.flag(f"{_PARAM}.use_weight_bias", False)
    bias = layer.parameters.flag(f"{_PARAM}.bias_term", True)
    count = layer.weight_count
    if count is None:
        count = 3 + (intel or nvidia) + ((intel and bias) or nvidia)
    if count <= 3:
        if intel or nvidia:
            raise layer.error("G021", f"the weights have {count} blobs for it, and neither scale nor bias is among them")
        return Blobs()
    if count == 4:
        return Blobs(scale=3)
    if count != 5:
        raise layer.error("G025", f"the weights have {count} blobs for it; a BatchNorm has 3, in forks 4 or 5")
    if layer.weight_shape(4) == (1,) and layer.weight_shape(2) != (1,):
        return Blobs(2, 3, 4, 0, 1)
    return Blobs(scale=3, bias=4)


def _statistic(layer: Layer, index: int, factor: float, what: str) -> Named:
    """A stored statistic over the scale factor: the store's own blob where that changes nothing."""
    shape = (int(layer.bottoms[0].shape[1]),)
    if factor == 1:
        return layer.weight(index, shape)
    return layer.builder.constant(_divided(layer.weight_values(index, shape), factor), what, made_of=layer.weight_name(index))


def _divided(values: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """As Caffe does it: one over the factor, rounded to float32, times the values. A factor of zero gives zeros."""
    import numpy as np

    if factor == 0:
        return np.zeros_like(values)
    with np.errstate(all="ignore"):
        return values * (np.float32(1) / np.float32(factor))


def _normalised(layer: Layer, x: Named, scale: Named | None, bias: Named | None, mean: Named, variance: Named, eps: float) -> Named:
    channels = int(x.shape[1])
    scale = scale or layer.builder.constant([1.0] * channels, "one")
    bias = bias or layer.builder.constant([0.0] * channels, "zero")
    return layer.builder.op("BatchNormalization", [x, scale, bias, mean, variance], x.shape, {"epsilon": eps})


def _by_batch(layer: Layer, x: Named, eps: float, hint: str | None) -> Named:
    """Normalised by the mean and the biased variance of this batch."""
    b = layer.builder
    axes = _all_but_channels(x)
    centred = b.binary("Sub", x, b.reduce("ReduceMean", x, axes, True, hint="mean"), hint="centred")
    variance = b.reduce("ReduceMean", b.binary("Mul", centred, centred, hint="square"), axes, True, hint="variance")
    return b.binary("Div", centred, _deviation(layer, variance, eps), hint=hint)


def _deviation(layer: Layer, variance: Named, eps: float) -> Named:
    return layer.builder.unary("Sqrt", layer.builder.scalar("Add", variance, eps, hint="with_eps"), hint="deviation")


def _affine(layer: Layer, x: Named, scale: int | None, bias: int | None) -> Named:
    """`x` times a blob with a number for each channel, plus another; the blobs by index."""
    ones = x.rank - 2
    if scale is not None:
        x = layer.builder.binary("Mul", x, _by_channel(layer, scale, ones), hint="scaled" if bias is not None else None)
    return layer.builder.binary("Add", x, _by_channel(layer, bias, ones)) if bias is not None else x


def _by_channel(layer: Layer, index: int, ones: int = 0) -> Named:
    """A blob with a number for each channel, with `ones` axes of size one behind. Forks give such blobs two or four axes."""
    channels = int(layer.bottoms[0].shape[1])
    held = layer.weight_shape(index)
    fits = held is not None and sorted(held) == sorted([channels, *[1] * (len(held) - 1)])
    return layer.weight(index, held if fits else (channels,), aligned=(channels, *[1] * ones))


def _all_but_channels(x: Named) -> list[int]:
    return [0, *range(2, x.rank)]
