"""`into`: the values of a model replaced, and nothing else of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import ELEMENT_TYPES, bits, field, header, model, raw, typed, unpacked, varint, wire_model

import porter
from porter.dtypes import BY_ONNX
from porter.errors import FormatError, LossError, PorterError, UsageError
from porter.formats.onnx import into
from porter.store import TensorStore
from porter.tensor import BytesPayload, Tensor, TensorSpec

every_type = pytest.mark.parametrize("element_type", ELEMENT_TYPES, ids=TensorProto.DataType.Name)


def new_values(store: TensorStore, seed: int = 100) -> TensorStore:
    """Other random bits for every tensor of `store`."""
    return TensorStore(
        Tensor(TensorSpec(t.name, t.dtype, t.shape), BytesPayload.of(bits(t.dtype, t.size, seed + i))) for i, t in enumerate(store.values())
    )


def written(tmp_path: Path, content: onnx.ModelProto | bytes) -> Path:
    path = tmp_path / "m.onnx"
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    return path


@every_type
@pytest.mark.parametrize("make", [raw, typed])
def test_a_new_value_lies_where_the_old_one_did(element_type: int, make: Any, tmp_path: Path) -> None:
    """The result is, byte for byte, the model built with the new values from the start."""
    seeds = (1, 2)
    old, new = (model(make("w", element_type, (5, 7), s), raw("kept", 1, (3,))) for s in seeds)
    path = written(tmp_path, old)
    store = TensorStore([Tensor(TensorSpec("w", BY_ONNX[element_type], (5, 7)), BytesPayload.of(bits(BY_ONNX[element_type], 35, 2)))])
    report = porter.save(store, tmp_path / "out.onnx", into=path)
    assert (tmp_path / "out.onnx").read_bytes() == new.SerializeToString()
    assert path.read_bytes() == old.SerializeToString()
    assert ["'kept'" in n.message for n in report.notices] == [True]


@every_type
def test_values_that_were_not_packed_stay_so(element_type: int, tmp_path: Path) -> None:
    def build(seed: int) -> bytes:
        proto = typed("w", element_type, (5, 7), seed)
        data = raw("w", element_type, (5, 7), seed).raw_data
        if proto.float_data:
            body = unpacked(4, 5, *(data[i : i + 4] for i in range(0, len(data), 4)))
        elif proto.double_data:
            body = unpacked(10, 1, *(data[i : i + 8] for i in range(0, len(data), 8)))
        else:
            number, values = next((n, v) for n, v in ((5, proto.int32_data), (7, proto.int64_data), (11, proto.uint64_data)) if v)
            body = unpacked(number, 0, *(varint(v & (1 << 64) - 1) for v in values))
        return wire_model(header("w", element_type, 5, 7) + body + field(12, b"documented"))

    path = written(tmp_path, build(1))
    dtype = BY_ONNX[element_type]
    store = TensorStore([Tensor(TensorSpec("w", dtype, (5, 7)), BytesPayload.of(bits(dtype, 35, 2)))])
    porter.save(store, tmp_path / "out.onnx", into=path)
    assert (tmp_path / "out.onnx").read_bytes() == build(2)


def test_values_in_pieces_become_one(tmp_path: Path) -> None:
    pieces = header("w", 7, 3) + field(7, b"\x01") + field(7, b"\x02\x03") + field(12, b"doc")
    path = written(tmp_path, wire_model(pieces))
    porter.save(TensorStore([Tensor.from_array("w", np.int64([300, -1, 5]))]), tmp_path / "out.onnx", into=path)
    ints = b"\xac\x02" + b"\xff" * 9 + b"\x01\x05"
    assert (tmp_path / "out.onnx").read_bytes() == wire_model(header("w", 7, 3) + field(7, ints) + field(12, b"doc"))


def constants(scale: float) -> list[onnx.NodeProto]:
    forms = {
        "t": {"value": numpy_helper.from_array(np.float16([[1, 2]]) * np.float16(scale))},
        "f": {"value_float": 0.5 * scale},
        "fs": {"value_floats": [1.5 * scale, -2.5, 3.0]},
        "i": {"value_int": int(-7 * scale)},
        "is": {"value_ints": [1, int(-1000 * scale), 1 << 40]},
    }
    return [helper.make_node("Constant", [], [name], doc_string="behind", **value) for name, value in forms.items()]


def branch(name: str, value: float) -> onnx.GraphProto:
    out = helper.make_node("Add", ["W", "W"], [f"{name}_out"])
    info = helper.make_tensor_value_info(f"{name}_out", 1, [2])
    return helper.make_graph([out], name, [], [info], [numpy_helper.from_array(np.float32([value, value]), "W")])


def everything(scale: float) -> onnx.ModelProto:
    choose = helper.make_node("If", ["cond"], ["y"], then_branch=branch("a", scale), else_branch=branch("b", 3 * scale))
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.float32([scale, 2]), "S"), numpy_helper.from_array(np.int64([0, int(3 * scale)])), [9]
    )
    proto = model(raw("w", 1, (30, 2), int(scale)), nodes=[*constants(scale), choose], sparse_initializer=[sparse])
    body = [helper.make_node("Constant", [], ["k"], value_float=float(scale)), helper.make_node("Add", ["x", "k"], ["z"])]
    proto.functions.append(helper.make_function("d", "f", ["x"], ["z"], body, [helper.make_opsetid("", 17)]))
    training = proto.training_info.add()
    training.initialization.initializer.append(numpy_helper.from_array(np.float64([scale]), "rate"))
    return proto


def test_constants_subgraphs_functions_and_all(tmp_path: Path) -> None:
    path = written(tmp_path, everything(1))
    other = tmp_path / "other.onnx"
    other.write_bytes(everything(2).SerializeToString())
    report = porter.save(porter.open(other), tmp_path / "out.onnx", into=path)
    assert onnx.load(tmp_path / "out.onnx") == everything(2)
    assert (tmp_path / "out.onnx").read_bytes() == everything(2).SerializeToString()
    assert report.tensors == len(porter.open(path))
    assert not any("stay as they are" in n.message for n in report.notices)


def test_the_same_values_give_the_same_file(tmp_path: Path, shared: Path) -> None:
    for path in sorted((shared / "real").rglob("*.onnx")):
        porter.save(porter.open(path), tmp_path / "out.onnx", into=path, overwrite=True)
        assert (tmp_path / "out.onnx").read_bytes() == path.read_bytes()


def test_real_models_with_new_values(tmp_path: Path, shared: Path) -> None:
    """Equal to what setting the values with the onnx package gives, wherever it keeps them."""
    for path in sorted((shared / "real").rglob("*.onnx")):
        store, proto = porter.open(path), onnx.load(path)
        rng = np.random.default_rng(1)
        values = TensorStore(Tensor.from_array(t.name, rng.integers(0, 100, t.shape).astype(t.dtype.numpy())) for t in store.values())
        porter.save(values, tmp_path / "out.onnx", into=path, overwrite=True)
        tensors = {i.name: i for i in proto.graph.initializer}
        for node in proto.graph.node:
            tensors |= {
                node.output[0] if node.op_type == "Constant" else f"{node.name or node.output[0]}.{a.name}": a.t
                for a in node.attribute
                if a.HasField("t")
            }
        assert tensors.keys() == values.keys()
        for name, tensor in tensors.items():
            fields = {f.name for f, _ in tensor.ListFields()} & {"raw_data", "float_data", "int64_data", "int32_data", "double_data"}
            for key in fields:
                if key == "raw_data":
                    tensor.raw_data = values[name].tobytes()
                else:
                    getattr(tensor, key)[:] = values[name].numpy().ravel().tolist()
        assert onnx.load(tmp_path / "out.onnx") == proto, path.name


def test_onnxruntime_computes_with_the_new_values(tmp_path: Path, shared: Path) -> None:
    path = shared / "real" / "yunet" / "yunet_n_320_320.onnx"
    store, proto = porter.open(path), onnx.load(path)
    floats = [t for t in store.values() if t.dtype.name == "float32" and t.size > 8]
    values = TensorStore(Tensor.from_array(t.name, t.numpy() * np.float32(0.5)) for t in floats)
    porter.save(values, tmp_path / "ours.onnx", into=path)
    for tensor in proto.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(numpy_helper.from_array(values[tensor.name].numpy(), tensor.name))
    onnx.save(proto, tmp_path / "theirs.onnx")
    image = np.random.default_rng(0).random((1, 3, 320, 320), np.float32) * 255

    def outputs(model_path: Path) -> list[Any]:
        session = onnxruntime.InferenceSession(str(model_path), providers=["CPUExecutionProvider"])
        return list(session.run(None, {session.get_inputs()[0].name: image}))

    ours, theirs, before = outputs(tmp_path / "ours.onnx"), outputs(tmp_path / "theirs.onnx"), outputs(path)
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(ours, before, strict=True))


def external_model(folder: Path) -> Path:
    tensors = [raw(f"w{i}", TensorProto.FLOAT, (20 + i, 30), i) for i in range(4)]
    path = folder / "m.onnx"
    onnx.save(model(*tensors, raw("tiny", 1, (2,))), path, save_as_external_data=True, location="m.bin", size_threshold=500)
    return path


def test_external_data_is_written_anew(tmp_path: Path) -> None:
    path = external_model(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    store = porter.open(path)
    values = new_values(TensorStore([store["w1"], store["tiny"]]))
    report = porter.save(values, tmp_path / "out.onnx", into=path)
    assert report.paths == (str(tmp_path / "out.onnx"), str(tmp_path / "out.onnx.data"))
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    onnx.checker.check_model(str(tmp_path / "out.onnx"))
    proto = onnx.load(tmp_path / "out.onnx")
    for tensor in proto.graph.initializer:
        expected = values.get(tensor.name) or store[tensor.name]
        assert tensor.raw_data == expected.tobytes()
    assert any(n.kind == "changed" for n in report.notices)
    (tmp_path / "m.bin").unlink()
    assert porter.open(tmp_path / "out.onnx")["w1"].tobytes() == values["w1"].tobytes()


def test_external_data_onto_itself(tmp_path: Path) -> None:
    path = external_model(tmp_path)
    os.rename(tmp_path / "m.bin", tmp_path / "m.onnx.data")
    path.write_bytes(path.read_bytes().replace(b"\x0a\x08location\x12\x05m.bin", b"\x0a\x08location\x12\x05m.bin"))
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            entry.value = entry.value.replace("m.bin", "m.onnx.data")
    path.write_bytes(proto.SerializeToString())
    store = porter.open(path)
    digest = store.digest()
    with pytest.raises(PorterError) as caught:
        porter.save(store, tmp_path / "n.onnx", into=tmp_path / "nowhere.onnx")
    assert caught.value.code == "I001"
    porter.save(store, path, into=path, overwrite=True)
    assert porter.open(path).digest() == digest


def test_shared_ranges_stay_shared(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bits(BY_ONNX[1], 100, 1))
    protos = []
    for name in ("a", "b"):
        proto = TensorProto(name=name, data_type=1, dims=[100], data_location=TensorProto.EXTERNAL)
        proto.external_data.add(key="location", value="w.bin")
        protos.append(proto)
    path = written(tmp_path, model(*protos))
    porter.save(TensorStore(), tmp_path / "out.onnx", into=path)
    assert os.path.getsize(tmp_path / "out.onnx.data") == 400
    assert porter.open(tmp_path / "out.onnx").ties == {"b": "a"}
    other = new_values(TensorStore([porter.open(path)["b"]]))
    porter.save(other, tmp_path / "out.onnx", into=path, overwrite=True)
    back = porter.open(tmp_path / "out.onnx")
    assert not back.ties
    assert back["a"].tobytes() == bits(BY_ONNX[1], 100, 1)
    assert back["b"].tobytes() == other["b"].tobytes()


@pytest.mark.parametrize(
    ("tensors", "code", "said"),
    [
        ([Tensor.from_array("conv.weigth", np.float32([1, 2]))], "U301", "did you mean 'conv.weight'"),
        ([Tensor.from_array(f"x{i}", np.float32([1])) for i in range(9)], "U301", "and 6 more"),
        ([Tensor.from_array("conv.weight", np.float64([1, 2]))], "U302", "float32 [2] here, the source float64 [2]"),
        ([Tensor.from_array("conv.weight", np.float32([[1, 2]]))], "U302", "[1, 2]"),
    ],
    ids=["name", "names", "type", "shape"],
)
def test_what_does_not_fit_is_refused(tensors: list[Tensor], code: str, said: str, tmp_path: Path) -> None:
    path = written(tmp_path, model(raw("conv.weight", 1, (2,))))
    with pytest.raises(UsageError) as caught:
        porter.save(TensorStore(tensors), tmp_path / "out.onnx", into=path)
    assert caught.value.code == code
    assert said in caught.value.message
    assert caught.value.where.tensor == tensors[0].name
    assert caught.value.hint
    assert os.listdir(tmp_path) == ["m.onnx"]


def test_segments_and_scattered_messages_are_refused(tmp_path: Path) -> None:
    segment = header("w", 1, 1) + field(3, b"\x08\x00\x10\x01") + field(9, b"abcd")
    path = written(tmp_path, wire_model(segment))
    store = TensorStore([Tensor.from_array("w", np.float32([1]))])
    with pytest.raises(UsageError) as caught:
        porter.save(store, tmp_path / "out.onnx", into=path)
    assert caught.value.code == "U303"
    half = field(5, header("", 7, 2) + unpacked(7, 0, b"\x01")), field(5, unpacked(7, 0, b"\x02"))
    constant = field(2, b"c") + field(4, b"Constant") + field(5, field(1, b"value") + half[0] + half[1] + b"\xa0\x01\x04")
    path = written(tmp_path, b"\x08\x08" + field(7, field(1, constant)))
    assert porter.open(path)["c"].numpy().tolist() == [1, 2]
    with pytest.raises(UsageError) as caught:
        porter.save(TensorStore([Tensor.from_array("c", np.int64([3, 4]))]), tmp_path / "out.onnx", into=path)
    assert caught.value.code == "U303"


def test_a_model_that_would_pass_2_gb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, model(helper.make_tensor("w", TensorProto.INT64, [100], [1] * 100)))
    monkeypatch.setattr(into, "LIMIT", 1000)
    with pytest.raises(LossError) as caught:
        porter.save(TensorStore([Tensor.from_array("w", np.full(100, -1))]), tmp_path / "out.onnx", into=path)
    assert caught.value.code == "L303"
    assert os.listdir(tmp_path) == ["m.onnx"]


def test_a_broken_model_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, b"\x08\x08\x3a\x7f\x00")
    with pytest.raises(FormatError) as caught:
        porter.save(TensorStore(), tmp_path / "out.onnx", into=path)
    assert caught.value.where.path == str(path)


def test_empty_tensors_have_nothing_to_replace(tmp_path: Path) -> None:
    path = written(tmp_path, model(raw("none", 1, (0, 3)), TensorProto(name="bare", data_type=7, dims=[0])))
    porter.save(porter.open(path), tmp_path / "out.onnx", into=path)
    assert (tmp_path / "out.onnx").read_bytes() == path.read_bytes()


def test_onto_itself(tmp_path: Path) -> None:
    path = written(tmp_path, model(raw("w", 1, (300, 300)), raw("v", 1, (2,))))
    store = porter.open(path)
    digest = store.digest()
    porter.save(store, path, into=path, overwrite=True)
    assert porter.open(path).digest() == digest


def test_what_is_not_a_value_stays_behind_and_is_said(tmp_path: Path) -> None:
    path = written(tmp_path, model(raw("w", 1, (2,))))
    spec = TensorSpec("w", BY_ONNX[1], (2,), "O", "bias")
    store = TensorStore([Tensor(spec, BytesPayload.of(bytes(8)))])
    store.metadata["epoch"] = "3"
    store.attachments["caffe.net"] = b"net"
    report = porter.save(store, tmp_path / "out.onnx", into=path)
    assert [loss.kind for loss in report.losses] == ["description", "metadata", "attachment"]


def test_what_the_model_says_itself_is_not_lost(tmp_path: Path) -> None:
    proto = everything(1)
    helper.set_model_props(proto, {"classes": "cat,dog"})
    path = written(tmp_path, proto)
    assert porter.save(porter.open(path), tmp_path / "out.onnx", into=path).losses == ()
