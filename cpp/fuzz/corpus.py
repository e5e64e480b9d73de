"""What the fuzzers start from: small files of every dialect, as porter writes them and as others do, and sidecars.

    python cpp/fuzz/corpus.py FOLDER        # makes FOLDER/wts and FOLDER/sidecar

Each seed begins with the byte that picks the options; `harness.hpp` says what its bits are.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import porter
from porter.store import TensorStore
from porter.tensor import Tensor

DIALECTS = ("tensorrtx", "nvidia-v1", "nvidia-v2")
CONTROLS = (0x00, 0x01, 0x02, 0x04, 0x0C, 0x14, 0x60, 0xA0)


def stores() -> Iterator[TensorStore]:
    """Networks of a few values: every type, lines shorter and longer than what is decoded at once."""
    random = np.random.default_rng(1)
    plain = {"conv1.weight": random.standard_normal((2, 1, 3, 3)).astype("<f4"), "conv1.bias": np.zeros(2, "<f4"), "n": np.array(7, "<i8")}
    typed = {"half": np.array([0.5, -0.0, np.inf, 6e-8], "<f2"), "q": np.array([-1, 0, 127], "i1"), "i": np.array([-2, 70000], "<i4")}
    long = {"w": random.integers(0, 1 << 32, 100, "<u4").view("<f4"), "empty": np.zeros((0, 3), "<f4"), "v": np.ones(33, "<f4")}
    longer = {"a": random.standard_normal(700).astype("<f4"), "b": np.array([1e30, 1e-30, 65520], "<f4")}
    for arrays in (plain, typed, long, longer, {}):
        yield TensorStore([Tensor.from_array(name, array) for name, array in arrays.items()])


def saved(store: TensorStore, dialect: str) -> tuple[bytes, bytes]:
    """The file and its sidecar."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.wts")
        porter.save(store, path, f"wts:{dialect}")
        return path.read_bytes(), Path(f"{path}.json").read_bytes()


def as_others_write(data: bytes) -> Iterator[bytes]:
    """The same tensors as they are met in the wild, and a file that was cut."""
    yield data.replace(b"\n", b"\r\n")
    yield data.replace(b" ", b"  ")
    yield data.replace(b" ", b"\t")
    yield data.rstrip()
    yield data.upper()
    yield data.replace(b"\n", b"\n\n") + b" \n"
    yield data.replace(b"3f", b"3g", 1)
    yield data.replace(b"1.", b"1 .", 1)
    yield data[: len(data) * 2 // 3]


def sidecars() -> Iterator[tuple[int, bytes]]:
    """Of the files that `fuzz_sidecar.cpp` has, and which of them each is for."""
    for number, dialect in enumerate(DIALECTS):
        for dtypes in (("<f4", "<i4"), ("<f4", "<i8"), ("<f4", "?")):
            bits = np.array([0x3F800000, 0, 0xBF800000, 0x7FC00001], "<u4")
            arrays = {"a.weight": bits.view("<f4").reshape(2, 2), "b": np.array(2).astype(dtypes[1]), "empty": np.zeros((0, 3), "<f4")}
            store = TensorStore([Tensor.from_array(name, array) for name, array in arrays.items()])
            store.metadata["note"] = "ä \x01 \U0001f600"
            _, text = saved(store, dialect)
            yield number, text
            yield number, text.replace(b'"float32"', b'"bfloat16"', 1)
            yield number, text.replace(b'"exact"', b'"exakt"').replace(b" ", b"\n")


def main() -> None:
    """Write the seeds."""
    folder = Path(sys.argv[1])
    seeds: dict[str, list[bytes]] = {"wts": [], "sidecar": [bytes([number]) + text for number, text in sidecars()]}
    for store, dialect in itertools.product(stores(), DIALECTS):
        data, _ = saved(store, dialect)
        seeds["wts"] += [bytes([control]) + data for control in CONTROLS]
        seeds["wts"] += [b"\0" + other for other in as_others_write(data)]
    for name, contents in seeds.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, content in enumerate(contents):
            (folder / name / f"{number:03}").write_bytes(content)


if __name__ == "__main__":
    main()
