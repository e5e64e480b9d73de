"""`porter quantize`, screen by screen; what it computes is tested in test_quantisation*.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_runner import ROOT, Porter, spawn

import porter
from porter.store import TensorStore
from porter.tensor import Tensor

DIGITS = ROOT / "examples/digits"


@pytest.fixture
def weights(tmp_path: Path) -> str:
    rng = np.random.default_rng(0)
    odd = np.ones((2, 3), "<f4")
    odd[0] = np.inf
    arrays = {
        "features.0.convolution.weight": rng.uniform(-1, 1, (4, 3, 3, 3)).astype("<f4"),
        "features.0.convolution.bias": np.ones(4, "<f4"),
        "classifier.weight": rng.normal(size=(10, 40)).astype("<f4"),
        "exact.weight": np.array([[127, -5], [64, 0]], "<f4"),
        "odd.weight": odd,
        "steps": np.array(7),
    }
    porter.save(TensorStore([Tensor.from_array(n, a) for n, a in arrays.items()]), tmp_path / "w.safetensors")
    return "w.safetensors"


def test_piped(porter_cli: Porter, weights: str) -> None:
    run = porter_cli("quantize", weights, "q.safetensors", "--per", "tensor", "--affine")
    assert (run.code, run.err) == (0, "")
    lines = run.out.splitlines()
    assert lines[0].split() == ["TENSOR", "SHAPE", "SCALES", "BYTES", "SNR", "WORST", "ZEROED"]
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["features.0.convolution.weight", "4×3×3×3", "1"],
        ["classifier.weight", "10×40", "1"],
        ["exact.weight", "2×2", "1"],
    ]
    assert lines[4:7] == [
        "kept  fewer than two axes (features.0.convolution.bias)",
        "kept  NaN or infinity among its values (odd.weight)",
        "kept  int64 (steps)",
    ]
    assert lines[7].startswith("wrote 3 tensors as i8 tensor affine, ")


def test_terminal(porter_cli: Porter, weights: str) -> None:
    run = porter_cli("quantize", weights, "q.pth", terminal=True)
    assert all(len(line) <= 80 for line in run.out.splitlines())
    assert "note  channels are taken to come first in" in run.out
    narrow = porter_cli("quantize", weights, "q.pth", "--overwrite", terminal=True, columns=46)
    assert all(len(line) <= 46 for line in narrow.out.splitlines())
    exact = next(line for line in run.out.splitlines() if line.startswith("exact"))
    assert exact.split() == ["exact.weight", "2×2", "2", "12", "B", "exact", "0.00"] or " exact " not in exact


def test_json_and_files(porter_cli: Porter, weights: str) -> None:
    document = porter_cli("quantize", weights, "q.pth", "--only", "c*", "--json").json
    assert document["kind"] == "weights"
    assert document["way"] == {"type": "i8", "per": "channel", "group": 0, "symmetric": True, "range": "minmax"}
    (tensor,) = document["tensors"]
    assert tensor["bytes"] == 400 + 4 * 10
    assert (tensor["axis"], tensor["axis_assumed"], tensor["scales"]) == (0, True, [10])
    assert {k["name"]: k["reason"] for k in document["kept"]}["exact.weight"] == "not asked for"
    assert document["files"] == [{"path": "q.pth", "bytes": os.path.getsize("q.pth")}]
    with porter.open("q.pth") as store, porter.open(weights) as before:
        assert store["classifier.weight"].dtype.name == "int8"
        assert store["exact.weight"].digest() == before["exact.weight"].digest()
    back = porter_cli("quantize", "q.pth", "back.safetensors", "--dequantize", "--json").json
    assert (back["kind"], [t["name"] for t in back["tensors"]]) == ("dequantized", ["classifier.weight"])
    with porter.open("back.safetensors") as store, porter.open(weights) as before:
        assert set(store) == set(before)
        assert np.abs(store["classifier.weight"].numpy() - before["classifier.weight"].numpy()).max() < 0.02


def test_nothing_is_quantised(porter_cli: Porter, weights: str) -> None:
    run = porter_cli("quantize", weights, "a.safetensors", "--exclude", "*")
    assert run.out.endswith("a.safetensors\n")
    assert "wrote 0 tensors as i8 channel" in run.out
    run = porter_cli("quantize", weights, "b.safetensors", "--dequantize")
    assert run.out.startswith("wrote 0 tensors dequantised")
    assert porter.diff(weights, "b.safetensors").equal


def test_dry_run(porter_cli: Porter, weights: str) -> None:
    run = porter_cli("quantize", weights, "q.pth", "-n")
    assert run.code == 0
    assert "plan  3 tensors as i8 channel" in run.out
    document = porter_cli("quantize", weights, "q.pth", "-n", "--json").json
    assert (document["dry_run"], document["files"]) == (True, [])
    assert not Path("q.pth").exists()


def test_quiet_and_overwrite(porter_cli: Porter, weights: str) -> None:
    run = porter_cli("quantize", weights, "q.pth", "-q", "--type", "nf4")
    assert (run.code, run.out, run.err) == (0, "", "")
    before = Path("q.pth").read_bytes()
    run = porter_cli("quantize", weights, "q.pth")
    assert (run.code, "error[I010]" in run.err) == (2, True)
    assert Path("q.pth").read_bytes() == before
    assert porter_cli("quantize", weights, "q.pth", "--overwrite", "-q").code == 0
    assert Path("q.pth").read_bytes() != before


def test_what_torch_lacks_is_said(porter_cli: Porter, weights: str) -> None:
    run = porter_cli("quantize", weights, "q.pth", "--type", "i4")
    assert "not written as a quantised tensor, but as it is: torch has none that are i4 per_group_affine" in run.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--type", "i9"], "U901"),
        (["--type", "nf4", "--affine"], "U822"),
        (["--only", "nothing*"], "U823"),
        (["--dequantize", "--type", "i8"], "U965"),
        (["--test", "x.npz"], "U965"),
        (["--calib", "x.npz"], "U966"),
        (["--fold-bn"], "U965"),
        (["-t", "npz"], "L821"),
    ],
)
def test_what_makes_no_sense(arguments: list[str], code: str, porter_cli: Porter, weights: str) -> None:
    run = porter_cli("quantize", weights, "q.pth", *arguments)
    assert (run.code, run.out) == (2, "")
    assert run.err.startswith(f"error[{code}]"), run.err
    assert os.listdir(".") == [weights]


def test_what_is_quantised_stays(porter_cli: Porter, weights: str) -> None:
    assert porter_cli("quantize", weights, "q.safetensors", "--type", "i4").code == 0
    document = porter_cli("quantize", "q.safetensors", "again.safetensors", "--json").json
    assert document["tensors"] == []
    reasons = {k["name"]: k["reason"] for k in document["kept"]}
    assert reasons["classifier.weight"] == "quantised already"
    assert reasons["classifier.weight.scale"] == "scales of what is quantised already"
    assert porter_cli("quantize", "again.safetensors", "back.safetensors", "--dequantize", "--json").json["tensors"]
    # A file of text has no integers: they are written as numbers, and what they were beside it.
    assert porter_cli("quantize", weights, "q.wts").code == 0
    assert len(porter_cli("quantize", "q.wts", "b.safetensors", "--dequantize", "--json").json["tensors"]) == 3


def test_what_a_map_leaves_out_is_said_on_the_way_back(porter_cli: Porter, weights: str) -> None:
    Path("drop.map").write_text("steps -> drop\nrest -> keep\n")
    run = porter_cli("quantize", weights, "n.safetensors", "--dequantize", "--map", "drop.map", "--json")
    assert run.code == 0, run.err
    assert [n["tensor"] for n in run.json["notices"]] == ["steps"]


def test_a_file_that_breaks_off_leaves_nothing(porter_cli: Porter, weights: str) -> None:
    Path("cut.safetensors").write_bytes(Path(weights).read_bytes()[:-100])
    run = porter_cli("quantize", "cut.safetensors", "q.pth")
    assert run.code == 2
    assert sorted(os.listdir(".")) == ["cut.safetensors", weights]


def test_heavy_libraries_stay_out(tmp_path: Path, weights: str) -> None:
    script = "from porter.cli.main import main\nimport sys\nassert main(sys.argv[1:]) == 0\n"
    script += "assert not {'torch', 'onnx', 'onnxruntime'} & set(sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script, "quantize", weights, "q.pth"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0
    assert spawn("quantize", "--help", cwd=tmp_path).returncode == 0
