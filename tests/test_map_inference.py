"""Inference of maps, on stores made here; the real files are in test_map_inference_real.py."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porter.dtypes import DTYPES
from porter.errors import MapError, UsageError
from porter.mapping.execution import apply
from porter.mapping.inference.digits import agrees, merged, solve
from porter.mapping.inference.entries import Entry, codes, entries, fingerprint
from porter.mapping.inference.generalise import Generaliser
from porter.mapping.inference.infer import Inference, infer
from porter.mapping.inference.layouts import SAME, USUAL, layout_of
from porter.mapping.inference.roles import family_of, layer_of, role_of
from porter.mapping.inference.slots import Use, affine
from porter.mapping.parser import parse
from porter.mapping.render import dumps, statement_text
from porter.store import TensorStore
from porter.tensor import BytesPayload, Tensor, TensorSpec

rng = np.random.default_rng(7)


def store(**arrays: np.ndarray) -> TensorStore:
    return TensorStore([Tensor.from_array(name, a) for name, a in arrays.items()])


def named(arrays: dict[str, np.ndarray]) -> TensorStore:
    return TensorStore([Tensor.from_array(name, a) for name, a in arrays.items()])


def floats(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def statements(inference: Inference) -> list[str]:
    return [statement_text(s) for stage in inference.map.stages for s in stage.statements]


def check_exact(inference: Inference, a: TensorStore, b: TensorStore) -> None:
    """The map makes exactly B, bit for bit, but for what the inference says that it does not make; and its text is the map."""
    made = apply(inference.map, a, targets=list(b.values()))
    assert set(made) == set(b) - set(inference.unmatched_targets)
    for name, tensor in made.items():
        assert (tensor.dtype, tensor.shape) == (b[name].dtype, b[name].shape), name
        assert tensor.tobytes() == b[name].tobytes(), name
    assert parse(inference.text()) == inference.map
    assert parse(dumps(inference.map)) == inference.map


# ---- movements ---------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_movement_is_found(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=5))
    order = data.draw(st.permutations(range(len(sizes))))
    source = rng.standard_normal(math.prod(sizes)).astype(np.float32).reshape(sizes)
    moved = np.ascontiguousarray(source.transpose(order))

    def joined(shape: tuple[int, ...]) -> tuple[int, ...]:
        cuts = sorted(data.draw(st.sets(st.integers(1, len(shape) - 1)))) if len(shape) > 1 else []
        return tuple(math.prod(shape[i:j]) for i, j in itertools.pairwise([0, *cuts, len(shape)]))

    source_shape, target_shape = joined(source.shape), joined(moved.shape)
    digits = solve(codes(source), codes(moved))
    assert digits is not None
    layout = layout_of(digits, source_shape, target_shape)
    assert layout is not None
    if layout is SAME:
        assert source_shape == target_shape
        assert np.array_equal(source.reshape(-1), moved.reshape(-1))
    else:
        found = layout.digits(source_shape, target_shape)
        assert found is not None
        assert agrees(codes(source), codes(moved), found or ((1, 1),))


@pytest.mark.parametrize("axes", list(itertools.permutations(range(4))))
def test_values_that_repeat_are_moved_right_all_the_same(axes: tuple[int, ...]) -> None:
    source = rng.integers(0, 2, (6, 4, 3, 3)).astype(np.int32)
    target = np.ascontiguousarray(source.transpose(axes))
    digits = solve(codes(source), codes(target))
    assert digits is not None
    assert agrees(codes(source), codes(target), digits)


def test_what_is_no_movement_is_none() -> None:
    source = floats(6, 4)
    assert solve(codes(source), codes(source[::-1].copy())) is None
    other = source.copy()
    other[5, 3] += 1
    assert solve(codes(source), codes(other)) is None
    sparse = np.zeros((64, 64), np.float32)
    one, two = sparse.copy(), sparse.copy()
    one[0, 1], two[3, 5] = 1, 1
    assert solve(codes(one), codes(two)) is None


@pytest.mark.parametrize(
    ("shape", "axes", "pattern"),
    [
        ((8, 4, 3, 3), (2, 3, 1, 0), ("o i h w", "h w i o")),
        ((3, 3, 4, 8), (3, 2, 0, 1), ("h w i o", "o i h w")),
        ((8, 4, 3, 3), (0, 1, 3, 2), ("o i h w", "o i w h")),
        ((8, 1, 3, 3), (2, 3, 0, 1), ("o i h w", "h w o i")),
        ((8, 4), (1, 0), ("o i", "i o")),
        ((8, 4, 2, 3, 3), (2, 3, 4, 1, 0), ("o i d h w", "d h w i o")),
    ],
)
def test_usual_layouts_have_their_usual_letters(shape: tuple[int, ...], axes: tuple[int, ...], pattern: tuple[str, str]) -> None:
    source = floats(*shape)
    b = source.transpose(axes)
    inference = infer(store(w=source), store(v=b))
    assert statements(inference) == [f"w : {pattern[0]} <-> v : {pattern[1]}"]
    check_exact(inference, store(w=source), store(v=b))


@pytest.mark.parametrize(("c", "h", "w"), [(128, 3, 3), (32, 7, 12), (4, 2, 5)])
def test_columns_behind_a_flatten(c: int, h: int, w: int) -> None:
    dense, bias = floats(5, c * h * w), floats(c)
    cube = dense.reshape(5, c, h, w)
    for axes in ((0, 2, 3, 1), (0, 3, 2, 1), (0, 1, 3, 2)):
        a = named({"fc.w": dense, "conv.b": bias})
        b = named({"head.w": cube.transpose(axes).reshape(5, -1), "first.b": bias})
        inference = infer(a, b)
        check_exact(inference, a, b)
        (rule,) = [s for s in statements(inference) if s.startswith("fc.w")]
        assert "c" in rule
        assert "where h" in rule
    flipped = named({"head.w": np.ascontiguousarray(cube.transpose(2, 3, 1, 0)), "first.b": bias})
    check_exact(infer(a, flipped), a, flipped)


def test_a_kernel_of_one_by_one_is_laid_out_like_the_others() -> None:
    a = {f"conv{i}.weight": floats(8, 4, 3, 3) for i in range(3)} | {"conv3.weight": floats(8, 4, 1, 1)}
    b = {name: x.transpose(0, 1, 3, 2) for name, x in a.items()}
    inference = infer(named(a), named(b))
    assert statements(inference) == ["conv{i:int}.weight : o i h w <-> conv{i}.weight : o i w h"]
    check_exact(inference, named(a), named(b))


def test_channels_and_kernels_turned_round() -> None:
    bgr, kernel = floats(8, 3, 5, 5), floats(6, 4, 3, 3)
    a = named({"first": bgr, "other": kernel})
    b = named({"first": np.ascontiguousarray(bgr[:, ::-1]), "other": np.ascontiguousarray(kernel[:, :, ::-1, ::-1].transpose(2, 3, 1, 0))})
    inference = infer(a, b)
    assert statements(inference) == ["first | flip(1) <-> first", "other : o i h w | flip(2) | flip(3) <-> other : h w i o"]
    assert all("turned round" in r.reason for r in inference.rules)
    check_exact(inference, a, b)


def test_shapes_without_common_factors_are_not_matched() -> None:
    x, y = floats(4, 6), floats(9)
    inference = infer(store(x=x, y=y), store(u=x.reshape(3, 8), y=y))
    assert inference.unmatched_targets == ("u",)
    assert inference.unmatched_sources == ("x",)


def test_equal_movements_are_equal_digits() -> None:
    assert merged([(3, 1), (1, 5), (4, 3)]) == ((12, 1),)
    assert merged([]) == ()
    for layout in USUAL:
        assert layout.moves


# ---- fingerprints ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype", ["float32", "float16", "float64", "int64", "uint8", "bool", "complex64", "complex128", "bfloat16", "int4"]
)
def test_fingerprints_do_not_depend_on_order(dtype: str) -> None:
    target = DTYPES[dtype]
    values = rng.integers(0, 2, 70_001).astype(target.numpy()) if dtype in ("bool", "int4") else _values(target, 70_001)
    one = entries(TensorStore([Tensor.from_array("x", values)]))[0]
    order = np.argsort(rng.random(70_001))
    other = entries(TensorStore([Tensor.from_array("x", values[order])]))[0]
    assert fingerprint(one) == fingerprint(other)
    assert not fingerprint(one).constant
    changed = values.copy()
    changed[12_345] = next(v for v in values if v != values[12_345])
    assert fingerprint(entries(TensorStore([Tensor.from_array("x", changed)]))[0]) != fingerprint(one)


def _values(dtype: object, count: int) -> np.ndarray:
    target = dtype.numpy()  # type: ignore[attr-defined]
    values = rng.integers(-100, 100, count)
    return (values if target.kind in "iu" else values / 7).astype(target)


def test_chunks_that_end_inside_an_element_change_nothing() -> None:
    class Odd:
        def __init__(self, data: bytes) -> None:
            self.data = data
            self.nbytes = len(data)
            self.location = None

        def chunks(self, limit: int):
            for start in range(0, len(self.data), 7):
                yield memoryview(self.data[start : start + 7])

        def buffer(self) -> memoryview:
            return memoryview(self.data)

    values = floats(1001)
    whole = Tensor.from_array("x", values)
    odd = Tensor(whole.spec, Odd(whole.tobytes()))
    assert fingerprint(Entry(whole.spec, 0, odd)) == fingerprint(Entry(whole.spec, 0, whole))


def test_constants_are_told() -> None:
    assert fingerprint(entries(store(x=np.zeros((3, 4), np.float32)))[0]).constant
    assert not fingerprint(entries(store(x=np.array([0.0, -0.0], np.float32)))[0]).constant


# ---- whole maps --------------------------------------------------------------------------------------------------------


def network(blocks: int = 3) -> dict[str, np.ndarray]:
    tensors = {"stem.weight": floats(8, 3, 3, 3)}
    for i in range(blocks):
        tensors |= {
            f"blocks.{i}.conv.weight": floats(8, 8, 3, 3),
            f"blocks.{i}.conv.bias": floats(8),
            f"blocks.{i}.bn.weight": floats(8),
            f"blocks.{i}.bn.bias": floats(8),
            f"blocks.{i}.bn.running_mean": floats(8),
            f"blocks.{i}.bn.running_var": np.abs(floats(8)) + 0.1,
            f"blocks.{i}.bn.num_batches_tracked": np.array(1000, np.int64),
        }
    return tensors | {"fc.weight": floats(10, 8), "fc.bias": floats(10)}


_KERAS = {"weight": "kernel", "bias": "bias"}


def keras_like(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    words = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    out = {}
    for name, x in tensors.items():
        layer, part = name.rsplit(".", 1)
        if part == "num_batches_tracked":
            continue
        layer = layer.replace("blocks.", "block").replace(".", "_")
        part = words[part] if layer.endswith("bn") else _KERAS[part]
        out[f"{layer}/{part}:0"] = x.transpose(2, 3, 1, 0) if x.ndim == 4 else x.T
    return out


def test_torch_to_keras() -> None:
    a = network()
    b = keras_like(a)
    inference = infer(named(a), named(b))
    check_exact(inference, named(a), named(b))
    assert inference.matched == len(b)
    assert "*.num_batches_tracked -> drop" in statements(inference)
    assert len(inference.rules) <= 10
    assert min(r.confidence for r in inference.rules if r.matches) >= 0.9


def test_keras_to_torch_fills_what_keras_does_not_have() -> None:
    b = network()
    a = keras_like(b)
    inference = infer(named(a), named(b))
    check_exact(inference, named(a), named(b))
    (fill,) = [r for r in inference.rules if r.statement.__class__.__name__ == "Fill"]
    assert fill.tensors == 3
    assert "if absent for {p}." in statement_text(fill.statement)
    assert "A has nothing for it" in fill.reason


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_the_files_does_not_matter_where_values_speak(seed: int) -> None:
    a = network()
    shuffled = list(keras_like(a).items())
    np.random.default_rng(seed).shuffle(shuffled)  # type: ignore[arg-type]
    b = named({str(k): np.asarray(v) for k, v in shuffled})
    check_exact(infer(named(a), b), named(a), b)


def test_prefixes_become_one_rule() -> None:
    a = network()
    b = {f"module.{k}": v for k, v in a.items()}
    assert statements(infer(named(b), named(a))) == ["module.{p} <-> {p}"]
    assert statements(infer(named(a), named(b))) == ["{p} <-> module.{p}"]


def test_equal_files_need_one_statement() -> None:
    a = named(network())
    inference = infer(a, a)
    assert statements(inference) == ["rest <-> keep"]
    check_exact(inference, a, a)


def test_bits_are_compared_not_values() -> None:
    nan = np.frombuffer(np.array([0x7FC00001, 0x7FC00002, 0xFFC00003, 0x80000000], "<u4").tobytes(), np.float32)
    other = np.frombuffer(np.array([0x7FC00001, 0x7FC00002, 0xFFC00003, 0x00000000], "<u4").tobytes(), np.float32)
    a = store(p=nan, q=other, r=floats(9))
    b = store(x=other, y=nan, z=floats(9))
    inference = infer(a, store(x=other, y=nan))
    assert {(m.sources[0], m.targets[0]) for m in inference.matches} == {("p", "y"), ("q", "x")}
    check_exact(inference, a, store(x=other, y=nan))
    assert b


def test_empty_tensors_scalars_and_constants() -> None:
    a = store(a=np.zeros((0, 4), np.float32), b=np.array(3, np.int64), c=np.ones(5, np.float32), d=floats(3))
    b = store(a=np.zeros((0, 4), np.float32), b=np.array(3, np.int64), c=np.ones(5, np.float32), d=np.zeros(0, np.int64))
    inference = infer(a, b)
    assert inference.matched == 3
    assert inference.unmatched_targets == ("d",)
    check_exact(inference, a, b)


# ---- ambiguity ---------------------------------------------------------------------------------------------------------


def test_equal_tensors_are_told_apart_by_name_and_it_is_said() -> None:
    same, x, y = floats(4, 4), floats(6), floats(6)
    a = named({"q.w": same, "k.w": same, "q.b": x, "k.b": y})
    b = named({"layer_k/w": same, "layer_q/w": same, "layer_q/b": x, "layer_k/b": y})
    inference = infer(a, b)
    found = {m.sources[0]: m for m in inference.matches}
    assert found["q.w"].targets == ("layer_q/w",)
    assert found["k.w"].targets == ("layer_k/w",)
    assert "one of several alike: same layer" in found["q.w"].reason
    assert found["q.w"].confidence < 1
    check_exact(inference, a, b)


def test_what_only_order_tells_apart_is_ambiguous() -> None:
    same = floats(4, 4)
    inference = infer(named({"u": same, "v": same, "w": floats(3)}), named({"1": same, "2": same}))
    assert {(m.sources[0], m.targets[0]) for m in inference.matches} == {("u", "1"), ("v", "2")}
    assert len(inference.ambiguous) == 2
    assert all(m.confidence <= 0.6 and m.rivals for m in inference.ambiguous)
    assert "# What the same evidence fits as well:" in inference.text()
    assert "u -> 1, or 2" in inference.text()


def test_a_tensor_that_b_has_twice_is_tied() -> None:
    embed = floats(12, 6)
    b = store(tok=embed, head=embed, n=floats(7))
    a = named({"embed.weight": embed, "norm.weight": b["n"].numpy()})
    inference = infer(a, b)
    assert {"head = tok", "tok = head"} & set(statements(inference))
    check_exact(inference, a, b)


def test_a_tensor_that_a_has_twice_is_dropped_if_it_is_the_same() -> None:
    embed = floats(12, 6)
    a = named({"embed.weight": embed, "lm_head.weight": embed, "n": floats(5)})
    b = named({"embed": embed, "n": a["n"].numpy()})
    inference = infer(a, b)
    assert any("-> drop if = " in s for s in statements(inference))
    check_exact(inference, a, b)


def test_zeros_are_matched_by_their_layer() -> None:
    zeros = np.zeros(6, np.float32)
    weights = {x: floats(6, 6) for x in "abc"}
    a = named({f"{x}.{part}": (weights[x] if part == "weight" else zeros) for x in "abc" for part in ("bias", "weight")})
    b = named({f"{x}{x}/{part}": (weights[x] if part == "kernel" else zeros) for x in "cab" for part in ("kernel", "bias")})
    inference = infer(a, b)
    assert {(m.sources[0], m.targets[0]) for m in inference.matches} >= {("a.bias", "aa/bias"), ("c.bias", "cc/bias")}
    assert any("all elements alike: same layer" in r.reason for r in inference.rules)
    check_exact(inference, a, b)


def test_what_b_alone_has_is_listed_and_expected() -> None:
    x = floats(5)
    b = store(x=x, extra=floats(7))
    inference = infer(store(x=x), b)
    assert inference.unmatched_targets == ("extra",)
    assert "expect sources=all targets=any" in statements(inference)
    assert "#   extra" in inference.text()
    check_exact(inference, store(x=x), b)


# ---- dtypes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target", "arrow"), [("float32", "float16", "->"), ("float32", "bfloat16", "->"), ("float16", "float32", "<->")]
)
def test_casts(source: str, target: str, arrow: str) -> None:
    a = {f"c{i}.weight": floats(8, 4, 3, 3).astype(DTYPES[source].numpy()) for i in range(3)}
    b = {n: x.transpose(2, 3, 1, 0).astype(DTYPES[target].numpy()) for n, x in a.items()}
    inference = infer(named(a), named(b))
    (statement,) = statements(inference)
    assert "cast(" in statement
    assert f" {arrow} " in statement
    check_exact(inference, named(a), named(b))


def test_a_source_that_is_rounded_is_matched_and_said_not_to_be_equal() -> None:
    b = {f"c{i}.weight": floats(6, 20) for i in range(3)}
    a = {n: x.astype(np.float16) for n, x in b.items()}
    inference = infer(named(a), named(b))
    assert inference.matched == 3
    assert all("only as f16" in r.reason and r.confidence < 0.9 for r in inference.rules)


def test_other_states_of_one_training_are_matched_as_near() -> None:
    a = network()
    b = {n: (x + 1e-3 * floats(*x.shape) if x.dtype == np.float32 else x) for n, x in keras_like(a).items()}
    b = {n: np.asarray(x, np.float32) for n, x in b.items()}
    inference = infer(named(a), named(b))
    assert {m.targets[0]: m.sources[0] for m in inference.matches}["fc/kernel:0"] == "fc.weight"
    assert inference.matched == len(b)
    assert all(r.confidence <= 0.8 for r in inference.rules)
    assert any("values near, not equal" in r.reason for r in inference.rules)


# ---- batch normalisation -----------------------------------------------------------------------------------------------


def folded(tensors: dict[str, np.ndarray], eps: float, dtype: type) -> dict[str, np.ndarray]:
    out = {}
    for i in range(3):
        w, b, g, beta, m, v = (
            tensors[f"blocks.{i}.{k}"].astype(dtype)
            for k in ("conv.weight", "conv.bias", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
        )
        scale = g / np.sqrt(v + dtype(eps))
        out[f"layer{i + 1}.w"] = (w * scale.reshape(-1, 1, 1, 1)).astype(np.float32)
        out[f"layer{i + 1}.b"] = ((b - m) * scale + beta).astype(np.float32)
    return out


@pytest.mark.parametrize("eps", [1e-5, 1e-3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_folded_batch_normalisation(eps: float, dtype: type) -> None:
    a = network()
    b = folded(a, eps, dtype) | {"stem": a["stem.weight"]}
    inference = infer(named(a), named(b))
    check_exact(inference, named(a), named(b))
    (fold,) = [r for r in inference.rules if "fold_bn" in statement_text(r.statement)]
    assert fold.tensors == 6
    assert fold.confidence == 1
    assert ("eps=" in statement_text(fold.statement)) == (eps != 1e-5)


def test_folding_without_bias_into_kernels_of_another_dtype() -> None:
    a = {n: x for n, x in network().items() if n != "stem.weight" and not n.endswith("conv.bias")}
    zero = {f"blocks.{i}.conv.bias": np.zeros(8, np.float32) for i in range(3)}
    b = {n: x.astype(np.float16) if n.endswith("w") else x for n, x in folded(a | zero, 1e-5, np.float32).items()}
    inference = infer(named(a), named(b))
    assert inference.matched == 6
    assert len(inference.map.stages) == 2
    check_exact(inference, named(a), named(b))


def test_a_fold_that_differs_in_the_last_bits() -> None:
    a = network()
    b = folded(a, 1e-5, np.float32)
    b = {n: np.nextafter(x, np.float32(9)) for n, x in b.items()}
    inference = infer(named(a), named(b))
    folds = [r for r in inference.rules if "fold_bn" in statement_text(r.statement)]
    assert sum(r.tensors for r in folds) == 6
    assert all("but for the last bits" in r.reason and r.confidence < 1 for r in folds)
    made = apply(inference.map, named(a))
    for name, x in b.items():
        assert np.abs(made[name].numpy() - x).max() <= 8 * np.spacing(np.abs(x)).max()


def caffe_like(factor: float) -> dict[str, np.ndarray]:
    out = {}
    for i in range(2):
        out |= {
            f"conv{i}.weight": floats(8, 4, 3, 3),
            f"bn{i}.mean": floats(8) * np.float32(factor),
            f"bn{i}.variance": (np.abs(floats(8)) + np.float32(0.1)) * np.float32(factor),
            f"bn{i}.scale_factor": np.array([factor], np.float32),
            f"scale{i}.weight": floats(8),
            f"scale{i}.bias": floats(8),
        }
    return out


def test_caffes_scale_factor_is_divided_out() -> None:
    a = caffe_like(999.98)
    b = {}
    for i in range(2):
        factor = a[f"bn{i}.scale_factor"].astype(np.float64)
        b |= {
            f"{i}.0.weight": a[f"conv{i}.weight"],
            f"{i}.1.weight": a[f"scale{i}.weight"],
            f"{i}.1.bias": a[f"scale{i}.bias"],
            f"{i}.1.running_mean": (a[f"bn{i}.mean"] / factor).astype(np.float32),
            f"{i}.1.running_var": (a[f"bn{i}.variance"] / factor).astype(np.float32),
            f"{i}.1.num_batches_tracked": np.array(0, np.int64),
        }
    inference = infer(named(a), named(b))
    check_exact(inference, named(a), named(b))
    assert sum("bn_stats" in s for s in statements(inference)) == 1


def test_caffes_batch_normalisation_is_folded_with_the_scale_behind_it() -> None:
    a = caffe_like(1.0)
    b = {}
    for i in range(2):
        mean, variance, gamma, beta = (
            a[f"{k}{i}.{p}"] for k, p in (("bn", "mean"), ("bn", "variance"), ("scale", "weight"), ("scale", "bias"))
        )
        scale = gamma / np.sqrt(variance + np.float32(1e-5))
        b |= {f"l{i}.w": a[f"conv{i}.weight"] * scale.reshape(-1, 1, 1, 1), f"l{i}.b": (0 - mean) * scale + beta}
    inference = infer(named(a), named(b))
    check_exact(inference, named(a), named(b))
    assert inference.matched == 4


def test_variances_that_hold_eps_already() -> None:
    a = network()
    b = {n.replace("running_var", "variance"): (x + np.float32(1e-3) if n.endswith("running_var") else x) for n, x in a.items()}
    inference = infer(named(a), named(b))
    check_exact(inference, named(a), named(b))
    assert any("add(0.001)" in s for s in statements(inference))


# ---- names -------------------------------------------------------------------------------------------------------------


def rules(pairs: list[tuple[str, str]], others: list[str] | None = None) -> list[str]:
    generaliser = Generaliser([a for a, _ in pairs] + (others or []), [b for _, b in pairs])
    found = generaliser.rules([Use((a,), (b,)) for a, b in pairs], both_ways=True)
    return [f"{_text(n.sources[0])} <-> {_text(n.targets[0])}" for n in found]


def _text(pattern: object) -> str:
    from porter.mapping.render import pattern_text

    return pattern_text(pattern)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([(f"conv{i}.w", f"layers.{i - 1}.kernel") for i in range(1, 6)], ["conv{i:int}.w <-> layers.{i-1}.kernel"]),
        ([(f"a.{i}", f"b.{3 * i + 2}") for i in range(4)], ["a.{i:int} <-> b.{3*i+2}"]),
        ([(f"blk{i:03}.w", f"layers.{i}.w") for i in range(9, 12)], ["blk{i:03}.w <-> layers.{i}.w"]),
        ([(f"s{i}.{k}", f"t{i}/{k}") for i in range(3) for k in ("gain", "shift")], ["s{i:int}.{a:gain|shift} <-> t{i}/{a}"]),
        ([(f"enc.{x}.w", f"{x}.v") for x in ("att.q", "att.k", "mlp.in.up", "n")], ["enc.{p}.w <-> {p}.v"]),
    ],
)
def test_few_rules_for_regular_names(pairs: list[tuple[str, str]], expected: list[str]) -> None:
    assert rules(pairs) == expected


def test_rules_match_nothing_else() -> None:
    pairs = [(f"conv{i}.w", f"c{i}") for i in range(3)]
    assert rules(pairs, ["conv7.w", "conv8.w"]) == ["conv{i:0..2}.w <-> c{i}"]
    assert rules(pairs, ["conv{i}.w", "convx.w"]) == ["conv{i:int}.w <-> c{i}"]
    crossed = [("a1.x", "p1"), ("a2.y", "p2")]
    assert sorted(rules(crossed, ["a1.y", "a2.x"])) == ["a1.x <-> p1", "a2.y <-> p2"]


def test_letters_go_through_a_table() -> None:
    letters = dict(zip("abcd", "0123", strict=True))
    pairs = [(f"res{s}{x}_branch.w", f"layer{s - 1}.{letters[x]}.w") for s in (2, 3, 4) for x in letters]
    generaliser = Generaliser([a for a, _ in pairs], [b for _, b in pairs])
    (found,) = generaliser.rules([Use((a,), (b,)) for a, b in pairs], both_ways=True)
    assert [t.rows for t in found.tables] == [tuple(letters.items())]


def test_names_that_say_nothing_of_each_other_go_through_a_table() -> None:
    words = ["stem", "left.up", "left.down", "right", "head.x", "head.y"]
    numbers = [4, 7, 1, 12, 40, 6]
    pairs = [(f"{w}.{k}", f"{n}.{k}") for w, n in zip(words, numbers, strict=True) for k in ("w", "b")]
    found = Generaliser([a for a, _ in pairs], [b for _, b in pairs]).rules([Use((a,), (b,)) for a, b in pairs], both_ways=True)
    assert sum(len(n.uses) for n in found) == 12
    assert len(found) <= 3


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_rules_stand_for_exactly_their_names(data: st.DataObject) -> None:
    words = st.sampled_from(
        [
            "conv",
            "fc",
            "²",
            "³",
            "٣",
            "9999999999999999999999",
            "a",
            "b.c",
            "x_1",
            "7",
            "10",
            "layer.3",
            "3",
            "w",
            "bias",
            "é",
            "a b",
            "{i}",
            "*",
            '"',
            "\n",
        ]
    )
    name = st.lists(words, min_size=1, max_size=3).map(".".join)
    sources = data.draw(st.lists(name, min_size=1, max_size=12, unique=True))
    targets = data.draw(st.lists(name, min_size=len(sources), max_size=len(sources), unique=True))
    others = [n for n in data.draw(st.lists(name, max_size=8, unique=True)) if n not in sources]
    generaliser = Generaliser([*sources, *others], targets)
    uses = [Use((a,), (b,)) for a, b in zip(sources, targets, strict=True)]
    found = generaliser.rules(uses, both_ways=True)
    assert sorted(u.sources for n in found for u in n.uses) == sorted(u.sources for u in uses)
    for n in found:
        assert generaliser.exact(n, both_ways=True)


@pytest.mark.parametrize(
    ("given", "wanted", "answer"),
    [
        ([1, 2, 3], [4, 6, 8], (2, 2)),
        ([1, 2, 3], [3, 2, 1], None),
        ([1, 1], [2, 2], None),
        ([0, 2], [0, 1], None),
        ([5, 9], [5, 9], (1, 0)),
    ],
)
def test_lines(given: list[int], wanted: list[int], answer: tuple[int, int] | None) -> None:
    assert affine(given, wanted) == answer


@pytest.mark.parametrize(
    ("name", "layer", "role"),
    [
        ("conv1.weight", "conv1", "weight"),
        ("conv1/kernel:0", "conv1", "weight"),
        ("a.b.running_var", "a.b", "variance"),
        ("bn/moving_mean:0", "bn", "mean"),
        ("402", "", None),
        ("prelu1.slope", "prelu1", "slope"),
        ("", "", None),
    ],
)
def test_what_names_say(name: str, layer: str, role: str | None) -> None:
    spec = TensorSpec(name, DTYPES["float32"], (1,))
    assert (layer_of(name), role_of(spec)) == (layer, role)
    assert family_of(TensorSpec("x", DTYPES["float32"], (1,), role="gamma")) == "weight"


# ---- without values ----------------------------------------------------------------------------------------------------


def test_specs_alone_are_matched_by_names_and_shapes() -> None:
    a = network()
    b = named(keras_like(a))
    inference = infer(named(a), [t.spec for t in b.values()])
    made = apply(inference.map, named(a), targets=[t.spec for t in b.values()])
    right = sum(made[n].tobytes() == t.tobytes() for n, t in b.items() if n in made)
    assert right >= len(b) - 2
    assert all(r.confidence < 0.8 for r in inference.rules)
    assert all("values unknown" in r.reason for r in inference.rules if r.matches)


def test_folding_is_seen_in_names_and_shapes() -> None:
    a = network()
    b = named(folded(a, 1e-5, np.float32))
    source = named({n: x for n, x in a.items() if n.startswith("blocks")})
    inference = infer(source, [t.spec for t in b.values()])
    (fold,) = [r for r in inference.rules if "fold_bn" in statement_text(r.statement)]
    assert fold.tensors == 6
    assert fold.confidence < 0.6
    assert "with eps as usual" in fold.reason
    made = apply(inference.map, source, targets=list(b.values()))
    assert all(np.allclose(made[n].numpy(), t.numpy(), atol=1e-5) for n, t in b.items())


def test_a_module_of_torch() -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.PReLU(8), torch.nn.Flatten(), torch.nn.Linear(72, 5)
    )
    specs = [TensorSpec(n, DTYPES[str(t.dtype).removeprefix("torch.")], tuple(t.shape)) for n, t in module.state_dict().items()]
    a = named({f"net.{n}": t.numpy() for n, t in module.state_dict().items()})
    inference = infer(a, specs)
    assert {(m.sources[0], m.targets[0]) for m in inference.matches} == {(f"net.{s.name}", s.name) for s in specs}
    assert statements(inference) == ["net.{p} <-> {p}"]
    back = infer(specs, a)
    assert statements(back) == ["{p} <-> net.{p}"]


# ---- what is wrong -----------------------------------------------------------------------------------------------------


def test_nothing_to_infer_from() -> None:
    with pytest.raises(MapError) as error:
        infer(TensorStore(), store(x=floats(3)))
    assert error.value.code == "M600"
    with pytest.raises(MapError) as error:
        infer(store(x=floats(3)), [])
    assert error.value.code == "M600"
    with pytest.raises(MapError) as error:
        infer(store(x=floats(3)), store(y=floats(17, 5)))
    assert error.value.code == "M601"
    assert "nothing of B could be found in A" in error.value.message
    spec = TensorSpec("x", DTYPES["float32"], (3,))
    with pytest.raises(UsageError):
        infer([spec, spec], store(x=floats(3)))


NASTY = [
    "²",
    "٣",
    "layer.٣",
    "a²",
    "9999999999999999999999",
    "",
    " ",
    "a b",
    'q"uote',
    "{i}",
    "*",
    "a\nb",
    "drop",
    "keep",
    "rest",
    "# no",
    "a -> b",
    "é",
    "\ud800",
    "1",
    "[x]",
    "a=b",
    "then",
    "³",
    "fill(0)",
    "{",
    "}}",
]


@pytest.mark.parametrize("prefix", ["", "p."])
def test_nasty_names_are_written_so_that_the_map_can_be_read(prefix: str) -> None:
    values = {n: floats(3, i + 2) for i, n in enumerate(NASTY)}
    a, b = named(values), named({prefix + n: x for n, x in reversed(values.items())})
    inference = infer(a, b)
    assert inference.matched == len(NASTY)
    check_exact(inference, a, b)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_whatever_the_sides_are_there_is_a_map_or_an_error(data: st.DataObject) -> None:
    names = st.text(alphabet="ab.01_/", min_size=0, max_size=5).filter(lambda n: n == "" or n.strip("."))
    shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)
    kinds = st.sampled_from(["float32", "float16", "int64", "bool", "uint8", "bfloat16"])
    fillings = st.sampled_from(["zeros", "ones", "few", "random", "nan"])

    def side() -> TensorStore:
        tensors = TensorStore()
        for name in data.draw(st.lists(names, max_size=7, unique=True)):
            spec = TensorSpec(name, DTYPES[data.draw(kinds)], data.draw(shapes))
            tensors.add(Tensor(spec, BytesPayload.of(_bytes(data.draw(fillings), spec.nbytes))))
        return tensors

    a, b = side(), side()
    try:
        inference = infer(a, b)
    except MapError as error:
        assert error.code in ("M600", "M601")
        return
    made = apply(inference.map, a, targets=list(b.values()))
    assert parse(inference.text()) == inference.map
    exact = {n for m in inference.matches if m.reason.startswith(("equal bytes", "equal values,", "equal but")) for n in m.targets}
    assert all(made[n].tobytes() == b[n].tobytes() for n in exact)


def _bytes(filling: str, count: int) -> bytes:
    local = np.random.default_rng(count)
    if filling in ("zeros", "ones"):
        return (b"\0" if filling == "zeros" else b"\1") * count
    if filling == "nan":
        return b"\xff" * (count // 2) + b"\0" * (count - count // 2)
    return (local.integers(0, 2 if filling == "few" else 256, count)).astype(np.uint8).tobytes()
