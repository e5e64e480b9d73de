"""`porter convert`, screen by screen, and that it never harms a file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from cli_runner import Porter

import porter
from porter.cli.options import byte_size
from porter.conversion import convert, settle
from porter.errors import FileAccessError, UsageError
from porter.formats.base import WriteOptions
from porter.store import TensorStore
from porter.tensor import Tensor


@pytest.fixture
def small(tmp_path: Path) -> str:
    weight = Tensor.from_array("conv.weight", np.arange(24, dtype="<f4").reshape(2, 3, 2, 2), axes="OIHW", role="weight")
    store = TensorStore([weight, Tensor.from_array("conv.bias", np.ones(2, "<f4"))])
    store.metadata["format"] = "pt"
    porter.save(store, tmp_path / "small.safetensors")
    return "small.safetensors"


@pytest.fixture
def mixed(tmp_path: Path) -> str:
    """Types that `.wts` keeps, widens, casts and refuses."""
    arrays = {
        "keeps": np.ones((2, 3), "<f4"),
        "widens": np.ones(3, "<f2"),
        "casts": np.ones(3, "<f8"),
        "counts": np.array(5, "<i8"),
        "refuses": np.ones(2, "<c8"),
    }
    porter.save(TensorStore(Tensor.from_array(n, a) for n, a in arrays.items()), tmp_path / "mixed.safetensors")
    return "mixed.safetensors"


def test_npz(porter_cli: Porter, small: str) -> None:
    run = porter_cli("convert", small, "out.npz")
    assert (run.code, run.err) == (0, "")
    assert (
        run.out
        == """\
read   safetensors:single  2 tensors  104 B  small.safetensors
wrote  npz:npz             2 tensors  662 B  out.npz
lost   axes, roles and attributes of tensors (conv.weight)
lost   metadata: format
"""
    )
    assert porter.diff(small, "out.npz").equal


def test_wts_and_its_sidecar(porter_cli: Porter, small: str) -> None:
    run = porter_cli("convert", small, "out.wts")
    assert run.code == 0
    lines = run.out.splitlines()
    assert lines[1].endswith("out.wts, out.wts.json")
    assert lines[2:] == [
        "saved  shapes; the file itself keeps counts (conv.weight) → out.wts.json",
        "saved  axes, roles and attributes of tensors (conv.weight) → out.wts.json",
        "saved  metadata: format → out.wts.json",
    ]
    assert porter_cli("diff", small, "out.wts").code == 0


def test_json(porter_cli: Porter, small: str) -> None:
    document = porter_cli("convert", small, "out.npz", "--json").json
    assert document["source"] == {"path": small, "format": "safetensors", "dialect": "single", "tensors": 2, "bytes": 104}
    assert document["target"]["bytes"] == os.path.getsize("out.npz")
    assert document["files"] == [{"path": "out.npz", "bytes": os.path.getsize("out.npz")}]
    assert [(x["kind"], x["tensors"], x["saved_in"]) for x in document["losses"]] == [
        ("description", ["conv.weight"], None),
        ("metadata", [], None),
    ]


def test_quiet_still_says_what_is_lost(porter_cli: Porter, small: str) -> None:
    run = porter_cli("convert", "-q", small, "out.npz")
    assert run.out == ""
    assert run.err == "lost: axes, roles and attributes of tensors (conv.weight)\nlost: metadata: format\n"
    run = porter_cli("convert", "-q", small, "out.wts")
    assert (run.out, run.err) == ("", ""), "what the sidecar keeps is not lost"


def test_long_lists_of_names(porter_cli: Porter, tmp_path: Path) -> None:
    store = TensorStore(Tensor.from_array(f"t{i}", np.ones(2, "<f4"), axes="O") for i in range(9))
    porter.save(store, tmp_path / "x.safetensors")
    assert "(t0, t1 and 7 more)" in porter_cli("convert", "x.safetensors", "a.npz").out
    assert "(t0, t1, t2, t3, t4, t5, t6, t7, t8)" in porter_cli("convert", "-v", "x.safetensors", "b.npz").out


def test_output_exists(porter_cli: Porter, small: str) -> None:
    Path("out.npz").write_bytes(b"old")
    run = porter_cli("convert", small, "out.npz")
    assert (run.code, run.out) == (2, "")
    assert run.err == "error[I010]: the output exists\n  --> out.npz\n   = help: add --overwrite to replace it\n"
    assert Path("out.npz").read_bytes() == b"old"
    assert porter_cli("convert", small, "out.npz", "--overwrite").code == 0
    assert porter.diff(small, "out.npz").equal


def test_onto_itself(porter_cli: Porter, small: str) -> None:
    before = porter.open(small).digest()
    assert porter_cli("convert", small, small).code == 2
    assert porter_cli("convert", small, small, "--overwrite").code == 0
    assert porter.open(small).digest() == before
    Path("link.safetensors").symlink_to(small)
    assert porter_cli("convert", small, "link.safetensors", "--overwrite").code == 0
    assert Path("link.safetensors").is_symlink()
    assert porter.open(small).digest() == before


def test_to_overrides_the_extension(porter_cli: Porter, small: str) -> None:
    assert porter_cli("convert", small, "out.bin", "-t", "safetensors").code == 0
    assert porter.open("out.bin").source.format == "safetensors"
    assert porter_cli("convert", small, "out.xyz", "--to", "wts:nvidia-v1").code == 0
    assert porter.open("out.xyz").source.dialect == "nvidia-v1"


def test_from_overrides_the_content(porter_cli: Porter, small: str) -> None:
    assert porter_cli("convert", small, "out.npz", "-f", "safetensors").code == 0
    run = porter_cli("convert", small, "out2.npz", "-f", "npz")
    assert run.code == 2
    assert "small.safetensors" in run.err
    assert not Path("out2.npz").exists()


@pytest.mark.parametrize("target", ["folder", "folder/", "missing/"])
def test_a_folder_is_no_output(porter_cli: Porter, small: str, target: str) -> None:
    Path("folder").mkdir()
    run = porter_cli("convert", small, target)
    assert run.code == 2
    assert "error[I004]: writing: is a directory" in run.err
    assert f"name the file to write, such as '{os.path.join(target, small)}'" in run.err


def test_missing_folder(porter_cli: Porter, small: str) -> None:
    run = porter_cli("convert", small, "missing/out.npz")
    assert run.code == 2
    assert "error[I001]: writing: no such file or directory" in run.err


@pytest.mark.parametrize("arguments", [("-", "x.npz"), ("small.safetensors", "-")])
def test_streams(porter_cli: Porter, small: str, arguments: tuple[str, str]) -> None:
    run = porter_cli("convert", *arguments)
    assert run.code == 2
    assert "error[U903]" in run.err


def test_unknown_extension_and_format(porter_cli: Porter, small: str) -> None:
    run = porter_cli("convert", small, "out.xyz")
    assert run.code == 2
    assert "error[U003]" in run.err
    run = porter_cli("convert", small, "out.xyz", "-t", "safetensor")
    assert run.code == 2
    assert "did you mean 'safetensors'?" in run.err
    run = porter_cli("convert", small, "out.xyz", "-t", "wts:nvidia-v3")
    assert run.code == 2
    assert "error[U002]" in run.err


def test_options_that_mean_nothing(porter_cli: Porter, small: str) -> None:
    for options in (["--net", "x.prototxt"], ["--select", "model"], ["--into", "m.onnx"], ["--ints", "drop"], ["--max-shard-size", "5GB"]):
        run = porter_cli("convert", small, "out.npz", *options)
        assert run.code == 2, options
        assert f"error[U005]: {options[0]} means nothing to" in run.err
        assert not Path("out.npz").exists()


def test_refused_type(porter_cli: Porter, mixed: str) -> None:
    run = porter_cli("convert", mixed, "out.wts")
    assert run.code == 2
    assert "tensor 'refuses'" in run.err
    assert "= help: " in run.err
    assert not Path("out.wts").exists()


def test_dry_run(porter_cli: Porter, mixed: str) -> None:
    run = porter_cli("convert", mixed, "out.wts", "--dry-run")
    assert run.code == 1
    assert (
        run.out
        == """\
read    safetensors:single  5 tensors  78 B  mixed.safetensors
refuse  wts:tensorrtx       1 tensor         out.wts
saved  shapes; the file itself keeps counts (keeps, counts) → out.wts.json
TENSOR   SHAPE   DTYPE      BECOMES
widens   3       float16    float32
casts    3       float64    float32 if every value fits
counts   scalar  int64      float32 if every value fits
refuses  2       complex64  refused
dry run: nothing was written; types and what the format keeps were checked, values, names and free space were not
"""
    )
    assert sorted(p.name for p in Path().iterdir()) == [mixed]


def test_dry_run_in_a_terminal_fits_it(porter_cli: Porter, mixed: str) -> None:
    run = porter_cli("convert", mixed, "out.wts", "-n", terminal=True)
    assert all(len(line) <= 80 for line in run.out.splitlines())


def test_dry_run_as_json(porter_cli: Porter, mixed: str) -> None:
    document = porter_cli("convert", mixed, "out.wts", "--dry-run", "--json", "--ints", "drop", "--allow-lossy").json
    assert document["dry_run"] is True
    assert {c["tensor"]: (c["action"], c["to"]) for c in document["changes"]} == {
        "widens": ("widened", "float32"),
        "casts": ("rounded", "float32"),
        "counts": ("dropped", None),
        "refuses": ("refused", None),
    }
    assert document["target"]["tensors"] == 3
    assert [x["kind"] for x in document["losses"]] == ["tensor", "shape"]


def test_dry_run_refuses_what_the_run_refuses(porter_cli: Porter, small: str) -> None:
    Path("out.npz").write_bytes(b"old")
    assert porter_cli("convert", small, "out.npz", "-n").code == 2
    assert porter_cli("convert", small, "out.npz", "-n", "--overwrite").code == 0
    assert Path("out.npz").read_bytes() == b"old"
    assert porter_cli("convert", small, "new.npz", "-n", "--into", "x.onnx").code == 2


@pytest.mark.parametrize("target", ["out.npz", "out.wts", "out.onnx", "out.safetensors", "out.pth", "out.h5", "out.caffemodel"])
def test_dry_run_foresees_the_losses(porter_cli: Porter, tmp_path: Path, target: str) -> None:
    store = TensorStore([Tensor.from_array("a.weight", np.ones((2, 3), "<f4"), axes="OI", role="weight")])
    store.tie(Tensor.from_array("b.weight", np.ones((2, 3), "<f4")), "a.weight")
    store.metadata["k"] = "v"
    porter.save(store, tmp_path / "x.safetensors")

    def losses(*options: str) -> set[tuple[str, bool]]:
        document = porter_cli("convert", "x.safetensors", target, "--json", *options).json
        return {(x["kind"], x["saved_in"] is None) for x in document["losses"]}

    assert losses("--dry-run") == losses()


def test_shards(porter_cli: Porter, small: str) -> None:
    run = porter_cli("convert", small, "big.safetensors", "--max-shard-size", "96B")
    assert run.code == 0
    assert sorted(p.name for p in Path().glob("big*")) == [
        "big-00001-of-00002.safetensors",
        "big-00002-of-00002.safetensors",
        "big.safetensors.index.json",
    ]
    assert porter_cli("diff", small, "big.safetensors.index.json").code == 0


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [("5GB", 5 * 10**9), ("512MiB", 512 << 20), ("1000000", 10**6), ("1.5kb", 1500), ("2 k", 2000), ("3TiB", 3 << 40), ("7b", 7)],
)
def test_byte_sizes(text: str, nbytes: int) -> None:
    assert byte_size(text) == nbytes


@pytest.mark.parametrize("text", ["", "x", "5XB", "-1", "1e9", "5G5", "i", "5ib", "9" * 40, "٣"])
def test_byte_sizes_that_are_none(porter_cli: Porter, small: str, text: str) -> None:
    run = porter_cli("convert", small, "out.safetensors", f"--max-shard-size={text}")
    assert run.code == 2
    assert "is no size; write it like 5GB, 512MiB or 1000000" in run.err


def test_progress_bar_is_for_terminals_and_long_work(porter_cli: Porter, small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import porter.cli.screen

    assert porter_cli("convert", small, "a.npz", terminal=True).err == ""
    monkeypatch.setattr(porter.cli.screen, "LONG_WORK", 1)
    assert porter_cli("convert", small, "b.npz").err == ""
    shown = porter_cli("convert", small, "c.npz", terminal=True)
    assert "writing" in shown.err
    assert shown.code == 0
    assert porter_cli("convert", "-q", small, "d.npz", terminal=True).err.startswith("lost:")
    assert porter.diff(small, "c.npz").equal


def test_library(small: str, tmp_path: Path) -> None:
    store, report = convert(tmp_path / small, tmp_path / "out.npz")
    assert (report.format, report.tensors) == ("npz", 2)
    assert porter.diff(store, tmp_path / "out.npz").equal
    with pytest.raises(FileAccessError, match="exists"):
        convert(tmp_path / small, tmp_path / "out.npz")
    convert(tmp_path / small, tmp_path / "out.npz", write=WriteOptions(overwrite=True))
    with pytest.raises(UsageError, match="--net"):
        settle(tmp_path / small, tmp_path / "out2.npz", net="x.prototxt")
