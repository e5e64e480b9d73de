"""ONNX files that are damaged or made to do harm: each reads or is refused, soon and small."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hostile import assert_survives, byte_changes, growths, guarded, read_everything, truncations
from onnx import TensorProto, helper, numpy_helper
from onnx_models import field, header, model, raw, typed, unpacked, varint, wire_model
from test_onnx_into import everything

import porter
from porter.errors import FormatError, PorterError, UnsafeFileError
from porter.io.protobuf_wire import CUT_FIELD


def small_model() -> bytes:
    types = (TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT4, TensorProto.FLOAT16, TensorProto.FLOAT6E2M3)
    tensors = [make(f"{make.__name__}{t}", t, (3, 2), t) for make in (raw, typed) for t in types]
    return model(*tensors).SerializeToString()


@pytest.mark.parametrize("content", [small_model, lambda: everything(1).SerializeToString()], ids=["tensors", "everything"])
def test_damage(content: object, tmp_path: Path) -> None:
    data = content()  # type: ignore[operator]
    path = tmp_path / "m.onnx"
    assert assert_survives(path, truncations(data, 250)) > 50
    assert assert_survives(path, byte_changes(data, 250)) > 50
    assert_survives(path, growths(data))


def test_damage_with_external_data(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(64))
    proto = TensorProto(name="w", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": "w.bin", "offset": "16", "length": "16"}.items():
        proto.external_data.add(key=key, value=value)
    data = model(proto).SerializeToString()
    assert assert_survives(tmp_path / "m.onnx", truncations(data)) > 20
    assert assert_survives(tmp_path / "m.onnx", byte_changes(data)) > 20


def test_damage_while_replacing_values(tmp_path: Path) -> None:
    data = everything(1).SerializeToString()
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    store = porter.open(path)
    target = tmp_path / "target.onnx"
    for what, damaged in (*truncations(data, 100), *byte_changes(data, 100)):
        target.write_bytes(damaged)
        with guarded(what):
            try:
                porter.save(store, tmp_path / "out.onnx", into=target, overwrite=True)
            except PorterError:
                assert not (tmp_path / "out.onnx").exists(), what
                continue
            porter.open(tmp_path / "out.onnx", "onnx")
            (tmp_path / "out.onnx").unlink()


def refused(tmp_path: Path, data: bytes) -> PorterError:
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    with guarded("hostile"), pytest.raises(PorterError) as caught:
        read_everything(path)
    assert caught.value.where.path == str(path)
    return caught.value


def nested_graphs(depth: int) -> bytes:
    graph = field(2, b"g") + field(5, header("w", 1, 1) + field(9, b"abcd"))
    for _ in range(depth):
        attribute = field(1, b"body") + field(6, graph) + b"\xa0\x01\x05"
        graph = field(1, field(2, b"y") + field(4, b"Loop") + field(5, attribute)) + field(2, b"g")
    return b"\x08\x08" + field(7, graph)


def test_subgraphs_nest_as_deep_as_anyone_needs(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(nested_graphs(25))
    assert list(porter.open(path)) == ["w"]


@pytest.mark.parametrize("depth", [40, 400, 3000])
def test_subgraphs_without_end(depth: int, tmp_path: Path) -> None:
    assert isinstance(refused(tmp_path, nested_graphs(depth)), FormatError)


def test_sizes_beyond_the_file(tmp_path: Path) -> None:
    huge = varint((1 << 64) - 1)
    assert refused(tmp_path, b"\x08\x08\x3a" + varint(1 << 62) + b"\x12\x01g").code == "F001"
    assert refused(tmp_path, b"\x08\x08" + field(7, b"\x12\x01g\x2a\x7f" + header("w", 1, 1))).code == "F001"
    assert refused(tmp_path, wire_model(header("w", 1, 1 << 60) + field(9, b"abcd"))).code == "F003"
    assert refused(tmp_path, wire_model(header("w", 7, 1 << 40) + field(7, b"\x01\x02"))).code == "F303"
    assert refused(tmp_path, b"\x08\x08" + field(7, b"\x12\x01g\x2a" + huge)).code == "F001"


def test_a_forged_cut_is_refused_wherever_it_stands(tmp_path: Path) -> None:
    """The private field that stands for a payload must not come from the file, not even inside a node copied whole."""
    cut = b"\x08\x09\x10\x00\x18\x04"
    tag = varint(CUT_FIELD << 3 | 2)
    long_tag = tag[:-1] + bytes([tag[-1] | 0x80, 0x00])
    for forged_tag in (tag, long_tag):
        forged = header("", 1, 1) + forged_tag + varint(len(cut)) + cut
        node = field(2, b"c") + field(4, b"Constant") + field(5, field(1, b"value") + field(5, forged) + b"\xa0\x01\x04")
        for data in (b"\x08\x08" + field(7, field(1, node)), wire_model(forged)):
            error = refused(tmp_path, data)
            assert isinstance(error, UnsafeFileError)
            assert error.code == "S005"


def test_the_bytes_of_that_tag_in_a_value_are_harmless(tmp_path: Path) -> None:
    value = numpy_helper.from_array(numpy_helper.to_array(raw("", 1, (1,))), "")
    value.raw_data = b"\xfa\xff\xff\xff"
    path = tmp_path / "m.onnx"
    path.write_bytes(model(nodes=[helper.make_node("Constant", [], ["c"], value=value)]).SerializeToString())
    assert porter.open(path)["c"].tobytes() == b"\xfa\xff\xff\xff"


def test_many_tensors_of_one_name_take_no_longer_than_others(tmp_path: Path) -> None:
    inner = field(2, b"g") + field(5, header("w", 1, 1) + field(9, b"abcd")) * 20_000
    attribute = field(1, b"body") + field(6, inner) + b"\xa0\x01\x05"
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x08\x08" + field(7, field(1, field(2, b"y") + field(5, attribute))))
    start = time.process_time()
    with guarded("names"):
        store = porter.open(path)
    assert len(store) == 20_000
    assert time.process_time() - start < 5


def test_many_unpacked_numbers(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(wire_model(header("w", 7, 100_000) + unpacked(7, 0, b"\x05") * 100_000))
    with guarded("unpacked"):
        assert set(porter.open(path)["w"].numpy().tolist()) == {5}


def test_a_file_of_more_than_2_gb(tmp_path: Path) -> None:
    """A sparse file: 3 GB in one initialiser, another behind it."""
    hole = 3 << 30
    big = header("big", 1, hole // 4) + b"\x4a" + varint(hole)
    behind = field(5, header("behind", 1, 2) + field(9, b"abcdefgh"))
    size = len(big) + hole
    graph = b"\x12\x01g\x2a" + varint(size) + big
    head = b"\x08\x08\x3a" + varint(len(graph) + hole + len(behind)) + graph
    path = tmp_path / "m.onnx"
    with path.open("wb") as file:
        file.write(head)
        file.seek(hole, os.SEEK_CUR)
        file.write(behind + b"\x42\x02\x10\x11")
    if path.stat().st_blocks * 512 > 1 << 20:
        pytest.skip("this file system stores holes")
    store = porter.open(path)
    assert store["behind"].tobytes() == b"abcdefgh"
    assert store["big"].nbytes == hole
    assert next(iter(store["big"].chunks())) == bytes(1 << 20)
