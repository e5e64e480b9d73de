"""Reading ONNX: every element type in every place, held against the onnx package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import ELEMENT_TYPES, bits, field, header, model, raw, typed, unpacked, varint, wire_model

import porter
from porter.dtypes import BY_ONNX
from porter.errors import FormatError, PorterError
from porter.formats.onnx.detect import is_model
from porter.io.source import FileSource
from porter.tensor import Tensor

every_type = pytest.mark.parametrize("element_type", ELEMENT_TYPES, ids=TensorProto.DataType.Name)


def opened(tmp_path: Path, content: onnx.ModelProto | bytes) -> porter.TensorStore:
    path = tmp_path / "m.onnx"
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    return porter.open(path)


def assert_same(tensor: Tensor, proto: TensorProto) -> None:
    """Shape, type and bits agree with what the onnx package makes of `proto`."""
    expected = numpy_helper.to_array(proto)
    assert tensor.dtype.onnx == proto.data_type
    assert tensor.shape == expected.shape
    values = tensor.numpy()
    assert values.dtype == expected.dtype
    if tensor.dtype.bits < 8:
        mask = np.uint8((1 << tensor.dtype.bits) - 1)
        np.testing.assert_array_equal(values.view(np.uint8) & mask, expected.view(np.uint8) & mask)
    else:
        assert values.tobytes() == expected.tobytes()


def test_every_element_type_of_onnx_is_known() -> None:
    assert {*TensorProto.DataType.values()} - {*BY_ONNX} == {TensorProto.UNDEFINED, TensorProto.STRING}


@every_type
@pytest.mark.parametrize("shape", [(3, 5), (), (0,), (7,), (2, 0, 3)], ids=str)
def test_raw_data(element_type: int, shape: tuple[int, ...], tmp_path: Path) -> None:
    proto = raw("w", element_type, shape, 1)
    store = opened(tmp_path, model(proto))
    assert_same(store["w"], proto)
    assert store["w"].tobytes() == proto.raw_data


@every_type
@pytest.mark.parametrize("shape", [(3, 5), (), (0,), (7,), (33, 31)], ids=str)
def test_typed_fields(element_type: int, shape: tuple[int, ...], tmp_path: Path) -> None:
    proto = typed("w", element_type, shape, 2)
    store = opened(tmp_path, model(proto))
    assert store["w"].tobytes() == raw("w", element_type, shape, 2).raw_data
    if element_type not in (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.COMPLEX64, TensorProto.COMPLEX128):
        assert_same(store["w"], proto)  # floats pass through Python there, which quietens NaNs


@every_type
def test_typed_fields_element_by_element(element_type: int, tmp_path: Path) -> None:
    """Old encoders put a tag before each value."""
    proto = typed("w", element_type, (3, 5), 3)
    kinds = {
        "float_data": (4, 5, 4),
        "double_data": (10, 1, 8),
        "int32_data": (5, 0, 0),
        "int64_data": (7, 0, 0),
        "uint64_data": (11, 0, 0),
    }
    name, (number, wire, width) = next((n, k) for n, k in kinds.items() if getattr(proto, n))
    if width:
        data = raw("w", element_type, (3, 5), 3).raw_data
        elements = [data[i : i + width] for i in range(0, len(data), width)]
    else:
        elements = [varint(value & (1 << 64) - 1) for value in getattr(proto, name)]
    store = opened(tmp_path, wire_model(header("w", element_type, 3, 5) + unpacked(number, wire, *elements)))
    assert store["w"].tobytes() == raw("w", element_type, (3, 5), 3).raw_data


def test_golden_bytes(tmp_path: Path) -> None:
    data = bytes.fromhex(
        "0808"  # ir_version 8
        "3a47"  # graph, 71 bytes
        "120167"  # its name, "g"
        "2a13 0802 0801 1001 420161 4a08 0000803f010000ff"  # a: float32 [2, 1] in raw_data
        "2a0e 0803 1007 420162 3a05 01ac02ff7f"  # b: int64 [3] in int64_data: 1, 300, 16383
        "2a0f 0802 1003 420163 2a06 7f80ffffff0f"  # c: int8 [2] in int32_data: 127, and -128 in five bytes
        "2a0c 0802 0801 1016 420164 2a0121"  # d: int4 [2, 1] in int32_data: 0x21
        "42021011"  # opset_import 17
    )
    store = opened(tmp_path, data)
    assert store["a"].tobytes() == bytes.fromhex("0000803f010000ff")
    assert store["a"].shape == (2, 1)
    assert store["b"].numpy().tolist() == [1, 300, 16383]
    assert store["c"].numpy().tolist() == [127, -128]
    assert store["d"].tobytes() == b"\x21"
    assert store["d"].numpy().astype(int).tolist() == [[1], [2]]
    assert store["a"].location is not None
    assert data[store["a"].location.offset :][:8] == store["a"].tobytes()


def test_values_in_several_packed_pieces(tmp_path: Path) -> None:
    floats = np.arange(6, dtype="<f4").tobytes()
    ints = b"".join(varint(n) for n in (5, 300, 70000))
    store = opened(
        tmp_path,
        wire_model(
            header("f", 1, 6) + field(4, floats[:8]) + field(4, floats[8:]),
            header("i", 7, 3) + field(7, ints[:1]) + field(7, ints[1:]),
        ),
    )
    assert store["f"].numpy().tolist() == [0, 1, 2, 3, 4, 5]
    assert store["i"].numpy().tolist() == [5, 300, 70000]


def test_a_large_typed_field_streams(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-(1 << 62), 1 << 62, 100_000)
    values[::3] = np.arange(len(values[::3]))
    store = opened(tmp_path, model(helper.make_tensor("w", TensorProto.INT64, values.shape, values)))
    assert store["w"].tobytes() == values.astype("<i8").tobytes()
    assert b"".join(bytes(c) for c in store["w"].chunks(1000)) == values.astype("<i8").tobytes()
    assert max(len(c) for c in store["w"].chunks(1000)) <= 1000


def test_constants_of_every_form(tmp_path: Path) -> None:
    big = numpy_helper.from_array(np.arange(1000, dtype=np.float32), "inner name")
    forms = {
        "t": {"value": numpy_helper.from_array(np.float16([[1, 2]]))},
        "big": {"value": big},
        "f": {"value_float": 0.1},
        "fs": {"value_floats": [1.5, -2.5, 3.0]},
        "i": {"value_int": -7},
        "is": {"value_ints": [1, -1, 1 << 40]},
        "s": {"value_string": "text"},
        "ss": {"value_strings": ["a", "b"]},
        "many": {"value_ints": list(range(-600, 600))},
        "manyf": {"value_floats": [0.5 * n for n in range(500)]},
    }
    nodes = [helper.make_node("Constant", [], [name], name=f"node_{name}", **value) for name, value in forms.items()]
    store = opened(tmp_path, model(nodes=nodes))
    assert list(store) == ["t", "big", "f", "fs", "i", "is", "many", "manyf"]
    assert store["t"].numpy().tolist() == [[1, 2]]
    assert store["t"].attributes == {"onnx.origin": "constant", "onnx.node": "node_t", "onnx.attribute": "value"}
    assert store["big"].numpy().tolist() == list(range(1000))
    assert (store["f"].shape, store["f"].dtype.name, store["f"].numpy()) == ((), "float32", np.float32(0.1))
    assert store["fs"].numpy().tolist() == [1.5, -2.5, 3.0]
    assert (store["i"].shape, store["i"].dtype.name, int(store["i"].numpy())) == ((), "int64", -7)
    assert store["is"].numpy().tolist() == [1, -1, 1 << 40]
    assert store["many"].numpy().tolist() == list(range(-600, 600))
    assert store["manyf"].numpy().tolist() == [0.5 * n for n in range(500)]
    skipped = [n.message for n in store.notices if n.kind == "skipped"]
    assert len(skipped) == 2
    assert "'s'" in skipped[0]


def test_constants_whose_encoder_left_zeros_out(tmp_path: Path) -> None:
    def constant(name: bytes, kind: int) -> bytes:
        return field(1, field(2, name) + field(4, b"Constant") + field(5, field(1, name) + b"\xa0\x01" + bytes([kind])))

    nodes = constant(b"value_float", 1) + constant(b"value_int", 2) + constant(b"value_floats", 6) + constant(b"value_ints", 7)
    store = opened(tmp_path, b"\x08\x08" + field(7, nodes))
    assert [(t.dtype.name, t.shape, t.tobytes()) for t in store.values()] == [
        ("float32", (), bytes(4)),
        ("int64", (), bytes(8)),
        ("float32", (0,), b""),
        ("int64", (0,), b""),
    ]
    with pytest.raises(FormatError) as caught:
        opened(tmp_path, b"\x08\x08" + field(7, constant(b"value_float", 2)))
    assert caught.value.code == "F302"
    untyped = field(1, field(2, b"c") + field(4, b"Constant") + field(5, field(1, b"value_int")))
    with pytest.raises(FormatError) as caught:
        opened(tmp_path, b"\x08\x08" + field(7, untyped))
    assert caught.value.code == "F302"


def test_a_signalling_nan_in_a_constant_keeps_its_bits(tmp_path: Path) -> None:
    node = helper.make_node("Constant", [], ["c"], value_float=1.0)
    data = model(nodes=[node]).SerializeToString().replace(b"\x15\x00\x00\x80\x3f", b"\x15\x01\x00\xa0\x7f")
    assert opened(tmp_path, data)["c"].tobytes() == b"\x01\x00\xa0\x7f"


def _branch(name: str, weight: str, value: float) -> onnx.GraphProto:
    w = numpy_helper.from_array(np.float32([value]), weight)
    c = helper.make_node("Constant", [], [f"{weight}_c"], value=numpy_helper.from_array(np.float32([value, value])))
    out = helper.make_node("Add", [weight, f"{weight}_c"], [f"{name}_out"])
    return helper.make_graph([c, out], name, [], [helper.make_tensor_value_info(f"{name}_out", 1, [2])], [w])


def test_subgraphs(tmp_path: Path) -> None:
    node = helper.make_node("If", ["cond"], ["y"], name="choose", then_branch=_branch("a", "W", 1), else_branch=_branch("b", "W", 2))
    other = helper.make_node("If", ["cond"], ["z"], then_branch=_branch("c", "V", 3), else_branch=_branch("d", "top", 4))
    store = opened(tmp_path, model(raw("top", 1, (2,)), nodes=[node, other]))
    assert list(store) == [
        "top",
        "choose.else_branch.W",
        "choose.else_branch.W_c",
        "choose.then_branch.W",
        "choose.then_branch.W_c",
        "z.else_branch.top",
        "top_c",
        "V",
        "V_c",
    ]
    assert store["choose.else_branch.W"].numpy().tolist() == [2]
    assert store["choose.else_branch.W"].attributes["onnx.scope"] == ["choose", "else_branch"]
    assert store["choose.else_branch.W"].attributes["onnx.name"] == "W"
    assert store["V"].attributes["onnx.scope"] == ["z", "then_branch"]


def test_names_that_still_clash_are_numbered_and_said(tmp_path: Path) -> None:
    nodes = [helper.make_node("If", ["cond"], ["y"], name="same", then_branch=_branch("a", "W", i)) for i in range(3)]
    store = opened(tmp_path, model(nodes=nodes))
    assert [n for n in store if "_c" not in n] == ["same.then_branch.W", "same.then_branch.W#2", "same.then_branch.W#3"]
    assert next(n.tensor for n in store.notices if n.kind == "changed") == "same.then_branch.W#2"


def test_functions_and_training_graphs(tmp_path: Path) -> None:
    def function(name: str, value: float) -> onnx.FunctionProto:
        constant = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.float32([value])))
        add = helper.make_node("Add", ["x", "k"], ["y"])
        return helper.make_function("my.domain", name, ["x"], ["y"], [constant, add], [helper.make_opsetid("", 17)])

    proto = model(raw("w", 1, (2,)))
    proto.functions.extend([function("one", 1), function("two", 2)])
    training = proto.training_info.add()
    training.algorithm.name = "step"
    training.algorithm.initializer.append(numpy_helper.from_array(np.float32([0.1]), "rate"))
    store = opened(tmp_path, proto)
    assert list(store) == ["w", "my.domain::one.k", "my.domain::two.k", "rate"]
    assert store["my.domain::two.k"].numpy().tolist() == [2]
    assert store["rate"].attributes["onnx.scope"] == ["training_info[0]", "algorithm"]


def test_a_function_parameter_is_no_constant(tmp_path: Path) -> None:
    node = helper.make_node("Constant", [], ["k"])
    attribute = node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR, ref_attr_name="given")
    assert not attribute.HasField("t")
    proto = model()
    proto.functions.append(helper.make_function("d", "f", [], ["k"], [node], [helper.make_opsetid("", 17)], ["given"]))
    assert list(opened(tmp_path, proto)) == []


def test_tensors_in_other_attributes(tmp_path: Path) -> None:
    fill = helper.make_node("ConstantOfShape", ["s"], ["y"], value=numpy_helper.from_array(np.float32([3])))
    custom = helper.make_node("Mine", ["x"], ["z"], domain="d", parts=[raw("", 1, (2,), 1), raw("", 10, (3,), 2)])
    store = opened(tmp_path, model(nodes=[fill, custom]))
    assert list(store) == ["y.value", "z.parts[0]", "z.parts[1]"]
    assert store["z.parts[1]"].tobytes() == bits(BY_ONNX[10], 3, 2)


def test_learned_lists_are_said(tmp_path: Path) -> None:
    node = helper.make_node("LinearRegressor", ["x"], ["y"], name="lin", domain="ai.onnx.ml", coefficients=[1.0, 2.0], intercepts=[0.5])
    store = opened(tmp_path, model(nodes=[node]))
    assert [n.message for n in store.notices if n.kind == "skipped"] == [
        "LinearRegressor node 'lin' keeps numbers in lists, not in tensors: coefficients, intercepts"
    ]


def test_sparse_initializers_and_constants(tmp_path: Path) -> None:
    values = numpy_helper.from_array(np.float32([1, 2, 3]), "S")
    indices = numpy_helper.from_array(np.int64([2, 3, 5]))
    sparse = helper.make_sparse_tensor(values, indices, [3, 4])
    node = helper.make_node(
        "Constant",
        [],
        ["C"],
        sparse_value=helper.make_sparse_tensor(values, numpy_helper.from_array(np.int64([[0, 2], [0, 3], [1, 1]])), [3, 4]),
    )
    proto = model(raw("w", 1, (2,)), nodes=[node], sparse_initializer=[sparse])
    onnx.checker.check_model(proto)
    store = opened(tmp_path, proto)
    assert list(store) == ["w", "S.values", "S.indices", "C.values", "C.indices"]
    assert store["S.values"].numpy().tolist() == [1, 2, 3]
    assert store["S.indices"].numpy().tolist() == [2, 3, 5]
    assert store["S.indices"].attributes == {"onnx.origin": "sparse_indices", "onnx.dense_shape": [3, 4]}
    assert store["C.indices"].shape == (3, 2)


def test_strings_are_skipped_and_said(tmp_path: Path) -> None:
    words = helper.make_tensor("words", TensorProto.STRING, [2], [b"a", b"b"])
    store = opened(tmp_path, model(words, raw("w", 1, (2,))))
    assert list(store) == ["w"]
    assert [(n.kind, n.tensor) for n in store.notices] == [("skipped", "words")]


def test_what_the_model_says_about_itself(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    proto = model(raw("w", 1, (2,)), nodes=[node])
    helper.set_model_props(proto, {"classes": "cat,dog", "stride": "32"})
    proto.model_version, proto.domain = 3, "org.example"
    store = opened(tmp_path, proto)
    assert store.metadata["classes"] == "cat,dog"
    assert store.metadata["onnx.ir_version"] == proto.ir_version
    assert store.metadata["onnx.opset_import"] == {"": proto.opset_import[0].version}
    assert (store.metadata["onnx.producer_name"], store.metadata["onnx.model_version"]) == ("somebody", 3)
    assert store.metadata["onnx.nodes"] == 1
    assert store.source is not None
    assert (store.source.format, store.source.dialect) == ("onnx", "model")


def test_segments_are_joined_where_they_fit(tmp_path: Path) -> None:
    def segment(begin: int, end: int, data: bytes) -> bytes:
        return header("w", 1, 2, 3) + field(3, b"\x08" + varint(begin) + b"\x10" + varint(end)) + field(9, data)

    data = np.arange(6, dtype="<f4").tobytes()
    store = opened(tmp_path, wire_model(segment(4, 6, data[16:]), header("v", 1, 1) + field(9, b"abcd"), segment(0, 4, data[:16])))
    assert list(store) == ["w", "v"]
    assert store["w"].numpy().tolist() == [[0, 1, 2], [3, 4, 5]]
    for parts in ([segment(0, 4, data[:16])], [segment(0, 4, data[:16]), segment(3, 6, data[12:])], [segment(0, 6, data[:16])]):
        with pytest.raises(FormatError) as caught:
            opened(tmp_path, wire_model(*parts))
        assert caught.value.code == "F307"


def test_a_name_that_is_not_utf_8_is_kept(tmp_path: Path) -> None:
    data = wire_model(header("w", 1, 1).replace(b"w", b"\xff") + field(9, b"abcd"))
    (name,) = opened(tmp_path, data)
    assert name.encode("utf-8", "surrogateescape") == b"\xff"


@pytest.mark.parametrize(
    ("tensor", "code"),
    [
        (header("w", 1, 2) + field(9, b"abc"), "F003"),
        (header("w", 1, 2) + field(4, b"abcd"), "F003"),
        (header("w", 1, 2), "F302"),
        (header("w", 1, 1) + field(9, b"abcd") + field(4, b"abcd"), "F302"),
        (header("w", 1, 1) + field(9, b"abcd") + field(9, b"abcd"), "F302"),
        (header("w", 1, 1) + field(10, b"abcdabcd"), "F302"),
        (header("w", 7, 2) + field(7, b"\x01") + unpacked(7, 0, b"\x02"), "F302"),
        (header("w", 7, 3) + field(7, b"\x01\x02"), "F303"),
        (header("w", 7, 1) + field(7, b"\x01" * 11), "F303"),
        (header("w", 7, 1) + field(7, b"\x01\x02"), "F303"),
        (header("w", 7, 2) + field(7, b"\x01\x82\x83"), "F012"),
        (header("w", 7, 2) + field(7, b"\xff" * 11 + b"\x01\x01"), "F012"),
        (header("w", 2, 1) + field(5, b"\xac\x02"), "F304"),
        (header("w", 3, 1) + field(5, b"\xac\x02"), "F304"),
        (header("w", 27, 1) + field(5, b"\x40"), "F304"),
        (header("w", 12, 1) + field(11, b"\x80\x80\x80\x80\x10"), "F304"),
        (header("w", 6, 1) + field(5, b"\x80\x80\x80\x80\x10"), "F304"),
        (header("w", 22, 9) + field(5, b"\x01\x02"), "F303"),
        (header("w", 0, 1) + field(9, b"abcd"), "F305"),
        (header("w", 99, 1) + field(9, b"abcd"), "F305"),
        (header("w", 1, (1 << 64) - 1) + field(9, b"abcd"), "F002"),
        (header("w", 1, *[1 << 62] * 60) + field(9, b"abcd"), "F003"),
        (header("w", 1, *[1] * 65) + field(9, b"abcd"), "F002"),
        (header("w", 1, 0) + field(9, b"abcd"), "F003"),
    ],
)
def test_tensors_that_contradict_themselves(tensor: bytes, code: str, tmp_path: Path) -> None:
    with pytest.raises(PorterError) as caught:
        opened(tmp_path, wire_model(tensor))["w"].tobytes()
    assert (caught.value.code, caught.value.where.tensor) == (code, "w")


def test_two_initializers_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(FormatError) as caught:
        opened(tmp_path, model(raw("w", 1, (2,)), raw("w", 1, (2,))))
    assert caught.value.code == "F004"


def test_real_models_agree_with_the_onnx_package(shared: Path) -> None:
    files = sorted((shared / "real").rglob("*.onnx"))
    assert len(files) >= 7
    for path in files:
        proto, store = onnx.load(path), porter.open(path)
        for tensor in proto.graph.initializer:
            assert_same(store[tensor.name], tensor)
        for node in proto.graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    name = node.output[0] if node.op_type == "Constant" else f"{node.name or node.output[0]}.{attribute.name}"
                    assert_same(store[name], attribute.t)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<\n   ir_version: 8,\n   opset_import: []\n>\n", "as text"),
        (b'{"irVersion":"8","graph":{}}', "as JSON"),
        (b"ir_version: 8\ngraph {\n}\n", "as text"),
        (b"\x18\x00\x00\x00ORTM" + bytes(40), ".ort"),
    ],
)
def test_other_forms_of_onnx_are_named(data: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=message):
        opened(tmp_path, data)


@pytest.mark.parametrize(
    "data",
    [
        field(1, b"LeNet") + field(100, field(1, b"conv1") + field(7, b"abcd")),
        field(1, b"LeNet") + field(2, field(1, field(1, b"conv1"))),
        b"\x08\x10" + field(2, b"solver.caffemodel") + field(3, b""),
        b"\x08\x05" + field(2, field(1, b"description")) + field(500, field(1, b"layer")),
        b"\x08\x08",
        bytes(64),
        b"\x08\x08\x3a\x04\xff\xff\xff\xff",
        np.random.default_rng(0).bytes(4096),
    ],
    ids=["caffe-v2", "caffe-v1", "solverstate", "coreml", "no-graph", "zeros", "no-graph-inside", "random"],
)
def test_other_protobuf_files_are_not_taken_for_onnx(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    assert not is_model(FileSource(path))


def test_fields_in_any_order_are_recognised(tmp_path: Path) -> None:
    graph = field(7, field(2, b"g") + field(5, header("w", 1, 1) + field(9, b"abcd")))
    for data in (graph + b"\x08\x08", field(14, field(1, b"k") + field(2, b"v" * 5000)) + b"\x08\x08" + graph):
        assert list(opened(tmp_path, data)) == ["w"]


def test_reading_imports_no_framework(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    node = helper.make_node("Constant", [], ["c"], value_ints=[1, 2])
    path.write_bytes(model(raw("w", 1, (20, 30)), nodes=[node]).SerializeToString())
    code = (
        f"import sys, porter; porter.open({str(path)!r}); print([m for m in ('onnx', 'numpy', 'torch', 'ml_dtypes') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
