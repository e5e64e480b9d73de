"""The C++ loader against the Python one: the same files, the same values, the same refusals at the same places; both ways."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from conftest import ROOT
from hostile import byte_changes, growths, read_everything, truncations
from once import once
from test_cpp_project import CUDA, HEADERS
from test_readme import sandbox
from test_wts_faults import FAULTS, SMALL, V2_FAULTS
from test_wts_read import ODDITIES
from test_wts_sidecar import DISAGREEMENTS, example
from wts_files import usual_text

import porter
from porter.dtypes import DTYPES
from porter.errors import PorterError
from porter.store import TensorStore
from porter.tensor import BytesPayload, Tensor, TensorSpec

DIALECTS = ("tensorrtx", "nvidia-v1", "nvidia-v2")

CODES = {
    "F001": {"W102"},
    "F004": {"W113"},
    "F401": {"W101"},
    "F402": {"W109", "W110", "W111", "W112", "W114"},
    "F403": {"W103"},
    "F404": {"W104"},
    "F405": {"W105"},
    "F406": {"W106"},
    "F407": {"W107"},
    "F408": {"W108"},
    "F410": {"W115"},
}
"""What the C++ loader calls an error of each of the Python reader's codes."""


@pytest.fixture(scope="session")
def wts_info(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, built once."""
    missing = [name for name in ("cmake", "c++") if shutil.which(name) is None]
    if missing:
        reason = f"not on this machine: {', '.join(missing)}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return once(tmp_path_factory, "wts_info", _build) / "samples" / "wts_info"


def _build(folder: Path) -> None:
    options = ["-DCMAKE_BUILD_TYPE=Release", "-DPORTER_TESTS=OFF", "-DPORTER_TENSORRT=OFF"]
    configure = ["cmake", "-S", str(ROOT / "cpp"), "-B", str(folder), *options]
    for command in (configure, ["cmake", "--build", str(folder), "--target", "wts_info"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def run(program: Path, *words: object, code: int | None = 0) -> dict[str, Any]:
    """What `--json` prints; it must end with `code`, or in any good way where that is None."""
    command = [str(program), "--json", *map(str, words)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert done.returncode in ((0, 1, 2) if code is None else (code,)), (done.returncode, done.stdout, done.stderr)
    printed: dict[str, Any] = json.loads(done.stdout)
    assert printed["ok"] == (done.returncode == 0)
    return printed


def listed(program: Path, path: Path, *options: object) -> dict[str, dict[str, Any]]:
    """Each tensor by name, with digests."""
    return {t["name"]: t for t in run(program, "--digest", path, *options)["tensors"]}


def raw(name: str, dtype: str, shape: tuple[int, ...], data: bytes) -> Tensor:
    return Tensor(TensorSpec(name, DTYPES[dtype], shape), BytesPayload.of(data))


def every_type() -> Iterator[Tensor]:
    """Tensors of all types that a `.wts` can take, of edge values and odd shapes."""
    for dtype in DTYPES.values():
        if dtype.kind == "complex":
            continue
        if dtype.kind == "float" and dtype.bits <= 16:
            codes = np.arange(1 << dtype.bits, dtype=f"<u{max(dtype.bits // 8, 1)}")
            data = codes.tobytes() if dtype.bits in (8, 16) else np.arange(16, dtype="u1").tobytes()
            size = len(data) * 8 // dtype.bits if dtype.bits in (4, 8, 16) else 0
            if size == 0:
                continue
            yield raw(f"{dtype.name}.all", dtype.name, (size // 4, 4), data)
        elif dtype.kind != "float" and dtype.bits >= 8:
            yield Tensor.from_array(f"{dtype.name}.values", np.array([[0, 1], [1, 0]]).astype(dtype.numpy()))
        yield raw(f"{dtype.name}.none", dtype.name, (0, 3), b"")
        if dtype.bits >= 8:
            yield raw(f"{dtype.name}.scalar", dtype.name, (), bytes(dtype.itemsize))


def stores() -> dict[str, TensorStore]:
    bits = np.array([0x7FC00001, 0x7F800001, 0xFFFFFFFF, 0x80000000, 0, 1, 0x7F800000, 0x00800000], "<u4")
    rng = np.random.default_rng(5)
    names = ["module.features.0.weight", "größe.重み", "a(b)", "0", "3f800000", "x" * 5000, "\\", '"', "a\u200bb", "\U0001f600"]
    large = rng.integers(0, 1 << 32, 1_000_003, "<u4").view("<f4")
    return {
        "empty": TensorStore([]),
        "bits": TensorStore([raw("w", "float32", (2, 4), bits.tobytes()), raw("e", "float32", (2, 0), b"")]),
        "every type": TensorStore(every_type()),
        "names": TensorStore([Tensor.from_array(n, np.array([i], "<f4")) for i, n in enumerate(names)]),
        "no UTF-8": TensorStore([Tensor.from_array("na\udcefve", np.array([1.0], "<f4"))]),
        "large": TensorStore([Tensor.from_array("w", large), Tensor.from_array("v", large[:77_777].reshape(7, -1))]),
        "float64": TensorStore([Tensor.from_array("d", np.array([0.5, -0.0, 2.0**100])), Tensor.from_array("n", np.array(1 << 40))]),
    }


STORES = stores()


# ---- what Python writes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", STORES)
def test_what_python_writes(wts_info: Path, tmp_path: Path, name: str, dialect: str) -> None:
    store, path = STORES[name], tmp_path / "m.wts"
    porter.save(store, path, f"wts:{dialect}")
    document = json.loads((tmp_path / "m.wts.json").read_text())
    for threads in (1, 2) if name == "large" else (1,):
        printed = run(wts_info, "--digest", "--threads", threads, path)
        assert printed["dialect"] == (dialect if len(store) else "tensorrtx")
        assert printed["sidecar"] is True
        assert len(printed["tensors"]) == len(document["tensors"])
        for found, recorded in zip(printed["tensors"], document["tensors"], strict=True):
            expected = {k: recorded[k] for k in ("name", "shape", "count", "crc32", "sha256")}
            assert {k: found[k] for k in expected} == expected
            assert (found["original_dtype"], found["dtype"]) == (recorded["dtype"], recorded["stored"])
    assert_same_values(wts_info, path)


def assert_same_values(program: Path, path: Path) -> None:
    """Without the sidecar both see the stored values: the bytes that Python reads have the digests that C++ prints."""
    path.with_name(path.name + ".json").unlink(missing_ok=True)
    found = listed(program, path)
    store = porter.open(path, "wts")
    assert list(found) == list(store)
    for name, tensor in store.items():
        data = tensor.tobytes()
        assert (found[name]["dtype"], found[name]["count"]) == (tensor.dtype.name, tensor.size)
        assert found[name]["shape"] in (None, list(tensor.shape))
        assert (found[name]["crc32"], found[name]["sha256"]) == (f"{zlib.crc32(data):08x}", hashlib.sha256(data).hexdigest())


OTHERS = {
    "v1, no trailing space": b"2\na 0 3 3f800000 0 bf800000\nb 0 2 3f800000 bf800000\n",
    "v1, crlf": b"2\r\na 0 3 3f800000 0 bf800000 \r\nb 0 2 3f800000 bf800000 \r\n",
    "v1, two spaces": b"2\na  0  3  3f800000  0  bf800000  \nb  0  2  3f800000  bf800000  \n",
    "v1, every type": b"4\na 0 1 1 \nb 1 2 3c00 8001 \nc 2 2 80 7f \nd 3 1 ffffffff \n",
    "v1 or tensorrtx": b"1\nw 3 12345678 3f800000 00000003\n",
    "v2": b"4\nw 0 (2, 2) \n\n\n\n1 0 (2,) \n\n\n\nh 1 (1,) \x00\x3c\nq 2 () \n\ne 0 (3, 0) \n",
    "v2, shapes of Python 2": b"2\nw 2 (2L, 5L) 0123456789\nv 2 ( 10 , ) 0123456789",
    "module. and num_batches_tracked": usual_text({"module.bn.weight": [1.0], "module.bn.num_batches_tracked": [1000], "e": []}),
    "a late tab": usual_text({"w": range(5000)}).replace(b" 45", b"\t45"),
    "late double spaces": usual_text({"w": range(5000), "v": range(70)}).replace(b" 459c", b"  459c"),
    "late capitals": usual_text({"w": range(5000), "v": range(70)}).replace(b" 459c", b" 459C"),
    "nothing": b"0\n",
    "a name that is no UTF-8": b"1\nna\xefve 1 3f800000\n",
}


@pytest.mark.parametrize("text", [*ODDITIES.values(), *OTHERS.values()], ids=[*ODDITIES, *OTHERS])
def test_oddities(wts_info: Path, tmp_path: Path, text: bytes) -> None:
    (tmp_path / "m.wts").write_bytes(text)
    assert_same_values(wts_info, tmp_path / "m.wts")


def test_real_file(wts_info: Path, shared: Path, tmp_path: Path) -> None:
    shutil.copy(shared / "real/wts/tensorrtx_mlp.wts", tmp_path / "m.wts")
    assert_same_values(wts_info, tmp_path / "m.wts")


# ---- what C++ writes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", DIALECTS)
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", STORES)
def test_what_cpp_writes(wts_info: Path, tmp_path: Path, name: str, dialect: str, to: str) -> None:
    """From Python to C++, in another dialect back to Python: names, types, shapes and bytes are those of the beginning."""
    porter.save(STORES[name], tmp_path / "m.wts", f"wts:{dialect}")
    run(wts_info, tmp_path / "m.wts", "--write", tmp_path / "c.wts", "--dialect", to)
    back = porter.open(tmp_path / "c.wts")
    assert list(back) == list(STORES[name])
    assert back.digest() == STORES[name].digest()
    if dialect == to:
        assert (tmp_path / "c.wts").read_bytes() == (tmp_path / "m.wts").read_bytes()
        ours, theirs = (json.loads((tmp_path / f"{n}.wts.json").read_text()) for n in "cm")
        assert ours == theirs


def test_what_cpp_refuses_to_write(wts_info: Path, tmp_path: Path) -> None:
    porter.save(TensorStore([Tensor.from_array("n", np.array([1 << 24, (1 << 24) + 1], "<i4"))]), tmp_path / "m.wts", "wts:nvidia-v1")
    command = [str(wts_info), str(tmp_path / "m.wts"), "--write", str(tmp_path / "c.wts"), "--dialect", "tensorrtx"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "error[W402]: 16777217 is no float32" in done.stderr) == (2, True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.wts", "m.wts.json"]
    (tmp_path / "c.wts").write_bytes(b"mine")
    done = subprocess.run([*command[:-1], "nvidia-v1"], capture_output=True, text=True, check=False)
    assert (done.returncode, "error[W404]" in done.stderr) == (2, True)
    assert (tmp_path / "c.wts").read_bytes() == b"mine"


@pytest.mark.parametrize(("narrow", "dtype"), [("half", "<f2"), ("bfloat16", ml_dtypes.bfloat16)])
def test_narrowing_is_numpys(wts_info: Path, tmp_path: Path, narrow: str, dtype: Any) -> None:
    """To nearest, ties to even, and counted; NaNs stay NaNs."""
    rng = np.random.default_rng(6)
    values = np.concatenate([rng.integers(0, 1 << 32, 100_000, "<u4").view("<f4"), rng.normal(0, 1e-5, 100_000).astype("<f4")])
    porter.save(TensorStore([Tensor.from_array("w", values)]), tmp_path / "m.wts")
    (found,) = run(wts_info, tmp_path / "m.wts", "--narrow", narrow, "--write", tmp_path / "n.wts")["tensors"]
    back = porter.open(tmp_path / "n.wts")["w"].numpy()
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        rounded = values.astype(dtype)
        wide = rounded.astype("<f4")
    number = ~np.isnan(values)
    assert back.dtype == rounded.dtype
    assert back[number].tobytes() == rounded[number].tobytes()
    assert np.isnan(back[~number].astype("<f4")).all()
    assert found["overflowed"] == int((np.isinf(wide) & np.isfinite(values)).sum())
    assert found["underflowed"] == int(((wide == 0) & (values != 0)).sum())
    assert found["inexact"] == int((wide != values)[number].sum())


# ---- what both refuse ------------------------------------------------------------------------------------------------


def fault(path: Path) -> PorterError | None:
    """The Python reader's error, or None if it reads the file."""
    try:
        read_everything(path)
    except PorterError as error:
        return error
    return None


def refused(program: Path, path: Path) -> dict[str, Any] | None:
    """The C++ loader's error, or None if it reads the file."""
    error: dict[str, Any] | None = run(program, path, code=None).get("error")
    return error


@pytest.mark.parametrize(("data", "code", "line", "column", "tensor", "message"), FAULTS.values(), ids=FAULTS)
def test_fault(wts_info: Path, tmp_path: Path, data: bytes, code: str, line: int, column: int | None, tensor: str, message: str) -> None:
    """What Python's own tests say of it, the words too."""
    (tmp_path / "m.wts").write_bytes(data)
    error = refused(wts_info, tmp_path / "m.wts")
    assert error is not None
    assert error["code"] in CODES[code]
    assert (error["line"], error["column"], error["tensor"]) == (line, column or 0, tensor or "")
    assert message.replace(r"'\r'", "byte 0x0d") in error["message"]
    assert error["path"] == str(tmp_path / "m.wts")
    assert error["hint"]


@pytest.mark.parametrize(("data", "code", "offset"), V2_FAULTS.values(), ids=V2_FAULTS)
def test_v2_fault(wts_info: Path, tmp_path: Path, data: bytes, code: str, offset: int) -> None:
    (tmp_path / "m.wts").write_bytes(data)
    error = refused(wts_info, tmp_path / "m.wts")
    assert error is not None
    assert error["code"] in CODES[code]
    assert error["offset"] == offset
    assert error["hint"]


@pytest.mark.parametrize("at", [0, 900_000, 1_199_998])
@pytest.mark.parametrize("threads", [1, 2])
def test_fault_deep_in_a_long_line(wts_info: Path, tmp_path: Path, at: int, threads: int) -> None:
    line = bytearray(b" ".join([b"3f80a000"] * 1_200_000))
    line[9 * at + 3] = ord("-")
    (tmp_path / "m.wts").write_bytes(b"2\nw 1200000 %s\nb 1 3f800000\n" % line)
    error = run(wts_info, tmp_path / "m.wts", "--threads", threads, code=2)["error"]
    column = 1 + len("w 1200000 ") + 9 * at + 3
    assert (error["code"], error["line"], error["column"], error["tensor"]) == ("W105", 2, column, "w")
    assert error["offset"] == 2 + column - 1


def assert_agree(program: Path, path: Path, what: str) -> bool:
    """Both take the file at `path`, or both refuse it at the same place; whether they take it."""
    theirs, ours = fault(path), refused(program, path)
    assert (theirs is None) == (ours is None), f"{what}: {theirs} {ours}"
    if theirs is None or ours is None:
        return True
    if theirs.code in CODES:
        where = theirs.where
        assert ours["code"] in CODES[theirs.code], (what, theirs, ours)
        if where.line is not None:
            assert (ours["line"], ours["column"]) == (where.line, where.column or 0), (what, theirs, ours)
        elif where.offset is not None:
            assert ours["offset"] == where.offset, (what, theirs, ours)
    return False


@pytest.mark.parametrize("dialect", SMALL)
def test_every_truncation_and_many_flips(wts_info: Path, tmp_path: Path, dialect: str) -> None:
    data, path = SMALL[dialect], tmp_path / "m.wts"
    flips = itertools.islice(byte_changes(data), sum(map(ord, dialect)) % 11, None, 11)
    taken = 0
    for what, variant in itertools.chain(truncations(data), flips, growths(data)):
        path.write_bytes(variant)
        taken += assert_agree(wts_info, path, what)
    assert taken


@pytest.mark.parametrize("dialect", DIALECTS)
def test_random_damage(wts_info: Path, tmp_path: Path, dialect: str) -> None:
    """Bytes that files are made of, put in, taken out and moved."""
    rng = np.random.default_rng(7)
    path = tmp_path / "m.wts"
    pieces = [b" ", b"  ", b"\n", b"\r\n", b"\t", b"0", b"1", b"3f800000", b"ff", b"a 1 3f800000\n", b"(1,)", b"\xe4", b"\x0b", b"\0", b"-"]
    for _ in range(40):
        data = bytearray(SMALL[dialect])
        for _ in range(rng.integers(1, 4)):
            at, length = int(rng.integers(len(data) + 1)), int(rng.integers(3))
            data[at : at + length] = pieces[rng.integers(len(pieces))] if rng.integers(2) else b""
        path.write_bytes(bytes(data))
        assert_agree(wts_info, path, repr(bytes(data)))


# ---- the sidecar -----------------------------------------------------------------------------------------------------

SIDECAR_CODES = {"F409": {"W201", "W203", "W204", "W205"}, "F006": {"W201"}, "F007": {"W202"}}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_sidecars_that_disagree(wts_info: Path, tmp_path: Path, dialect: str) -> None:
    path, beside = tmp_path / "m.wts", tmp_path / "m.wts.json"
    porter.save(example(), path, f"wts:{dialect}")
    whole = beside.read_text()
    broken = ["", "{", "[]x", '{"kind": "wts-sidecar"}', "\xff", "[" * 100_000, "1" * 10_000]
    texts = {f"broken {n}": text.encode("latin-1") for n, text in enumerate(broken)}
    for what, change in DISAGREEMENTS.items():
        document = json.loads(whole)
        change(document)
        texts[what] = json.dumps(document).encode()
    for what, text in texts.items():
        beside.write_bytes(text)
        theirs, ours = fault(path), refused(wts_info, path)
        assert theirs is not None, what
        assert ours is not None, what
        assert ours["code"] in SIDECAR_CODES[theirs.code], (what, theirs, ours)
        assert ours["path"] == str(beside), what
        assert theirs.where.tensor is None or theirs.where.tensor == ours["tensor"], (what, theirs, ours)


@pytest.mark.parametrize("text", ["{}", "[]", "3", '{"kind": "other"}'])
def test_another_programs_json(wts_info: Path, tmp_path: Path, text: str) -> None:
    porter.save(example(), tmp_path / "m.wts")
    (tmp_path / "m.wts.json").write_text(text)
    printed = run(wts_info, tmp_path / "m.wts")
    assert printed["sidecar"] is False
    assert any("no sidecar" in notice for notice in printed["notices"])


# ---- the six that the usual loader does not notice -------------------------------------------------------------------


def test_six_faults_six_errors(wts_info: Path, tmp_path: Path) -> None:
    """Each is an error of its own, with the same place in both languages."""
    path = tmp_path / "m.wts"
    good = b"2\na 2 3f800000 3f800000\nb 1 40000000\n"
    files = {
        "truncated": (good[:20], "F001", "W102", 2, 14),
        "a wrong count": (good.replace(b"a 2", b"a 3"), "F403", "W103", 2, 22),
        "a name with a space": (good.replace(b"b 1", b"b c 1"), "F402", "W110", 3, 3),
        "a stray character": (good.replace(b"4", b"-"), "F405", "W105", 3, 5),
    }
    for what, (data, python, cpp, line, column) in files.items():
        path.write_bytes(data)
        theirs, ours = fault(path), run(wts_info, path, code=2)["error"]
        assert theirs is not None, what
        assert (theirs.code, theirs.where.line, theirs.where.column) == (python, line, column), what
        assert (ours["code"], ours["line"], ours["column"]) == (cpp, line, column), what
    path.write_bytes(good)
    with pytest.raises(KeyError, match="bias"):
        porter.open(path)["bias"]
    assert run(wts_info, path, "--only", "bias", code=1)["error"]["code"] == "W301"
    porter.save(porter.open(path), tmp_path / "n.wts")
    (tmp_path / "n.wts").write_bytes(good.replace(b"40000000", b"40000001"))
    theirs, ours = fault(tmp_path / "n.wts"), run(wts_info, tmp_path / "n.wts", code=1)["error"]
    assert theirs is not None
    assert (theirs.code, theirs.where.tensor) == ("F409", "b")
    assert (ours["code"], ours["tensor"]) == ("W204", "b")


def test_wrong_calls(wts_info: Path, tmp_path: Path) -> None:
    for words in ([], ["--what", "m.wts"], ["m.wts", "--dialect", "tensorrtx"], ["m.wts", "--write"], ["m.wts", "--threads", "-1"]):
        done = subprocess.run([wts_info, *words], capture_output=True, text=True, cwd=tmp_path, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error: ")
    assert run(wts_info, tmp_path / "none.wts", code=2)["error"]["code"] == "W001"
    assert run(wts_info, tmp_path, code=2)["error"]["code"] == "W002"


# ---- the README ------------------------------------------------------------------------------------------------------

README = (ROOT / "cpp" / "README.md").read_text()


def test_readme_lists_every_code() -> None:
    """In the words of the header."""
    header = (ROOT / "cpp/include/porter/wts/error.hpp").read_text()
    documented = re.findall(r"/// (W\d{3}): (.*?)\.\n\s+(\w+) = (\d+),", header)
    assert len(documented) == header.count(" = ", 0, header.index("\n};")) - 1  # `ok` has none
    for code, sentence, name, number in documented:
        assert int(code[1:]) == int(number)
        assert f"| {code} | `{name}` | {sentence[0].lower()}{sentence[1:]} |" in README


def test_readme_builds_and_its_session_runs(wts_info: Path, tmp_path: Path) -> None:
    """The build's commands are configured as they stand; the programs of the session are the ones under test."""
    marked = re.search(r"<!-- build -->\n```sh\n(.*?)```\n<!-- /build -->", README, re.S)
    assert marked, "the README lost its build commands"
    folder, env = sandbox(tmp_path)
    shutil.copytree(ROOT / "cpp", folder / "cpp")
    configure, build = marked[1].strip().splitlines()
    subprocess.run(["bash", "-c", f"{configure} -DPORTER_TENSORRT=OFF"], cwd=folder, env=env, check=True, capture_output=True)
    subprocess.run(["bash", "-c", f"{build} -- -n"], cwd=folder, env=env, check=True, capture_output=True)
    (folder / "build/samples").mkdir(exist_ok=True)
    shutil.copy(wts_info, folder / "build/samples/wts_info")
    (session,) = re.findall(r"^```console\n(.*?)^```$", README, re.M | re.S)
    commands = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", session, re.M)
    assert len(commands) >= 3
    for command, expected in commands:
        done = subprocess.run(["bash", "-c", command], cwd=folder, env=env, capture_output=True, text=True, check=False)
        assert done.stdout + done.stderr == expected, command


def test_readme_moves_a_network_in_three_lines(tmp_path: Path) -> None:
    """What the diff makes is compiled, where TensorRT's headers are; three lines are new."""
    (diff,) = re.findall(r"^```diff\n(.*?)^```$", README, re.M | re.S)
    assert sum(line.startswith("+") for line in diff.splitlines()) == 3
    if not HEADERS or not (CUDA / "cuda_runtime_api.h").is_file() or shutil.which("c++") is None:
        return
    (tmp_path / "net.cpp").write_text("".join(line[1:] + "\n" for line in diff.splitlines() if not line.startswith("-")))
    for _, headers in (min(HEADERS.items()), max(HEADERS.items())):
        paths = [f"-I{ROOT / 'cpp/include'}", "-isystem", str(headers), "-isystem", str(CUDA)]
        command = ["c++", "-std=c++17", "-Wall", "-Wextra", "-fsyntax-only", *paths, str(tmp_path / "net.cpp")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
