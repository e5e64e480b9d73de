"""`porter diff --layout-blind`: every kind of difference planted in real networks is named; unrelated networks are called so."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import jsonschema
import ml_dtypes
import numpy as np
import pytest
from cli_runner import Porter
from conftest import ROOT

import porter
from porter.check.layout_blind.matching import compare
from porter.check.layout_blind.records import LayoutBlind, Relation
from porter.store import TensorStore
from porter.tensor import Tensor

SCHEMA = jsonschema.Draft202012Validator(json.loads((ROOT / "schemas/diff.schema.json").read_text()))
Arrays = dict[str, np.ndarray]


def made(arrays: Mapping[str, np.ndarray]) -> TensorStore:
    return TensorStore(Tensor.from_array(name, array) for name, array in arrays.items())


def blind(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> LayoutBlind:
    result = compare(made(a), made(b))
    SCHEMA.validate(result.to_json())
    return result


def network() -> Arrays:
    """A small net with batch normalisation: values as training leaves them, none alike."""
    rng = np.random.default_rng(3)

    def f4(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * 0.1).astype("<f4")

    return {
        "conv1.weight": f4(16, 3, 3, 3),
        "conv1.bias": f4(16),
        "conv2.weight": f4(24, 16, 3, 3),
        "conv2.bias": f4(24),
        "fc1.weight": f4(10, 24 * 4),
        "fc1.bias": f4(10),
    }


def only(result: LayoutBlind, name: str) -> Relation:
    (found,) = [r for r in result.relations if name in r.a]
    return found


def kinds(relation: Relation) -> list[str]:
    return [s.kind for s in relation.steps if s.kind != "name"]


def texts(relation: Relation) -> list[str]:
    return [s.text for s in relation.steps if s.kind != "name"]


PLANTED: list[tuple[str, Callable[[np.ndarray], np.ndarray], list[str]]] = [
    ("transposed", lambda w: w.transpose(2, 3, 1, 0), ["OIHW -> HWIO"]),
    ("reshaped", lambda w: w.reshape(24, -1), ["24×16×3×3 -> 24×144"]),
    ("flipped", lambda w: w[:, :, ::-1, ::-1], ["kernel flipped along HW"]),
    ("flipped in another shape", lambda w: w[:, :, ::-1].reshape(24, -1), ["kernel flipped along H", "24×16×3×3 -> 24×144"]),
    ("half", lambda w: w.astype("<f2"), ["rounded to f16"]),
    ("half in float32", lambda w: w.astype("<f2").astype("<f4"), ["rounded to f16"]),
    ("bfloat16 in float32", lambda w: w.astype(ml_dtypes.bfloat16).astype("<f4"), ["rounded to bf16"]),
    ("cut bfloat16", lambda w: (w.view("<u4") & 0xFFFF0000).view("<f4"), ["cut to bf16"]),
    ("cut tf32", lambda w: (w.view("<u4") & 0xFFFFE000).view("<f4"), ["cut to tf32"]),
    ("tf32", lambda w: ((w.view("<u4") + 0xFFF + (w.view("<u4") >> 13 & 1)) & 0xFFFFE000).view("<f4"), ["rounded to tf32"]),
    ("f8", lambda w: w.astype(ml_dtypes.float8_e4m3fn).astype("<f4"), ["rounded to f8_e4m3"]),
    ("f8 e5m2", lambda w: w.astype(ml_dtypes.float8_e5m2).astype("<f4"), ["rounded to f8_e5m2"]),
    ("wide", lambda w: w.astype("<f8"), ["f32 -> f64, no value changed"]),
    ("scaled by 1/255", lambda w: (w.astype("f8") / 255).astype("<f4"), ["× 1/255"]),
    ("scaled by 0.017", lambda w: w * np.float32(0.017), ["× 0.017"]),
    ("scaled by -1", lambda w: -w, ["× -1"]),
    ("scaled by pi", lambda w: w * np.float32(np.pi), ["× 3.141593"]),
    ("padded", lambda w: np.pad(w, ((0, 8), (0, 16), (0, 0), (0, 0))), ["padded with zeros (axis 0: 24 -> 32, axis 1: 16 -> 32)"]),
    (
        "padded about",
        lambda w: np.pad(w, ((0, 0), (0, 0), (1, 1), (1, 1))),
        ["padded with zeros on both sides (axis 2: 3 -> 5, axis 3: 3 -> 5)"],
    ),
    ("transposed bfloat16", lambda w: w.transpose(2, 3, 1, 0).astype(ml_dtypes.bfloat16), ["OIHW -> HWIO", "rounded to bf16"]),
    ("transposed, rounded", lambda w: w.transpose(2, 3, 1, 0).astype("<f2").astype("<f4"), ["OIHW -> HWIO", "rounded to f16"]),
    ("transposed, scaled", lambda w: w.transpose(2, 3, 1, 0) * np.float32(0.017), ["OIHW -> HWIO", "× 0.017"]),
]


@pytest.mark.parametrize(("change", "expected"), [p[1:] for p in PLANTED], ids=[p[0] for p in PLANTED])
@pytest.mark.parametrize("swapped", [False, True], ids=["", "swapped"])
def test_planted(change: Callable[[np.ndarray], np.ndarray], expected: list[str], swapped: bool) -> None:
    a = network()
    b = {f"net/{k}": v for k, v in a.items()}
    b["net/conv2.weight"] = np.ascontiguousarray(change(a["conv2.weight"]))
    result = blind(b, a) if swapped else blind(a, b)
    assert result.equal, result
    found = only(result, "net/conv2.weight" if swapped else "conv2.weight")
    if swapped:
        # The same kinds, said the other way round.
        assert len(kinds(found)) == len(expected)
    else:
        assert texts(found) == expected
    assert all(not kinds(r) for r in result.relations if r is not found)


def test_nothing_is_equal_that_differs_in_one_element() -> None:
    for name, change, _ in PLANTED:
        a = network()
        b = {f"net/{k}": v for k, v in a.items()}
        values = np.ascontiguousarray(change(a["conv2.weight"])).copy()
        values.reshape(-1)[7] += np.asarray(0.25, values.dtype)
        b["net/conv2.weight"] = values
        result = blind(a, b)
        assert not result.equal, name


def test_permuted_channels_are_followed_through_the_network() -> None:
    a = network()
    rng = np.random.default_rng(1)
    p, q = rng.permutation(16), rng.permutation(24)
    b = {
        "a.w": a["conv1.weight"][p],
        "a.b": a["conv1.bias"][p],
        "b.w": a["conv2.weight"][q][:, p],
        "b.b": a["conv2.bias"][q],
        "c.w": a["fc1.weight"].reshape(10, 24, 4)[:, q].reshape(10, 96),
        "c.b": a["fc1.bias"],
    }
    result = blind(a, b)
    assert result.equal
    assert {x.order for x in result.permutations} == {tuple(p), tuple(q)}
    by_order = {x.order: x for x in result.permutations}
    assert [(u.tensor, u.axis, u.blocks) for u in by_order[tuple(p)].uses] == [("a.w", 0, 1), ("a.b", 0, 1), ("b.w", 1, 1)]
    assert [(u.tensor, u.axis, u.blocks) for u in by_order[tuple(q)].uses] == [("b.w", 0, 1), ("b.b", 0, 1), ("c.w", 1, 4)]
    assert all(x.followed for x in result.permutations)


def test_permuted_and_transposed_and_rounded() -> None:
    a = {"conv2.weight": network()["conv2.weight"]}
    p = np.random.default_rng(1).permutation(24)
    b = {"conv2.weight": np.ascontiguousarray(a["conv2.weight"][p].transpose(2, 3, 1, 0).astype("<f2"))}
    result = blind(a, b)
    found = only(result, "conv2.weight")
    assert result.equal
    assert kinds(found) == ["layout", "rounding", "permutation"]
    assert result.permutations[0].order == tuple(p)
    assert not result.permutations[0].followed


@pytest.mark.parametrize("last", [False, True], ids=["OIHW", "HWIO"])
@pytest.mark.parametrize(
    ("changed", "stray"),
    [
        ({"conv1.weight"}, {"conv1.bias", "conv2.weight"}),
        ({"conv1.bias"}, {"conv1.weight"}),
        ({"conv1.weight", "conv1.bias"}, {"conv2.weight"}),
        ({"conv2.weight"}, {"conv1.weight"}),
        ({"conv1.weight", "conv1.bias", "conv2.weight"}, set()),
    ],
    ids=["weight", "bias", "outputs", "inputs", "all"],
)
def test_an_order_that_not_all_have_is_another_network(last: bool, changed: set[str], stray: set[str]) -> None:
    """The channels between two layers, in another order on one side alone."""
    a = network()
    p = np.random.default_rng(4).permutation(16)
    b = {k: v[:, p] if k == "conv2.weight" and k in changed else v[p] if k in changed else v for k, v in a.items()}
    b = {k: np.ascontiguousarray(v.transpose(2, 3, 1, 0)) if last and v.ndim == 4 else v for k, v in b.items()}
    result = blind(a, b)
    assert {name for found in result.permutations for name in found.stray} == stray
    assert result.equal == (not stray)
    assert result.verdict == ("differs" if stray else "equal")


def test_branches_that_are_joined_and_flattened_follow() -> None:
    rng = np.random.default_rng(8)
    one, two, after = (rng.standard_normal(shape).astype("<f4") for shape in ((8, 3, 3, 3), (6, 3, 3, 3), (5, 14, 1, 1)))
    p, q = rng.permutation(8), rng.permutation(6)
    joined = np.concatenate([p, 8 + q])
    result = blind({"x.w": one, "y.w": two, "z.w": after}, {"x.w": one[p], "y.w": two[q], "z.w": after[:, joined]})
    assert result.equal, result.permutations
    dense = rng.standard_normal((10, 8 * 4)).astype("<f4")
    last = dense.reshape(10, 8, 4)[:, p].transpose(0, 2, 1).reshape(10, 32)
    result = blind({"x.w": one, "z.w": dense}, {"x.w": one[p], "z.w": np.ascontiguousarray(last)})
    assert result.equal, result.permutations
    assert "flattened channels first in one and last in the other" in texts(only(result, "z.w"))[-1]


def test_equal_channels_are_put_in_any_order_that_fits() -> None:
    a = {"conv2.weight": network()["conv2.weight"]}
    a["conv2.weight"][4] = a["conv2.weight"][9] = 0
    p = np.random.default_rng(2).permutation(24)
    result = blind(a, {"conv2.weight": a["conv2.weight"][p]})
    assert result.equal
    (found,) = result.permutations
    assert np.array_equal(a["conv2.weight"][list(found.order)], a["conv2.weight"][p])


@pytest.mark.parametrize("layout", [(0, 1, 2, 3), (2, 3, 1, 0)], ids=["OIHW", "HWIO"])
def test_rgb_and_bgr(layout: tuple[int, ...]) -> None:
    a = network()
    b = dict(a, **{"conv1.weight": np.ascontiguousarray(a["conv1.weight"][:, ::-1].transpose(layout))})
    result = blind(a, b)
    assert result.equal
    assert "channel order" in kinds(only(result, "conv1.weight"))


def test_shuffled_elements_are_no_equality() -> None:
    a = network()
    shuffled = np.random.default_rng(0).permutation(a["conv2.weight"].reshape(-1)).reshape(24, 16, 3, 3)
    assert not blind(a, dict(a, **{"conv2.weight": shuffled})).equal


def test_ties_counters_and_neutral_tensors_are_named() -> None:
    a = network()
    b = dict(a, tied=a["fc1.weight"], **{"bn.num_batches_tracked": np.array(7), "conv2.extra.bias": np.zeros(24, "<f4")})
    result = blind(a, b)
    assert result.equal
    assert {(e.name, e.kind) for e in result.excused} == {
        ("tied", "tied"),
        ("bn.num_batches_tracked", "counter"),
        ("conv2.extra.bias", "neutral"),
    }
    assert not blind(a, dict(a, other=np.ones(9, "<f4"))).equal


def test_equal_tensors_are_said_to_be_ambiguous() -> None:
    rng = np.random.default_rng(0)
    w = rng.standard_normal((8, 8)).astype("<f4")
    result = blind({"x": w, "y": w}, {"p": w, "q": w})
    assert result.equal
    assert all(r.rivals for r in result.relations)
    constant = blind({"x": np.ones((4, 4), "<f4"), "w": w}, {"p": np.ones((4, 4), "<f4"), "v": w})
    assert constant.equal
    assert "all elements alike" in only(constant, "x").why


def test_integers_of_both_sides_are_compared() -> None:
    """A shape that only one side stores is no weight; what differs, or may be a zero point, is no shape."""
    w = network()["conv1.weight"]
    assert blind({"w": w}, {"w": w, "shape": np.array([1, -1])}).up_to == ("constant",)
    assert not blind({"w": w, "x": np.array([1, 2])}, {"w": w, "y": np.array([3, 4])}).equal
    assert not blind({"w": w}, {"w": w, "zero_point": np.array([1, 2], "i1")}).equal


def test_one_bit_in_a_folded_layer() -> None:
    """Where one program has folded all layers bit for bit, what is a bit away is not its work; where none is exact, all may be."""
    rng = np.random.default_rng(6)
    a: Arrays = {}
    b: Arrays = {}
    for i in range(4):
        w, (gamma, beta, mean), var = rng.standard_normal((6, 4, 3, 3)), rng.standard_normal((3, 6)), rng.uniform(0.5, 2, 6)
        parts = {"conv.weight": w, "bn.weight": gamma, "bn.bias": beta, "bn.running_mean": mean, "bn.running_var": var}
        a |= {f"l{i}.{k}": v.astype("<f4") for k, v in parts.items()}
        _, gamma, beta, mean, var = (v.astype("<f4").astype("f8") for v in parts.values())
        scale = gamma / np.sqrt(var + 1e-5)
        b[f"m{i}.weight"] = (a[f"l{i}.conv.weight"] * scale[:, None, None, None]).astype("<f4")
        b[f"m{i}.bias"] = (beta - mean * scale).astype("<f4")
    assert blind(a, b).equal
    one = b["m2.weight"].copy()
    one.view("<u4").reshape(-1)[9] ^= 1
    assert not blind(a, dict(b, **{"m2.weight": one})).equal
    rough = {k: np.nextafter(v, np.float32(0)) for k, v in b.items()}
    result = blind(a, rough)
    assert result.equal
    assert all(s.detail["ulp"] == 4 for r in result.relations for s in r.steps if s.kind == "batch norm folded")


def test_constants_of_a_graph_are_no_weights(tmp_path: Path) -> None:
    """The scales of a resize stand beside the weights; a vector that may be a bias does not go unsaid."""
    from onnx import TensorProto, helper, numpy_helper, save

    w = network()["conv2.weight"]

    def model(**constants: list[float]) -> TensorStore:
        held = [numpy_helper.from_array(np.array(v, "<f4"), n) for n, v in constants.items()]
        shape = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16, 8, 8])
        nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
        graph = helper.make_graph(nodes, "g", [shape], [], [numpy_helper.from_array(w, "w"), *held])
        save(helper.make_model(graph), tmp_path / "m.onnx")
        return porter.open(tmp_path / "m.onnx")

    assert compare(made({"w": w}), model(s=[1, 1, 2, 2])).up_to == ("constant",)
    assert not compare(made({"w": w}), model(s=[1, 1, 2, 2.5])).equal
    assert not compare(made({"w": w, "c": np.array([1, 1, 3, 3], "<f4")}), model(s=[1, 1, 2, 2])).equal
    assert not blind({"w": w}, {"w": w, "s": np.array([1, 1, 2, 2], "<f4")}).equal


def test_a_number_that_a_node_states_is_no_weight(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper, save

    w = network()["conv2.weight"]
    shape = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16, 8, 8])
    half = numpy_helper.from_array(np.array(0.5, "<f4"))
    nodes = [helper.make_node("Constant", [], ["half"], value=half), helper.make_node("Mul", ["x", "half"], ["y"])]
    save(helper.make_model(helper.make_graph(nodes, "g", [shape], [], [numpy_helper.from_array(w, "w")])), tmp_path / "m.onnx")
    model = porter.open(tmp_path / "m.onnx")
    assert len(model) == 2
    assert compare(made({"w": w}), model).up_to == ("constant",)
    assert not compare(made({"w": w, "gain": np.array([2], "<f4")}), model).equal


@pytest.mark.parametrize("dtype", ["<f2", ml_dtypes.bfloat16, "<f8"], ids=["f16", "bf16", "f64"])
def test_constants_are_rounded_with_the_rest(dtype: str) -> None:
    a = dict(network(), **{"conv1.bias": np.zeros(16, "<f4"), "conv2.bias": np.full(24, 1 / 3, "<f4")})
    b = {f"x/{k}": v.astype(dtype) for k, v in a.items()}
    result = blind(a, b)
    assert result.equal, result.only_a
    assert texts(only(result, "conv2.bias")) == [texts(only(result, "conv2.weight"))[0]]
    b["x/conv2.bias"] = np.full(24, 0.5, dtype)
    assert not blind(a, b).equal


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float16", "float32", "float64"])
def test_last_bits_are_no_scale(name: str) -> None:
    """One bit of one element: neither a multiple nor anything else."""
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    a = {k: v.astype(dtype) for k, v in network().items()}
    for key in ("conv1.bias", "conv1.weight"):
        other = a[key].T.copy()
        other.view(f"u{dtype.itemsize}").reshape(-1)[5] ^= 1
        assert not blind(a, dict(a, **{key: other})).equal


def test_special_values_are_compared_by_their_bits() -> None:
    a = network()
    a["conv2.weight"][0, 0] = np.array([[np.nan, -np.nan, np.inf], [-np.inf, -0.0, 0.0], [1e-45, 3e38, -1e-40]], "<f4")
    b = dict(a, **{"conv2.weight": np.ascontiguousarray(a["conv2.weight"].transpose(2, 3, 1, 0))})
    assert blind(a, b).equal
    b["conv2.weight"] = np.where(b["conv2.weight"] == 0, np.float32(0.0), b["conv2.weight"])  # -0 is not 0
    assert not blind(a, b).equal
    with np.errstate(over="ignore"):
        half = a["conv2.weight"].astype("<f2")
    # 3e38 is no number in f16: the network is another.
    lost = blind(a, dict(a, **{"conv2.weight": half}))
    assert lost.verdict == "differs"
    assert texts(only(lost, "conv2.weight")) == ["rounded to f16", "1 of 3,456 becomes infinite"]


@pytest.mark.parametrize(
    ("factor", "text", "zero"),
    [(1e7, "{beyond:,} of 3,456 become infinite", None), (1e-9, "all 3,456 become zero", None), (1e-6, "", "zero")],
    ids=["infinite", "all zero", "some zero"],
)
def test_what_rounding_loses_is_said(factor: float, text: str, zero: str | None) -> None:
    a = network()
    a["conv2.weight"] = a["conv2.weight"] * np.float32(factor)
    with np.errstate(over="ignore"):
        half = a["conv2.weight"].astype("<f2")
    result = blind(a, dict(a, **{"conv2.weight": half}))
    assert result.equal == (zero is not None)
    step, *more = only(result, "conv2.weight").steps
    assert (step.kind, step.detail["zero"]) == ("rounding", np.count_nonzero(half == 0))
    assert [s.text for s in more] == ([text.format(beyond=np.count_nonzero(np.isinf(half)))] if text else [])


def test_a_multiple_too_large_is_none() -> None:
    a = network()
    with np.errstate(over="ignore"):
        b = dict(a, **{"fc1.weight": a["fc1.weight"] * np.float32(2e39)})
    assert not blind(a, b).equal


def test_two_layers_in_orders_that_do_not_go_together() -> None:
    a = {k: v for k, v in network().items() if k.endswith("weight")}
    rng = np.random.default_rng(5)
    p, q = rng.permutation(16), rng.permutation(16)
    assert blind(a, dict(a, **{"conv1.weight": a["conv1.weight"][p], "conv2.weight": a["conv2.weight"][:, p]})).equal
    result = blind(a, dict(a, **{"conv1.weight": a["conv1.weight"][p], "conv2.weight": a["conv2.weight"][:, q]}))
    assert result.verdict == "differs"
    assert {x.order: x.stray for x in result.permutations} == {tuple(p): ("conv2.weight",), tuple(q): ("conv1.weight",)}


def test_zeros_and_indices_are_compared() -> None:
    a = network()
    assert not blind(a, dict(a, b=np.zeros((60, 6), "<f4"))).equal
    index = np.random.default_rng(2).permutation(64)
    assert not blind(dict(a, index=index), dict(a, index=index[::-1])).equal
    assert blind(dict(a, none=np.zeros((0, 3), "<f4")), dict(a, none=np.zeros((0, 3), "<f2"))).equal


def unfolded() -> tuple[Arrays, Arrays]:
    """A network with batch normalisation, depthwise and dense layers too, and what folding makes of it, in float64."""
    rng = np.random.default_rng(6)
    a: Arrays = {}
    b: Arrays = {}
    for i, shape in enumerate([(8, 3, 3, 3), (8, 1, 3, 3), (16, 8, 1, 1), (12, 16, 3, 3), (10, 12)]):
        w, (gamma, beta, mean) = rng.standard_normal(shape).astype("<f4"), rng.standard_normal((3, shape[0])).astype("<f4")
        var = rng.uniform(0.5, 2, shape[0]).astype("<f4")
        a |= {f"l{i}.weight": w, f"b{i}.weight": gamma, f"b{i}.bias": beta, f"b{i}.running_mean": mean, f"b{i}.running_var": var}
        scale = gamma / np.sqrt(var.astype("f8") + 1e-5)
        b |= {f"l{i}.weight": w * scale.reshape(-1, *[1] * (w.ndim - 1)), f"l{i}.bias": beta - mean * scale}
    return a, b


def channels_last(net: Arrays) -> Arrays:
    """As Keras has them."""
    axes = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
    turned = {k: v.transpose((2, 3, 0, 1) if v.ndim == 4 and v.shape[1] == 1 else axes[v.ndim]) for k, v in net.items()}
    return {f"net/{k}".replace(".weight", "/kernel") if v.ndim > 1 else f"net/{k}": np.ascontiguousarray(v) for k, v in turned.items()}


FOLDED: list[tuple[str, bool, bool, str | type, set[str]]] = [
    ("folded one channels last", False, True, "<f4", {"layout"}),
    ("unfolded one channels last", True, False, "<f4", {"layout"}),
    ("both channels last", True, True, "<f4", set()),
    ("f16", False, False, "<f2", {"rounding"}),
    ("channels last, bf16", False, True, ml_dtypes.bfloat16, {"layout", "rounding"}),
]


@pytest.mark.parametrize(("first", "second", "dtype", "kinds"), [f[1:] for f in FOLDED], ids=[f[0] for f in FOLDED])
def test_folded_and_transposed_and_rounded(first: bool, second: bool, dtype: str | type, kinds: set[str]) -> None:
    a, b = unfolded()
    b = {k: v.astype("<f4").astype(dtype) for k, v in b.items()}
    a, b = channels_last(a) if first else a, channels_last(b) if second else b
    for one, other in ((a, b), (b, a)):
        result = blind(one, other)
        assert result.equal, (result.only_a, result.only_b)
        assert set(result.up_to) == {"batch norm folded", *kinds}
        assert result.counts["batch norm folded"] == len(other)
        assert result.counts.get("layout", 5) == 5
    name = next(iter(b))
    b[name] = b[name].copy()
    b[name].reshape(-1)[4] *= np.asarray(1.5, b[name].dtype)
    assert not blind(a, b).equal
    assert not blind(b, a).equal


# ---- real networks -------------------------------------------------------------------------------------------------

ORACLES = ("mtcnn_det2", "rand_squeezenet_v1.1", "ultraface_slim")


def oracle(shared: Path, name: str) -> Arrays:
    return {k: t.numpy() for k, t in porter.open(shared / "oracle" / name / "model.caffemodel").items()}


def everywhere(net: Arrays, change: Callable[[np.ndarray], np.ndarray], least: int = 2) -> Arrays:
    return {f"x/{k}": np.ascontiguousarray(change(v)) if v.ndim >= least else v for k, v in net.items()}


WHOLE: list[tuple[str, Callable[[np.ndarray], np.ndarray], str]] = [
    ("transposed", lambda w: w.transpose(2, 3, 1, 0) if w.ndim == 4 else w.T, "layout"),
    ("rounded", lambda w: w.astype("<f2"), "rounding"),
    ("rounded in place", lambda w: w.astype(ml_dtypes.bfloat16).astype("<f4"), "rounding"),
    ("scaled", lambda w: w * np.float32(0.017), "scale"),
    ("padded", lambda w: np.pad(w, [(0, -n % 32) for n in w.shape[:2]] + [(0, 0)] * (w.ndim - 2)), "padding"),
]


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize(("change", "kind"), [w[1:] for w in WHOLE], ids=[w[0] for w in WHOLE])
def test_whole_networks(shared: Path, name: str, change: Callable[[np.ndarray], np.ndarray], kind: str) -> None:
    net = oracle(shared, name)
    result = blind(net, everywhere(net, change))
    assert result.equal, (result.only_a, result.only_b)
    assert kind in result.up_to
    assert set(result.up_to) <= {"name", kind, "reshape"}
    named = {r.a[0]: r.b[0] for r in result.relations}
    assert all(b == f"x/{a}" for a, b in named.items() if len(np.unique(net[a])) > 1)


@pytest.mark.parametrize("name", ["rand_ResNet-50", "rand_mobilenet_v1", "rand_soeaver_inception-v3"])
def test_statistics_divided_by_the_scale_factor(shared: Path, name: str) -> None:
    """As porter does it, and as Caffe does, in float32 by the reciprocal."""
    net = oracle(shared, name)
    for divide in (lambda v, f: (v.astype("f8") / float(f)).astype("<f4"), lambda v, f: v * (np.float32(1) / np.float32(f))):
        b: Arrays = {}
        for key, value in net.items():
            layer, _, part = key.rpartition(".")
            if part in ("mean", "variance") and f"{layer}.scale_factor" in net:
                value = divide(value, net[f"{layer}.scale_factor"][0])
            if part != "scale_factor":
                b[key] = value
        result = blind(net, b)
        assert result.equal, (result.only_a, result.only_b)
        assert set(result.up_to) <= {"batch norm scale factor", "neutral"}
        assert "batch norm scale factor" in result.up_to


def test_two_networks_that_are_not_related(shared: Path) -> None:
    for a, b in (("mtcnn_det2", "lenet_v2"), ("ultraface_slim", "mtcnn_det3"), ("lenet_v1", "lenet_v2")):
        result = blind(oracle(shared, a), oracle(shared, b))
        assert result.verdict == "unrelated", (a, b, result.shared)


REAL = [
    ("mtcnn/caffe/det1.caffemodel", "mtcnn/pytorch/pnet.pt", {"name", "layout"}),
    ("mtcnn/caffe/det3.caffemodel", "mtcnn/npy_facenet/det3.npy", {"name", "layout"}),
    ("mtcnn/pytorch/onet.pt", "mtcnn/ncnn/det3.param", {"name", "layout", "reshape"}),
    ("ultraface/pytorch/version-slim-320.pth", "ultraface/caffe/slim-320.caffemodel", {"name", "batch norm folded", "counter"}),
    ("ultraface/caffe/slim-320.caffemodel", "ultraface/pytorch/version-slim-320.pth", {"name", "batch norm folded", "counter"}),
    ("ultraface/caffe/slim-320.caffemodel", "ultraface/ncnn/slim_320.param", set()),
    ("hyperlpr/HorizonalFinemapping.caffemodel", "hyperlpr/lpr_HorizonalFinemapping.caffemodel", {"rounding"}),
    ("hyperlpr/lpr_HorizonalFinemapping.caffemodel", "keras_hyperlpr/model12.h5", {"name", "layout", "rounding"}),
    (
        "yoloface/yoloface-500k_v2_yoloface-500k-v2.caffemodel",
        "yoloface/yoloface-500k_v2_yoloface-500k-v2.weights",
        {"name", "neutral", "reshape"},
    ),
    ("yunet/yunet_n.pth", "yunet/yunet_n_320_320.onnx", {"batch norm folded", "counter", "neutral", "constant"}),
    (
        "minivision/2.7_80x80_MiniFASNetV2.pth",
        "minivision/ncnn/model_1.param",
        {"name", "batch norm epsilon", "counter", "neutral", "reshape"},
    ),
]


@pytest.mark.parametrize(("a", "b", "kinds"), REAL, ids=[f"{Path(a).name}-{Path(b).name}" for a, b, _ in REAL])
def test_parity_groups(shared: Path, a: str, b: str, kinds: set[str]) -> None:
    result = compare(porter.open(shared / "real" / a), porter.open(shared / "real" / b))
    SCHEMA.validate(result.to_json())
    assert result.equal
    assert set(result.up_to) <= kinds
    assert set(result.up_to) >= kinds - {"reshape"}


def test_another_epoch_is_near(shared: Path) -> None:
    cifar = shared / "real/cifar10"
    result = compare(
        porter.open(cifar / "bxuan_cifar10_quick_iter_4000.caffemodel"), porter.open(cifar / "bxuan_cifar10_quick_iter_5000.caffemodel.h5")
    )
    assert result.verdict == "differs"
    assert any(s.kind == "near" for r in result.relations for s in r.steps)


# ---- the command ---------------------------------------------------------------------------------------------------


def test_command(porter_cli: Porter, tmp_path: Path) -> None:
    a = network()
    b = {f"layers.{i}.{k}": v for i, (k, v) in enumerate(a.items())}
    b["layers.2.conv2.weight"] = np.ascontiguousarray(a["conv2.weight"].transpose(2, 3, 1, 0))
    porter.save(made(a), tmp_path / "a.safetensors")
    porter.save(made(b), tmp_path / "b.safetensors")
    run = porter_cli("diff", "a.safetensors", "b.safetensors", "--layout-blind")
    assert run.code == 0, run.err
    assert "OIHW -> HWIO" in run.out
    assert run.out.splitlines()[-1] == "equal up to names (6), transposes (1): 6 tensors of B"
    document = json.loads(porter_cli("diff", "a.safetensors", "b.safetensors", "--layout-blind", "--json").out)
    SCHEMA.validate(document)
    assert document["up_to"] == ["name", "layout"]
    assert document["counts"] == {"name": 6, "layout": 1}
    b["layers.0.conv1.weight"] = b["layers.0.conv1.weight"] + np.float32(1)
    porter.save(made(b), tmp_path / "c.safetensors")
    run = porter_cli("diff", "a.safetensors", "c.safetensors", "--layout-blind")
    assert run.code == 1
    assert run.out.splitlines()[-1].startswith("DIFFERS: 2 unpaired")
    run = porter_cli("diff", "a.safetensors", "b.safetensors", "--layout-blind", "--rtol", "1")
    assert run.code == 2
    assert "U810" in run.err
