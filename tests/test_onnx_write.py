"""Models of nothing but weights: valid, and what the onnx package and onnxruntime make of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper
from onnx_models import ELEMENT_TYPES, bits

import porter
from porter import manifest
from porter.dtypes import BY_ONNX, DTYPES, FLOAT32
from porter.errors import LossError, PorterError
from porter.formats.onnx import weights_model
from porter.store import TensorStore
from porter.tensor import BytesPayload, Tensor, TensorSpec


def tensor(name: str, dtype: str = "float32", shape: tuple[int, ...] = (2, 3), seed: int = 0) -> Tensor:
    kind = DTYPES[dtype]
    return Tensor(TensorSpec(name, kind, shape), BytesPayload.of(bits(kind, int(np.prod(shape)), seed)))


def checked(path: Path) -> onnx.ModelProto:
    """The model, after the official checker has seen the file and the message."""
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize("element_type", ELEMENT_TYPES, ids=TensorProto.DataType.Name)
def test_every_element_type_passes_the_checker(element_type: int, tmp_path: Path) -> None:
    name = BY_ONNX[element_type].name
    shapes = {"a": (3, 5), "scalar": (), "empty": (3, 0), "one": (1,)}
    store = TensorStore(tensor(n, name, s, i) for i, (n, s) in enumerate(shapes.items()))
    report = porter.save(store, tmp_path / "m.onnx")
    assert report.losses == ()
    model = checked(tmp_path / "m.onnx")
    assert [i.name for i in model.graph.initializer] == list(shapes)
    assert {i.data_type for i in model.graph.initializer} == {element_type}
    for proto in model.graph.initializer:
        values = numpy_helper.to_array(proto)
        mask = (1 << BY_ONNX[element_type].bits) - 1 if BY_ONNX[element_type].packed else 0xFF
        ours = store[proto.name].numpy()
        assert values.shape == ours.shape
        assert (np.frombuffer(values.tobytes(), np.uint8) & mask).tobytes() == (np.frombuffer(ours.tobytes(), np.uint8) & mask).tobytes()
    versions = {"float32": 8, "bfloat16": 8, "float8_e5m2": 9, "int4": 10, "float4_e2m1fn": 11, "float8_e8m0fnu": 12, "int2": 13}
    assert model.ir_version == versions.get(name, model.ir_version)


def test_golden_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(porter, "__version__", "1")
    porter.save(TensorStore([Tensor.from_array("w", np.float32([[1.0, -0.0]]))]), tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").read_bytes() == bytes.fromhex(
        "0808"  # ir_version 8
        "1206706f72746572"  # producer_name "porter"
        "1a0131"  # producer_version "1"
        "3a1e 120777656967687473"  # graph "weights"
        "2a13 0801 0802 1001 420177 4a08 0000803f00000080"  # initializer w: float32 [1, 2]
        "4204 0a00 1011"  # opset_import "" 17
    )


def test_onnx_ir_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = TensorStore([tensor("a"), tensor("b", "int64", ()), tensor("c", "bfloat16", (40, 50)), tensor("d", "int4", (3, 3))])
    porter.save(store, tmp_path / "inside.onnx")
    monkeypatch.setattr(weights_model, "LIMIT", 3000)
    porter.save(store, tmp_path / "outside.onnx")
    for name in ("inside", "outside"):
        initializers = onnx_ir.load(tmp_path / f"{name}.onnx").graph.initializers
        assert list(initializers) == list(store)
        for key, value in initializers.items():
            assert value.const_value is not None
            assert value.const_value.tobytes() == store[key].tobytes()


def test_what_onnx_has_no_place_for_is_described(tmp_path: Path) -> None:
    shared = Tensor(TensorSpec("a", FLOAT32, (2,), "O", "bias", {"caffe.blob": 1}), BytesPayload.of(bytes(8)))
    store = TensorStore([shared])
    store.tie(shared.with_spec(name="b"), "a")
    store.metadata.update({"epoch": "3", "lr": 0.5})
    store.attachments["net"] = b"\0\1"
    report = porter.save(store, tmp_path / "m.onnx")
    assert [(loss.kind, loss.saved_in) for loss in report.losses] == [("tie", "metadata_props.porter")]
    props = {p.key: p.value for p in checked(tmp_path / "m.onnx").metadata_props}
    assert props["epoch"] == "3"
    assert manifest.loads(props["porter"], "")["ties"] == {"b": "a"}
    back = porter.open(tmp_path / "m.onnx")
    assert (back.ties, back.metadata, back.attachments) == (store.ties, store.metadata, store.attachments)
    assert (back["a"].axes, back["a"].role, back["a"].attributes) == ("O", "bias", {"caffe.blob": 1})
    assert not back.notices


def test_a_graph_left_behind_is_said(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [], [], [numpy_helper.from_array(np.float32([1]), "w")])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "full.onnx")
    report = porter.save(porter.open(tmp_path / "full.onnx"), tmp_path / "m.onnx")
    assert any("graph (nodes: 1)" in loss.detail for loss in report.losses)
    back = porter.open(tmp_path / "m.onnx")
    assert back.digest() == porter.open(tmp_path / "full.onnx").digest()
    assert back.metadata["onnx.graph"] == "g"
    assert porter.save(back, tmp_path / "again.onnx").losses == ()


@pytest.mark.parametrize(
    ("broken", "code"),
    [(tensor(""), "L301"), (tensor("\udc80"), "L302"), (tensor("c", "complex32"), "L001")],
    ids=["no name", "no Unicode", "complex32"],
)
def test_refusals_come_before_the_output(broken: Tensor, code: str, tmp_path: Path) -> None:
    with pytest.raises(LossError) as caught:
        porter.save(TensorStore([tensor("a"), broken]), tmp_path / "m.onnx")
    assert caught.value.code == code
    assert caught.value.hint
    assert not list(tmp_path.iterdir())


def test_metadata_that_is_no_unicode(tmp_path: Path) -> None:
    store = TensorStore([tensor("a")])
    store.metadata["\udcff"] = "x"
    with pytest.raises(LossError) as caught:
        porter.save(store, tmp_path / "m.onnx")
    assert caught.value.code == "L302"


def test_large_models_go_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens at 2 GB, at 20 kB."""
    monkeypatch.setattr(weights_model, "LIMIT", 20_000)
    store = TensorStore(
        [tensor("small", shape=(100,)), tensor("big", shape=(40, 100)), tensor("mid", shape=(300,)), tensor("big2", "float16", (50, 101))]
    )
    report = porter.save(store, tmp_path / "m.onnx")
    assert report.paths == (str(tmp_path / "m.onnx"), str(tmp_path / "m.onnx.data"))
    model = checked(tmp_path / "m.onnx")
    for proto in model.graph.initializer:
        assert proto.raw_data == store[proto.name].tobytes()
    places = {
        p.name: {e.key: e.value for e in p.external_data}
        for p in onnx.load(tmp_path / "m.onnx", load_external_data=False).graph.initializer
    }
    assert places == {
        "small": {},
        "big": {"location": "m.onnx.data", "offset": "0", "length": "16000"},
        "mid": {"location": "m.onnx.data", "offset": "16000", "length": "1200"},
        "big2": {"location": "m.onnx.data", "offset": "20480", "length": "10100"},
    }
    back = porter.open(tmp_path / "m.onnx")
    assert back.digest() == store.digest()
    (tmp_path / "m.onnx").unlink()
    with pytest.raises(PorterError) as caught:
        porter.save(store, tmp_path / "m.onnx")
    assert caught.value.code == "I010"
    porter.save(back, tmp_path / "m.onnx", overwrite=True)
    assert porter.open(tmp_path / "m.onnx").digest() == store.digest()


def test_too_many_small_tensors_for_any_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_model, "LIMIT", 1000)
    with pytest.raises(LossError) as caught:
        porter.save(TensorStore(tensor(f"w{i}") for i in range(40)), tmp_path / "m.onnx")
    assert caught.value.code == "L303"
    assert not list(tmp_path.iterdir())


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_write_then_read_is_identity(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    names = data.draw(st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1), unique=True, max_size=5))
    tensors = []
    for name in names:
        dtype = BY_ONNX[data.draw(st.sampled_from(ELEMENT_TYPES))].name
        shape = tuple(data.draw(st.lists(st.integers(0, 5), max_size=4)))
        tensors.append(tensor(name, dtype, shape, data.draw(st.integers(0, 100))))
    path = tmp_path_factory.mktemp("h") / "m.onnx"
    store = TensorStore(tensors)
    porter.save(store, path)
    back = porter.open(path, "onnx")
    assert list(back) == names
    assert back.digest() == store.digest()
    checked(path)
