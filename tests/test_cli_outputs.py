"""Files that commands write beside their results: what cannot be meant or written is refused before anything is printed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from cli_runner import Porter

import porter
from porter.store import TensorStore
from porter.tensor import Tensor

OUTPUTS = {"plan": ("audit", "w.npz", "--plan"), "plot": ("stats", "w.npz", "--plot"), "events": ("stats", "w.npz", "--tensorboard")}


@pytest.fixture
def weights(tmp_path: Path) -> str:
    porter.save(TensorStore([Tensor.from_array("a.weight", np.arange(12, dtype="<f4").reshape(3, 4))]), tmp_path / "w.npz")
    os.symlink("w.npz", tmp_path / "link.npz")
    os.symlink("w.npz", tmp_path / "link.png")
    os.link(tmp_path / "w.npz", tmp_path / "hard.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_bytes(b"")
    return "w.npz"


@pytest.mark.parametrize(
    ("output", "path", "code"),
    [
        ("plan", "-", "U903"),
        ("plan", "", "I001"),
        ("plan", "no/p.json", "I001"),
        ("plan", "w.npz", "U926"),
        ("plan", "link.npz", "U926"),
        ("plan", "folder.png", "I004"),
        ("plot", "no/x.png", "I001"),
        ("plot", "folder.png", "I004"),
        ("plot", "link.png", "U926"),
        ("plot", "hard.png", "U926"),
        ("events", "w.npz", "I004"),
        ("events", "file/below", "I001"),
        ("events", "-", "U903"),
        ("events", "", "I001"),
    ],
)
def test_refused_before_the_result(porter_cli: Porter, weights: str, tmp_path: Path, output: str, path: str, code: str) -> None:
    before = (tmp_path / weights).read_bytes()
    run = porter_cli(*OUTPUTS[output], path, "--json", *(["--overwrite"] if code == "U926" else []))
    assert run.code == 2
    assert json.loads(run.out)["error"]["code"] == code
    assert (tmp_path / weights).read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"w.npz", "link.npz", "link.png", "hard.png", "folder.png", "file"}


def test_a_disk_that_is_full_is_told_instead_of_the_result(porter_cli: Porter, weights: str, tmp_path: Path) -> None:
    # A name too long is found by the system alone, when the file is made.
    run = porter_cli(*OUTPUTS["plan"], "p" * 300, "--json")
    assert run.code == 2
    assert json.loads(run.out)["error"]["code"] == "I005"


def test_the_other_file_of_a_comparison_is_an_input(porter_cli: Porter, weights: str, tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes((tmp_path / weights).read_bytes())
    assert "error[U926]" in porter_cli("stats", weights, "--compare", "b.png", "--plot", "b.png", "--overwrite").err


@pytest.mark.parametrize(
    "arguments",
    [
        ("convert", "w.npz", "m.pmap", "-t", "npz", "--map", "m.pmap"),
        ("convert", "w.npz", "m.pmap", "-t", "npz", "--dtype-plan", "m.pmap"),
        ("quantize", "w.npz", "m.npz", "--calib", "m.npz"),
    ],
    ids=["map", "plan", "samples"],
)
def test_a_conversion_replaces_its_source_alone(porter_cli: Porter, weights: str, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    for name in ("m.pmap", "m.npz"):
        (tmp_path / name).write_text("a.weight -> a.weight\n")
    assert "error[U926]" in porter_cli(*arguments, "--overwrite").err
    assert (tmp_path / arguments[2]).read_text() == "a.weight -> a.weight\n"
    assert porter_cli("convert", weights, weights, "--overwrite").code == 0
