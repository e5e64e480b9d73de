"""PyTorch source out of ONNX graphs: it computes the same, loads strictly, and is laid out as ruff does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import caffe_runs
import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx_cases import as_array
from torch_runs import check, emitted, expected, graph, load, ruff, run

from porter.errors import GraphError
from porter.formats.registry import open_store
from porter.graph.python_layout import float_literal, statement, text_literal
from porter.graph.state_map import axes_of
from porter.graph.torch_source.emitter import emit
from porter.graph.torch_source.identifiers import MODULE_ATTRIBUTES, attribute_names, variable_names
from porter.graph.torch_source.table import SUPPORTED, writer
from porter.mapping.execution import apply
from porter.mapping.parser import parse
from porter.mapping.render import dumps
from porter.store import TensorStore
from porter.tensor import Tensor

node = helper.make_node
RNG = np.random.default_rng(0)
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


# ---- real files ----------------------------------------------------------------------------------------------------------


def test_real_models_compute_what_onnxruntime_computes(shared: Path, tmp_path: Path) -> None:
    files = sorted((shared / "real").rglob("*.onnx"))
    assert len(files) >= 7
    for number, file in enumerate(files):
        model = ir.load(file)
        source = emit(model)
        net = load(source, tmp_path / str(number))
        inputs = {v.name or "": floats(*[n if isinstance(n, int) else 1 for n in v.shape or ()]) for v in model.graph.inputs}
        for ours, theirs in zip(run(net, inputs), expected(str(file), inputs), strict=True):
            # onnxruntime approximates Sigmoid, to 1e-7 or so.
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6 + 1e-5 * np.abs(theirs).max(), err_msg=file.name)
        with open_store(str(file)) as store:
            mapped = apply(parse(dumps(source.map)), store, targets=[t.spec for t in source.state.values()])
            assert {n: t.tobytes() for n, t in mapped.items()} == {n: t.tobytes() for n, t in source.state.items()}
    assert ruff(tmp_path) == ""


@pytest.mark.timeout(900)
def test_recorded_caffe_networks(shared: Path, tmp_path: Path) -> None:
    cases = caffe_runs.cases(shared / "oracle" / "zoo") + caffe_runs.cases(shared / "oracle")
    checked, wrong = 0, []
    for case in cases:
        try:
            net = caffe_runs.imported(case)
        except GraphError:
            continue  # whether it has to be imported is checked elsewhere
        record = caffe_runs.golden(case)
        source = emit(net.model)
        inputs = caffe_runs.recorded_inputs(record, net)
        module = load(source, tmp_path / case.name)
        for name, value in zip(module.output_names, run(module, inputs), strict=True):
            stated = record.get(f"output/{name}")
            if stated is None:
                continue
            assert value.shape == stated.shape
            scale = float(np.abs(stated[np.isfinite(stated)]).max(initial=0))
            far = caffe_runs.relative(value.reshape(-1), stated.reshape(-1), scale)
            print(f"{case.name}: {name} {far:.1e}")
            checked += 1
            if far > 1e-5:
                wrong.append((case.name, name, far))
    assert not wrong
    assert checked >= 290
    assert ruff(tmp_path) == ""


# ---- what onnx says of its operators --------------------------------------------------------------------------------------

ELSEWHERE = ("FLOAT8", "INT4", "INT2", "FLOAT4", "E8M0", "uint16", "uint32", "uint64", "bf16", "BFLOAT16", "string")
"""Types that PyTorch does not compute with."""
KNOWN = {
    "test_bitwise_not_3d": "PyTorch has no such operator for unsigned numbers",
    "test_reduce_max_empty_set": "PyTorch refuses the maximum of nothing",
    "test_reduce_min_empty_set": "PyTorch refuses the minimum of nothing",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(600)
def test_cases_of_the_onnx_project(onnx_cases: list[Any], tmp_path: Path) -> None:
    checked = 0
    for case in onnx_cases:
        model, name = case.model, case.name
        if any(word in name for word in ELSEWHERE) or name in KNOWN:
            continue
        if any(n.op_type not in SUPPORTED and n.op_type != "Constant" for n in model.graph.node):
            continue
        given_inputs, outputs = ([as_array(a) for a in side] for side in case.data_sets[0])
        if any(a.dtype.kind not in "fiub" for a in (*given_inputs, *outputs)):
            continue
        inputs = dict(zip([i.name for i in model.graph.input], given_inputs, strict=False))
        try:
            source = emitted_or_fixed(model, inputs)
        except GraphError as error:
            assert error.code == "G080", (name, error)
            continue
        for ours, theirs in zip(run(load(source, tmp_path), inputs), outputs, strict=True):
            tolerance = 3e-3 if theirs.dtype == np.float16 else 1e-4
            assert ours.dtype == theirs.dtype, name
            np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance, err_msg=name)
        checked += 1
    assert checked >= 600


def emitted_or_fixed(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> Any:
    """The source; all inputs but the first as constants where the operator needs to know them."""
    try:
        return emitted(model)
    except GraphError:
        fixed = onnx.ModelProto()
        fixed.CopyFrom(model)
        for value in list(fixed.graph.input)[1:]:
            fixed.graph.initializer.append(onnx.numpy_helper.from_array(inputs[value.name], value.name))
            fixed.graph.input.remove(value)
        return emitted(fixed)


def test_every_operator_of_the_table_has_a_writer() -> None:
    for op_type in SUPPORTED:
        assert writer(op_type).__doc__
        assert onnx.defs.has(op_type)


# ---- layers --------------------------------------------------------------------------------------------------------------


def test_a_network_as_a_person_would_have_written_it(tmp_path: Path) -> None:
    constants = {
        "conv1/7x7.weight": floats(8, 3, 3, 3),
        "conv1/7x7.bias": floats(8),
        "bn.scale": np.ones(8, np.float32),
        "bn.shift": np.zeros(8, np.float32),
        "bn.mean": floats(8),
        "bn.variance": np.abs(floats(8)) + 1,
        "scale.weight": floats(8, 1, 1),
        "scale.bias": floats(8, 1, 1),
        "fc.weight": floats(4, 200),
        "fc.bias": floats(4),
    }
    nodes = [
        node("Conv", ["data", "conv1/7x7.weight", "conv1/7x7.bias"], ["conv1"], "conv1/7x7", pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["conv1", "bn.scale", "bn.shift", "bn.mean", "bn.variance"], ["bn"], "bn", epsilon=1e-3),
        node("Mul", ["bn", "scale.weight"], ["scaled"], "scale/scaled"),
        node("Add", ["scaled", "scale.bias"], ["scale"], "scale"),
        node("Relu", ["scale"], ["relu1"], "relu1"),
        node("MaxPool", ["relu1"], ["pool1"], "pool1", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
        node("Flatten", ["pool1"], ["flat"], "flat"),
        node("Gemm", ["flat", "fc.weight", "fc.bias"], ["fc"], "fc", transB=1),
        node("Softmax", ["fc"], ["prob"], "prob", axis=1),
    ]
    source = check(graph(nodes, {"data": (1, 3, 10, 10)}, ["prob"], constants), {"data": floats(1, 3, 10, 10)}, tmp_path)
    assert source.text == (
        '''"""A network as PyTorch, written by porter."""

import torch.nn.functional as F
from torch import Tensor, nn


class Net(nn.Module):
    """The network; call `eval()` before use, as for any module."""

    input_names = ("data",)
    output_names = ("prob",)

    def __init__(self) -> None:
        super().__init__()
        self.conv1_7x7 = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8, eps=0.001)
        self.fc = nn.Linear(200, 4)

    def forward(self, data: Tensor) -> Tensor:
        """Input of shape 1 x 3 x 10 x 10."""
        conv1 = self.conv1_7x7(data)
        scale = self.bn(conv1)
        relu1 = F.relu(scale)
        pool1 = F.max_pool2d(relu1, 3, 2, ceil_mode=True)
        flat = pool1.flatten(1)
        fc = self.fc(flat)
        prob = F.softmax(fc, 1)
        return prob
'''
    )
    assert list(source.state) == [
        *("conv1_7x7.weight", "conv1_7x7.bias", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"),
        *("bn.num_batches_tracked", "fc.weight", "fc.bias"),
    ]
    assert source.names["conv1/7x7.weight"] == "conv1_7x7.weight"
    store = TensorStore([Tensor.from_array(n, a) for n, a in constants.items()])
    mapped = apply(source.map, store, targets=[t.spec for t in source.state.values()])
    assert {n: t.tobytes() for n, t in mapped.items()} == {n: t.tobytes() for n, t in source.state.items()}


@QUICK
@given(st.data())
def test_pooling(tmp_path: Path, data: st.DataObject) -> None:
    draw = data.draw
    kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    pads = draw(st.lists(st.integers(0, kernel - 1), min_size=4, max_size=4))
    height, width = draw(st.integers(kernel, 9)), draw(st.integers(kernel, 9))
    kind = draw(st.sampled_from(["MaxPool", "AveragePool"]))
    given_attributes = {"count_include_pad": draw(st.integers(0, 1))} if kind == "AveragePool" else {}
    made = node(kind, ["x"], ["y"], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads, **given_attributes)
    check(graph([made], {"x": (1, 2, height, width)}, ["y"]), {"x": floats(1, 2, height, width)}, tmp_path)


@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 2, 1]])
def test_where_maxima_were(tmp_path: Path, pads: list[int]) -> None:
    made = node("MaxPool", ["x"], ["y", "places"], kernel_shape=[3, 3], strides=[2, 2], pads=pads)
    model = graph([made], {"x": (2, 3, 7, 7)}, ["y", "places"])
    if pads == [0, 1, 2, 1]:
        with pytest.raises(GraphError, match="indices"):
            emitted(model)
    else:
        check(model, {"x": floats(2, 3, 7, 7)}, tmp_path)


@QUICK
@given(st.data())
def test_convolution(tmp_path: Path, data: st.DataObject) -> None:
    draw = data.draw
    kernel, stride, dilation, group = (draw(st.integers(1, 3)) for _ in range(4))
    pads = draw(st.lists(st.integers(0, 3), min_size=4, max_size=4))
    bias = draw(st.booleans())
    transposed = draw(st.booleans())
    constants = {"w": floats(2 * group, 2, kernel, kernel)} | ({"b": floats(2 * group)} if bias else {})
    made = node(
        "ConvTranspose" if transposed else "Conv",
        ["x", *constants],
        ["y"],
        strides=[stride] * 2,
        dilations=[dilation] * 2,
        group=group,
        pads=[min(p, kernel - 1) for p in pads] if transposed else pads,
    )
    shape = (1, 2 * group, 9, 8)
    check(graph([made], {"x": shape}, ["y"], constants), {"x": floats(*shape)}, tmp_path)


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_padding_that_is_to_be_worked_out(auto: str, tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w"], ["open"], auto_pad=auto),
        node("Conv", ["fixed", "w"], ["strided"], auto_pad=auto, strides=[3, 2]),
    ]
    model = graph(nodes, {"x": (1, 2, "H", "W"), "fixed": (1, 2, 8, 7)}, ["open", "strided"], {"w": floats(2, 2, 4, 3)})
    check(model, {"x": floats(1, 2, 9, 8), "fixed": floats(1, 2, 8, 7)}, tmp_path)
    strided = graph(
        [node("Conv", ["x", "w"], ["y"], auto_pad=auto, strides=[2, 1])], {"x": (1, 2, "H", 9)}, ["y"], {"w": floats(2, 2, 4, 3)}
    )
    if auto == "VALID":
        check(strided, {"x": floats(1, 2, 9, 9)}, tmp_path / "strided")
    else:
        with pytest.raises(GraphError, match="depends on sizes"):
            emitted(strided)


def test_layers_that_share_weights_are_one(tmp_path: Path) -> None:
    weight = {"a.weight": floats(2, 2, 3, 3)}
    nodes = [
        node("Conv", ["x", "a.weight"], ["first"], "a", pads=[1, 1, 1, 1]),
        node("Conv", ["first", "a.weight"], ["second"], "b", pads=[1, 1, 1, 1]),
        node("Conv", ["second", "a.weight"], ["third"], "c", strides=[2, 2]),
    ]
    source = check(graph(nodes, {"x": (1, 2, 6, 6)}, ["third"], weight), {"x": floats(1, 2, 6, 6)}, tmp_path)
    assert list(source.state) == ["a.weight"]
    assert "second = self.a(first)" in source.text
    assert "F.conv2d(second, self.a.weight, stride=2)" in source.text


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_recurrent_layers(tmp_path: Path, kind: str, gates: int, direction: str) -> None:
    steps, batch, inputs, hidden = 5, 2, 3, 4
    ways = 2 if direction == "bidirectional" else 1
    constants = {
        "W": floats(ways, gates * hidden, inputs),
        "R": floats(ways, gates * hidden, hidden),
        "B": floats(ways, 2 * gates * hidden),
    }
    start = {"h": floats(ways, batch, hidden)} | ({"c": floats(ways, batch, hidden)} if kind == "LSTM" else {})
    extra = {"linear_before_reset": 1} if kind == "GRU" else {}
    outputs = ["y", "last", *(["cell"] if kind == "LSTM" else [])]
    made = node(kind, ["x", "W", "R", "B", "", *start], outputs, hidden_size=hidden, direction=direction, **extra)
    values = {"x": floats(steps, batch, inputs), **start}
    source = check(graph([made], {n: v.shape for n, v in values.items()}, outputs, constants), values, tmp_path)
    assert f"nn.{kind}({inputs}, {hidden}" in source.text


def test_a_scan_is_a_loop(tmp_path: Path) -> None:
    body = helper.make_graph(
        [node("Mul", ["state", "half"], ["faded"]), node("Add", ["faded", "step"], ["next"]), node("Tanh", ["next"], ["out"])],
        "body",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, (3,)) for n in ("state", "step")],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, (3,)) for n in ("next", "out")],
        [onnx.numpy_helper.from_array(np.float32(0.5), "half")],
    )
    made = node("Scan", ["start", "x"], ["end", "outs"], body=body, num_scan_inputs=1)
    values = {"start": floats(3), "x": floats(6, 3)}
    source = check(graph([made], {"start": (3,), "x": (6, 3)}, ["end", "outs"]), values, tmp_path)
    assert "for step in range(x.shape[0]):" in source.text or "for step_2 in range(x.shape[0]):" in source.text


def test_boxes_and_regions(tmp_path: Path) -> None:
    corners = np.sort(RNG.random((2, 20, 2, 2)).astype(np.float32), axis=2).reshape(2, 20, 4)
    constants = {"most": np.array(3), "overlap": np.float32(0.3), "threshold": np.float32(0.4)}
    made = node("NonMaxSuppression", ["boxes", "scores", *constants], ["chosen"])
    values = {"boxes": corners, "scores": RNG.random((2, 3, 20)).astype(np.float32)}
    check(graph([made], {n: v.shape for n, v in values.items()}, ["chosen"], constants), values, tmp_path)
    regions = np.array([[0, 0, 0, 30, 20], [1, 8, 3, 17, 40], [0, 5, 5, 5, 5], [1, 100, 100, 200, 200]], np.float32)
    pool = node("MaxRoiPool", ["x", "rois"], ["y"], pooled_shape=[3, 2], spatial_scale=0.25)
    values = {"x": floats(2, 3, 12, 11), "rois": regions}
    check(graph([pool], {n: v.shape for n, v in values.items()}, ["y"]), values, tmp_path)
    assert ruff(tmp_path) == ""


@pytest.mark.parametrize(
    ("attributes", "sizes"),
    [
        ({"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}, (8, 10)),
        ({"mode": "nearest", "coordinate_transformation_mode": "half_pixel"}, (7, 3)),
        ({"mode": "linear", "coordinate_transformation_mode": "align_corners"}, (7, 9)),
        ({"mode": "linear", "coordinate_transformation_mode": "half_pixel"}, (8, 3)),
        ({"mode": "linear", "coordinate_transformation_mode": "asymmetric"}, (8, 10)),
        ({"mode": "cubic", "coordinate_transformation_mode": "half_pixel"}, (8, 10)),
        ({"mode": "cubic", "coordinate_transformation_mode": "asymmetric", "cubic_coeff_a": -0.5}, (9, 10)),
    ],
)
def test_resizing(tmp_path: Path, attributes: dict[str, Any], sizes: tuple[int, int]) -> None:
    constants = {"sizes": np.array([1, 2, *sizes])}
    made = node("Resize", ["x", "", "", "sizes"], ["y"], **attributes)
    check(graph([made], {"x": (1, 2, 4, 5)}, ["y"], constants), {"x": floats(1, 2, 4, 5)}, tmp_path)


# ---- open sizes ------------------------------------------------------------------------------------------------------------


def test_an_open_batch_and_a_chain_of_shapes(tmp_path: Path) -> None:
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "zero"], ["batch"], axis=0),
        node("Unsqueeze", ["batch", "zeros"], ["batches"]),
        node("Concat", ["batches", "rest"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["y"]),
        node("Transpose", ["y"], ["z"], perm=[0, 2, 1]),
        node("Flatten", ["z"], ["flat"]),
    ]
    constants = {"zero": np.array(0), "zeros": np.array([0]), "rest": np.array([4, 6])}
    model = graph(nodes, {"x": ("N", 2, 3, 4)}, ["flat", "z"], constants)
    for batch in (1, 3):
        source = check(model, {"x": floats(batch, 2, 3, 4)}, tmp_path / str(batch))
    assert "y = x.reshape(-1, 4, 6)" in source.text
    assert "shape" not in source.text.split("def forward")[1].replace("reshape", "").replace("of shape", "")


def test_sizes_that_only_running_tells(tmp_path: Path) -> None:
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Slice", ["shape", "two", "four"], ["plane"]),
        node("Mul", ["plane", "twos"], ["doubled"]),
        node("Concat", ["ones", "doubled"], ["target"], axis=0),
        node("Expand", ["y", "target"], ["z"]),
    ]
    constants = {"two": np.array([2]), "four": np.array([4]), "twos": np.array([2, 2]), "ones": np.array([1, 1])}
    model = graph(nodes, {"x": (1, 2, "H", "W"), "y": (1, 2, 1, 1)}, ["z"], constants)
    source = check(model, {"x": floats(1, 2, 3, 4), "y": floats(1, 2, 1, 1)}, tmp_path)
    assert "y.expand(-1, -1, x.shape[2] * 2, x.shape[3] * 2)" in source.text


# ---- names and literals -----------------------------------------------------------------------------------------------------

EVIL = [
    'x"]; import os; os.system("true") #',
    "'''\"\"\"\n\\",
    "__import__('os')",
    "self",
    "class",
    "forward",
    "state_dict",
    "_modules",
    "F",
    "torch",
    "0",
    "",
    "é",
    "日本",
    "a b",
    "a_b",
    "a" * 500,
    "\ud800",
]


def test_names_from_files_are_never_code(tmp_path: Path) -> None:
    nodes, constants, last = [], {}, "data\"'\n"
    for number, name in enumerate(EVIL[:-1]):
        constants[f"{name}.weight"] = floats(2, 2, 1, 1)
        nodes.append(node("Conv", [last, f"{name}.weight"], [f"{name}|{number}"], name))
        last = f"{name}|{number}"
    model = graph(nodes, {"data\"'\n": (1, 2, 3, 3)}, [last], constants)
    source = check(model, {"data\"'\n": floats(1, 2, 3, 3)}, tmp_path, 1e-4)
    assert ruff(tmp_path) == ""
    assert source.text.isascii()
    assert len(source.state) == len(constants)


@given(st.text())
def test_texts_are_literals(text: str) -> None:
    assert eval(text_literal(text)) == text


@given(st.floats(width=32, allow_nan=False))
def test_numbers_are_the_same_again(number: float) -> None:
    written = eval(float_literal(number))
    assert np.float32(written).tobytes() == np.float32(number).tobytes()
    assert np.isinf(written) or abs(written) <= float(np.finfo(np.float32).max)


@given(st.lists(st.text(), max_size=20))
def test_identifiers_are_unique_and_mean_nothing_else(names: list[str]) -> None:
    attributes, variables = attribute_names(), variable_names()
    made = [attributes.take(n) for n in names]
    assert len(set(made)) == len(made)
    for name in (*made, *(variables.take(n) for n in names)):
        assert name.isidentifier()
        assert name.isascii()
    assert not set(made) & set(dir(torch.nn.Module()))


def test_all_attributes_of_modules_are_reserved() -> None:
    assert {n for n in dir(torch.nn.Module()) if not n.startswith("_")} <= MODULE_ATTRIBUTES


WORDS = st.text("abc", min_size=1, max_size=48)


@st.composite
def statements(draw: st.DrawFn) -> str:
    words = draw(st.lists(WORDS, min_size=2, max_size=9))
    target, first, *others = words
    numbers = ", ".join(map(str, draw(st.lists(st.integers(0, 10**9), min_size=1, max_size=12))))
    kind = draw(st.sampled_from(["call", "method", "cat", "sum", "product", "targets", "slice", "return", "tuple"]))
    listed = ", ".join(others)
    return {
        "call": f"{target} = F.function({first}, {numbers}, mode='m')".replace("'", '"'),
        "method": f"{target} = {first}.reshape({numbers})",
        "cat": f"{target} = torch.cat(({first}, {listed or first}), 1)",
        "sum": f"{target} = {first} + " + " + ".join(others or ["1.0"]),
        "product": f"{target} = {first} * 2.0 + {others[0] if others else '1.0'}",
        "targets": f"{target}, {listed or 'b'} = torch.split({first}, 2, 1)",
        "slice": f"{target} = {first}[:, :, 1:2, 5:{len(first)}]",
        "return": f"return {first}",
        "tuple": f"return {first}, {listed or target}",
    }[kind]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(statements(), min_size=40, max_size=40))
def test_statements_are_laid_out_as_ruff_does(tmp_path: Path, texts: list[str]) -> None:
    lines = [line for text in texts for line in ["    def f(self):", *statement(text, 2), ""]]
    (tmp_path / "file.py").write_text("class C:\n" + "\n".join(lines).rstrip() + "\n")
    import subprocess
    import sys

    command = [sys.executable, "-m", "ruff", "format", "--isolated", "--diff", "--quiet", str(tmp_path / "file.py")]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stdout == ""


# ---- maps ----------------------------------------------------------------------------------------------------------------------


@given(st.data())
def test_layouts_in_maps(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    perm = data.draw(st.none() | st.permutations(range(len(sizes))))
    turned = [sizes[p] for p in perm] if perm else sizes
    cut = data.draw(st.integers(0, len(turned)))
    new = [int(np.prod(turned[:cut], dtype=int)), *turned[cut:]]
    axes = axes_of(sizes, perm, new)
    if axes is None:
        return
    from porter.mapping.syntax import Map, Pattern, Rule, Side, Stage, Term

    rule = Rule(Side((Term(Pattern(("a",)), axes[0]),)), Side((Term(Pattern(("b",)), axes[1]),)), "<->", axes[2])
    values = np.arange(np.prod(sizes), dtype=np.float32).reshape(sizes)
    made = apply(Map((Stage((rule,)),)), TensorStore([Tensor.from_array("a", values)]))["b"].numpy()
    assert np.array_equal(made, values.transpose(perm or range(len(sizes))).reshape(new))


def test_a_matrix_that_lies_the_other_way_round(tmp_path: Path) -> None:
    constants = {"m.weight": floats(5, 3), "b": floats(3)}
    nodes = [node("MatMul", ["x", "m.weight"], ["product"], "m"), node("Add", ["product", "b"], ["y"], "add")]
    source = check(graph(nodes, {"x": (2, 4, 5)}, ["y"], constants), {"x": floats(2, 4, 5)}, tmp_path)
    assert "y = self.m(x)" in source.text
    assert dumps(source.map) == "m.weight : a b <-> m.weight : b a\nb              <-> m.bias\n"


# ---- what is refused -------------------------------------------------------------------------------------------------------------


def test_unknown_operators_are_refused_together() -> None:
    nodes = [
        node("StringNormalizer", ["s"], ["t"]),
        node("Custom", ["x"], ["y"], domain="my.domain"),
        node("Custom", ["y"], ["z"], domain="my.domain"),
    ]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1,)), helper.make_tensor_value_info("s", TensorProto.STRING, (1,))],
        [onnx.ValueInfoProto(name="z"), onnx.ValueInfoProto(name="t")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("my.domain", 1)])
    with pytest.raises(GraphError, match=r"StringNormalizer, my.domain.Custom \(2\)") as caught:
        emitted(model)
    assert caught.value.code == "G082"


@pytest.mark.parametrize(
    "broken",
    [
        node("Conv", ["x", "w"], ["y"], pads=[1]),
        node("Conv", ["x", "w"], ["y"], strides=[0, 0]),
        node("MaxPool", ["x"], ["y"]),
        node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], pads=[-1, 0, 0, 0]),
        node("Transpose", ["w"], ["y"], perm=[9, 9, 9, 9]),
        node("Reshape", ["x", "shape"], ["y"], allowzero=1),
        node("Concat", ["x", "x"], ["y"]),
        node("Softmax", ["x"], ["y"], axis=40),
        node("Gemm", ["x", "w"], ["y"]),
        node("ConstantOfShape", ["huge"], ["y"]),
        node("LRN", ["x"], ["y"]),
        node("Slice", ["x"], ["y"]),
        node("Gather", ["x", "nothing"], ["y"]),
    ],
)
def test_broken_nodes_raise_nothing_but_our_errors(broken: onnx.NodeProto) -> None:
    constants = {"w": floats(2, 2, 3, 3), "shape": np.array([7, 7]), "huge": np.array([1 << 40, 1 << 20])}
    made = helper.make_graph(
        [broken],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 2, 5, 5))],
        [onnx.ValueInfoProto(name="y")],
        [onnx.numpy_helper.from_array(a, n) for n, a in constants.items()],
    )
    try:
        source = emitted(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)]))
    except GraphError as error:
        assert error.code in ("G080", "G083")
    else:
        compile(source.text, "model.py", "exec")


# ---- further on ------------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_the_source_can_be_exported_again(tmp_path: Path) -> None:
    constants = {"c.weight": floats(4, 3, 3, 3), "m": np.ones(4, np.float32), "z": np.zeros(4, np.float32), "f.weight": floats(5, 64)}
    nodes = [
        node("Conv", ["x", "c.weight"], ["c"], "c", pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c", "m", "z", "z", "m"], ["n"], "n"),
        node("LRN", ["n"], ["l"], "l", size=3),
        node("AveragePool", ["l"], ["p"], "p", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
        node("Flatten", ["p"], ["flat"], "flat"),
        node("Gemm", ["flat", "f.weight"], ["y"], "f", transB=1),
    ]
    model = graph(nodes, {"x": ("N", 3, 8, 8)}, ["y"], constants)
    net = load(emitted(model), tmp_path)
    x = torch.from_numpy(floats(2, 3, 8, 8))
    program = torch.export.export(net, (x,), dynamic_shapes={"x": {0: torch.export.Dim.DYNAMIC}})
    assert torch.equal(program.module()(x), net(x))
    torch.onnx.export(net, (x,), tmp_path / "again.onnx", dynamo=False, opset_version=17, input_names=["x"])
    (again,) = expected(str(tmp_path / "again.onnx"), {"x": x.numpy()})
    np.testing.assert_allclose(again, net(x).detach().numpy(), rtol=1e-4, atol=1e-5)
