"""What went wrong once under hard use, held so that it does not again: one test for each finding, whatever area it is in."""

from __future__ import annotations

import copyreg
import decimal
import io
import itertools
import json
import os
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_runner import Porter
from hostile import guarded

import porter
from porter.dtypes import DTYPES
from porter.errors import LossError, PorterError
from porter.store import TensorStore
from porter.tensor import BytesPayload, Tensor, TensorSpec

_PARTS = ("", ".", "..", "a", "%", "%25", "a%", "\0", "%2F", "é", "\udc80")


def store_of(*names: str) -> TensorStore:
    """A store of small float32 vectors, no two alike."""
    return TensorStore(Tensor.from_array(name, np.arange(i, i + 3, dtype="f4")) for i, name in enumerate(names))


def test_hdf5_holds_any_name_beside_any_other(tmp_path: Path) -> None:
    names = ["/".join(parts) for n in (1, 2, 3) for parts in itertools.product(_PARTS, repeat=n)]
    store = store_of(*dict.fromkeys([*names[::7], "", "/", "a/", "//", "a"]))
    porter.save(store, tmp_path / "m.h5")
    with porter.open(tmp_path / "m.h5") as back:
        assert list(back) == list(store)
        assert back.digest() == store.digest()


def refusal(path: Path) -> PorterError:
    """The error that opening `path` gives."""
    with pytest.raises(PorterError) as caught:
        porter.open(path)
    return caught.value


def test_a_truncated_archive_is_called_so(tmp_path: Path) -> None:
    for name in ("m.pth", "m.npz", "m.keras"):
        porter.save(store_of("a", "b"), tmp_path / "whole.pth", overwrite=True)
        data = (tmp_path / "whole.pth").read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        error = refusal(tmp_path / name)
        assert error.code == "F010"
        assert "truncated" in (error.hint or "")


def test_an_archive_that_expands_without_measure_is_called_so(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", b"\x80\x02}.")
        archive.writestr("m/data/0", bytes(100 << 20))
    assert refusal(tmp_path / "m.pth").code == "S002"


def test_what_an_archive_of_no_known_kind_holds(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.writestr("notes.txt", b"x")
        archive.writestr("weights/m.caffemodel", b"x")
    error = refusal(tmp_path / "m.zip")
    assert error.code == "F009"
    assert "it holds notes.txt, weights/m.caffemodel" in error.message


def test_an_onnx_model_as_text_is_no_prototxt(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text(
        'ir_version: 8\ngraph {\n  node {\n    input: "x"\n  }\n  name: "g"\n  input {\n    name: "x"\n  }\n}\n'
    )
    assert "ONNX model as text" in refusal(tmp_path / "m.onnx").message


def test_the_way_out_of_a_type_is_another_format(tmp_path: Path) -> None:
    store = TensorStore([Tensor.from_array("c", np.ones(2, "c16"))])
    with pytest.raises(LossError) as caught:
        porter.save(store, tmp_path / "m.safetensors")
    assert "safetensors" not in (caught.value.hint or "")


def test_no_elements_and_dimensions_beyond_numpy() -> None:
    spec = TensorSpec("w", DTYPES["float32"], (0, 1 << 40, 1 << 40))
    tensor = Tensor(spec, BytesPayload.of(b""))
    assert tensor.tobytes() == b""
    with pytest.raises(PorterError, match="no array can have the shape"):
        tensor.numpy()


def _caffe_v1(kind: int | None) -> bytes:
    """A V1 net of one layer `x` with one legacy blob of 1×1×1×2, and a type number unless `kind` is None."""
    blob = bytes.fromhex("0801100118012002") + b"\x2a\x08" + np.array([1, 2], "<f4").tobytes()
    layer = b"\x22\x01x" + (bytes([0x28, kind]) if kind is not None else b"") + b"\x32" + bytes([len(blob)]) + blob
    return b"\x0a\x01n\x12" + bytes([len(layer)]) + layer


def test_caffe_v1_layers_without_a_type_are_recognised(tmp_path: Path) -> None:
    (tmp_path / "m.caffemodel").write_bytes(_caffe_v1(None))
    with porter.open(tmp_path / "m.caffemodel") as store:
        assert [(t.name, t.shape) for t in store.values()] == [("x.blob0", (1, 1, 1, 2))]
    porter.save(store_of("a.weight"), tmp_path / "w.caffemodel", "caffe:v1")
    with porter.open(tmp_path / "w.caffemodel") as store:
        assert list(store) == ["a.weight"]


def test_a_solver_state_keeps_shapes_that_were_legacy_ones(tmp_path: Path) -> None:
    (tmp_path / "m.caffemodel").write_bytes(_caffe_v1(14))
    with porter.open(tmp_path / "m.caffemodel") as store:
        assert store["x.weight"].shape == (1, 2)
        porter.save(store, tmp_path / "m.solverstate")
        with porter.open(tmp_path / "m.solverstate") as back:
            assert back.digest() == store.digest()
            porter.save(back, tmp_path / "again.caffemodel", "caffe:v2")
    with porter.open(tmp_path / "again.caffemodel") as again:
        assert again["x.weight"].attributes["caffe.shape"] == [1, 1, 1, 2]


def test_a_known_caffe_type_with_unknown_blobs_is_not_called_unknown(tmp_path: Path) -> None:
    blob = b"\x3a\x0c\x2a\x04" + np.float32(1).tobytes() + b"\x3a\x04\x0a\x02\x01\x01"
    layer = b"\x0a\x01b\x12\x09BatchNorm" + 6 * blob
    (tmp_path / "m.caffemodel").write_bytes(b"\xa2\x06" + bytes([len(layer)]) + layer)
    with porter.open(tmp_path / "m.caffemodel") as store:
        assert "layers of type 'BatchNorm' with 6 blobs" in store.notices[0].message


def test_what_is_said_of_a_file_always_has_a_hint(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}extra")
    error = refusal(tmp_path / "m.safetensors")
    assert error.hint == f"'porter explain {error.code}' says what this means and what to do"


def _shard(path: Path, *names: str) -> None:
    path.parent.mkdir(exist_ok=True)
    porter.save(store_of(*names), path)


def _index(folder: Path, weight_map: object) -> Path:
    path = folder / "m.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return path


def test_shards_may_lie_below_their_index_and_nowhere_else(tmp_path: Path) -> None:
    _shard(tmp_path / "sub" / "1.safetensors", "a")
    _shard(tmp_path / "up" / "2.safetensors", "a")
    assert list(porter.open(_index(tmp_path, {"a": "sub/1.safetensors"}))) == ["a"]
    for outside in ("../up/2.safetensors", str(tmp_path / "up" / "2.safetensors"), "..", "", "./2.safetensors", "..\\2.safetensors"):
        error = refusal(_index(tmp_path / "sub", {"a": outside}))
        assert error.code == "S602", outside


def test_an_index_that_lies_is_refused(tmp_path: Path) -> None:
    _shard(tmp_path / "1.safetensors", "a")
    _shard(tmp_path / "2.safetensors", "b")
    assert list(porter.open(_index(tmp_path, {"b": "2.safetensors", "a": "1.safetensors"}))) == ["b", "a"]
    swapped = refusal(_index(tmp_path, {"a": "2.safetensors", "b": "1.safetensors"}))
    assert (swapped.code, "it is in '2.safetensors'" in swapped.message) == ("F606", True)
    assert refusal(_index(tmp_path, {"a": "1.safetensors", "b": "1.safetensors", "c": "2.safetensors"})).code == "F606"
    gone = refusal(_index(tmp_path, {"a": "1.safetensors", "b": "3.safetensors"}))
    assert (gone.code, "beside the index" in (gone.hint or "")) == ("I001", True)
    assert "'weight_map' is not an object" in refusal(_index(tmp_path, [1])).message


def test_a_key_that_is_there_twice_is_found_in_no_time(tmp_path: Path) -> None:
    keys = [f'"t{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for i in range(200_000)]
    header = ("{" + ",".join([*keys, keys[-1]]) + "}").encode()
    (tmp_path / "m.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with guarded("a key twice"):
        assert "t199999" in refusal(tmp_path / "m.safetensors").message


def test_paths_that_cannot_be_are_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for name, code in (("file/m.wts", "I001"), ("n" * 300 + ".wts", "I005")):
        with pytest.raises(PorterError) as caught:
            porter.save(store_of("a"), tmp_path / name)
        assert caught.value.code == code
        assert "Errno" not in caught.value.message
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ('name: "n"\nlayer { name "c" }\n', 2, 14),
        ('name: "n"\nlayer { name: @ }\n', 2, 15),
        ("layer {\n} }\n", 2, 3),
        ('name: "n\n"\n', 1, 7),
    ],
)
def test_a_prototxt_with_a_mistake_at_its_beginning(tmp_path: Path, text: str, line: int, column: int) -> None:
    (tmp_path / "m.prototxt").write_text(text)
    error = refusal(tmp_path / "m.prototxt")
    assert (error.where.line, error.where.column) == (line, column)


def test_a_web_page_under_the_name_of_a_prototxt(tmp_path: Path) -> None:
    (tmp_path / "m.prototxt").write_text("<!DOCTYPE html>\n<html></html>\n")
    assert "web page" in refusal(tmp_path / "m.prototxt").message


_NET = """
name: "n"
input: "data" input_dim: 1 input_dim: 4 input_dim: 6 input_dim: 6
layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 6 kernel_size: 3 group: 2 } }
layer { name: "d" type: "Deconvolution" bottom: "c" top: "d" convolution_param { num_output: 4 kernel_h: 2 kernel_w: 1 bias_term: false } }
layer { name: "ip" type: "InnerProduct" bottom: "d" top: "ip" inner_product_param { num_output: 2 } }
"""
_NET_SHAPES = {"c.weight": (6, 2, 3, 3), "c.bias": (6,), "d.weight": (6, 4, 2, 1), "ip.weight": (2, 80), "ip.bias": (2,)}


def test_a_net_gives_flat_tensors_their_shapes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    store = TensorStore(Tensor.from_array(n, rng.standard_normal(s).astype("f4")) for n, s in _NET_SHAPES.items())
    (tmp_path / "n.prototxt").write_text(_NET)
    porter.save(store, tmp_path / "m.wts")
    (tmp_path / "m.wts.json").unlink()
    with porter.open(tmp_path / "m.wts") as flat:
        assert flat["c.weight"].shape == (108,)
        report = porter.save(flat, tmp_path / "m.caffemodel", net=tmp_path / "n.prototxt")
    assert [n.message for n in report.notices if n.kind == "changed"] == [
        "3 flat tensors get the shape that the net says: c.weight 6×2×3×3, d.weight 6×4×2×1, ip.weight 2×80"
    ]
    assert porter.diff(store, tmp_path / "m.caffemodel").equal
    with porter.open(tmp_path / "m.wts") as flat:
        porter.save(flat, tmp_path / "m.caffemodel.h5", net=tmp_path / "n.prototxt")
    assert porter.diff(store, tmp_path / "m.caffemodel.h5").equal
    cv2 = pytest.importorskip("cv2")
    net = cv2.dnn.readNetFromCaffe(str(tmp_path / "n.prototxt"), str(tmp_path / "m.caffemodel"))
    net.setInput(np.ones((1, 4, 6, 6), "f4"))
    assert net.forward().shape == (1, 2)


def test_a_net_goes_to_the_side_that_understands_it(tmp_path: Path, porter_cli: Porter) -> None:
    (tmp_path / "n.prototxt").write_text(_NET)
    rng = np.random.default_rng(0)
    store = TensorStore(Tensor.from_array(n, rng.standard_normal(s).astype("f4")) for n, s in _NET_SHAPES.items())
    porter.save(store, tmp_path / "m.h5")
    net = ("--net", str(tmp_path / "n.prototxt"))
    assert porter_cli("convert", tmp_path / "m.h5", tmp_path / "m.caffemodel", *net).code == 0
    assert porter_cli("convert", tmp_path / "m.caffemodel", tmp_path / "again.h5", *net).code == 0
    assert porter.diff(tmp_path / "m.h5", tmp_path / "again.h5").equal
    refused = porter_cli("convert", tmp_path / "m.h5", tmp_path / "m.safetensors", *net)
    assert (refused.code, "U005" in refused.err) == (2, True)


class _Convolution:
    """Pickles as torch's quantised convolution does: a tuple of 15 items for a state."""

    def __init__(self, weight: object, bias: object) -> None:
        self.state = (3, 4, (1, 1), (1, 1), (0, 0), (1, 1), False, (0, 0), 1, "zeros", weight, bias, 0.5, 7, False)

    def __reduce__(self) -> tuple[object, ...]:
        return (copyreg.__newobj__, (type(self),), self.state)  # type: ignore[attr-defined]


_Convolution.__module__, _Convolution.__qualname__ = "torch.ao.nn.quantized.modules.conv", "Conv2d"


@pytest.mark.filterwarnings("ignore:.*quantized tensor creation:UserWarning")
def test_quantised_convolutions_of_pickled_modules_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    weight = torch.quantize_per_tensor(torch.arange(6.0).reshape(2, 3, 1, 1), 0.5, 3, torch.qint8)
    net = torch.nn.Sequential(torch.nn.Linear(1, 1))
    monkeypatch.setattr("torch.ao.nn.quantized.modules.conv.Conv2d", _Convolution)
    net._modules["conv"] = _Convolution(weight, torch.ones(2))
    torch.save(net, tmp_path / "m.pth")
    with porter.open(tmp_path / "m.pth") as store:
        assert list(store) == ["0.weight", "0.bias", "conv.weight", "conv.weight.scale", "conv.weight.zero_point", "conv.bias"]
        assert store["conv.weight"].tobytes() == weight.int_repr().numpy().tobytes()
        assert any("conv.scale (0.5), conv.zero_point (7)" in n.message for n in store.notices)


def test_modules_that_hold_functions_of_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    net = torch.nn.Linear(2, 2)
    net.act = torch.relu
    net.generator = np.random.default_rng(0)
    torch.save(net, tmp_path / "m.pth")
    with porter.open(tmp_path / "m.pth") as store:
        assert list(store) == ["weight", "bias"]


@pytest.mark.parametrize("name", ["load", "__init__", "compile"])
def test_functions_of_torch_that_do_harm_stay_refused(tmp_path: Path, name: str) -> None:
    text = f"cbuiltins\ngetattr\n(ctorch._C\n_VariableFunctionsClass\nV{name}\ntR."
    (tmp_path / "m.pkl").write_bytes(b"\x80\x02" + text.encode())
    assert refusal(tmp_path / "m.pkl").code == "S201"


def test_a_function_of_torch_is_never_called(tmp_path: Path) -> None:
    text = "cbuiltins\ngetattr\n(ctorch._C\n_VariableFunctionsClass\nVrelu\ntR(I1\ntR."
    (tmp_path / "m.pkl").write_bytes(b"\x80\x02" + text.encode())
    error = refusal(tmp_path / "m.pkl")
    assert (error.code, "torch.relu" in error.message) == ("S201", True)


def test_values_beside_tensors_are_never_dropped_in_silence(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    for value, said in ((decimal.Decimal("1.5"), "decimal.Decimal"), (range(3), "builtins.range"), (torch.device("cpu"), "torch.device")):
        torch.save({"w": torch.ones(1), "x": value}, tmp_path / "m.pth")
        with porter.open(tmp_path / "m.pth") as store:
            assert f"x ({said})" in store.notices[0].message


def test_arrays_of_no_dimensions_are_tensors_and_numbers_are_not(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"w": torch.ones(1), "n": np.array(3), "s": np.float32(2)}, tmp_path / "m.pth")
    with porter.open(tmp_path / "m.pth") as store:
        assert [(t.name, t.shape, t.dtype.name) for t in store.values()] == [("w", (1,), "float32"), ("n", (), "int64")]
        assert "s (a numpy scalar of <f4)" in store.notices[0].message


def test_empty_tensors_that_torch_cannot_have_are_refused(tmp_path: Path) -> None:
    empty = Tensor(TensorSpec("w", DTYPES["float32"], (0, 1 << 40, 1 << 40)), BytesPayload.of(b""))
    with pytest.raises(LossError) as caught:
        porter.save(TensorStore([empty]), tmp_path / "m.pth")
    assert caught.value.code == "L202"
    assert os.listdir(tmp_path) == []
    porter.save(TensorStore([empty]), tmp_path / "m.safetensors")


@pytest.mark.parametrize("version", ["earliest", "latest"])
def test_soft_links_within_a_file_are_followed(tmp_path: Path, version: str) -> None:
    with h5py.File(tmp_path / "m.h5", "w", libver=version) as file:
        file["g/w"] = np.arange(3, dtype="f4")
        file["z"] = h5py.SoftLink("/g/w")
        file["g/near"] = h5py.SoftLink("w")
        file["again"] = h5py.SoftLink("g/near")
        file["h"] = h5py.SoftLink("/g")
        file["g/up"] = h5py.SoftLink("/h")
    with porter.open(tmp_path / "m.h5") as store:
        assert set(store) == {"again", "g/near", "g/w", "z"}
        assert {store.ties.get(n, n) for n in store} == {"again"}
        assert all(t.numpy().tolist() == [0, 1, 2] for t in store.values())


@pytest.mark.parametrize(
    ("links", "code"),
    [
        ({"l": h5py.SoftLink("/nowhere")}, "S504"),
        ({"l": h5py.SoftLink("l")}, "S504"),
        ({"a": h5py.SoftLink("/b"), "b": h5py.SoftLink("/a")}, "S504"),
        ({"l": h5py.SoftLink("/w/x")}, "S504"),
        ({"l": h5py.SoftLink("/../w")}, "S504"),
        ({"e": h5py.ExternalLink("other.h5", "/w")}, "S501"),
        ({"a": h5py.SoftLink("/e/w"), "e": h5py.ExternalLink("other.h5", "/")}, "S501"),
    ],
)
def test_links_that_leave_a_file_are_refused(tmp_path: Path, links: dict[str, object], code: str) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["w"] = np.ones(1, "f4")
        for name, link in links.items():
            file[name] = link
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["w"] = np.ones(1, "f4")
    assert refusal(tmp_path / "m.h5").code == code


@pytest.mark.parametrize("name", ["../../evil", "/evil", "assets/../../evil", "..\\evil", "C:\\evil"])
def test_members_of_keras_archives_that_lead_out_of_it(tmp_path: Path, name: str) -> None:
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        file["layers/dense/vars/0"] = np.ones((2, 3), "f4")
    for archive_name, member in (("good.keras", "assets/vocabulary.txt"), ("evil.keras", name)):
        with zipfile.ZipFile(tmp_path / archive_name, "w") as archive:
            archive.writestr("config.json", "{}")
            archive.writestr("metadata.json", "{}")
            archive.writestr("model.weights.h5", weights.getvalue())
            archive.writestr(member, "x")
    assert refusal(tmp_path / "evil.keras").code == "S505"
    with porter.open(tmp_path / "good.keras") as store:
        for into in ("evil.keras", "good.keras"):
            if into == "evil.keras":
                with pytest.raises(PorterError, match="unpacked outside"):
                    porter.save(store, tmp_path / "out.keras", into=tmp_path / into)
            else:
                porter.save(store, tmp_path / "out.keras", into=tmp_path / into)


def test_datasets_that_keras_does_not_list_are_spoken_of(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["layer_names"] = [b"dense"]
        group = file.create_group("dense")
        group.attrs["weight_names"] = [b"dense/kernel:0"]
        group["dense/kernel:0"] = np.ones((2, 3), "f4")
        group["dense/stray"] = np.ones(3, "f4")
    with porter.open(tmp_path / "m.h5") as store:
        assert list(store) == ["dense/kernel:0"]
        assert "1 dataset that 'weight_names' does not list (dense/dense/stray)" in [n.message for n in store.notices]


def test_a_wts_file_whose_room_was_only_reserved(tmp_path: Path) -> None:
    with open(tmp_path / "m.wts", "wb") as file:
        file.write(b"1\nw 99999999999 3f800000 ")
        file.truncate(1 << 40)
    with guarded("a sparse file"):
        error = refusal(tmp_path / "m.wts")
    assert (error.code, error.where.line, error.where.column) == ("F405", 2, 24)


def test_caffe_by_request_on_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(PorterError) as caught:
        porter.open(tmp_path / "empty", "caffe")
    assert caught.value.code == "F008"
    with open(tmp_path / "large", "wb") as file:
        file.truncate(1 << 40)
    with guarded("a large text"), pytest.raises(PorterError) as caught:
        porter.open(tmp_path / "large", "caffe:prototxt")
    assert caught.value.code == "S151"


def test_an_empty_archive_cut_short(tmp_path: Path) -> None:
    whole = b"PK\x05\x06" + bytes(18)
    for length in range(1, len(whole)):
        (tmp_path / "m.npz").write_bytes(whole[:length])
        assert refusal(tmp_path / "m.npz").code in ("F009", "F010")
    (tmp_path / "m.npz").write_bytes(whole)
    assert list(porter.open(tmp_path / "m.npz")) == []


def test_what_fits_into_one_file_is_one(tmp_path: Path) -> None:
    report = porter.save(store_of("a", "b"), tmp_path / "m.safetensors", max_shard_size=1 << 20)
    assert report.paths == (str(tmp_path / "m.safetensors"),)
    assert os.listdir(tmp_path) == ["m.safetensors"]


@pytest.mark.parametrize(("kind", "shape"), [("InnerProduct", (1, 1, 2, 3)), (None, (2, 3)), ("PReLU", (1,)), ("Convolution", (2, 3))])
def test_a_caffe_file_gives_back_shapes_that_its_layers_would_not(tmp_path: Path, kind: str | None, shape: tuple[int, ...]) -> None:
    legacy = [] if shape == (1,) else [1, 1, 2, 3]  # one value without a shape is a blob of no dimensions
    attributes = {"caffe.layer": "x", "caffe.blob": 0, "caffe.shape": legacy} | ({"caffe.type": kind} if kind else {})
    values = np.arange(int(np.prod(shape)), dtype="f4").reshape(shape)
    store = TensorStore([Tensor.from_array("x.weight", values, attributes=attributes)])
    for dialect in ("v2", "v1") if kind != "PReLU" else ("v2",):
        porter.save(store, tmp_path / "m.caffemodel", f"caffe:{dialect}", overwrite=True)
        with porter.open(tmp_path / "m.caffemodel") as back:
            assert back.digest() == store.digest()
            assert back["x.weight"].attributes == store["x.weight"].attributes


@pytest.mark.parametrize("dialect", ["nvidia-v1", "nvidia-v2"])
@pytest.mark.parametrize(
    ("dtype", "value"), [("u4", 1 << 31), ("u4", (1 << 32) - 1), ("u8", (1 << 64) - 1), ("u8", 1 << 31), ("i8", 1 << 31)]
)
def test_integers_beyond_int32_never_wrap(tmp_path: Path, dialect: str, dtype: str, value: int) -> None:
    store = TensorStore([Tensor.from_array("w", np.array([1, value], dtype))])
    if value != 1 << 31:  # which is a float32
        with pytest.raises(LossError) as caught:
            porter.save(store, tmp_path / "m.wts", f"wts:{dialect}")
        assert caught.value.code == "L404"
        return
    porter.save(store, tmp_path / "m.wts", f"wts:{dialect}")
    with porter.open(tmp_path / "m.wts") as back:
        assert back["w"].numpy().tolist() == [1, value]
    (tmp_path / "m.wts.json").unlink()
    with porter.open(tmp_path / "m.wts") as back:
        assert back["w"].numpy().tolist() == [1, value]


def test_a_solver_state_without_history_is_recognised(tmp_path: Path) -> None:
    store = TensorStore()
    store.metadata |= {"iter": 0, "current_step": 32}
    porter.save(store, tmp_path / "m.solverstate")
    with porter.open(tmp_path / "m.solverstate") as back:
        assert back.metadata == store.metadata
        assert back.source is not None
        assert back.source.dialect == "solverstate"
