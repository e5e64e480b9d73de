"""The C++ library's CMake project, its package, and what needs TensorRT's headers: compiled, linked with what is installed, and run.

Headers are looked for in the folders that PORTER_TENSORRT_INCLUDE names (with colons between), and under /opt/nvidia; CUDA's under
/usr/local/cuda. The library is that of the wheel `tensorrt-rtx`. CI has no headers and runs what needs none.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from once import once

import porter

REPOSITORY = Path(__file__).parents[1]
CPP = REPOSITORY / "cpp"
DIGITS = REPOSITORY / "examples" / "digits"
STRICT = ["-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]

pytestmark = pytest.mark.skipif(not (shutil.which("cmake") and shutil.which("c++")), reason="no cmake or no C++ compiler on this machine")


def _headers() -> dict[str, Path]:
    named = [Path(p) for p in os.environ.get("PORTER_TENSORRT_INCLUDE", "").split(":") if p]
    found: dict[str, Path] = {}
    for folder in [*named, *sorted(Path("/opt/nvidia").glob("*/include"))]:
        version = folder / "NvInferVersion.h"
        if version.is_file():
            numbers = re.findall(r"define (?:NV_TENSORRT|TRT)_(?:MAJOR|MINOR|PATCH)(?:_ENTERPRISE)? +(\d+)", version.read_text())
            found.setdefault(".".join(numbers[:3]), folder)
    return found


HEADERS = _headers()
CUDA = Path("/usr/local/cuda/include")
ELEVEN = next((folder for version, folder in HEADERS.items() if version.startswith("11.")), None)


def _library() -> Path | None:
    spec = importlib.util.find_spec("tensorrt_rtx_libs")
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    return next((path for folder in folders for path in sorted(Path(folder).glob("libtensorrt_rtx.so*"))), None)


LIBRARY = _library()

needs_headers = pytest.mark.skipif(
    not HEADERS or not (CUDA / "cuda_runtime_api.h").is_file(), reason="no headers of TensorRT and CUDA on this machine"
)
needs_library = pytest.mark.skipif(
    ELEVEN is None or LIBRARY is None, reason="no headers of TensorRT 11, or no library of tensorrt-rtx, on this machine"
)


def run(*words: object, cwd: Path | None = None, code: int = 0, **environment: str) -> str:
    """A command's output; it must end with `code`."""
    done = subprocess.run([str(w) for w in words], cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=600)
    assert done.returncode == code, f"{' '.join(map(str, words))}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def configure(source: Path, build: Path, *options: str) -> str:
    """CMake's words."""
    return run("cmake", "-S", source, "-B", build, *options)


# ---- what needs no headers -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, installed."""

    def make(folder: Path) -> None:
        configure(CPP, folder / "build", "-DPORTER_TESTS=OFF", "-DPORTER_SAMPLES=OFF", "-DPORTER_TENSORRT=OFF")
        run("cmake", "--install", folder / "build", "--prefix", folder / "prefix")

    return once(tmp_path_factory, "cpp_package", make) / "prefix"


def test_without_headers_one_line_says_what_is_left_out(tmp_path: Path) -> None:
    empty = [f"-D{name}={name}-NOTFOUND" for name in ("TensorRT_INCLUDE_DIR", "TensorRT_LIBRARY")]
    said = configure(CPP, tmp_path, *empty, "-DCMAKE_FIND_USE_CMAKE_SYSTEM_PATH=OFF", "-DPORTER_TESTS=OFF")
    lines = [line for line in said.splitlines() if "left out" in line]
    assert lines == [
        "-- porter: what needs TensorRT is left out: no NvInfer.h found: give -DTensorRT_INCLUDE_DIR=…/include and "
        "-DTensorRT_LIBRARY=…/libnvinfer.so"
    ]


def test_a_project_finds_the_installed_package(installed: Path, tmp_path: Path) -> None:
    configure(CPP / "tests" / "install", tmp_path, f"-DCMAKE_PREFIX_PATH={installed}")
    run("cmake", "--build", tmp_path, "--target", "consumer")
    (tmp_path / "net.wts").write_text("2\na.weight 2 3f800000 40000000\nb 0 \n")
    assert run(tmp_path / "consumer", tmp_path / "net.wts") == "a.weight 2\nb 0\n"


def test_the_package_has_porters_version(installed: Path) -> None:
    (version,) = installed.rglob("porterConfigVersion.cmake")
    assert f'set(PACKAGE_VERSION "{porter.__version__}")' in version.read_text()


def test_only_wts_tensorrt_knows_tensorrt() -> None:
    for header in (CPP / "include").rglob("*.hpp"):
        if header.parent.name != "tensorrt" and header.name != "wts_tensorrt.hpp":
            assert "nvinfer1" not in header.read_text(), header


def _alone(folder: str, into: Path, *options: object) -> None:
    """Compile each header of a folder by itself."""
    names = [path.name for path in sorted((CPP / "include" / "porter" / folder).glob("*.hpp"))]
    for name in names:
        (into / f"{name}.cpp").write_text(f"#include <porter/{folder}/{name}>\n")
    run("c++", *STRICT, "-fsyntax-only", "-I", CPP / "include", *options, *[into / f"{name}.cpp" for name in names])


def test_every_header_compiles_alone(tmp_path: Path) -> None:
    _alone("wts", tmp_path)


def test_no_header_of_nvidia_is_in_the_repository() -> None:
    assert not [path for path in CPP.rglob("Nv*.h") if "build" not in path.parts]


# ---- what needs them -------------------------------------------------------------------------------------------------


@needs_headers
def test_every_header_for_tensorrt_compiles_alone(tmp_path: Path) -> None:
    newest = max(HEADERS, key=lambda version: tuple(map(int, version.split("."))))
    _alone("tensorrt", tmp_path, "-isystem", HEADERS[newest], "-isystem", CUDA)


@needs_headers
@pytest.mark.parametrize("version", sorted(HEADERS))
@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_headers_compile_without_a_warning(version: str, compiler: str, tmp_path: Path) -> None:
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler} on this machine")
    system = [f"-isystem{HEADERS[version]}", f"-isystem{CUDA}"]
    run(compiler, *STRICT, "-fsyntax-only", "-DPORTER_CUDART=1", f"-I{CPP / 'include'}", *system, CPP / "samples" / "wts_network.cpp")


@needs_headers
def test_fast_math_is_refused(tmp_path: Path) -> None:
    folder = HEADERS[sorted(HEADERS)[0]]
    source = CPP / "samples" / "wts_network.cpp"
    flags = ["-std=c++17", "-ffast-math", "-fsyntax-only", f"-I{CPP / 'include'}", f"-isystem{folder}", f"-isystem{CUDA}"]
    assert "computes to the bit" in run("g++", *flags, source, code=1)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The samples and tests, with fused operations allowed wherever the compiler likes them."""
    return once(tmp_path_factory, "cpp_tensorrt", _build)


def _build(folder: Path) -> None:
    fused = "-mfma -ffp-contract=fast" if "fma" in Path("/proc/cpuinfo").read_text() else "-ffp-contract=fast"
    said = configure(
        CPP,
        folder,
        f"-DTensorRT_INCLUDE_DIR={ELEVEN}",
        f"-DTensorRT_LIBRARY={LIBRARY}",
        f"-DCMAKE_CXX_FLAGS={fused}",
        "-DCMAKE_BUILD_TYPE=Release",
    )
    assert f"{LIBRARY}" in said
    run("cmake", "--build", folder, "--target", "wts_network", "-j2")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits network's weights as PyTorch calls them, and what porter's Python side says of the network it builds."""

    def make(folder: Path) -> None:
        net = [DIGITS / "digits.prototxt", DIGITS / "digits.caffemodel"]
        run("porter", "port", *net, "-o", folder / "ported", "--to", "wts", "-q")
        run("porter", "tensorrt", "build", *net, "-o", folder / "net.engine")

    return once(tmp_path_factory, "digits", make)


@needs_library
def test_the_digits_network_by_hand_is_the_one_that_porter_builds(built: Path, digits: Path, tmp_path: Path) -> None:
    sample, weights = built / "samples" / "wts_network", digits / "ported" / "model.wts"
    said = run(sample, "digits", weights, "-o", tmp_path / "net.engine", "--manifest", digits / "net.json")
    assert said.count("19 layers, 8 with weights, 13754 values: equal, bit for bit") == 2
    assert "note: no layer uses bn1.num_batches_tracked" in said
    assert (tmp_path / "net.engine").stat().st_size > 100_000


@needs_library
@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_the_digits_network_in_a_lower_precision(built: Path, digits: Path, dtype: str, tmp_path: Path) -> None:
    sample = built / "samples" / "wts_network"
    said = run(sample, "digits", digits / "ported" / "model.wts", "--dtype", dtype, "-o", tmp_path / "net.engine")
    assert "21 layers, 8 with weights, 13754 values: equal, bit for bit" in said


@needs_library
def test_exit_codes(built: Path, digits: Path, tmp_path: Path) -> None:
    sample, weights = built / "samples" / "wts_network", digits / "ported" / "model.wts"
    other = json.loads((digits / "net.json").read_text())
    other["layers"][0]["weights"][0]["sha256"] = "0" * 64
    (tmp_path / "other.json").write_text(json.dumps(other))
    assert "kernel (conv1.weight): other values" in run(sample, "digits", weights, "--manifest", tmp_path / "other.json", code=1)
    broken = '{"porter": 1, "kind": "tensorrt-network", "layers": [{"name": 3}]}'
    (tmp_path / "other.json").write_text(broken)
    said = run(sample, "digits", weights, "--manifest", tmp_path / "other.json", code=2)
    assert f'other.json: byte {broken.index("3}")}: this is no manifest of a network: layer 0: "name" is no text' in said
    (tmp_path / "short.wts").write_bytes(weights.read_bytes()[:5000])
    assert "error[W" in run(sample, "digits", tmp_path / "short.wts", code=2)
    (tmp_path / "input.bin").write_bytes(bytes(256))
    assert "needs a GPU" in run(sample, "digits", weights, "--run", tmp_path / "input.bin", code=2)
    assert "usage: wts_network" in run(sample, code=2)


@needs_library
def test_onet_by_hand_is_the_one_that_porter_builds(built: Path, shared: Path, tmp_path: Path) -> None:
    net = [shared / "oracle" / "mtcnn_det3" / name for name in ("deploy.prototxt", "model.caffemodel")]
    run("porter", "port", *net, "-o", tmp_path / "ported", "--to", "wts", "-q")
    run("porter", "tensorrt", "build", *net, "-o", tmp_path / "net.engine")
    said = run(built / "samples" / "wts_network", "onet", tmp_path / "ported" / "model.wts", "--manifest", tmp_path / "net.json")
    assert said.count("35 layers, 17 with weights, 389040 values: equal, bit for bit") == 2


@needs_library
def test_the_units_and_an_lstm_of_pytorch(built: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(5)
    lstm = torch.nn.LSTM(3, 4, num_layers=2, bidirectional=True, batch_first=True)
    x = torch.randn(2, 5, 3)
    with torch.no_grad():
        y, (hidden, cell) = lstm(x)
    tensors = {f"lstm.{name}": p.detach().numpy() for name, p in lstm.named_parameters()}
    tensors |= {"input": x.numpy(), "expected": y.numpy(), "expected_hidden": hidden.numpy(), "expected_cell": cell.numpy()}
    np.savez(tmp_path / "lstm.npz", **tensors)
    run("porter", "convert", tmp_path / "lstm.npz", tmp_path / "lstm.wts", "--raw", "-q")
    run("cmake", "--build", built, "--target", "test_wts_tensorrt", "-j2")
    said = run(built / "tests" / "test_wts_tensorrt", PORTER_LSTM=str(tmp_path / "lstm.wts"))
    assert "All tests passed" in said
    assert "names no file" not in said


@needs_library
def test_a_project_finds_tensorrt_by_the_installed_package(installed: Path, tmp_path: Path) -> None:
    given = [f"-DTensorRT_INCLUDE_DIR={ELEVEN}", f"-DTensorRT_LIBRARY={LIBRARY}"]
    configure(CPP / "tests" / "install", tmp_path, f"-DCMAKE_PREFIX_PATH={installed}", *given)
    run("cmake", "--build", tmp_path, "--target", "consumer_tensorrt")
    (tmp_path / "net.wts").write_text("1\na.weight 2 3f800000 7fc00001\n")
    said = run(tmp_path / "consumer_tensorrt", tmp_path / "net.wts")
    assert said.endswith("1 layers, 1 with weights, 2 values: equal, bit for bit\n")


@needs_library
def test_a_library_that_does_not_fit_the_headers_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "plain.cpp"
    source.write_text("#include <porter/tensorrt/engine.hpp>\nint main() { porter::trt::checkLibrary(); }\n")
    assert LIBRARY is not None
    flags = ["-std=c++17", f"-I{CPP / 'include'}", f"-isystem{ELEVEN}", f"-isystem{CUDA}", f"-Wl,-rpath,{LIBRARY.parent}"]
    run("c++", *flags, source, LIBRARY, "-pthread", "-o", tmp_path / "plain")
    done = subprocess.run([tmp_path / "plain"], capture_output=True, text=True)
    assert done.returncode != 0
    assert "find TensorRT with porter's FindTensorRT.cmake" in done.stderr
