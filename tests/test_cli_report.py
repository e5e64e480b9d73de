"""`porter report` from the command line: exit codes, JSON, what it refuses, and that its own commands give it again."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_runner import Porter
from conftest import ROOT

import porter
from porter.store import TensorStore
from porter.tensor import Tensor

EPOCH = "1700000000"


def save(path: Path, **tensors: np.ndarray) -> str:
    porter.save(TensorStore([Tensor.from_array(n.replace("__", "."), x) for n, x in tensors.items()]), path)
    return path.name


@pytest.fixture(autouse=True)
def at_one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)


@pytest.fixture
def digits(tmp_path: Path) -> str:
    shutil.copy(ROOT / "examples/digits/digits.caffemodel", tmp_path / "digits.caffemodel")
    return "digits.caffemodel"


def test_one_file(porter_cli: Porter, digits: str, tmp_path: Path) -> None:
    run = porter_cli("report", digits, "-o", "r.html")
    assert (run.code, run.out) == (0, "")
    size = (tmp_path / "r.html").stat().st_size
    assert run.err == f"saved: report, {size / 1000:.1f} kB → r.html\n"
    again = porter_cli("report", digits, "-o", "r.html")
    assert (again.code, "I010" in again.err) == (2, True)
    first = (tmp_path / "r.html").read_bytes()
    assert porter_cli("report", digits, "-o", "r.html", "--overwrite").code == 0
    assert (tmp_path / "r.html").read_bytes() == first
    assert b"2023-11-14T22:13:20Z" in first


def test_two_files(porter_cli: Porter, tmp_path: Path) -> None:
    x = np.linspace(-1, 1, 24, dtype="<f4").reshape(4, 6)
    y = x.copy()
    y[2, 1] += 1e-3
    a = save(tmp_path / "a.safetensors", w=x, only__a=x[0], same=x[1])
    b = save(tmp_path / "b.safetensors", w=y, only__b=x[2], same=x[1])
    run = porter_cli("report", a, b, "-o", "r.html")
    assert (run.code, run.out) == (1, "Different: 1 of 2 tensors, 1 only in A, 1 only in B\n")
    document = porter_cli("report", a, b, "--json").json
    assert document["comparison"]["counts"] == {"compared": 2, "equal": 1, "within_tolerance": 0, "differing": 1, "only_a": 1, "only_b": 1}
    assert [(t["name"], t["in"]) for t in document["tensors"]] == [("w", "both"), ("only.a", "a"), ("same", "both"), ("only.b", "b")]
    common = document["tensors"][0]["comparison"]["common"]
    assert common["a"]["step"] == common["b"]["step"]
    assert sum(common["a"]["count"]) == sum(common["b"]["count"]) == 24
    assert document["tensors"][2]["comparison"]["b_statistics"] is None
    assert porter_cli("report", a, a, "-o", "s.html").out == "Equal, bit for bit: 3 tensors\n"


def test_tolerance(porter_cli: Porter, tmp_path: Path) -> None:
    x = np.ones(3, "<f4")
    a, b = save(tmp_path / "a.npz", w=x), save(tmp_path / "b.npz", w=np.nextafter(x, np.float32(2)))
    assert porter_cli("report", a, b, "-o", "r.html").code == 1
    run = porter_cli("report", a, b, "-o", "s.html", "--ulp", 1)
    assert (run.code, run.out) == (0, "Equal within tolerance: 1 tensor, 1 of them not bit for bit\n")


def test_map(porter_cli: Porter, digits: str) -> None:
    assert porter_cli("convert", digits, "d.pth").code == 0
    document = porter_cli("report", digits, "d.pth", "--map", "caffe:torch", "--json").json
    assert document["verdict"] == {"answer": "equal", "text": "Equal, bit for bit: 13 tensors"}
    assert document["map"]["actions"] == {"keep": 7, "compute": 2, "rename": 3, "fill": 1}
    assert document["map"]["missing"] == []
    made = next(w for w in document["map"]["ways"] if w["action"] == "compute")
    assert [t["name"] for t in made["targets"]] == ["bn1.running_mean", "bn1.running_var"]
    assert {t["name"] for t in document["tensors"]} == set(porter.open("d.pth"))


def test_map_that_does_not_fit(porter_cli: Porter, digits: str, tmp_path: Path) -> None:
    (tmp_path / "m.pmap").write_text("conv1.weight -> a\nnowhere -> b\n")
    run = porter_cli("report", digits, "--map", "m.pmap", "-o", "r.html")
    assert run.code == 1
    assert run.out.startswith("The map does not fit A: ")
    document = porter_cli("report", digits, digits, "--map", "m.pmap", "--json", "--no-audit").json
    assert document["comparison"] is None
    assert [p["line"] for p in document["map"]["problems"] if p["line"]]
    assert len(document["tensors"]) == 13


def test_what_is_left_out(porter_cli: Porter, digits: str) -> None:
    document = porter_cli("report", digits, "--json", "--no-audit", "--no-histograms", "--title", "T").json
    assert (document["title"], document["precision"]) == ("T", None)
    assert all(t["precision"] is None and t["statistics"]["linear"] is None for t in document["tensors"])
    assert porter_cli("report", digits, "-o", "r.html", "--no-audit", "--no-histograms").code == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], "U960"),
        (["-o", "r.html", "--ulp", "1"], "U961"),
        (["-o", "r.html", "--param", "x=1"], "U922"),
        (["-o", "r.html", "--to", "f17"], "U806"),
        (["-o", "nowhere/r.html"], "I0"),
        (["missing.npz", "-o", "r.html"], "I0"),
    ],
)
def test_refusals(porter_cli: Porter, digits: str, tmp_path: Path, arguments: list[str], code: str) -> None:
    run = porter_cli("report", digits, *arguments)
    assert run.code == 2
    assert code in run.err
    assert not (tmp_path / "r.html").exists()


def test_an_input_is_never_replaced(porter_cli: Porter, tmp_path: Path) -> None:
    x = np.ones(3, "<f4")
    a, b = save(tmp_path / "a.npz", w=x), save(tmp_path / "b.npz", w=x)
    (tmp_path / "link.html").symlink_to(a)
    (tmp_path / "twin.html").hardlink_to(tmp_path / b)
    before = (tmp_path / a).read_bytes(), (tmp_path / b).read_bytes()
    for output in (a, b, "link.html", "twin.html", f"../{tmp_path.name}/{b}"):
        for more in ((), ("--overwrite",)):
            run = porter_cli("report", a, b, "-o", output, *more)
            assert (run.code, "U926" in run.err) == (2, True), output
    for command in ((a, "-o", "-"), ("-", "-o", "r.html")):
        assert "error[U903]" in porter_cli("report", *command).err
    assert ((tmp_path / a).read_bytes(), (tmp_path / b).read_bytes()) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "b.npz", "link.html", "twin.html"]


def test_a_date_that_is_none(porter_cli: Porter, digits: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    assert "U962" in porter_cli("report", digits, "-o", "r.html").err


def test_its_commands_run(porter_cli: Porter, digits: str, tmp_path: Path) -> None:
    """The first one gives the same report; the others run, and answer the same."""
    assert porter_cli("convert", digits, "it's d.pth").code == 0
    arguments = [
        digits,
        "it's d.pth",
        "--map",
        "caffe:torch",
        "--from-a",
        "caffe",
        "--rtol",
        "1e-7",
        "--to",
        "f16,i8",
        "--title",
        "a 'b' <c>",
    ]
    document = porter_cli("report", *arguments, "--json").json
    assert porter_cli("report", *arguments, "-o", "first.html").code == 0
    for entry in document["commands"]:
        program, *words = shlex.split(entry["command"])
        if program == "porter":
            run = porter_cli(*words)
            assert run.code == 0, (words, run.err)
    assert (tmp_path / "report.html").read_bytes() == (tmp_path / "first.html").read_bytes()
