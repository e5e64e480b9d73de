"""Operations that fold layers into one: against exact arithmetic, torch's own fusing, and networks that are run both ways."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from porter.dtypes import DTYPES, from_numpy
from porter.mapping.ops.base import Irreversible, Operand, Operation, OperationError
from porter.mapping.ops.batch_norm import BnStats
from porter.mapping.ops.folding import FoldBn
from porter.mapping.ops.preprocessing import FoldPreprocess
from porter.mapping.ops.reparameterisation import FoldBranches

torch = pytest.importorskip("torch")

Arrays = Mapping[str, NDArray[Any]]


def operands(arrays: Arrays) -> list[Operand]:
    found = []
    for label, array in arrays.items():
        dtype = from_numpy(array.dtype)
        assert dtype is not None
        found.append(Operand(f"net.{label}", dtype, array.shape, label))
    return found


def exact(operation: Operation, **arrays: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """What the operation gives before rounding, by label; shapes are those it promised."""
    assert operation.domain == "float64"
    given = operands(arrays)
    promised = operation.outputs(given)
    wide = [a.astype(np.float64) for a in arrays.values()]
    before = [a.copy() for a in wide]
    results = operation.compute(wide, given)
    for array, copy in zip(wide, before, strict=True):
        np.testing.assert_array_equal(array, copy, "inputs are not changed")
    assert [r.shape for r in results] == [p.shape for p in promised]
    assert all(r.dtype == np.float64 for r in results)
    return {str(p.label): r for p, r in zip(promised, results, strict=True)}


def random(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def statistics(seed: int, channels: int, prefix: str = "") -> dict[str, NDArray[np.float32]]:
    return {
        f"{prefix}gamma": random(seed, channels),
        f"{prefix}beta": random(seed + 1, channels),
        f"{prefix}mean": random(seed + 2, channels),
        f"{prefix}variance": np.square(random(seed + 3, channels)) + np.float32(0.01),
    }


def double(array: NDArray[Any]) -> Any:
    return torch.from_numpy(array.astype(np.float64))


def normalised(x: Any, bn: Arrays, prefix: str = "", eps: float = 1e-5) -> Any:
    """Batch normalisation as torch does it, in float64."""
    parts = [bn.get(f"{prefix}{p}") for p in ("mean", "variance", "gamma", "beta")]
    return torch.nn.functional.batch_norm(x, *[None if p is None else double(p) for p in parts], training=False, eps=eps)


def assert_same_outputs(ours: Any, theirs: Any) -> None:
    """Equal in float64 but for the order of additions, which the two networks do not share."""
    assert ours.shape == theirs.shape
    scale = float(theirs.abs().max())
    assert float((ours - theirs).abs().max()) <= 1e-13 * max(scale, 1.0)


def ulps(value: np.float32, true: Fraction, unit: Fraction | None = None) -> Fraction:
    """The distance of a float32 from the true value, in units in the last place of it (or of `unit`)."""
    size = float(abs(true if unit is None else unit))
    return abs(Fraction(float(value)) - true) / Fraction(float(np.spacing(np.float32(size))))


def root(value: Fraction) -> Fraction:
    with localcontext() as context:
        context.prec = 80
        return Fraction((Decimal(value.numerator) / Decimal(value.denominator)).sqrt())


# ---- bn_stats ----------------------------------------------------------------------------------------------------------

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(finite, min_size=1, max_size=5), finite.filter(lambda x: x not in (0, 1)))
def test_bn_stats_is_the_nearest_float32_to_the_quotient(values: list[float], factor: float) -> None:
    array = np.array(values, np.float32)
    got = exact(BnStats(), mean=array, variance=array, scale_factor=np.array([factor], np.float32))
    with np.errstate(over="ignore"):
        rounded = got["mean"].astype(np.float32)
    for value, result in zip(values, rounded, strict=True):
        true = Fraction(value) / Fraction(factor)
        if abs(true) >= Fraction(2) ** 128 - Fraction(2) ** 103:
            assert np.isinf(result)
            continue
        below, above = np.nextafter(result, np.float32(-np.inf)), np.nextafter(result, np.float32(np.inf))
        near = [Fraction(float(x)) for x in (below, above) if np.isfinite(x)]
        assert all(abs(Fraction(float(result)) - true) <= abs(other - true) for other in near)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1, 1)])
def test_bn_stats_divides_by_caffes_factor(shape: tuple[int, ...]) -> None:
    mean, variance = np.float32([999.98236, -3.0]), np.float32([0.5, 8.0])
    got = exact(BnStats(), variance=variance, mean=mean, scale_factor=np.full(shape, 999.98236, np.float32))
    assert got["mean"].astype(np.float32).tolist() == [1.0, float(np.float32(-3.0 / float(np.float32(999.98236))))]
    assert list(got) == ["mean", "variance"]


def test_bn_stats_with_factor_zero_is_zero() -> None:
    got = exact(BnStats(), mean=np.float32([3, np.nan, -1]), variance=np.float32([1, 2, np.inf]), scale_factor=np.float32([-0.0]))
    assert got["mean"].view(np.int64).tolist() == got["variance"].view(np.int64).tolist() == [0, 0, 0]


def test_bn_stats_with_factor_one_keeps_bits() -> None:
    mean = np.array([0x7FF8DEADBEEF0001, 0x8000000000000000, 1], np.uint64).view(np.float64)
    given = [mean, mean, np.ones(1)]
    operation = BnStats()
    results = operation.compute(given, [Operand("x", DTYPES["float64"], a.shape) for a in given])
    assert [r.tobytes() for r in results] == [mean.tobytes()] * 2


def test_bn_stats_takes_caffes_blobs_in_their_order_without_labels() -> None:
    f32 = DTYPES["float32"]
    given = [Operand("bn.0", f32, (3,)), Operand("bn.1", f32, (3,)), Operand("bn.2", f32, (1,))]
    out = BnStats().outputs(given)
    assert [(o.name, o.label, o.shape) for o in out] == [("bn.0", "mean", (3,)), ("bn.1", "variance", (3,))]
    mean, variance = BnStats().compute([np.full(3, 6.0), np.full(3, 9.0), np.full(1, 3.0)], given)
    assert (mean.tolist(), variance.tolist()) == ([2.0] * 3, [3.0] * 3)


# ---- fold_bn -----------------------------------------------------------------------------------------------------------

positive = st.floats(min_value=0, max_value=2.0**40, width=32)
ordinary = st.floats(min_value=-(2.0**20), max_value=2.0**20, width=32)


@settings(max_examples=300)
@given(ordinary, ordinary, ordinary, ordinary, ordinary, positive, st.sampled_from([1e-5, 1e-3, 9.999999747378752e-06, 1]))
def test_fold_bn_is_within_its_bound(w: float, b: float, gamma: float, beta: float, mean: float, variance: float, eps: float) -> None:
    vectors = {
        k: np.array([v], np.float32) for k, v in {"bias": b, "gamma": gamma, "beta": beta, "mean": mean, "variance": variance}.items()
    }
    got = exact(FoldBn(eps=eps), weight=np.full((1, 1), w, np.float32), **vectors)
    scale = Fraction(gamma) / root(Fraction(variance) + Fraction(eps))
    tiny = Fraction(2) ** -120  # below, ULPs are those of subnormal numbers
    true = Fraction(w) * scale
    if abs(true) > tiny:
        assert ulps(got["weight"].astype(np.float32)[0, 0], true) <= Fraction(1, 2) + Fraction(1, 2**26)
    shift = (Fraction(b) - Fraction(mean)) * scale
    true = shift + Fraction(beta)
    if abs(true) > tiny:
        larger = max(abs(shift), abs(Fraction(beta)))
        bound = Fraction(1, 2) + Fraction(1, 2**26) * larger / abs(true)
        assert ulps(got["bias"].astype(np.float32)[0], true) <= bound


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize(
    ("layer", "arguments", "size"),
    [
        (lambda b: torch.nn.Conv2d(6, 8, 3, groups=2, bias=b), {}, (1, 6, 7, 8)),
        (lambda b: torch.nn.Conv2d(8, 8, 3, groups=8, padding=1, bias=b), {}, (1, 8, 7, 8)),
        (lambda b: torch.nn.Conv1d(3, 5, 4, bias=b), {}, (1, 3, 9)),
        (lambda b: torch.nn.Conv3d(3, 5, 2, bias=b), {}, (1, 3, 4, 5, 6)),
        (lambda b: torch.nn.Linear(7, 5, bias=b), {}, (2, 7)),
        (lambda b: torch.nn.ConvTranspose2d(6, 8, 3, stride=2, bias=b), {"output_axis": 1}, (1, 6, 5, 4)),
        (lambda b: torch.nn.ConvTranspose2d(6, 8, 3, groups=2, bias=b), {"output_axis": 1, "groups": 2}, (1, 6, 5, 4)),
        (lambda b: torch.nn.ConvTranspose2d(6, 6, 3, groups=6, bias=b), {"output_axis": 1, "groups": 6}, (1, 6, 5, 4)),
        (lambda b: torch.nn.ConvTranspose1d(6, 9, 3, groups=3, bias=b), {"output_axis": 1, "groups": 3}, (1, 6, 5)),
    ],
)
def test_fold_bn_gives_the_same_network(layer: Any, arguments: dict[str, int], size: tuple[int, ...], bias: bool, affine: bool) -> None:
    module = layer(bias).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(parameter.float())
    channels = module.out_channels if hasattr(module, "out_channels") else module.out_features
    bn = statistics(11, channels)
    if not affine:
        bn = {k: v for k, v in bn.items() if k in ("mean", "variance")}
    given = {name: p.detach().float().numpy() for name, p in module.named_parameters()}
    folded = exact(FoldBn(eps=1e-3, **arguments), **given, **bn)
    x = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = normalised(module(x), bn, eps=1e-3)
        after = layer(True).double()
        after.load_state_dict({k: torch.from_numpy(v) for k, v in folded.items()})
        assert_same_outputs(after(x), before)


@pytest.mark.parametrize("transposed", [False, True])
def test_fold_bn_is_torchs_own_fusing(transposed: bool) -> None:
    from torch.nn.utils.fusion import fuse_conv_bn_weights

    weight = random(1, 5, 7, 3, 3)
    bn = statistics(2, 7 if transposed else 5)
    parts = [double(bn[k]) for k in ("mean", "variance")]
    theirs = fuse_conv_bn_weights(double(weight), None, *parts, 1e-5, double(bn["gamma"]), double(bn["beta"]), transposed)
    ours = exact(FoldBn(output_axis=int(transposed)), weight=weight, **bn)
    for mine, other in zip(ours.values(), theirs, strict=True):
        np.testing.assert_allclose(mine, other.detach().numpy(), rtol=1e-14, atol=0)


def test_fold_bn_of_keras_kernels() -> None:
    weight, bn = random(1, 3, 3, 4, 5), statistics(2, 5)
    ours = exact(FoldBn(output_axis=-1), weight=weight, **bn)
    other = exact(FoldBn(), weight=np.ascontiguousarray(weight.transpose(3, 2, 0, 1)), **bn)
    np.testing.assert_array_equal(ours["weight"], other["weight"].transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(ours["bias"], other["bias"])


def test_fold_bn_with_caffes_factor_is_bn_stats_and_fold_bn() -> None:
    weight, bn, factor = random(1, 4, 3, 1, 1), statistics(2, 4), np.float32([999.98])
    stats = exact(BnStats(), mean=bn["mean"], variance=bn["variance"], scale_factor=factor)
    ours = exact(FoldBn(), weight=weight, **bn, scale_factor=factor)
    other = exact(FoldBn(), weight=weight, gamma=bn["gamma"], beta=bn["beta"], **stats)
    for label in ("weight", "bias"):
        np.testing.assert_array_equal(ours[label], other[label])
    empty = exact(FoldBn(eps=0.25), weight=weight, **bn, scale_factor=np.float32([0]))
    np.testing.assert_array_equal(empty["bias"], bn["beta"].astype(np.float64))
    np.testing.assert_array_equal(empty["weight"], weight * bn["gamma"].reshape(4, 1, 1, 1).astype(np.float64) * 2)


def test_fold_bn_in_float32_goes_the_way_of_torchs_onnx_exporter() -> None:
    weight, bias, bn = random(1, 4, 3, 3, 3), random(9, 4), statistics(2, 4)
    scale = bn["gamma"] / np.sqrt(bn["variance"] + np.float32(1e-5))
    ours = exact(FoldBn(arithmetic="f32"), weight=weight, bias=bias, **bn)
    np.testing.assert_array_equal(ours["weight"], (weight * scale.reshape(4, 1, 1, 1)).astype(np.float64))
    np.testing.assert_array_equal(ours["bias"], ((bias - bn["mean"]) * scale + bn["beta"]).astype(np.float64))


def test_fold_bn_keeps_the_shape_and_dtype_of_the_bias() -> None:
    """Caffe files of old have vectors of four dimensions."""
    bn = {k: v.reshape(1, 4, 1, 1) for k, v in statistics(2, 4).items()}
    given = operands({"weight": random(1, 4, 3, 1, 1), "bias": random(3, 1, 1, 1, 4).astype(np.float64), **bn})
    weight, bias = FoldBn().outputs(given)
    assert (weight.shape, weight.dtype.name, weight.label) == ((4, 3, 1, 1), "float32", "weight")
    assert (bias.shape, bias.dtype.name, bias.label) == ((1, 1, 1, 4), "float64", "bias")
    exact(FoldBn(), weight=random(1, 4, 3, 1, 1), bias=random(3, 1, 1, 1, 4), **bn)
    (_, new) = FoldBn().outputs(operands({"weight": random(1, 4, 3).astype(np.float16), **statistics(2, 4)}))
    assert (new.shape, new.dtype.name, new.name) == ((4,), "float16", "net.weight")


def test_fold_bn_passes_nan_on_as_the_net_would() -> None:
    bn = statistics(2, 2)
    bn["variance"][1] = np.nan
    got = exact(FoldBn(), weight=random(1, 2, 3), **bn)
    assert np.isnan(got["weight"][1]).all()
    assert np.isfinite(got["weight"][0]).all()


def test_fold_bn_of_no_channels() -> None:
    got = exact(FoldBn(), weight=random(1, 0, 3, 3, 3), **statistics(2, 0))
    assert got["bias"].shape == (0,)


@pytest.mark.parametrize(("variance", "eps"), [(-1.0, 1e-5), (0.0, 0), (-1e-5, float(np.float32(1e-5)))])
def test_a_variance_that_has_no_root_is_an_error(variance: float, eps: float) -> None:
    bn = statistics(2, 3) | {"variance": np.float32([1, variance, 1])}
    with pytest.raises(OperationError, match="not positive in 1 of 3 channels, first in channel 1") as caught:
        exact(FoldBn(eps=eps), weight=random(1, 3, 1, 1, 1), **bn)
    assert (caught.value.code, caught.value.input) == ("M458", 4)


# ---- fold_preprocess ---------------------------------------------------------------------------------------------------

MEAN, STD, SCALE = (104.0, 117.5, 123.25), (58.395, 57.12, 57.375), (0.017, 0.0175, 0.018)


def image(*size: int) -> Any:
    return torch.rand(size, dtype=torch.float64, generator=torch.Generator().manual_seed(5)) * 255


def per_channel(values: Any) -> Any:
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("factor", ["scale", "std", "one"])
def test_fold_preprocess_into_a_convolution(bias: bool, flip: bool, factor: str) -> None:
    weight = random(1, 4, 3, 3, 2)
    given = {"weight": weight, "bias": random(2, 4)} if bias else {"weight": weight}
    values = {"scale": {"scale": SCALE}, "std": {"std": STD}, "one": {"scale": 0.0078125}}[factor]
    folded = exact(FoldPreprocess(mean=MEAN, flip=flip, padding="none", **values), **given)
    x = image(1, 3, 6, 7)
    seen = x.flip(1) if flip else x
    prepared = (seen - per_channel(MEAN)) * {"scale": per_channel(SCALE), "std": 1 / per_channel(STD), "one": 0.0078125}[factor]
    conv = torch.nn.functional.conv2d
    before = conv(prepared, double(weight), double(given["bias"]) if bias else None)
    after = conv(x, torch.from_numpy(folded["weight"].copy()), torch.from_numpy(folded["bias"]))
    assert float((before - after).abs().max()) < 1e-11


@pytest.mark.parametrize("groups", [3, 1])
def test_fold_preprocess_with_padding_is_exact_where_images_are_padded_with_the_mean(groups: int) -> None:
    weight = random(1, 6, 3 // groups, 3, 3)
    folded = exact(FoldPreprocess(mean=MEAN, std=STD, padding="mean", groups=groups), weight=weight)
    x = image(1, 3, 6, 7)
    prepared = (x - per_channel(MEAN)) / per_channel(STD)
    before = torch.nn.functional.conv2d(prepared, double(weight), padding=1, groups=groups)
    framed = per_channel(MEAN).expand(3, 8, 9).clone().unsqueeze(0)
    framed[:, :, 1:-1, 1:-1] = x
    new = [torch.from_numpy(folded[k]) for k in ("weight", "bias")]
    assert float((torch.nn.functional.conv2d(framed, *new, groups=groups) - before).abs().max()) < 1e-11
    zero = torch.nn.functional.conv2d(x, *new, padding=1, groups=groups)
    assert float((zero - before)[..., 1:-1, 1:-1].abs().max()) < 1e-11
    assert float((zero - before).abs().max()) > 0.1, "this is what 'padding' has to be said for"


@pytest.mark.parametrize("mean", [MEAN, 127.5])
def test_fold_preprocess_into_a_linear_layer(mean: Any) -> None:
    weight, bias = random(1, 5, 3 * 4 * 2), random(2, 5)
    folded = exact(FoldPreprocess(mean=mean, scale=SCALE, flip=True, channels=3), weight=weight, bias=bias)
    x = image(2, 3, 4, 2)
    prepared = (x.flip(1) - (per_channel(mean) if isinstance(mean, tuple) else mean)) * per_channel(SCALE)
    before = torch.nn.functional.linear(prepared.flatten(1), double(weight), double(bias))
    after = torch.nn.functional.linear(x.flatten(1), torch.from_numpy(folded["weight"]), torch.from_numpy(folded["bias"]))
    assert float((before - after).abs().max()) < 1e-11


def test_a_scale_alone_needs_no_bias_and_no_label() -> None:
    operation = FoldPreprocess(scale=0.5, flip=True)
    given = [Operand("conv1.weight", DTYPES["float32"], (2, 3, 5, 5))]
    (out,) = operation.outputs(given)
    assert (out.name, out.shape) == ("conv1.weight", (2, 3, 5, 5))
    weight = random(1, 2, 3, 5, 5).astype(np.float64)
    (result,) = operation.compute([weight], given)
    np.testing.assert_array_equal(result, weight[:, ::-1] / 2)
    kept = exact(operation, weight=weight, bias=np.float64([-0.0, np.nan]))
    assert np.signbit(kept["bias"][0])


@given(st.lists(ordinary, min_size=4, max_size=4), ordinary, ordinary, st.floats(2**-10, 1000, width=32))
def test_fold_preprocess_is_within_its_bound(weights: list[float], bias: float, mean: float, scale: float) -> None:
    operation = FoldPreprocess(mean=mean, scale=scale, padding="none")
    got = exact(operation, weight=np.array(weights, np.float32).reshape(1, 1, 2, 2), bias=np.array([bias], np.float32))
    terms = [Fraction(w) * Fraction(scale) * Fraction(mean) for w in weights]
    true = Fraction(bias) - sum(terms)
    sizes = abs(Fraction(bias)) + sum(abs(t) for t in terms)
    if "bias" in got and abs(true) > Fraction(2) ** -120:
        bound = Fraction(1, 2) + 5 * Fraction(1, 2**28) * sizes / abs(true)
        assert ulps(got["bias"].astype(np.float32)[0], true) <= bound
    for w, result in zip(weights, got["weight"].reshape(-1), strict=True):
        if abs(w) > 1e-30:
            assert ulps(np.float32(result), Fraction(w) * Fraction(scale)) <= Fraction(1, 2) + Fraction(1, 2**28)


# ---- fold_branches -----------------------------------------------------------------------------------------------------


def repvgg(seed: int, outputs: int, inputs: int, groups: int, identity: bool) -> dict[str, NDArray[np.float32]]:
    given = {"square_weight": random(seed, outputs, inputs // groups, 3, 3), **statistics(seed + 10, outputs, "square_")}
    given |= {"point_weight": random(seed + 1, outputs, inputs // groups, 1, 1), **statistics(seed + 20, outputs, "point_")}
    return given | (statistics(seed + 30, outputs, "identity_") if identity else {})


@pytest.mark.parametrize(
    ("outputs", "inputs", "groups", "stride", "identity"),
    [(6, 6, 1, 1, True), (8, 6, 1, 2, False), (6, 6, 2, 1, True), (6, 6, 6, 1, True), (8, 4, 2, 1, False)],
)
def test_repvgg_block(outputs: int, inputs: int, groups: int, stride: int, identity: bool) -> None:
    given = repvgg(1, outputs, inputs, groups, identity)
    folded = exact(FoldBranches(eps=1e-3, groups=groups), **given)
    x = image(1, inputs, 7, 8) / 255
    conv = torch.nn.functional.conv2d
    square = conv(x, double(given["square_weight"]), padding=1, stride=stride, groups=groups)
    point = conv(x, double(given["point_weight"]), stride=stride, groups=groups)
    before = normalised(square, given, "square_", 1e-3) + normalised(point, given, "point_", 1e-3)
    if identity:
        before = before + normalised(x, given, "identity_", 1e-3)
    weight, bias = (torch.from_numpy(folded[k]) for k in ("weight", "bias"))
    assert_same_outputs(conv(x, weight, bias, padding=1, stride=stride, groups=groups), before)


def test_acnet_block() -> None:
    given: dict[str, NDArray[np.float32]] = {}
    kernels = {"square": (3, 3), "horizontal": (1, 3), "vertical": (3, 1)}
    for seed, (name, kernel) in enumerate(kernels.items()):
        given |= {f"{name}_weight": random(seed, 5, 4, *kernel), **statistics(10 + 5 * seed, 5, f"{name}_")}
    folded = exact(FoldBranches(), **given)
    x = image(1, 4, 7, 8) / 255
    conv = torch.nn.functional.conv2d
    before = sum(
        normalised(conv(x, double(given[f"{n}_weight"]), padding=(k[0] // 2, k[1] // 2)), given, f"{n}_") for n, k in kernels.items()
    )
    assert_same_outputs(conv(x, torch.from_numpy(folded["weight"]), torch.from_numpy(folded["bias"]), padding=1), before)


def test_branches_without_batch_normalisation_in_one_dimension() -> None:
    given = {"a_weight": random(1, 4, 3, 5), "a_bias": random(2, 4), "b_weight": random(3, 4, 3, 1), "b_bias": random(4, 4)}
    folded = exact(FoldBranches(), **given)
    expected = given["a_weight"].astype(np.float64)
    expected[..., 2:3] += given["b_weight"]
    np.testing.assert_array_equal(folded["weight"], expected)
    np.testing.assert_array_equal(folded["bias"], given["a_bias"].astype(np.float64) + given["b_bias"])


@settings(max_examples=150)
@given(st.lists(st.tuples(ordinary, ordinary, ordinary, ordinary, positive), min_size=2, max_size=4))
def test_fold_branches_is_within_its_bound(branches: list[tuple[float, float, float, float, float]]) -> None:
    given: dict[str, NDArray[np.float32]] = {}
    weights, shifts = list[Fraction](), list[Fraction]()
    for i, (w, gamma, beta, mean, variance) in enumerate(branches):
        vectors = {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}
        given |= {f"b{i}_weight": np.full((1, 1, 1), w, np.float32)}
        given |= {f"b{i}_{k}": np.array([v], np.float32) for k, v in vectors.items()}
        scale = Fraction(gamma) / root(Fraction(variance) + Fraction(1e-5))
        weights.append(Fraction(w) * scale)
        shifts += [-Fraction(mean) * scale, Fraction(beta)]
    got = exact(FoldBranches(), **given)
    for result, terms in ((got["weight"][0, 0, 0], weights), (got["bias"][0], shifts)):
        true, sizes = sum(terms, Fraction(0)), sum(map(abs, terms), Fraction(0))
        if abs(true) > Fraction(2) ** -120:
            bound = Fraction(1, 2) + (len(branches) + 5) * Fraction(1, 2**29) * sizes / abs(true)
            assert ulps(np.float32(result), true) <= bound


# ---- what they refuse --------------------------------------------------------------------------------------------------


def shapes(text: str) -> list[Operand]:
    """`weight=4,3,3,3 mean=4:float64 4`: operands, the last without a label."""
    found = []
    for i, word in enumerate(text.split()):
        label, equals, rest = word.rpartition("=")
        dims, _, dtype = rest.partition(":")
        shape = tuple([int(n) for n in dims.split(",") if n])
        found.append(Operand(f"t{i}", DTYPES[dtype or "float32"], shape, label if equals else None))
    return found


CONV = "weight=4,3,3,3 mean=4 variance=4"
BRANCH = "a_weight=4,4,3,3 b_weight=4,4,1,1"
WRONG = [
    (BnStats(), "mean=4 variance=4", "M453", "'bn_stats' needs a tensor with the label 'scale_factor'", "labels: mean, variance"),
    (BnStats(), "mean=4 variance=5 scale_factor=1", "M455", "mean has the shape [4], variance [5]", None),
    (BnStats(), "4 4 4", "M455", "'scale_factor' has the shape [4], not one element for each of the 1 layers", None),
    (BnStats(), "4 4 1:int32", "M405", "'bn_stats' computes with floats, this is int32", "cast"),
    (FoldBn(), "weight=4,3,3,3 4 4", "M450", "'fold_bn' takes tensors by label, input 2 of 3 has none", "write 'label='"),
    (FoldBn(), f"{CONV} var=4", "M451", "'fold_bn' has no input 'var'", "did you mean 'variance'?"),
    (FoldBn(), f"{CONV} zzzz=4", "M451", "'fold_bn' has no input 'zzzz'", "labels: weight, mean, variance; may be missing: bias"),
    (FoldBn(), f"{CONV} mean=4", "M452", "'fold_bn' is given two tensors with the label 'mean'", None),
    (FoldBn(), "weight=4,3,3,3 mean=4", "M453", "'fold_bn' needs a tensor with the label 'variance'", "labels:"),
    (FoldBn(), "", "M453", "'fold_bn' needs a tensor with the label 'weight'", "labels:"),
    (FoldBn(), "weight=4,3,3,3 mean=4:int64 variance=4", "M405", "'fold_bn' computes with floats, this is int64", None),
    (FoldBn(), f"{CONV} gamma=3", "M455", "'gamma' has the shape [3], not one element for each of the 4 output channels", None),
    (FoldBn(), f"{CONV} bias=2,2", "M455", "'bias' has the shape [2, 2], not one element for each of the 4 output channels", None),
    (
        FoldBn(),
        "weight=3,4,2,2 mean=4 variance=4",
        "M455",
        "the weight [3, 4, 2, 2] has 3 output channels on axis 0, the batch normalisation 4",
        "'output_axis=1' would fit, as in a deconvolution",
    ),
    (FoldBn(output_axis=4), CONV, "M456", "a weight of shape [4, 3, 3, 3] has no axis 4", None),
    (FoldBn(output_axis=1, groups=3), CONV, "M456", "4, the first axis of [4, 3, 3, 3], does not divide into 3 groups", None),
    (FoldBn(arithmetic="f32"), "weight=4,3:float64 mean=4 variance=4", "M457", "arithmetic=f32 would round this float64 tensor", "leave"),
    (FoldPreprocess(mean=1), "weight=4,3,3,3", "M461", "whether this fold is exact depends on the layer's padding", "'padding=none' if"),
    (FoldPreprocess(mean=MEAN), "weight=4,27", "M460", "'mean' has 3 values, the weight [4, 27] 27 input channels", "'channels=3'"),
    (FoldPreprocess(scale=SCALE), "weight=4,1,3,3", "M460", "'scale' has 3 values, the weight [4, 1, 3, 3] 1 input channels", None),
    (FoldPreprocess(scale=2, channels=5), "weight=4,27", "M460", "the weight [4, 27] has 27 inputs, which are not 5 channels", None),
    (FoldPreprocess(scale=2), "weight=4", "M456", "a weight of shape [4] has no axis 1", None),
    (FoldPreprocess(scale=2), "weight=4,3 bias=3", "M455", "'bias' has the shape [3], not one element for each of the 4 output", None),
    (FoldPreprocess(scale=2), "4,3 4", "M450", "'fold_preprocess' takes tensors by label, input 1 of 2 has none", "labels: weight"),
    (FoldBranches(), "weight=4,4,3,3", "M451", "'fold_branches' does not know what 'weight' is", "did you mean 'square_weight'?"),
    (FoldBranches(), "4,4,3,3", "M450", "'fold_branches' takes tensors by label, its input has none", "as in 'square_weight'"),
    (FoldBranches(), f"{BRANCH} b_gama=4", "M451", "'fold_branches' does not know what 'b_gama' is", "did you mean 'b_gamma'?"),
    (FoldBranches(), f"{BRANCH} b_gamma=4", "M453", "'fold_branches' needs a tensor with the label 'b_mean'", None),
    (FoldBranches(), f"{BRANCH} c_mean=4 c_variance=4", "M453", "'fold_branches' needs a tensor with the label 'c_weight'", None),
    (FoldBranches(), f"{BRANCH} identity_weight=4,4,1,1", "M451", "'fold_branches' has no input 'identity_weight'", None),
    (FoldBranches(), "identity_mean=4 identity_variance=4", "M453", "'fold_branches' needs a tensor with the label 'square_weight'", None),
    (FoldBranches(), f"{BRANCH} a_weight=4,4,3,3", "M452", "'fold_branches' is given two tensors with the label 'a_weight'", None),
    (FoldBranches(), f"{BRANCH} a_bias=3", "M455", "'a_bias' has the shape [3], not one element", None),
    (FoldBranches(), f"{BRANCH} a_mean=4 a_variance=5", "M455", "'a_variance' has the shape [5], not one element", None),
    (FoldBranches(), "a_weight=4,4", "M456", "a convolution's weight has 3 dimensions or more, not [4, 4]", None),
    (
        FoldBranches(),
        "a_weight=4,4,3,3 b_weight=4,2,1,1",
        "M462",
        "the branches' weights do not go together: f32 [4, 4, 3, 3]",
        None,
    ),
    (
        FoldBranches(),
        "a_weight=4,4,3,3 b_weight=4,4,2,2",
        "M462",
        "a kernel of [2, 2] has no place in the middle of",
        "even numbers",
    ),
    (FoldBranches(), "a_weight=1,1,999999,1 b_weight=1,1,1,999999", "M462", "kernels of such different sizes make one of", None),
    (
        FoldBranches(),
        "a_weight=4,2,3,3 identity_mean=4 identity_variance=4",
        "M463",
        "a convolution [4, 2, 3, 3] with groups=1 cannot pass its input on: 2 channels go in, 4 come out",
        "'groups=2' would fit",
    ),
]


@pytest.mark.parametrize(("operation", "inputs", "code", "message", "hint"), WRONG, ids=[f"{w[2]}-{i}" for i, w in enumerate(WRONG)])
def test_wrong_inputs(operation: Operation, inputs: str, code: str, message: str, hint: str | None) -> None:
    with pytest.raises(OperationError) as caught:
        operation.outputs(shapes(inputs))
    assert caught.value.code == code
    assert caught.value.message.startswith(message)
    assert "\n" not in caught.value.message
    if hint is not None:
        assert hint in str(caught.value.hint)


@pytest.mark.parametrize(
    ("make", "arguments", "code", "argument"),
    [
        (FoldBn, {"eps": -1e-9}, "M403", "eps"),
        (FoldBn, {"eps": math.inf}, "M403", "eps"),
        (FoldBn, {"eps": "small"}, "M403", "eps"),
        (FoldBn, {"eps": 10**400}, "M403", "eps"),
        (FoldBn, {"groups": 0, "output_axis": 1}, "M403", "groups"),
        (FoldBn, {"groups": 2}, "M457", "groups"),
        (FoldBn, {"arithmetic": "f16"}, "M403", "arithmetic"),
        (FoldBn, {"output_axis": "o"}, "M403", "output_axis"),
        (FoldPreprocess, {}, "M402", None),
        (FoldPreprocess, {"scale": 1, "std": 1}, "M402", "std"),
        (FoldPreprocess, {"scale": (1.0, 0.0)}, "M403", "scale"),
        (FoldPreprocess, {"std": 0}, "M403", "std"),
        (FoldPreprocess, {"mean": (1, "x")}, "M403", "mean"),
        (FoldPreprocess, {"mean": 1, "padding": "same"}, "M403", "padding"),
        (FoldPreprocess, {"flip": 1}, "M403", "flip"),
        (FoldPreprocess, {"flip": True, "groups": 3}, "M459", "flip"),
        (FoldPreprocess, {"scale": 2, "channels": 0}, "M403", "channels"),
        (FoldBranches, {"groups": True}, "M403", "groups"),
    ],
)
def test_wrong_arguments(make: Any, arguments: dict[str, Any], code: str, argument: str | None) -> None:
    with pytest.raises(OperationError) as caught:
        make(**arguments)
    assert (caught.value.code, caught.value.argument) == (code, argument)


LABELS = ("weight", "bias", "gamma", "beta", "mean", "variance", "scale_factor", "x", "", "_", "_mean", None)
BRANCH_LABELS = tuple([f"{b}_{p}" for b in ("a", "identity", "") for p in LABELS if p])


@settings(max_examples=400)
@given(
    st.sampled_from([BnStats(), FoldBn(), FoldBn(output_axis=1, groups=2), FoldPreprocess(scale=2, channels=3), FoldBranches(groups=2)]),
    st.lists(
        st.tuples(
            st.sampled_from([*LABELS, *BRANCH_LABELS]),
            st.lists(st.sampled_from([0, 1, 2, 3, 4, 1 << 62]), max_size=4),
            st.sampled_from(["float32", "float16", "float64", "int8", "complex64", "float4_e2m1fn"]),
        ),
        max_size=7,
    ),
)
def test_no_inputs_are_more_than_refused(operation: Operation, inputs: list[tuple[str | None, list[int], str]]) -> None:
    given = [Operand(f"t{i}", DTYPES[dtype], tuple(shape), label) for i, (label, shape, dtype) in enumerate(inputs)]
    try:
        promised = operation.outputs(given)
    except OperationError:
        return
    if sum(math.prod(o.shape) for o in (*given, *promised)) < 10_000:
        results = operation.compute([np.ones(o.shape) for o in given], given)
        assert [r.shape for r in results] == [p.shape for p in promised]


@pytest.mark.parametrize(
    "operation",
    [
        BnStats(),
        FoldBn(),
        FoldBn(eps=0.5, output_axis=1, groups=2, arithmetic="f32"),
        FoldPreprocess(mean=MEAN, std=2, flip=True, padding="zero"),
        FoldBranches(eps=0.25, groups=3),
    ],
)
def test_arguments_make_an_equal_operation_and_none_has_an_inverse(operation: Any) -> None:
    assert type(operation)(**operation.arguments()) == operation
    assert isinstance(operation, Operation)
    reason = operation.inverse(None)
    assert isinstance(reason, Irreversible)
    assert len(reason.reason) > 20
    assert not operation.elementwise


def test_what_a_user_writes_is_what_is_bound() -> None:
    from porter.mapping.ops.registry import bind, call_of
    from porter.mapping.syntax import Argument, Call

    operation = FoldPreprocess(mean=MEAN, std=STD, padding="none")
    call = call_of(operation)
    assert bind(call, {}) == operation
    assert call_of(FoldBn()) == Call("fold_bn")
    assert bind(Call("fold_branches", (Argument("eps", 0.001),)), {}) == FoldBranches(eps=0.001)
    assert bind(Call("bn_stats"), {}) == BnStats()


def sequence_of(found: Sequence[Operand]) -> list[str | None]:
    return [o.label for o in found]


def test_outputs_are_labelled() -> None:
    assert sequence_of(FoldBn().outputs(shapes(CONV))) == ["weight", "bias"]
    assert sequence_of(FoldBranches().outputs(shapes(BRANCH))) == ["weight", "bias"]
