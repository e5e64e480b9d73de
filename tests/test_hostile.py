"""Every truncation and many byte changes of a small file of every writable format."""

from __future__ import annotations

from pathlib import Path

import pytest
from conformance import TARGETS, Target, random_tensor
from hostile import assert_survives, byte_changes, growths, truncations

import porter
from porter.dtypes import FLOAT32
from porter.store import TensorStore

every_target = pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.id)


def small_file(target: Target, folder: Path) -> Path:
    """A file of two tensors, with the files that belong to it."""
    store = TensorStore([random_tensor("conv.weight", FLOAT32, (2, 3), 1), random_tensor("conv.bias", FLOAT32, (2,), 2)])
    path = folder / target.filename
    porter.save(store, path, target.format, **target.options)
    return path


@every_target
def test_truncations(target: Target, tmp_path: Path) -> None:
    path = small_file(target, tmp_path)
    data = path.read_bytes()
    assert assert_survives(path, truncations(data)), "no truncation was noticed"


@every_target
def test_byte_changes(target: Target, tmp_path: Path) -> None:
    path = small_file(target, tmp_path)
    assert assert_survives(path, byte_changes(path.read_bytes())), "no change was noticed"


@every_target
def test_growths(target: Target, tmp_path: Path) -> None:
    path = small_file(target, tmp_path)
    assert_survives(path, growths(path.read_bytes()))


@every_target
def test_truncated_companions(target: Target, tmp_path: Path) -> None:
    """Shards, sidecars and external data that are damaged while the main file is whole."""
    path = small_file(target, tmp_path)
    for companion in sorted(p for p in tmp_path.iterdir() if p != path):
        data = companion.read_bytes()
        refused = 0
        for what, damaged in [*truncations(data, 60), *byte_changes(data, 60)]:
            companion.write_bytes(damaged)
            refused += assert_survives(path, iter([(f"{companion.name} {what}", path.read_bytes())]))
        assert refused, f"no damage to {companion.name} was noticed"
        companion.write_bytes(data)
