"""Dictionaries of arrays pickled into `.npy` and `.npz`, as old converters wrote them, and pickles that try more than that."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import hostile
import ml_dtypes
import numpy as np
import pytest

import porter
from porter.errors import FormatError, PorterError, UnsafeFileError
from porter.store import TensorStore


def wrapped(payload: bytes, shape: tuple[int, ...] = ()) -> bytes:
    """`payload` as the pickle of an array of objects."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": shape})
    return buffer.getvalue() + payload


def objects(value: Any, protocol: int = 4) -> bytes:
    array = np.empty((), object)
    array[()] = value
    return wrapped(pickle.dumps(array, protocol))


def opened(folder: Path, data: bytes, name: str = "a.npy") -> TensorStore:
    path = folder / name
    path.write_bytes(data)
    return porter.open(path)


def refused(folder: Path, data: bytes, code: str, name: str = "a.npy") -> PorterError:
    with pytest.raises(PorterError) as caught:
        opened(folder, data, name)
    assert caught.value.code == code, caught.value
    assert caught.value.where.path == str(folder / name)
    return caught.value


def layers() -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(5)
    return {
        "conv1": {"weights": np.asfortranarray(rng.standard_normal((3, 3, 2, 4)).astype("f4")), "biases": np.zeros(4, "f4")},
        "fc": {"weights": rng.standard_normal((40, 30)).astype(">f8"), "biases": np.arange(3, dtype="i2")},
    }


def flat(value: dict[str, dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {f"{a}.{b}": array for a, inner in value.items() for b, array in inner.items()}


def assert_holds(store: TensorStore, expected: dict[str, np.ndarray]) -> None:
    assert list(store) == list(expected)
    for name, array in expected.items():
        tensor = store[name]
        assert tensor.shape == array.shape
        assert tensor.dtype.numpy() == array.dtype.newbyteorder("<")
        assert tensor.tobytes() == array.astype(array.dtype.newbyteorder("<")).tobytes("C"), name


@pytest.mark.parametrize("protocol", range(6))
def test_dictionaries_of_dictionaries(protocol: int, tmp_path: Path) -> None:
    store = opened(tmp_path, objects(layers(), protocol))
    assert_holds(store, flat(layers()))
    assert store.notices == []


def test_numpys_own_way_of_saving_them(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", layers())  # type: ignore[arg-type]
    assert_holds(porter.open(tmp_path / "a.npy"), flat(layers()))


def test_flat_dictionaries_with_dotted_names(tmp_path: Path) -> None:
    store = opened(tmp_path, objects({"conv1.weight": np.ones(2, "f4"), "conv1.bias": np.zeros(1, "f4")}))
    assert list(store) == ["conv1.weight", "conv1.bias"]


def test_lists_of_arrays_are_named_by_index(tmp_path: Path) -> None:
    store = opened(tmp_path, objects({"conv1": [np.ones(2), np.zeros(3)], 7: (np.ones(1),)}))
    assert list(store) == ["conv1.0", "conv1.1", "7.0"]
    array = np.empty(2, object)
    array[:] = [np.ones(2), np.zeros(3)]
    np.save(tmp_path / "l.npy", array)
    assert [(t.name, t.shape) for t in porter.open(tmp_path / "l.npy").values()] == [("0", (2,)), ("1", (3,))]


def test_members_of_an_archive_put_their_name_in_front(tmp_path: Path) -> None:
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "m.npz", params=np.array(layers(), object), step=np.array(3))
        store = porter.open(tmp_path / "m.npz")
        assert_holds(store, {f"params.{n}": a for n, a in flat(layers()).items()} | {"step": np.array(3)})


def test_real_values_stay_in_the_file(tmp_path: Path) -> None:
    store = opened(tmp_path, objects({"w": np.arange(1000, dtype="<f4")}))
    where = store["w"].location
    assert where is not None
    assert (tmp_path / "a.npy").read_bytes()[where.offset : where.offset + where.nbytes] == np.arange(1000, dtype="<f4").tobytes()


def test_what_is_no_array_is_skipped_with_a_notice(tmp_path: Path) -> None:
    store = opened(tmp_path, objects({"w": np.ones(2), "epoch": 3, "name": "net", "none": None, "labels": np.array(["a"])}))
    assert list(store) == ["w"]
    assert [(n.kind, n.tensor) for n in store.notices] == [("skipped", n) for n in ("epoch", "name", "none", "labels")]


def test_scalars_of_numpy_are_tensors(tmp_path: Path) -> None:
    store = opened(tmp_path, objects({"lr": np.float32(0.5), "flag": np.bool_(True), "big": np.array(3, ">i4")[()]}))
    assert [(t.dtype.name, t.shape, t.numpy()[()]) for t in store.values()] == [
        ("float32", (), 0.5),
        ("bool", (), True),
        ("int32", (), 3),
    ]


def test_types_of_ml_dtypes(tmp_path: Path) -> None:
    arrays = {
        "b": np.array([1.5, -2], ml_dtypes.bfloat16),
        "e": np.array([1.5, -2], ml_dtypes.float8_e5m2),
        "i": np.array([[1, -2, 3], [4, 5, -8]], ml_dtypes.int4, order="F"),
    }
    store = opened(tmp_path, objects(arrays))
    for name, array in arrays.items():
        assert store[name].dtype.name == array.dtype.name
        np.testing.assert_array_equal(store[name].numpy().astype("f4"), array.astype("f4"))


def test_one_array_under_two_names_is_tied(tmp_path: Path) -> None:
    shared = np.ones((2, 2))
    store = opened(tmp_path, objects({"a": shared, "b": shared}))
    assert store.ties == {"b": "a"}


def test_python_2_pickles(tmp_path: Path) -> None:
    """Protocol 2 as Python 2 wrote it: `str` is bytes, numpy's module has its old name, names are not ASCII."""
    data = np.array([1.0, -0.0, np.nan], "<f4").tobytes()
    dtype = b"cnumpy\ndtype\n(U\x02f4K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01(K\x03t" + dtype + b"\x89U\x0c" + data + b"tb"
    name = "é".encode()
    inner = b"}(U\x02" + name + b"}U\x01w" + array + b"su"
    outer_dtype = b"cnumpy\ndtype\n(U\x02O8K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb"
    outer = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01)" + outer_dtype + b"\x89]" + inner + b"atb."
    )
    store = opened(tmp_path, wrapped(outer))
    assert list(store) == ["é.w"]
    assert store["é.w"].tobytes() == data


@pytest.mark.parametrize("number", [1, 2, 3])
def test_real_files_of_mtcnn(number: int, shared: Path, tmp_path: Path) -> None:
    path = shared / f"real/mtcnn/npy_facenet/det{number}.npy"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy dislikes how old pickles say their dtypes
        expected = flat(np.load(path, allow_pickle=True, encoding="latin1").item())
    store = porter.open(path)
    assert_holds(store, expected)
    assert store.notices == []
    report = porter.save(store, tmp_path / "m.npz")
    assert report.losses == ()
    assert porter.diff(path, tmp_path / "m.npz").equal


# Pickles that try more


class Evil:
    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple[Any, Any]:
        return self.call


@pytest.mark.parametrize(
    ("function", "args", "named"),
    [
        (os.system, ("touch pwned",), "posix.system"),
        (eval, ("1",), "builtins.eval"),
        (subprocess.Popen, (["true"],), "subprocess.Popen"),
        (np.load, ("x",), "numpy.load"),
        (np.fromfile, ("x",), "numpy.fromfile"),
        (getattr, (os, "system") if False else ("", "format"), "builtins.getattr"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_code_is_refused_and_named(
    function: Any, args: Any, named: str, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    payload = objects({"w": np.ones(2), "x": Evil(function, *args)}, protocol)
    error = refused(tmp_path, payload, "S201")
    assert isinstance(error, UnsafeFileError)
    assert named.rpartition(".")[2] in error.message
    assert not (tmp_path / "pwned").exists()
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as file:
        file.writestr("a.npy", payload)
    refused(tmp_path, (tmp_path / "m.npz").read_bytes(), "S201", "m.npz")


def test_classes_that_no_array_needs_are_refused(tmp_path: Path) -> None:
    class_of_others = b"\x80\x02crandom_package.models\nNet\n)\x81."
    assert "random_package.models.Net" in refused(tmp_path, wrapped(class_of_others), "S201").message


@pytest.mark.parametrize("value", [3, "text", None, {}, [], {"a": 1}, {"a": {"b": []}}, [1, 2]], ids=str)
def test_objects_without_arrays_are_refused(value: Any, tmp_path: Path) -> None:
    assert refused(tmp_path, objects(value), "F707").hint


def test_a_pickle_that_is_no_array_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, wrapped(pickle.dumps({"w": np.ones(2)})), "F707")
    array = np.empty(2, object)
    array[:] = [np.ones(1), np.ones(2)]
    refused(tmp_path, wrapped(pickle.dumps(array), (3,)), "F707")


def test_containers_within_themselves_are_refused(tmp_path: Path) -> None:
    loop: dict[str, Any] = {"w": np.ones(2)}
    loop["again"] = loop
    refused(tmp_path, objects(loop), "S702")
    deep: Any = {"w": np.ones(2)}
    for _ in range(100):
        deep = {"d": deep}
    refused(tmp_path, objects(deep), "S702")


def test_shared_containers_that_unfold_without_end_are_refused(tmp_path: Path) -> None:
    level: Any = [np.ones(2)]
    for _ in range(40):
        level = [level, level]
    with hostile.guarded("billion laughs"):
        refused(tmp_path, objects(level), "S702")


def test_arrays_whose_bytes_do_not_fit_their_shape_are_refused(tmp_path: Path) -> None:
    good = objects({"w": np.arange(6, dtype="<i4").reshape(2, 3)})
    assert good.count(b"K\x02K\x03\x86") == 1
    error = refused(tmp_path, good.replace(b"K\x02K\x03\x86", b"K\x02K\x04\x86"), "F003")
    assert error.where.tensor == "w"
    huge = b"\x8a\x08" + struct.pack("<q", 1 << 60)
    refused(tmp_path, good.replace(b"K\x02K\x03\x86", huge + huge + b"\x86"), "F003")


def test_bytes_behind_the_pickle_are_refused(tmp_path: Path) -> None:
    refused(tmp_path, objects({"w": np.ones(2)}) + b"more", "F706")


def test_two_paths_to_one_name_are_refused(tmp_path: Path) -> None:
    refused(tmp_path, objects({"a": {"b": np.ones(1)}, "a.b": np.zeros(1)}), "F004")


def test_damaged_pickles_are_refused_or_read(tmp_path: Path) -> None:
    data = objects({"conv": {"w": np.arange(6, dtype="f4").reshape(2, 3), "b": np.asfortranarray(np.ones((2, 2), ">f8"))}})
    path = tmp_path / "a.npy"
    assert hostile.assert_survives(path, ((w, d) for w, d in hostile.truncations(data, 300) if len(d) > 6)) > 250
    assert hostile.assert_survives(path, ((w, d) for w, d in hostile.byte_changes(data, 500) if d[:6] == data[:6])) > 300


def test_objects_need_no_numpy_to_be_listed(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(objects(layers()))
    script = f"import sys, porter\nprint(len(porter.open({str(tmp_path / 'a.npy')!r})), 'numpy' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout == "4 False\n"


def test_the_error_says_where(tmp_path: Path) -> None:
    data = objects({"w": np.ones(2)})
    error = refused(tmp_path, data[:-40], "F201")
    assert isinstance(error, FormatError)
    assert error.where.offset is not None
    assert error.where.offset > 128
