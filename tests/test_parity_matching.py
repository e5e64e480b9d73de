"""Which value of one network is which of another: by name, by layers.json, by structure, by order; and how far two values are apart."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parity_nets import FORMS, make, model, side

from porter.check.measures import measured
from porter.errors import GraphError, UsageError
from porter.parity.comparison import compare
from porter.parity.matching import Matching, match, read_layers
from porter.parity.opening import open_side

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'
CHAIN = """
g (float[1, 2, 8, 8] {p}in, float[4, 2, 3, 3] w_1, float[4, 4, 1, 1] w_2, float[4] w_s, float[4] w_b, float[4] w_m, float[4] w_v)
 => (float[N, C, H, W] {p}out)
{{
  {p}c = Conv({p}in, w_1)
  {p}r = Relu({p}c)
  {p}p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> ({p}r)
  {p}d = Conv({p}p, w_2)
  {p}e = Conv({p}p, w_2)
  {p}s = Add({p}d, {p}e)
  {p}out = Sigmoid({p}s)
}}
"""


def matched(a: str, b: str, layers: dict[str, str] | None = None) -> tuple[Matching, dict[str, tuple[str, str]]]:
    with open_side(a) as left, open_side(b) as right:
        found = match(left, right, layers)
    return found, {pair.a: (pair.b, pair.way) for pair in found.pairs}


def test_names(tmp_path: Path) -> None:
    a = model(tmp_path, "a.onnx", HEAD + CHAIN.format(p="x_"))
    found, pairs = matched(a, a)
    assert pairs == {v: (v, "name") for v in ("x_c", "x_r", "x_p", "x_d", "x_e", "x_s", "x_out")}
    assert (found.only_a, found.only_b, found.ambiguous) == ((), (), ())
    assert found.ways == {"name": 7}


def test_structure_where_no_name_helps(tmp_path: Path) -> None:
    a, b = (model(tmp_path, f"{p}.onnx", HEAD + CHAIN.format(p=p)) for p in ("x_", "y_"))
    found, pairs = matched(a, b)
    assert pairs.pop("x_out") == ("y_out", "output")
    assert pairs == {f"x_{v}": (f"y_{v}", "structure") for v in "crpdes"}
    assert found.ambiguous == ("x_d", "x_e")  # made of the same in the same way: only their order tells them apart


def test_structure_of_branches_that_their_shapes_tell_apart(tmp_path: Path) -> None:
    text = """
g (float[1, 2, 8, 8] in, float[{0}, 2, 1, 1] w_1, float[{1}, 2, 1, 1] w_2) => (float[1, 8, 8, 8] {p}out)
{{
  {p}a = Conv(in, w_1)
  {p}b = Conv(in, w_2)
  {p}k = Relu({p}{2})
  {p}l = Relu({p}{3})
  {p}out = Concat <axis = 1> ({p}k, {p}l)
}}
"""
    a = model(tmp_path, "a.onnx", HEAD + text.format(3, 5, "a", "b", p="x_"))
    b = model(tmp_path, "b.onnx", HEAD + text.format(5, 3, "b", "a", p="y_"))
    found, pairs = matched(a, b)
    assert {v: pairs[v][0] for v in ("x_a", "x_b", "x_k", "x_l")} == {"x_a": "y_b", "x_b": "y_a", "x_k": "y_k", "x_l": "y_l"}
    assert found.ambiguous == ()


def test_structure_of_branches_that_what_they_read_tells_apart(tmp_path: Path) -> None:
    """Two projections that are made alike, as in attention, and what follows them in the one order or the other."""
    text = """
g (float[1, 4, 4] in, float[4, 4] w_1, float[4, 4] w_2) => (float[N, H, W] {p}out)
{{
  {p}q = MatMul(in, w_1)
  {p}k = MatMul(in, w_2)
  {0}
  {1}
  {p}out = MatMul({p}s, {p}t)
}}
"""
    s, t = ("{p}s = Softmax ({p}q)", "{p}t = Softmax ({p}k)")
    a = model(tmp_path, "a.onnx", HEAD + text.format(s.format(p="x_"), t.format(p="x_"), p="x_"))
    b = model(tmp_path, "b.onnx", HEAD + text.format(t.format(p="y_"), s.format(p="y_"), p="y_"))
    pairs = {v: w for v, (w, _) in matched(a, b)[1].items()}
    assert pairs == {f"x_{v}": f"y_{v}" for v in ("q", "k", "s", "t", "out")}


def test_transpositions_without_names_are_not_compared(tmp_path: Path) -> None:
    """The one transposes once, the other twice: with sizes that are alike, the first of the two would be taken for the one."""
    head = HEAD + "g (float[4, 4, 4] in) => (float[N, H, W] {p}out) {{ {p}r = Relu(in)\n {p}s = Transpose <perm = [{0}]> ({p}r)\n "
    a = model(tmp_path, "a.onnx", (head + "x_out = Tanh(x_s) }}").format("1, 2, 0", p="x_"))
    b = model(tmp_path, "b.onnx", (head + "y_t = Transpose <perm = [1, 0, 2]> (y_s)\n y_out = Tanh(y_t) }}").format("2, 1, 0", p="y_"))
    assert {v: w for v, (w, _) in matched(a, b)[1].items()} == {"x_r": "y_r", "x_out": "y_out"}


def test_constants_do_not_hide_structure(tmp_path: Path) -> None:
    """A slope that the one reshapes as it runs, as PyTorch's exporter writes it, and the other holds ready."""
    text = """
g (float[1, 2, 8, 8] in, float[2] w_s, float[2, 1, 1] w_r) => (float[N, C, H, W] {p}out)
<int64[2] n = {{1, 2}}>
{{
  {body}
  {p}e = Sigmoid({p}d)
  {p}out = Tanh({p}e)
}}
"""
    a = model(tmp_path, "a.onnx", HEAD + text.format(p="x_", body="u = Unsqueeze(w_s, n)\n  x_d = PRelu(in, u)"))
    b = model(tmp_path, "b.onnx", HEAD + text.format(p="y_", body="y_d = PRelu(in, w_r)"))
    assert {v: w for v, (w, _) in matched(a, b)[1].items()} == {"x_d": "y_d", "x_e": "y_e", "x_out": "y_out"}


def test_names_of_the_exporter_as_identifiers(tmp_path: Path) -> None:
    """PyTorch's exporter begins names of values with a slash; a port to PyTorch has identifiers."""
    paths = []
    for file, name in (("a.onnx", "/x/{}_output_0"), ("b.onnx", "x_{}_output_0")):
        paths.append(model(tmp_path, file, HEAD + CHAIN.format(p="x_")))
        proto = onnx.load(paths[-1])
        for names in (names for node in proto.graph.node for names in (node.input, node.output)):
            names[:] = [name.format(v[-1]) if v[:2] == "x_" and len(v) == 3 else v for v in names]
        onnx.save(proto, paths[-1])
    pairs = matched(*paths)[1]
    assert pairs == {"x_out": ("x_out", "name")} | {f"/x/{v}_output_0": (f"x_{v}_output_0", "name") for v in "crpdes"}


FOLDED = """
g (float[1, 2, 8, 8] in, float[4, 2, 3, 3] w_1, float[4] w_s, float[4] w_b, float[4] w_m, float[4] w_v) => (float[N, C, H, W] out)
{{
  conv = Conv(in, w_1)
  {body}
  out = Relu({last})
}}
"""


def test_what_is_folded_meets_at_its_end(tmp_path: Path) -> None:
    """The one has batch normalisation behind a convolution, the other has it in the convolution's weights, under the same name."""
    norm = "v = Exp(w_v)\n  bn = BatchNormalization(conv, w_s, w_b, w_m, v)"
    a = model(tmp_path, "a.onnx", HEAD + FOLDED.format(body=norm, last="bn"))
    b = model(tmp_path, "b.onnx", HEAD + FOLDED.format(body="", last="conv"))
    found, pairs = matched(a, b)
    assert pairs == {"bn": ("conv", "name"), "out": ("out", "name")}
    assert found.only_a == ("conv", "v")
    _, pairs = matched(b, a)
    assert pairs == {"conv": ("bn", "name"), "out": ("out", "name")}


def test_what_is_folded_and_named_by_its_end(tmp_path: Path) -> None:
    """The one's layer is called as the other's convolution, and its value as an identifier of the normalisation behind that."""
    norm = "v = Exp(w_v)\n  conv_BN = BatchNormalization(conv, w_s, w_b, w_m, v)"
    a = model(tmp_path, "a.onnx", HEAD + FOLDED.format(body=norm, last="conv_BN"))
    folded = FOLDED.replace("  conv = Conv", "  [conv] conv_bn = Conv")
    b = model(tmp_path, "b.onnx", HEAD + folded.format(body="", last="conv_bn"))
    assert matched(a, b)[1] == {"conv_BN": ("conv_bn", "name"), "out": ("out", "name")}
    assert matched(b, a)[1] == {"conv_bn": ("conv_BN", "name"), "out": ("out", "name")}


def test_what_is_quantised_is_folded_into_nothing(tmp_path: Path) -> None:
    """The one has QuantizeLinear behind its convolution, the other the arithmetic of it, as a port to PyTorch has."""
    head = HEAD + "g (float[1, 2, 8, 8] in, float[4, 2, 3, 3] w_1) => (float[N, C, H, W] out)\n<float s = {0.5}, int8 z = {0}> {\n"
    a = model(
        tmp_path,
        "a.onnx",
        head + "conv = Conv(in, w_1)\n q = QuantizeLinear(conv, s, z)\n d = DequantizeLinear(q, s, z)\n out = Relu(d)\n}",
    )
    b = model(
        tmp_path,
        "b.onnx",
        head + "conv = Conv(in, w_1)\n p = Div(conv, s)\n r = Round(p)\n d = Mul(r, s)\n out = Relu(d)\n}",
    )
    assert matched(a, b)[1] == {v: (v, "name") for v in ("conv", "d", "out")}
    assert matched(b, a)[1] == {v: (v, "name") for v in ("conv", "d", "out")}


def test_order_where_one_side_does_not_say_what_its_layers_read(tmp_path: Path) -> None:
    nets = make(tmp_path)
    record = dict(np.load(nets / "golden.npz"))
    keys = [str(k) for k in record["layer_keys"]]
    for number, key in enumerate(keys):
        for part in ("", "@shape", "@absmax", "@idx"):
            if key + part in record:
                record[f"layer/{number:04}/step{number}/made{number}{part}"] = record.pop(key + part)
    record["layer_keys"] = np.array([f"layer/{n:04}/step{n}/made{n}" for n in range(len(keys))])
    del record["output/prob"]
    np.savez(nets / "golden.npz", **record)
    with side(nets, FORMS[0]) as a, side(nets, FORMS[4]) as b:
        found = match(a, b)
        assert {pair.way for pair in found.pairs} == {"order"}
        names = [keys[int(pair.b.rpartition("made")[2])].split("/", 2)[2] for pair in found.pairs]
        assert [name.split("/")[0] for name in names] == [pair.a.split("/")[0] for pair in found.pairs]
        assert len(found.pairs) == 9  # neither conv1 nor bn1, which may be part of what follows
        fed = b.recorded_inputs()
        assert compare(a, b, (fed, fed), found).same


def test_layers_json(tmp_path: Path) -> None:
    nets = make(tmp_path)
    layers = read_layers(str(nets / "layers.json"))
    assert layers["relu1/conv1"] == "relu1"
    assert len(layers) == 13
    # The values have other names in the model, and layers.json says which.
    text = {name: f"value_{number}" for number, name in enumerate(dict.fromkeys(layers.values()))}
    import onnx

    changed = onnx.load(nets / "model.onnx")
    for node in changed.graph.node:
        node.name = ""
        node.input[:] = [text.get(n, n) for n in node.input]
        node.output[:] = [text.get(n, n) for n in node.output]
    for value in (*changed.graph.input, *changed.graph.output):
        value.name = text.get(value.name, value.name)
    del changed.graph.value_info[:]
    onnx.save(changed, nets / "model.onnx")
    with side(nets, FORMS[0]) as a, side(nets, FORMS[1]) as b:
        found = match(a, b, {place: text[value] for place, value in layers.items()})
        assert {pair.a: pair.b for pair in found.pairs if pair.way == "layers.json"} == {v: text[v] for v in text if v != "data"}


@pytest.mark.parametrize("document", ["{", "[]", '{"layers": [{"name": "a"}]}', '{"layers": 1}', "\ud800"])
def test_what_is_no_layers_json(tmp_path: Path, document: str) -> None:
    (tmp_path / "l.json").write_bytes(document.encode("utf-8", "surrogatepass"))
    with pytest.raises(UsageError, match=r"no layers\.json"):
        read_layers(str(tmp_path / "l.json"))


def test_nothing_in_common(tmp_path: Path) -> None:
    a = model(tmp_path, "a.onnx", HEAD + "g (float[2] x) => (float[2] y, float[2] z) { y = Relu(x) z = Exp(x) }")
    b = model(tmp_path, "b.onnx", HEAD + "g (float[2] x) => (float[2] u) { u = Cos(x) }")
    with open_side(a) as left, open_side(b) as right, pytest.raises(GraphError, match="can be matched"):
        compare(left, right, ({}, {}), match(left, right))


def test_values_of_another_shape(tmp_path: Path) -> None:
    a = model(tmp_path, "a.onnx", HEAD + "g (float[1, 2, 4, 4] x) => (float[N, C, H, W] y) { y = MaxPool <kernel_shape = [2, 2]> (x) }")
    pool = "MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)"
    b = model(tmp_path, "b.onnx", HEAD + f"g (float[1, 2, 4, 4] x) => (float[N, C, H, W] y) {{ y = {pool} }}")
    fed = {"x": np.zeros((1, 2, 4, 4), np.float32)}
    with open_side(a) as left, open_side(b) as right:
        (found,) = compare(left, right, (fed, fed), match(left, right)).compared
        assert (found.shapes, found.measured, found.relative) == (((1, 2, 3, 3), (1, 2, 2, 2)), None, math.inf)


# ---- measures ----------------------------------------------------------------------------------------------------------

FLOATS = st.lists(st.tuples(st.floats(-1e6, 1e6, width=32), st.floats(-1e6, 1e6, width=32)), min_size=1, max_size=50)


@given(FLOATS)
def test_measures_agree_with_numpy(pairs: list[tuple[float, float]]) -> None:
    a, b = np.array(pairs, np.float32).T
    found = measured(a, b, 1e-3)
    x, y = a.astype(np.float64), b.astype(np.float64)
    assert (found.max_abs, found.scale, found.count) == (np.abs(x - y).max(), np.abs(x).max(), len(a))
    assert found.beyond == (np.abs(x - y) > 1e-3 * (np.abs(x).max() or 1.0)).sum()
    # The tolerance that would have passed does pass, and a smaller one does not.
    if found.max_abs:
        assert measured(a, b, math.nextafter(found.relative, math.inf)).same
        assert not measured(a, b, found.relative * 0.999).same
    noise, signal = ((x - y) ** 2).sum(), (x**2).sum()
    if noise and signal:
        assert found.snr == pytest.approx(10 * math.log10(signal / noise), abs=1e-6)


def test_nan_and_infinity() -> None:
    a = np.array([1.0, np.nan, np.inf, 2.0], np.float32)
    b = a.copy()
    b.view(np.uint32)[1] |= 0x80000123  # another NaN
    assert measured(a, b, 0.0).same
    assert measured(a, b, 0.0).scale == 2.0
    b[3], b[2] = np.nan, -np.inf
    found = measured(a, b, 1e9)
    assert (found.apart, found.beyond, found.first, found.relative) == (2, 2, 2, math.inf)


def test_one_step_of_float32_is_one_ulp() -> None:
    a = np.array([1.0, 2.0], np.float32)
    b = np.nextafter(a, np.float32(np.inf))
    found = measured(a, b, 1e-4)
    assert (found.max_ulp, found.same) == (1, True)
    assert found.cosine == pytest.approx(1.0)


def test_integers_have_to_be_equal() -> None:
    a = np.array([1, 1000], np.int64)
    assert measured(a, a, 0.5).same
    assert measured(a, a + 1, 0.5).beyond == 2
    assert not measured(np.array([True]), np.array([False]), 0.5).same


def test_zeros_are_held_to_the_tolerance_itself() -> None:
    zeros = np.zeros(3, np.float32)
    assert measured(zeros, np.full(3, 5e-5, np.float32), 1e-4).same
    assert not measured(zeros, np.full(3, 5e-4, np.float32), 1e-4).same


def test_large_values_are_streamed() -> None:
    a = np.random.default_rng(0).standard_normal(300_000).astype(np.float32)
    b = a.copy()
    b[250_000] += 1
    found = measured(a, b, 1e-4)
    assert (found.first, found.beyond) == (250_000, 1)
    assert found.first_b == pytest.approx(float(found.first_a or 0) + 1)
