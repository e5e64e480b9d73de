"""`porter stats`, screen by screen."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from cli_runner import Porter

import porter
from porter.check.statistics.tensorboard import crc32c
from porter.store import TensorStore
from porter.tensor import Tensor


@pytest.fixture
def weights(tmp_path: Path) -> str:
    rng = np.random.default_rng(0)
    conv = np.linspace(-1, 1, 108).reshape(4, 3, 3, 3).astype("<f4")
    conv[2] = 0
    strange = np.array([np.nan, np.inf, 1e-40, -0.0, 0, 2], "<f4")
    tensors = [
        Tensor.from_array("conv.weight", conv),
        Tensor.from_array("conv.bias", strange),
        Tensor.from_array("bn.running_var", np.full(4, 0.5, "<f4")),
        Tensor.from_array("bn.num_batches_tracked", np.array(100)),
        Tensor.from_array("fc.weight", rng.normal(0, 0.1, (5, 7)).astype("<f2")),
        Tensor.from_array("fc2.weight", conv),
    ]
    porter.save(TensorStore(tensors), tmp_path / "w.safetensors")
    return "w.safetensors"


def test_piped(porter_cli: Porter, weights: str) -> None:
    run = porter_cli("stats", weights, "*conv*")
    assert (run.code, run.err) == (0, "")
    assert (
        run.out
        == """\
TENSOR       SHAPE    DTYPE      MEAN     STD  MIN  MAX   |MIN|>0  ZEROS  SPREAD  NOTES
conv.weight  4×3×3×3  f32    -0.06308  0.5607   -1    1  0.009346  25.0%    1.0×  1 of 4 channels dead (2)
conv.bias    6        f32         0.5   0.866    0    2  1.00e-40  33.3%          1 NaN, 1 +Inf, 1 subnormal, 1 -0
"""
        + "parameters  114 elements in 2 tensors, 456 B · mean -0.04297, std 0.5838 · min -1 in conv.weight · max 2 in conv.bias · "
        "smallest 1.00e-40, 25.4% zeros · 1 NaN, 1 +Inf, 1 subnormal, 1 -0\n"
    )


def test_terminal(porter_cli: Porter, weights: str) -> None:
    run = porter_cli("stats", weights, terminal=True)
    lines = run.out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert lines[0].split()[:2] == ["TENSOR", "MEAN"] or lines[0].split()[0] == "TENSOR"
    assert "  1 NaN, 1 +Inf, 1 subnormal, 1 -0" in lines
    assert [line.split()[0] for line in lines if line[:1].isalpha()][-4:] == ["parameters", "buffers", "counters", "equal"]


def test_quantiles(porter_cli: Porter, weights: str) -> None:
    run = porter_cli("stats", weights, "conv.bias", "--quantiles")
    assert run.out.splitlines()[0].split() == ["TENSOR", "MIN", "1%", "5%", "25%", "50%", "75%", "95%", "99%", "MAX", "NOTES"]
    wide = porter_cli("stats", weights, "--quantiles", terminal=True)
    assert all(len(line) <= 80 for line in wide.out.splitlines())


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_histograms(porter_cli: Porter, weights: str, scale: str) -> None:
    run = porter_cli("stats", weights, "conv.*", "--histogram", "--scale", scale, terminal=True)
    counted = [int(line.split()[-1].replace(",", "")) for line in run.out.splitlines() if " … " in line or "≤" in line or line[:2] == "0 "]
    below = [int(line.split()[-1]) for line in run.out.splitlines() if line.startswith("nearer to 0")]
    assert sum(counted) + sum(below) == 112
    assert all(len(line) <= 80 for line in run.out.splitlines())


def test_json(porter_cli: Porter, weights: str) -> None:
    document = porter_cli("stats", weights, "--json", "--channels").json
    assert [g["kind"] for g in document["groups"]] == ["parameter", "buffer", "counter"]
    conv, bias = document["tensors"][:2]
    assert conv["channels"]["dead"] == [2]
    assert len(conv["channels"]["min"]) == 4
    assert conv["quantiles"]["error"] == 0
    assert bias["counts"]["nan"] == 1
    assert bias["min"] == {"value": 1e-40 * 0, "index": [3]}
    assert document["equal"] == [{"names": ["conv.weight", "fc2.weight"], "tied": False, "constant": False}]
    assert "min" not in porter_cli("stats", weights, "--json").json["tensors"][0]["channels"]


def test_compare(porter_cli: Porter, weights: str, tmp_path: Path) -> None:
    porter_cli("convert", weights, "half.npz")
    run = porter_cli("stats", weights, "fc*", "--compare", "half.npz")
    assert [line.split()[-1] for line in run.out.splitlines()] == ["OVERLAP", "100.0%", "100.0%"]
    other = TensorStore([Tensor.from_array("fc.weight", np.full((2, 2), 3.0, "<f4"))])
    porter.save(other, tmp_path / "o.npz")
    run = porter_cli("stats", weights, "--compare", "o.npz", "--json")
    (pair,) = run.json["compared"]["tensors"]
    assert pair["overlap"] == 0
    assert pair["a"]["linear"]["step"] == pair["b"]["linear"]["step"]
    assert porter_cli("stats", weights, "--compare", "o.npz", terminal=True).out.splitlines()[-1].startswith("only in a:")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["nothing*"], "U802"),
        (["--plot", "a.pdf"], "U803"),
        (["--compare", "w.safetensors", "--quantiles"], "U804"),
        (["--compare", "x.npz"], "U805"),
        (["--plot", "there.png"], "I010"),
    ],
)
def test_refusals(porter_cli: Porter, weights: str, tmp_path: Path, arguments: list[str], code: str) -> None:
    porter.save(TensorStore([Tensor.from_array("x", np.ones(1))]), tmp_path / "x.npz")
    (tmp_path / "there.png").write_bytes(b"")
    run = porter_cli("stats", weights, *arguments)
    assert run.code == 2
    assert f"error[{code}]" in run.err


def test_plots(porter_cli: Porter, weights: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert porter_cli("stats", weights, "--plot", "a.png").err == "saved: plot → a.png\n"
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    porter_cli("stats", weights, "--plot", "a.svg")
    first = (tmp_path / "a.svg").read_text()
    assert all(name in first for name in ("conv.weight", "running_var", "w.safetensors"))
    porter_cli("stats", weights, "--plot", "a.svg", "--overwrite")
    assert (tmp_path / "a.svg").read_text() == first
    porter_cli("stats", weights, "--compare", weights, "--plot", "b.svg")
    assert " · overlap 100.0%" in (tmp_path / "b.svg").read_text()


def test_names_are_drawn_as_they_are(porter_cli: Porter, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    names = ["$\\frac$", "<script>", "a\nb", "x" * 300]
    porter.save(TensorStore([Tensor.from_array(n, np.arange(3.0)) for n in names]), tmp_path / "n.npz")
    assert porter_cli("stats", "n.npz", "--plot", "n.svg").code == 0
    text = (tmp_path / "n.svg").read_text()
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_what_has_no_finite_number_is_said_to_be_left_out(porter_cli: Porter, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    arrays = {"empty": np.zeros((0, 3), "<f4"), "nan": np.full((2, 3), np.nan, "<f4"), "x": np.ones(3, "<f4")}
    porter.save(TensorStore([Tensor.from_array(n, a) for n, a in arrays.items()]), tmp_path / "n.npz")
    run = porter_cli("stats", "n.npz", "--plot", "n.svg", "--tensorboard", "logs")
    said, histograms = run.err.splitlines()
    assert said == "saved: plot, tensors left out: 2 without a finite number → n.svg"
    assert histograms.startswith("saved: histograms, tensors left out: 2 without a finite number → ")
    # Channels of nothing but NaNs are no dead ones.
    assert "dead" not in run.out
    assert "6 NaN" in run.out


def test_tensorboard_reads_what_was_written(porter_cli: Porter, weights: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    porter_cli("stats", weights, "--tensorboard", "logs")
    (name,) = os.listdir(tmp_path / "logs")
    read = EventAccumulator(str(tmp_path / "logs" / name), size_guidance={"histograms": 0, "tensors": 0})
    read.Reload()
    tags = read.Tags()
    assert len(tags["histograms"]) + len(tags["tensors"]) == 6
    histogram = read.Histograms("fc.weight")[0].histogram_value
    with porter.open(tmp_path / weights) as opened:
        array = opened["fc.weight"].numpy().astype(np.float64).reshape(-1)
    assert (histogram.min, histogram.max, histogram.num) == (array.min(), array.max(), array.size)
    assert histogram.sum == pytest.approx(array.sum())
    assert histogram.sum_squares == pytest.approx((array**2).sum())
    limits = np.array(histogram.bucket_limit)
    counts, _ = np.histogram(array, limits)
    assert list(histogram.bucket)[1:] == counts.tolist()


def test_crc32c() -> None:
    # Source: RFC 3720, B.4
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


def test_long_tables_are_cut(porter_cli: Porter, tmp_path: Path) -> None:
    porter.save(TensorStore([Tensor.from_array(f"t{i}.weight", np.arange(2.0) + i) for i in range(60)]), tmp_path / "many.npz")
    assert "…25 more (--all)" in porter_cli("stats", "many.npz", terminal=True).out
    assert len(porter_cli("stats", "many.npz").out.splitlines()) == 62
    assert len(porter_cli("stats", "many.npz", "--all", terminal=True).out.splitlines()) > 61


def test_numbers_and_names_at_the_edge(porter_cli: Porter, tmp_path: Path) -> None:
    huge = np.array([1e308, -1e308, 1e308, 5e-324])
    tensors = [
        Tensor.from_array("a\nb/$c$", huge),
        Tensor.from_array("ü\x1b[31m", np.array([3e38, -3e38], "<f4")),
        Tensor.from_array("e", np.zeros((0, 3))),
    ]
    porter.save(TensorStore(tensors), tmp_path / "h.h5")
    for arguments in (["--json"], ["--quantiles"], ["--histogram"], ["--tensorboard", "tb"], ["--compare", "h.h5"]):
        assert porter_cli("stats", "h.h5", *arguments).code == 0
        if "--json" not in arguments:
            assert porter_cli("stats", "h.h5", *arguments, terminal=True).code == 0
    assert porter_cli("audit", "h.h5", "--json").code == 0
    assert porter_cli("audit", "h.h5", "--details", "--fold", "--equalise").code == 0
