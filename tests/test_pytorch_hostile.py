"""PyTorch files that are damaged, or made to do harm: each reads or raises one clear error, and nothing runs."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance import random_tensor
from hostile import assert_survives, byte_changes, growths, truncations
from test_pytorch_reading import tar_checkpoint

import porter
from porter.dtypes import FLOAT32
from porter.errors import FormatError, PorterError, UnsafeFileError
from porter.formats.pytorch.archive import Declared, declared_tensors
from porter.store import TensorStore

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning:torch")


def small_zip(path: Path) -> None:
    torch.save({"w": torch.arange(6.0).reshape(2, 3).t(), "q": torch.quantize_per_tensor(torch.ones(2), 0.5, 1, torch.qint8)}, path)


def small_legacy(path: Path) -> None:
    torch.save({"w": torch.arange(6.0).reshape(2, 3).t(), "n": torch.tensor(3)}, path, _use_new_zipfile_serialization=False)


def small_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"w": torch.arange(6.0), "a": np.arange(3)}, 4))


def small_script(path: Path) -> None:
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 1), torch.ones(1, 2)), path)


def small_tar(path: Path) -> None:
    tar_checkpoint(path)


def small_own(path: Path) -> None:
    store = TensorStore([random_tensor("w", FLOAT32, (2, 3), 1, role="weight")])
    store.tie(store["w"].with_spec(name="v"), "w")
    porter.save(store, path)


FILES: dict[str, Callable[[Path], None]] = {
    "zip": small_zip,
    "legacy": small_legacy,
    "pickle": small_pickle,
    "torchscript": small_script,
    "tar": small_tar,
    "own": small_own,
}
every_file = pytest.mark.parametrize("kind", FILES)


@every_file
def test_truncations(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    FILES[kind](path)
    assert assert_survives(path, truncations(path.read_bytes(), 80))


@every_file
def test_byte_changes(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    FILES[kind](path)
    assert assert_survives(path, byte_changes(path.read_bytes(), 80))


@every_file
def test_growths(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    FILES[kind](path)
    assert_survives(path, growths(path.read_bytes()))


# Code


class Attack:
    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return (os.system, (f"touch {self.target}",))


def rewrite(path: Path, change: dict[str, bytes]) -> None:
    """Replace records of a zip archive."""
    with zipfile.ZipFile(path) as archive:
        records = {n: archive.read(n) for n in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in records.items():
            archive.writestr(name, change.get(name.partition("/")[2], data))


@every_file
def test_code_in_each_container(kind: str, tmp_path: Path) -> None:
    path, target = tmp_path / "m.pth", tmp_path / "ran"
    value = {"w": torch.ones(2), "x": [Attack(str(target))]}
    if kind in ("zip", "legacy"):
        torch.save(value, path, _use_new_zipfile_serialization=kind == "zip")
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(value, 4))
    elif kind == "tar":
        tar_checkpoint(path)
        data = path.read_bytes()
        evil = b"cos\nsystem\n(S'touch " + str(target).encode() + b"'\ntR."
        for member in (b"pickle", b"tensors", b"storages"):
            at = data.index(member + b"\0" * 90) + 512
            path.write_bytes(data[:at] + evil + data[at + len(evil) :])
            with pytest.raises(UnsafeFileError) as caught:
                porter.open(path)
            assert "os.system" in caught.value.message
        return
    else:
        FILES[kind](path)
        rewrite(path, {"data.pkl": pickle.dumps(value["x"], 2)})
    with pytest.raises(UnsafeFileError) as caught:
        porter.open(path)
    assert "posix.system" in caught.value.message
    assert caught.value.code == "S201"
    assert not target.exists()


def test_code_in_every_pickle_of_a_legacy_stream(tmp_path: Path) -> None:
    evil = pickle.dumps(Attack(str(tmp_path / "ran")), 2)
    honest = [pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {}, {"epoch": 1}, [])]
    for i in range(1, len(honest)):
        path = tmp_path / "m.pth"
        path.write_bytes(b"".join(honest[:i]) + evil + b"".join(honest[i + 1 :]))
        with pytest.raises(UnsafeFileError):
            porter.open(path)
    assert not (tmp_path / "ran").exists()


def test_code_in_the_constants_of_torchscript(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    small_script(path)
    rewrite(path, {"constants.pkl": pickle.dumps((Attack(str(tmp_path / "ran")),), 2)})
    with pytest.raises(UnsafeFileError):
        porter.open(path)


def test_code_in_a_stream_within_a_pickle(tmp_path: Path) -> None:
    inner = io.BytesIO()
    torch.save([Attack(str(tmp_path / "ran"))], inner, _use_new_zipfile_serialization=False)
    data = b"\x80\x04ctorch.storage\n_load_from_bytes\nB" + struct.pack("<I", len(inner.getvalue())) + inner.getvalue() + b"\x85R."
    (tmp_path / "m.pth").write_bytes(data)
    with pytest.raises(UnsafeFileError):
        porter.open(tmp_path / "m.pth")


def test_a_stream_that_is_read_again_and_again(tmp_path: Path) -> None:
    head = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {}))
    inner = head + b"\x80\x02(" + b"N0" * 20_000 + b"t." + pickle.dumps([], 2)
    path = tmp_path / "m.pkl"
    call = b"h\x00h\x01\x85R0"
    data = b"\x80\x04ctorch.storage\n_load_from_bytes\nq\x00B" + struct.pack("<I", len(inner)) + inner + b"q\x010"
    path.write_bytes(data + call * 50_000 + b"N.")
    start = time.process_time()
    with pytest.raises(UnsafeFileError) as caught:
        porter.open(path, "pytorch")
    assert caught.value.code == "S202"
    assert time.process_time() - start < 10


def test_streams_within_streams_end(tmp_path: Path) -> None:
    inner = b"N."
    header = b"".join(pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {}))
    for _ in range(50):
        inner = b"\x80\x03ctorch.storage\n_load_from_bytes\nB" + struct.pack("<I", len(inner)) + inner + b"\x85R."
        inner = header + inner + pickle.dumps([], 2)
    (tmp_path / "m.pth").write_bytes(inner)
    with pytest.raises(FormatError):
        porter.open(tmp_path / "m.pth")


def test_the_sub_processes_of_a_module(tmp_path: Path) -> None:
    """A module's attribute that is a bound function of something dangerous."""

    class Partial:
        def __reduce__(self) -> Any:
            import functools

            return (functools.partial, (subprocess.call, ["true"]))

    torch.save({"w": torch.ones(1), "hook": Partial()}, tmp_path / "m.pth")
    with pytest.raises(UnsafeFileError) as caught:
        porter.open(tmp_path / "m.pth")
    assert "subprocess.call" in caught.value.message


# Views that lie


def view(offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *, count: int = 6, dtype: bytes = b"FloatStorage") -> bytes:
    def ints(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(pickle.dumps(v, 2)[2:-1] for v in values) + b"t"

    storage = (
        b"(X\x07\x00\x00\x00storagectorch\n" + dtype + b"\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu" + pickle.dumps(count, 2)[2:-1] + b"tQ"
    )
    tail = b"\x89ccollections\nOrderedDict\n)RtR"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + pickle.dumps(offset, 2)[2:-1] + ints(shape) + ints(strides) + tail


def archive_of(path: Path, *views: bytes, storage: bytes = bytes(24)) -> Path:
    names = [b"X\x01\x00\x00\x00" + bytes([97 + i]) for i in range(len(views))]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}(" + b"".join(n + v for n, v in zip(names, views, strict=True)) + b"u.")
        archive.writestr("a/data/0", storage)
        archive.writestr("a/version", "3\n")
    return path


def test_the_hand_made_view_is_read_when_honest(tmp_path: Path) -> None:
    store = porter.open(archive_of(tmp_path / "m.pth", view(1, (2, 2), (2, 1)), storage=np.arange(6, dtype="<f4").tobytes()))
    assert store["a"].numpy().tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "lie",
    [
        view(0, (7,), (1,)),
        view(1, (6,), (1,)),
        view(0, (2, 3), (4, 1)),
        view(6, (1,), (1,)),
        view(-1, (2,), (1,)),
        view(0, (2,), (-1,)),
        view(0, (-2,), (1,)),
        view(0, (2, 3), (1,)),
        view(0, (2**62,), (1,)),
        view(0, (2**40, 2**40), (1, 1)),
        view(2**61, (1,), (1,)),
        view(2**200, (1,), (1,)),
        view(0, (2,), (2**100,)),
        view(0, (1,) * 65, (1,) * 65),
        view(0, (6,), (1,), count=7),
        view(0, (6,), (1,), count=2**61),
        view(0, (6,), (1,), count=2**70),
        view(0, (6,), (1,), count=-6),
        view(0, (6,), (1,), dtype=b"DoubleStorage"),
        view(0, (6,), (1,), dtype=b"NoSuchStorage"),
        view(0, (6,), (1,), dtype=b"QUInt8Storage\x00"),
    ],
    ids=range(21),
)
def test_lying_views(lie: bytes, tmp_path: Path) -> None:
    path = archive_of(tmp_path / "m.pth", lie)
    with pytest.raises(PorterError) as caught:
        porter.open(path)
    assert caught.value.where.path == str(path)


def test_expanded_views_may_not_fill_the_disk(tmp_path: Path) -> None:
    assert porter.open(archive_of(tmp_path / "m.pth", view(0, (1000, 1000), (0, 0))))["a"].nbytes == 4_000_000
    with pytest.raises(UnsafeFileError) as caught:
        porter.open(archive_of(tmp_path / "m.pth", view(0, (1 << 30,), (0,))))
    assert caught.value.code == "S203"
    with pytest.raises(UnsafeFileError):
        porter.open(archive_of(tmp_path / "m.pth", *[view(0, (1 << 22,), (0,))] * 26))


WRAPPER = b"ctorch._utils\n_rebuild_wrapper_subclass\nctorch\nTensor\n\x85R"
VALUELESS = b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n(ctorch\nfloat32\n))tR"
PARAMETER = b"ctorch.nn.parameter\nParameter\n"


@pytest.mark.parametrize(
    "value",
    [
        WRAPPER + b"q\x00}X\x01\0\0\0ah\x00sb",
        PARAMETER + b")Rq\x00(h\x00NNNNtb",
        PARAMETER * 20_000 + VALUELESS + b"\x85R" * 20_000,
        b"ctorch._utils\n_rebuild_wrapper_subclass\nq\x000" + (b"h\x00NN\x86R}X\x01\0\0\0a" * 20_000) + VALUELESS + b"sb" * 20_000,
    ],
    ids=["a wrapper of itself", "a parameter of itself", "parameters in parameters", "wrappers in wrappers"],
)
def test_tensors_within_tensors(value: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    path.write_bytes(b"\x80\x02}X\x01\0\0\0w" + value + b"s.")
    with porter.open(path) as store:
        assert len(store) == 0
        assert store.notices[-1].kind == "skipped"


def test_wrappers_that_unfold(tmp_path: Path) -> None:
    data = b"\x80\x02" + VALUELESS + b"q\x00"
    for level in range(4):
        data += WRAPPER + b"q" + bytes([level + 1]) + b"}("
        data += b"".join(b"X\x02\0\0\0%02dh" % i + bytes([level]) for i in range(99)) + b"ub"
    path = tmp_path / "m.pth"
    path.write_bytes(data + b"}X\x01\0\0\0wh\x04s.")
    with pytest.raises(UnsafeFileError) as caught:
        porter.open(path)
    assert caught.value.code == "S204"


def test_tensors_of_no_elements_need_no_bytes(tmp_path: Path) -> None:
    store = porter.open(archive_of(tmp_path / "m.pth", view(99, (0, 5), (5, 1)), view(0, (3, 0), (1, 1), count=0)))
    assert [t.shape for t in store.values()] == [(0, 5), (3, 0)]


@pytest.mark.parametrize(
    "change",
    [
        {"data.pkl": b""},
        {"data.pkl": b"N."},
        {"byteorder": b"middle"},
        {"byteorder": b"x" * 100},
        {"data/0": b""},
        {"data/0": b"1234"},
        {".data/porter.json": b"{"},
        {".data/porter.json": b'{"porter": 1, "tensors": []}'},
        {".data/porter.json": b'{"porter": 99}'},
        {".data/porter.json": b"[" * 100_000},
    ],
    ids=str,
)
def test_damaged_records(change: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    small_own(path)
    rewrite(path, change)
    with pytest.raises(PorterError) as caught:
        porter.open(path)
    assert caught.value.where.path == str(path)


def test_a_compressed_pickle_that_expands(tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"(" + b"\x8f" * (60 << 20) + b"t.")
    with pytest.raises(UnsafeFileError) as caught:
        porter.open(path)
    assert caught.value.code == "S202"


@pytest.mark.parametrize(
    ("kind", "name", "text"),
    [
        ("torchscript", "code/more.py", b"\n" * (60 << 20)),
        ("own", ".data/porter.json", b'{"porter": 1, "x": [' + b"[], " * (15 << 20) + b"[]]}"),
    ],
    ids=["code", "description"],
)
def test_text_that_expands(kind: str, name: str, text: bytes, tmp_path: Path) -> None:
    FILES[kind](tmp_path / "small.pt")
    path = tmp_path / "m.pth"
    with zipfile.ZipFile(tmp_path / "small.pt") as small, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        wanted = f"{small.namelist()[0].partition('/')[0]}/{name}"
        for member in small.namelist():
            archive.writestr(member, text if member == wanted else small.read(member))
        if wanted not in archive.namelist():
            archive.writestr(wanted, text)
    with pytest.raises(UnsafeFileError) as caught:
        porter.open(path)
    assert caught.value.code == "S003"


def test_declarations_that_do_not_end() -> None:
    code = 'class A(Module):\n  __parameters__ = ["w", ' + '"' + '\\"' * 500_000 + ']\n  __buffers__ = ["b\\"", ]\n'
    start = time.process_time()
    found = declared_tensors(code, "__torch__/x")
    assert time.process_time() - start < 2
    assert found == {"__torch__.x.A": Declared(frozenset({"w"}), frozenset({'b\\"'}))}


def test_foreign_pickles_say_what_they_hold(tmp_path: Path) -> None:
    (tmp_path / "m.pth").write_bytes(pickle.dumps({"words": ["a", "b"], "n": 3}, 4))
    with pytest.raises(FormatError) as caught:
        porter.open(tmp_path / "m.pth")
    assert caught.value.code == "F207"
    assert "words, n" in caught.value.message


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", b"\x80", b"\x80\x02", b"\x80\x02.", b"\x89HDF"], ids=repr)
@pytest.mark.parametrize("format", [None, "pytorch", *(f"pytorch:{d}" for d in ("zip", "legacy", "tar", "torchscript", "pickle"))], ids=str)
def test_other_files(content: bytes, format: str | None, tmp_path: Path) -> None:
    (tmp_path / "m.pth").write_bytes(content)
    with pytest.raises(PorterError) as caught:
        porter.open(tmp_path / "m.pth", format)
    assert caught.value.where.path
