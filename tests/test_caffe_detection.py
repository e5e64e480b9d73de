"""Protobuf has no magic: what is taken for a Caffe file, and what is not."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from caffe_oracle import blob, conv, legacy_blob, net_file, plain
from conftest import shared_folder

import porter
from porter.errors import FormatError
from porter.formats.base import Probe
from porter.formats.caffe import adapter
from porter.formats.caffe.detect import binary_dialect
from porter.io.source import FileSource

_folder = shared_folder()
_ALL = sorted(p for p in (_folder / "real").rglob("*") if p.is_file()) if _folder else []
OURS = (".caffemodel", ".prototxt")


def dialect(path: Path) -> str | None:
    return adapter.detect(Probe(FileSource(path)))


def of(folder: Path, data: bytes) -> str | None:
    path = folder / "file"
    path.write_bytes(data)
    return binary_dialect(FileSource(path))


def test_real_files() -> None:
    for path in _ALL:
        found = dialect(path)
        if path.suffix == ".caffemodel":
            assert found in ("v1", "v2"), path.name
        elif path.suffix == ".prototxt":
            assert found == "prototxt", path.name
        else:
            assert found is None, path.name


def test_onnx_models(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    weight = onnx.numpy_helper.from_array(np.ones((3, 2), np.float32), "w")
    for producer in ("", "p", "*\x04abcd", "pytorch", "1.2"):
        graph = onnx.helper.make_graph([], "g", [], [], [weight])
        model = onnx.helper.make_model(graph, producer_name=producer, producer_version=producer)
        model.domain = producer
        assert of(tmp_path, model.SerializeToString()) is None
        assert of(tmp_path, graph.SerializeToString()) is None
    assert of(tmp_path, weight.SerializeToString()) is None


def test_other_protobuf_files(tmp_path: Path) -> None:
    """A Caffe2 net and a TensorFlow graph, whose first fields are like those of a Caffe net."""

    def field(number: int, body: bytes) -> bytes:
        return bytes([number << 3 | 2, len(body)]) + body

    for inputs in (b"X", b"\x0a\x03abc", b"data"):
        operator = field(1, inputs) + field(2, b"Y") + field(4, b"Conv") + field(5, field(1, b"kernel") + b"\x18\x03")
        bare = field(1, inputs) + field(2, b"Y") + field(4, b"Relu")
        assert of(tmp_path, field(1, b"net") + field(2, operator) + field(2, bare)) is None
        assert of(tmp_path, field(1, b"net") + field(2, bare)) is None
    node = field(1, b"x") + field(2, b"Placeholder") + field(5, field(1, b"dtype") + field(2, b"\x30\x01"))
    assert of(tmp_path, field(1, node) * 3 + field(4, b"\x08\x1b")) is None


def test_text_and_noise(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    taken = [of(tmp_path, rng.bytes(int(n))) for n in rng.integers(1, 2000, 400)]
    assert taken.count(None) == len(taken)
    for data in (b"", b"\0" * 100, b"\n" * 100, b"{}", b"PK\x03\x04" + bytes(100), b"\x80\x02}q\x00.", b"\x89HDF\r\n\x1a\n" + bytes(64)):
        assert of(tmp_path, data) is None
    assert of(tmp_path, b"10\nconv 3 3f800000 0 0\n" * 20) is None


def test_layers_that_say_little(tmp_path: Path) -> None:
    message = plain()["LayerParameter"]
    for layer in (
        message(name="a", type="ReLU"),
        message(name="a", blobs=[blob((1,))]),
        message(blobs=[blob((1,))]),
        conv("\n", blob((1,))),
    ):
        assert binary_dialect(FileSource(net_file(tmp_path, layer=[layer]))) == "v2"
    inner = plain()["V0LayerParameter"](name="c", type="conv")
    assert binary_dialect(FileSource(net_file(tmp_path, layers=[plain()["V1LayerParameter"](layer=inner)]))) == "v0"
    layer = plain()["V1LayerParameter"](name="c", type=4, blobs=[legacy_blob((1, 1, 1, 2))])
    assert binary_dialect(FileSource(net_file(tmp_path, layers=[layer]))) == "v1"


def test_a_truncated_net_is_still_a_net(tmp_path: Path) -> None:
    data = net_file(tmp_path, layer=[conv("conv1", blob((20, 10, 3, 3)), bottom=["data"], top=["c"])]).read_bytes()
    assert all(of(tmp_path, data[:n]) == "v2" for n in range(60, len(data), 97))


def test_solver_states_and_means(tmp_path: Path) -> None:
    state = plain()["SolverState"](iter=3, learned_net="a", history=[blob((2,))])
    assert of(tmp_path, state.SerializeToString()) == "solverstate"
    assert of(tmp_path, legacy_blob((1, 3, 2, 2)).SerializeToString()) == "mean"
    assert of(tmp_path, plain()["SolverState"](iter=3, learned_net="a").SerializeToString()) is None


def test_looks_at_little(tmp_path: Path) -> None:
    """The values of a large file are not read to know what it is."""
    path = tmp_path / "large"
    size = 1 << 31
    layer = b"\x0a\x01c\x12\x0bConvolution" + b"\x3a" + _varint(size) + b"\x2a" + _varint(size - 6)
    with path.open("wb") as file:
        file.write(b"\xa2\x06" + _varint(len(layer) + size - 6) + layer)
        file.truncate(file.tell() + size - 6)
    before = os.times()
    assert binary_dialect(FileSource(path)) == "v2"
    assert os.times().elapsed - before.elapsed < 1


def test_many_inputs_before_the_first_layer(tmp_path: Path) -> None:
    """A recurrent net of V1 has a name and four dimensions for each of its inputs."""
    layer = plain()["V1LayerParameter"](name="c", type=4, blobs=[blob((2,))]).SerializeToString()
    inputs = b"".join(b"\x1a\x02h%d" % (i % 10) for i in range(30)) + b"\x20\x01" * 120
    assert of(tmp_path, inputs + b"\x12" + _varint(len(layer)) + layer) == "v1"


MEAN = np.arange(2 * 3 * 4, dtype="f4").reshape(1, 2, 3, 4)


def mean_files() -> dict[str, bytes]:
    message = plain()["BlobProto"]
    flat = MEAN.reshape(-1)
    return {
        "legacy": message(num=1, channels=2, height=3, width=4, data=flat).SerializeToString(),
        "shape": message(shape={"dim": [1, 2, 3, 4]}, data=flat).SerializeToString(),
        "double": message(shape={"dim": [1, 2, 3, 4]}, double_data=flat).SerializeToString(),
        "pieces": b"".join(message(data=part).SerializeToString() for part in (flat[:7], flat[7:]))
        + message(num=1, channels=2, height=3, width=4).SerializeToString(),
    }


@pytest.mark.parametrize("kind", mean_files())
def test_lone_blobs(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(mean_files()[kind])
    with porter.open(path) as store:
        (tensor,) = store.values()
        assert (store.source and store.source.dialect, tensor.name, tensor.shape) == ("mean", "mean", MEAN.shape)
        assert tensor.axes == ("NCHW" if kind in ("legacy", "pieces") else None)
        assert np.array_equal(tensor.numpy(), MEAN)
        porter.save(store, tmp_path / "m.npy")
    assert np.array_equal(np.load(tmp_path / "m.npy"), MEAN)
    path.rename(tmp_path / "anything")
    assert dialect(tmp_path / "anything") == "mean"


def test_a_net_is_no_lone_blob_on_request(tmp_path: Path) -> None:
    with pytest.raises(FormatError) as caught:
        porter.open(net_file(tmp_path, layer=[conv("c", blob((2,)))]), "caffe:mean")
    assert caught.value.code == "F100"


def test_a_lone_blob_that_is_cut_is_said_to_be(tmp_path: Path) -> None:
    data = mean_files()["legacy"]
    for cut in range(20, len(data)):
        (tmp_path / "m").write_bytes(data[:cut])
        with pytest.raises(FormatError) as caught:
            porter.open(tmp_path / "m")
        assert caught.value.code == "F001", cut


@pytest.mark.parametrize(
    "data",
    [
        plain()["BlobProto"](num=1, channels=2, height=3, width=4, data=[1.0] * 23).SerializeToString(),
        plain()["BlobProto"](num=1, channels=2, height=3, width=4).SerializeToString(),
        plain()["BlobProto"](data=[1.0] * 24).SerializeToString(),
        mean_files()["legacy"] + b"\x72\x01a",
    ],
    ids=["too few", "no values", "no shape", "a field that blobs lack"],
)
def test_what_may_be_something_else_is_no_lone_blob(data: bytes, tmp_path: Path) -> None:
    assert of(tmp_path, data) is None


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + struct.pack("B", value)
