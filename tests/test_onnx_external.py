"""ONNX models whose values lie in data files: which files they may name, and what is read from them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from onnx_models import model, raw

import porter
from porter.errors import FileAccessError, FormatError, UnsafeFileError


def external(name: str, shape: tuple[int, ...] = (4,), element_type: int = TensorProto.FLOAT, **entries: object) -> TensorProto:
    proto = TensorProto(name=name, data_type=element_type, dims=shape, data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        proto.external_data.add(key=key, value=str(value))
    return proto


def write(folder: Path, *tensors: TensorProto) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(model(*tensors).SerializeToString())
    return path


@pytest.fixture
def data(tmp_path: Path) -> bytes:
    values = np.arange(40, dtype="<f4").tobytes()
    (tmp_path / "w.bin").write_bytes(values)
    return values


def test_what_the_onnx_package_writes(tmp_path: Path) -> None:
    tensors = [raw(f"w{i}", TensorProto.FLOAT, (20 + i, 30), i) for i in range(4)]
    onnx.save(model(*tensors), tmp_path / "m.onnx", save_as_external_data=True, location="all.bin", size_threshold=0)
    store = porter.open(tmp_path / "m.onnx")
    for tensor in tensors:
        assert store[tensor.name].tobytes() == tensor.raw_data
        where = store[tensor.name].location
        assert where is not None
        assert where.path == str(tmp_path / "all.bin")


def test_offset_length_and_their_defaults(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "v.bin").write_bytes(data[:16])
    path = write(
        tmp_path,
        external("both", location="w.bin", offset=16, length=16),
        external("rest", location="w.bin", offset=144),
        external("whole", (4,), location="sub/v.bin"),
        external("more", location="w.bin", offset=8),
        external("none", (0,), location="w.bin", offset=160),
        external("i4", (3,), TensorProto.INT4, location="w.bin", offset=2, length=2),
    )
    store = porter.open(path)
    assert store["both"].tobytes() == data[16:32]
    assert store["rest"].tobytes() == data[144:]
    assert store["whole"].tobytes() == data[:16]
    assert store["more"].tobytes() == data[8:24]
    assert store["none"].tobytes() == b""
    assert store["i4"].tobytes() == data[2:4]
    assert [(n.kind, n.tensor) for n in store.notices] == [("assumed", "more")]


def test_one_range_named_twice_is_a_tie(tmp_path: Path, data: bytes) -> None:
    place = {"location": "w.bin", "offset": 16, "length": 16}
    path = write(tmp_path, external("a", **place), external("b", (2, 2), **place), external("c", (2,), TensorProto.DOUBLE, **place))
    store = porter.open(path)
    assert store.ties == {"b": "a"}
    assert store["b"].shape == (2, 2)


def test_many_data_files(tmp_path: Path) -> None:
    """Old exporters wrote a file a tensor; a process may not hold that many open."""
    tensors = []
    for i in range(300):
        (tmp_path / f"t{i}").write_bytes(i.to_bytes(4, "little"))
        tensors.append(external(f"w{i}", (1,), TensorProto.INT32, location=f"t{i}"))
    path = write(tmp_path, *tensors)
    before = len(os.listdir("/proc/self/fd"))
    with porter.open(path) as store:
        assert len(os.listdir("/proc/self/fd")) < before + 100
        assert [int(store[f"w{i}"].numpy()[0]) for i in range(300)] == list(range(300))
        assert b"".join(bytes(c) for c in store["w299"].chunks(3)) == (299).to_bytes(4, "little")
        report = porter.save(store, tmp_path / "all.safetensors")
    assert porter.open(report.paths[0])["w299"].numpy().tolist() == [299]


@pytest.mark.parametrize(
    "location",
    [
        "../secret",
        "/etc/hostname",
        "sub/../../secret",
        "..",
        "..\\secret",
        "C:\\secret",
        "\\\\host\\share",
        "link",
        "linkdir/secret",
        "./../secret",
    ],
)
def test_files_outside_the_folder_are_refused(location: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(16))
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "linkdir").symlink_to(tmp_path)
    with pytest.raises(UnsafeFileError) as caught:
        porter.open(write(folder, external("w", location=location)))
    assert (caught.value.code, caught.value.where.tensor) == ("S301", "w")
    assert caught.value.hint


def test_a_link_within_the_folder_and_a_cache_of_links(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "alias").symlink_to("w.bin")
    path = write(tmp_path, external("w", location="alias", length=16))
    assert porter.open(path)["w"].tobytes() == data[:16]
    cache = tmp_path / "snapshots" / "abc"
    cache.mkdir(parents=True)
    (cache / "m.onnx").symlink_to(tmp_path / "m.onnx")
    (cache / "alias").symlink_to(tmp_path / "w.bin")
    assert porter.open(cache / "m.onnx")["w"].tobytes() == data[:16]


def test_a_missing_data_file(tmp_path: Path) -> None:
    with pytest.raises(FileAccessError) as caught:
        porter.open(write(tmp_path, external("w", location="gone.bin")))
    assert caught.value.code == "I301"
    assert "gone.bin" in caught.value.message
    assert caught.value.hint is not None


def test_a_data_file_that_is_a_folder_or_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for location in ("folder", "pipe"):
        with pytest.raises(FileAccessError) as caught:
            porter.open(write(tmp_path, external("w", location=location)))
        assert caught.value.code == "I004"


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        ({}, "F306"),
        ({"location": ""}, "F306"),
        ({"location": "w.bin", "offset": "-4", "length": 16}, "F306"),
        ({"location": "w.bin", "offset": "four"}, "F306"),
        ({"location": "w.bin", "offset": "9" * 40}, "F306"),
        ({"location": "w.bin", "offset": "4", "length": "1e3"}, "F306"),
        ({"location": "w.bin", "offset": "¹"}, "F306"),
        ({"location": "w.bin", "offset": 156, "length": 16}, "F001"),
        ({"location": "w.bin", "offset": 1 << 62, "length": 16}, "F001"),
        ({"location": "w.bin", "offset": 150}, "F003"),
        ({"location": "w.bin", "offset": 200}, "F001"),
        ({"location": "w.bin", "length": 12}, "F003"),
        ({"location": "w.bin", "length": 20}, "F003"),
    ],
)
def test_ranges_that_make_no_sense(entries: dict[str, object], code: str, tmp_path: Path, data: bytes) -> None:
    with pytest.raises(porter.PorterError) as caught:
        porter.open(write(tmp_path, external("w", **entries)))
    assert (caught.value.code, caught.value.where.tensor) == (code, "w")


def test_values_here_and_there(tmp_path: Path, data: bytes) -> None:
    proto = external("w", location="w.bin", length=16)
    proto.raw_data = bytes(16)
    with pytest.raises(FormatError) as caught:
        porter.open(write(tmp_path, proto))
    assert caught.value.code == "F302"
    twice = external("w", location="w.bin")
    twice.external_data.add(key="location", value="v.bin")
    with pytest.raises(FormatError) as caught:
        porter.open(write(tmp_path, twice))
    assert caught.value.code == "F306"


def test_checksums_are_not_checked_and_that_is_said(tmp_path: Path, data: bytes) -> None:
    path = write(tmp_path, *(external(n, location="w.bin", length=16, checksum="00") for n in "ab"))
    assert [n.message for n in porter.open(path).notices] == ["the model states SHA-1 checksums of its data files; they were not checked"]


def test_constants_may_lie_outside_too(tmp_path: Path, data: bytes) -> None:
    value = external("", location="w.bin", length=16)
    node = onnx.helper.make_node("Constant", [], ["c"], value=value)
    path = tmp_path / "m.onnx"
    path.write_bytes(model(nodes=[node]).SerializeToString())
    expected = numpy_helper.to_array(value, str(tmp_path))
    assert porter.open(path)["c"].numpy().tolist() == expected.tolist()
