"""`porter inspect`, screen by screen."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from cli_runner import Porter, spawn

import porter
from porter.cli.fold import folded
from porter.cli.quantities import bytes_text, shape_text
from porter.store import TensorStore
from porter.tensor import Tensor


def ramp(name: str, *shape: int, dtype: str = "<f4", axes: str | None = None, role: str | None = None) -> Tensor:
    return Tensor.from_array(name, np.arange(int(np.prod(shape)), dtype=dtype).reshape(shape), axes=axes, role=role)


@pytest.fixture
def small(tmp_path: Path) -> str:
    store = TensorStore([ramp("conv1.weight", 10, 3, 3, 3, axes="OIHW", role="weight"), ramp("conv1.bias", 10), ramp("scale", dtype="<f8")])
    store.metadata["format"] = "pt"
    porter.save(store, tmp_path / "small.safetensors")
    return "small.safetensors"


@pytest.fixture
def deep(tmp_path: Path) -> str:
    names = [f"layers.{i}.{part}.weight" for i in range(32) for part in ("q", "k")]
    porter.save(TensorStore([*(ramp(n, 2, 2) for n in names), ramp("head.weight", 5)]), tmp_path / "deep.safetensors")
    return "deep.safetensors"


PIPED = """\
safetensors:single · 1.51 kB · 3 tensors, 281 elements
NAME          SHAPE     AXES  DTYPE  BYTES  OFFSET
conv1.weight  10×3×3×3  OIHW  f32    1,080  0x188
conv1.bias    10              f32       40  0x5c0
scale         scalar          f64        8  0x180
metadata        format: pt
"""


def test_piped(porter_cli: Porter, small: str) -> None:
    run = porter_cli("inspect", small)
    assert (run.code, run.err) == (0, "")
    assert run.out == PIPED


def test_terminal_without_colour_is_the_same(porter_cli: Porter, small: str) -> None:
    assert porter_cli("inspect", small, terminal=True).out == PIPED


def test_axes_column_is_left_out_where_no_tensor_has_any(porter_cli: Porter, deep: str) -> None:
    assert "AXES" not in porter_cli("inspect", deep).out


def test_terminal_folds_repeated_names(porter_cli: Porter, deep: str) -> None:
    run = porter_cli("inspect", deep, terminal=True)
    assert (
        run.out
        == """\
safetensors:single · 5.97 kB · 65 tensors, 261 elements
NAME                     SHAPE  DTYPE    BYTES  OFFSET
layers.{0..31}.q.weight  2×2    f32    32 × 16
layers.{0..31}.k.weight  2×2    f32    32 × 16
head.weight              5      f32         20  0x1740
"""
    )


def test_pipes_and_all_show_one_line_a_tensor(porter_cli: Porter, deep: str) -> None:
    piped = porter_cli("inspect", deep).out
    assert len(piped.splitlines()) == 2 + 65
    assert "layers.17.q.weight" in piped
    assert porter_cli("inspect", deep, "--all", terminal=True).out == piped


def test_terminal_cuts_long_tables(porter_cli: Porter, tmp_path: Path) -> None:
    porter.save(TensorStore(ramp(f"t{chr(97 + i // 26)}{chr(97 + i % 26)}", i + 1) for i in range(60)), tmp_path / "x.safetensors")
    lines = porter_cli("inspect", "x.safetensors", terminal=True).out.splitlines()
    assert len(lines) == 2 + 35 + 1
    assert lines[-1] == "…25 more (--all)"


def test_terminal_cuts_names_in_their_middle(porter_cli: Porter, tmp_path: Path) -> None:
    name = "encoder." + "very_long_block_name." * 6 + "attention.weight"
    porter.save(TensorStore([ramp(name, 2, 3)]), tmp_path / "x.safetensors")
    run = porter_cli("inspect", "x.safetensors", terminal=True)
    assert all(len(line) <= 80 for line in run.out.splitlines())
    assert "encoder.very_long_bloc" in run.out
    assert "…" in run.out
    assert "attention.weight" in run.out
    assert name in porter_cli("inspect", "x.safetensors").out


@pytest.mark.parametrize("columns", [20, 40, 60, 120])
def test_any_width(porter_cli: Porter, small: str, columns: int) -> None:
    run = porter_cli("inspect", small, terminal=True, columns=columns)
    assert run.code == 0
    assert all(len(line) <= columns for line in run.out.splitlines()[1:])


def test_json(porter_cli: Porter, small: str) -> None:
    document = porter_cli("inspect", small, "--json").json
    assert document["format"] == "safetensors"
    assert document["dialect"] == "single"
    assert document["metadata"] == {"format": "pt"}
    assert document["totals"] == {"tensors": 3, "elements": 281, "bytes": 1128, "file_bytes": 1512}
    assert document["tensors"][0] == {
        "name": "conv1.weight",
        "dtype": "float32",
        "shape": [10, 3, 3, 3],
        "axes": "OIHW",
        "role": "weight",
        "bytes": 1080,
        "offset": 392,
    }
    assert "digest" not in document


def test_offsets_are_where_the_bytes_are(porter_cli: Porter, small: str, tmp_path: Path) -> None:
    data = (tmp_path / small).read_bytes()
    for tensor in porter_cli("inspect", small, "--json", "--digest").json["tensors"]:
        values = data[tensor["offset"] : tensor["offset"] + tensor["bytes"]]
        assert hashlib.sha256(values).hexdigest() == tensor["digest"]


def test_digest(porter_cli: Porter, small: str) -> None:
    digest = porter.open(small).digest()
    assert porter_cli("inspect", small, "--digest").out == PIPED + f"weights digest  {digest}\n"
    assert porter_cli("inspect", small, "--digest", "--json").json["digest"] == digest


def test_digest_of_each_tensor(porter_cli: Porter, small: str) -> None:
    digests = {t.name: t.digest() for t in porter.open(small).values()}
    piped = porter_cli("inspect", small, "--digest", "--all").out
    assert all(d in piped for d in digests.values())
    terminal = porter_cli("inspect", small, "--digest", "--all", terminal=True).out
    assert all(d[:12] in terminal for d in digests.values())
    assert digests["scale"] not in terminal


def test_no_tensors(porter_cli: Porter, tmp_path: Path) -> None:
    porter.save(TensorStore(), tmp_path / "x.safetensors")
    run = porter_cli("inspect", "x.safetensors", "--digest")
    assert run.out == f"safetensors:single · 64 B · 0 tensors, 0 elements\nweights digest  {hashlib.sha256().hexdigest()}\n"
    assert porter_cli("inspect", "x.safetensors", "--json").json["tensors"] == []


def test_ties_attachments_and_long_metadata(porter_cli: Porter, tmp_path: Path) -> None:
    store = TensorStore([ramp("embed", 4, 2)])
    store.tie(ramp("head", 4, 2), "embed")
    store.attachments["caffe.net"] = b"x" * 1234
    store.metadata["long"] = "y" * 5000
    store.metadata["odd"] = [1, 2, float("nan")]
    porter.save(store, tmp_path / "x.safetensors")
    out = porter_cli("inspect", "x.safetensors").out
    assert "TIED TO" in out
    assert "embed" in next(line for line in out.splitlines() if line.startswith("head"))
    assert "attachment      caffe.net, 1.23 kB" in out
    assert max(map(len, out.splitlines())) <= 216
    terminal = porter_cli("inspect", "x.safetensors", terminal=True).out
    assert max(map(len, terminal.splitlines())) <= 80
    document = porter_cli("inspect", "x.safetensors", "--json").json
    assert document["ties"] == {"head": "embed"}
    assert document["attachments"] == {"caffe.net": 1234}
    assert document["metadata"] == {"long": "y" * 5000, "odd": [1, 2, "NaN"]}


def test_several_files(porter_cli: Porter, tmp_path: Path) -> None:
    porter.save(TensorStore([ramp("a", 4), ramp("b", 4)]), tmp_path / "x.safetensors", max_shard_size=16)
    out = porter_cli("inspect", "x.safetensors.index.json").out
    assert " in 3 files · 2 tensors" in out
    assert "x-00002-of-00002.safetensors" in out
    files = [t["file"] for t in porter_cli("inspect", "x.safetensors.index.json", "--json").json["tensors"]]
    assert files == ["x-00001-of-00002.safetensors", "x-00002-of-00002.safetensors"]


EVIL = "a\x1b[2J\nfake  1×1\u202eb\x07"


def test_hostile_names_are_shown_escaped(porter_cli: Porter, tmp_path: Path) -> None:
    store = TensorStore([ramp(EVIL, 2)])
    store.metadata[EVIL] = EVIL
    porter.save(store, tmp_path / "x.safetensors")
    for options in ([], ["--json"], ["--color", "always"]):
        for terminal in (False, True):
            out = porter_cli("inspect", "x.safetensors", *options, terminal=terminal).out
            assert EVIL not in out
            assert "\x1b[2J" not in out
            assert "\x07" not in out
            assert "\u202e" not in out
    piped = porter_cli("inspect", "x.safetensors").out
    assert len(piped.splitlines()) == 4
    assert "a\\x1b[2J\\nfake  1×1\\u202eb\\x07" in piped


def test_names_that_look_like_markup(porter_cli: Porter, tmp_path: Path) -> None:
    porter.save(TensorStore([ramp("[bold]x[/bold] :smile: [/]", 2)]), tmp_path / "x.safetensors")
    assert "[bold]x[/bold] :smile: [/]" in porter_cli("inspect", "x.safetensors", terminal=True).out


@pytest.mark.parametrize(
    "env",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=lambda e: " ".join(f"{k}={v}" for k, v in e.items()),
)
def test_without_unicode(small: str, tmp_path: Path, env: dict[str, str]) -> None:
    porter.save(TensorStore([ramp("größe.重み", 2, 3)]), tmp_path / "x.safetensors")
    done = spawn("inspect", "x.safetensors", cwd=tmp_path, env=env)
    assert (done.returncode, done.stderr) == (0, b"")
    if env.get("PYTHONIOENCODING") == "ascii" or env.get("PYTHONUTF8") == "0":
        assert done.stdout.isascii()
        assert b"safetensors:single | 152 B | 1 tensor, 6 elements" in done.stdout
        assert b"gr\\xf6\\xdfe.\\u91cd\\u307f  2x3" in done.stdout


def test_quiet_keeps_the_result(porter_cli: Porter, small: str) -> None:
    assert porter_cli("inspect", "-q", small).out == PIPED
    assert porter_cli("-q", "inspect", small).out == PIPED


def test_colour_on_demand(porter_cli: Porter, small: str) -> None:
    for run in (porter_cli("inspect", small, "--color", "always"), porter_cli("--color", "always", "inspect", small)):
        assert "\x1b[1mNAME" in run.out
    assert "\x1b" not in porter_cli("inspect", small, "--color", "never", terminal=True).out


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["a.0", "a.1", "a.2"], ["a.{0..2}"]),
        (["a.0", "a.2", "a.7"], ["a.{0,2,7}"]),
        (["a.0", "a.1", "a.5", "a.6", "a.7"], ["a.{0,1,5..7}"]),
        (["l0.c0", "l0.c1", "l1.c0", "l1.c1"], ["l{0,1}.c{0,1}"]),
        (["l0.c0", "l0.c1", "l1.c0"], ["l{0,1}.c0", "l0.c1"]),
        (["a.00", "a.01", "a.02"], ["a.{00..02}"]),
        (["a.1", "b.1"], ["a.1", "b.1"]),
        (["x", "a.1", "y", "a.2"], ["x", "a.{1,2}", "y"]),
        (["9" * 5000, "8" * 5000], ["9" * 5000, "8" * 5000]),
        (["12", "13"], ["{12,13}"]),
    ],
)
def test_folding(names: list[str], shown: list[str]) -> None:
    store = TensorStore(ramp(n, 2) for n in names)
    folds = folded(store)
    assert [f.name for f in folds] == shown
    assert sorted(t.name for f in folds for t in f.tensors) == sorted(names)


def test_folding_minds_shape_and_type() -> None:
    store = TensorStore([ramp("a.0", 2), ramp("a.1", 3), ramp("a.2", 2, dtype="<f8"), ramp("a.3", 2)])
    assert [f.name for f in folded(store)] == ["a.{0,3}", "a.1", "a.2"]


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (9994, "9.99 kB"), (9996, "10.0 kB"), (27_840, "27.8 kB"),
        (999_499, "999 kB"), (999_501, "1.00 MB"), (528_000_000, "528 MB"), (10**18, "1000 PB"),
    ],
)  # fmt: skip
def test_bytes_text(nbytes: int, text: str) -> None:
    assert bytes_text(nbytes) == text


def test_shape_text() -> None:
    assert [shape_text(()), shape_text((0,)), shape_text((2, 3))] == ["scalar", "0", "2×3"]
