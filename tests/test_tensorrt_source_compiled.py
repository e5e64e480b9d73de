"""Generated C++: it compiles without a warning, builds the network with the real library, and finds every changed bit.

Needs NVIDIA's public headers, which are no part of porter: PORTER_TENSORRT_INCLUDE names their folders, with colons between. With
those of TensorRT 11 programs are linked with the library of the package tensorrt_rtx (or PORTER_TENSORRT_LIBRARY) and run; with those of
other versions they are compiled. Engines are not run: that takes a GPU.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import tensorrt_sources as sources
from conftest import ROOT

from porter.dataclass import replace
from porter.tensorrt.layers import Network

HEADERS = [Path(word) for word in os.environ.get("PORTER_TENSORRT_INCLUDE", "").split(os.pathsep) if word]
FLAGS = "-Wall -Wextra -Werror"
SHARED_NETS = ("mtcnn_det1", "mtcnn_det2", "mtcnn_det3", "lenet_v2", "rand_ResNet-50", "rand_mobilenet_v1")

pytestmark = [
    pytest.mark.skipif(not HEADERS, reason="PORTER_TENSORRT_INCLUDE does not say where TensorRT's headers are"),
    pytest.mark.skipif(shutil.which("cmake") is None or shutil.which("g++") is None, reason="there is no cmake, or no g++"),
    pytest.mark.timeout(600),
]


def version(headers: Path) -> int:
    found = re.search(r"define (?:NV_TENSORRT_MAJOR|TRT_MAJOR_ENTERPRISE) +(\d+)", (headers / "NvInferVersion.h").read_text())
    assert found is not None
    return int(found[1])


def library() -> str:
    said = os.environ.get("PORTER_TENSORRT_LIBRARY")
    spec = importlib.util.find_spec("tensorrt_rtx_libs")
    if said is None and (spec is None or not spec.submodule_search_locations):
        pytest.skip("the library of TensorRT is not there: pip install tensorrt-rtx")
    return said or str(Path(next(iter(spec.submodule_search_locations))) / "libtensorrt_rtx.so.1")  # type: ignore[union-attr,arg-type]


def build(folder: Path) -> Path:
    """The program, built as the README says, for the newest headers."""
    newest = max(HEADERS, key=version)
    if version(newest) != 11:
        pytest.skip("the library of tensorrt_rtx takes the headers of TensorRT 11")
    options = [
        f"-DPORTER_CPP_DIR={ROOT / 'cpp'}",
        f"-DTensorRT_INCLUDE_DIR={newest}",
        f"-DTensorRT_LIBRARY={library()}",
        f"-DCMAKE_CXX_FLAGS={FLAGS}",
        "-DCMAKE_BUILD_TYPE=Debug",
    ]
    for command in (["cmake", "-S", str(folder), "-B", str(folder / "build"), *options], ["cmake", "--build", str(folder / "build")]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "build" / "net"


def run(program: Path, *words: object) -> tuple[int, str]:
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def changed(path: Path, tensor: str, digit: int = 7) -> None:
    """One digit of the first value of a tensor in a .wts file."""
    text = path.read_text()
    found = re.search(rf"^{re.escape(tensor)} \d+ ", text, re.MULTILINE)
    assert found is not None
    place = found.end() + digit
    path.write_text(text[:place] + ("0" if text[place] != "0" else "1") + text[place + 1 :])


@pytest.fixture(scope="module")
def everything() -> Network:
    """Every kind of layer beside each other; names that are hard to write."""
    network = sources.one_of_all(sources.PRINTED)
    return replace(network, layers=tuple([replace(y, name=f"{y.name}{sources.HOSTILE}") for y in network.layers]))


def test_every_layer_compiles_and_holds_what_it_should(everything: Network, tmp_path: Path) -> None:
    folder = sources.write(everything, tmp_path / "all", cpp=True)
    program = build(folder)
    code, said = run(program, folder / "net.wts", "--manifest", folder / "net.json")
    assert code == 0, said
    assert said.count("equal, bit for bit") == 2


@pytest.mark.parametrize("headers", HEADERS, ids=lambda p: str(version(p)))
def test_other_versions(headers: Path, tmp_path: Path) -> None:
    """What all versions have compiles with all of them."""
    newer = ("activation GELU", "cumulative sum", "reshape to an input", "slice to an input", "cast")
    names = [n for n in sources.PRINTED if version(headers) >= 11 or not n.startswith(newer)]
    if version(headers) < 9:  # types and unary operations that came later
        names = [n for n in names if n not in ("gather elements", "scatter elements", "resize to an input", "unary ISNAN")]
    folder = sources.write(sources.one_of_all(names), tmp_path / "net", cpp=True)
    cuda = os.environ.get("PORTER_CUDA_INCLUDE", "/usr/local/cuda/include")
    command = ["g++", "-std=c++17", "-fsyntax-only", *FLAGS.split(), "-I", str(ROOT / "cpp" / "include")]
    command += ["-isystem", str(headers), "-isystem", cuda, str(folder / "net.cpp")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_program_finds_what_was_changed(tmp_path: Path) -> None:
    folder = sources.write(sources.residual((3, 2)), tmp_path / "net", cpp=True)
    program, weights, sidecar = build(folder), folder / "net.wts", folder / "net.wts.json"
    words = (weights, "--manifest", folder / "net.json")
    code, said = run(program, *words, "-o", folder / "net.engine")
    assert (code, said.count("equal, bit for bit")) == (0, 2), said
    assert (folder / "net.engine").stat().st_size > 1000
    code, said = run(program, weights, "--dtype", "f16", "-o", folder / "half.engine")
    assert (code, "data/cast" in said, said.count("equal, bit for bit")) == (0, True, 1), said
    whole = weights.read_bytes()
    changed(weights, "bn2a_branch2b.running_var")
    code, said = run(program, *words)
    assert (code, "bn2a_branch2b.running_var" in said) == (2, True), said
    sidecar.unlink()
    code, said = run(program, *words)
    assert (code, "NOT equal" in said) == (1, True), said
    weights.write_bytes(whole[: len(whole) // 2])
    assert run(program, *words)[0] == 2
    weights.write_bytes(whole.replace(b"conv1.weight ", b"conv1.wait ", 1))
    code, said = run(program, *words)
    assert (code, "conv1.weight" in said, "conv1.wait" in said) == (2, True, True), said
    assert run(program, tmp_path / "nothing.wts")[0] == 2


@pytest.mark.parametrize("name", SHARED_NETS)
def test_recorded_networks(name: str, shared: Path, tmp_path: Path) -> None:
    from porter.graph.porting import PortOptions, port

    source = shared / "oracle" / name
    port(str(source / "deploy.prototxt"), str(source / "model.caffemodel"), str(tmp_path), PortOptions(("tensorrt-cpp",)))
    program = build(tmp_path)
    words = (tmp_path / "net.wts", "--manifest", tmp_path / "net.json")
    code, said = run(program, *words)
    assert (code, said.count("equal, bit for bit")) == (0, 2), said
    first = (tmp_path / "net.wts").read_text().splitlines()[1].split()[0]
    (tmp_path / "net.wts.json").unlink()
    changed(tmp_path / "net.wts", first)
    assert run(program, *words)[0] == 1
