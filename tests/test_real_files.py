"""Real trained files: all of them open, hold what their index says, and pass through every other format unharmed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conformance import TARGETS, Target, assert_only_declared, round_trip
from conftest import shared_folder

import porter
from porter.errors import LossError

_ENDINGS = (".caffemodel", ".h5", ".hdf5", ".pth", ".pt", ".th", ".onnx", ".wts", ".npy", ".param", ".weights")


def _files() -> Iterator[str]:
    folder = shared_folder()
    if folder is not None:
        for path in sorted((folder / "real").rglob("*")):
            if path.suffix in _ENDINGS:
                yield str(path.relative_to(folder / "real"))


def _index(folder: Path) -> dict[str, str]:
    """The index's notes on each file, by its path."""
    notes: dict[str, str] = {}
    for line in (folder / "real" / "INDEX.md").read_text().splitlines():
        cells = [c.strip() for c in line.strip("|").split("|")]
        if len(cells) >= 8 and not cells[0].startswith("-"):
            notes[cells[0]] = " ".join(cells[3:])
    return notes


REAL = tuple(_files())
every_file = pytest.mark.parametrize("name", REAL or ["(none)"])


@every_file
def test_holds_what_the_index_says(shared: Path, name: str) -> None:
    store = porter.open(shared / "real" / name)
    assert len(store)
    for tensor in store.values():
        assert len(tensor.tobytes()) == tensor.nbytes
    notes = _index(shared).get(name, "")
    if found := re.search(r"tensors=(\d+)", notes):
        assert len(store) == int(found[1])
    if (found := re.search(r"params=(\d+)", notes)) and "fp16" not in notes:
        assert store.size == int(found[1])
    if found := re.search(r"dtypes=\{([^}]*)\}", notes):
        said = {k: int(v) for k, v in re.findall(r"'(\w+)': (\d+)", found[1])}
        assert {d: sum(t.dtype.name == d for t in store.values()) for d in said} == said
    if found := re.search(r"first=([\w.]+)\(([\d, ]*)\)", notes):
        first = next(iter(store.values()))
        assert (first.name, first.shape) == (found[1], tuple(int(n) for n in found[2].split(",") if n.strip()))


@every_file
@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.id)
def test_passes_through_every_format(shared: Path, name: str, target: Target, tmp_path: Path) -> None:
    store = porter.open(shared / "real" / name)
    if target.options.get("max_shard_size"):
        target = Target(target.format, target.filename, {"max_shard_size": 200_000})
    try:
        back, report = round_trip(store, target, tmp_path)
    except LossError as error:
        assert error.hint
        assert error.where.tensor
        assert not list(tmp_path.iterdir())
        return
    assert_only_declared(store, back, report)
    lossless = not any(loss.saved_in is None and loss.kind in ("tensor", "name", "dtype", "shape", "value") for loss in report.losses)
    if lossless:
        assert back.digest() == store.digest()


@pytest.mark.parametrize("name", [n for n in REAL if n.endswith(".caffemodel")] or ["(none)"])
def test_caffe_through_safetensors_gives_back_the_same_blobs(shared: Path, name: str, tmp_path: Path) -> None:
    source = porter.open(shared / "real" / name)
    porter.save(source, tmp_path / "m.safetensors")
    porter.save(porter.open(tmp_path / "m.safetensors"), tmp_path / "m.caffemodel")
    back = porter.open(tmp_path / "m.caffemodel")
    assert back.digest() == source.digest()
    assert [(t.name, t.axes, t.role, t.attributes) for t in back.values()] == [
        (t.name, t.axes, t.role, t.attributes) for t in source.values()
    ]
