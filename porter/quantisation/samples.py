"""Data sets that networks are run on: arrays of a file, or of the files in a folder, cut into batches that fit the inputs.

A file is anything with arrays that porter reads (`.npz`, `.npy`, `.safetensors` …); in a folder every file is a part of the set, in the
order of their names. Arrays are called as the inputs are; where a network has one input, an array of any name does if it is alone. The
first axis counts samples; an array without it, in a file of its own, is one sample. Numbers are rounded to the type of the input, as a
program that feeds it would do; they have to be finite, and integers where it takes integers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass
from porter.dtypes import DTYPES
from porter.errors import FileAccessError, FormatError, UsageError, access_error
from porter.formats.registry import open_store
from porter.store import TensorStore

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

BATCH = 32
"""Samples that are run together where the network leaves their number open."""


@dataclass(frozen=True, slots=True)
class Input:
    """An input of a network: sizes, None where they are open, and the type of its numbers."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


def inputs_of(model: ir.Model) -> list[Input]:
    """The inputs of a graph that have to be fed.

    Raises:
        UsageError: one has no axis to count samples along.
    """
    from porter.dtypes import BY_ONNX

    found = []
    for value in model.graph.inputs:
        if value.name in model.graph.initializers:
            continue
        shape, name = value.shape, value.name or ""
        if not shape or value.dtype is None or int(value.dtype) not in BY_ONNX:
            raise UsageError("U824", f"the input '{name}' is no array of samples", hint="its first axis has to count them")
        sizes = tuple([n if isinstance(n, int) else None for n in shape])
        found.append(Input(name, sizes, BY_ONNX[int(value.dtype)].name))
    return found


class Samples:
    """A data set for these inputs. Reads the shapes of its arrays; values are read when a batch is made.

    Attributes:
        path: the file or folder.
        count: samples that are used: whole batches.
        left_out: samples at the end of files that fill no batch.

    Raises:
        UsageError: arrays do not fit the inputs, or there are none.
        PorterError: a file cannot be read.
    """

    def __init__(self, path: str, inputs: Sequence[Input], labels: str | None = None) -> None:
        self.path = path
        self._inputs = inputs
        self._labels = labels
        fixed = {i.shape[0] for i in inputs if i.shape[0] is not None}
        self._batch = max(fixed, default=BATCH)
        self._whole = bool(fixed)
        self.count = self.left_out = 0
        for file in _files(path):
            with _opened(file) as store:
                n = self._size(store, self._named(store, file), file)
            used = n - n % self._batch if self._whole else n
            self.count, self.left_out = self.count + used, self.left_out + n - used
        if not self.count:
            what = f"{self.left_out} samples, and the network takes {self._batch} at once" if self.left_out else "no samples"
            raise UsageError("U824", what, path=path, hint="give more of them, or export the network with an open batch")

    def __str__(self) -> str:
        return f"{self.count:,} sample{'' if self.count == 1 else 's'}"

    def batches(self) -> Iterator[tuple[dict[str, NDArray[Any]], NDArray[Any] | None]]:
        """Feeds by the names of inputs, and the labels of their samples where there are such. Reads a file at a time.

        Raises:
            UsageError: a number is not finite, or none that the input's type has.
        """
        for file in _files(self.path):
            with _opened(file) as store:
                names = self._named(store, file)
                arrays = {i.name: _batched(store[names[i.name]].numpy(), i) for i in self._inputs}
                labels = store[self._labels].numpy() if self._labels is not None else None
                n = self._size(store, names, file)
                for start in range(0, n - n % self._batch if self._whole else n, self._batch):
                    part = slice(start, start + self._batch)
                    feeds = {i.name: _fed(arrays[i.name][part], i, start, file) for i in self._inputs}
                    yield feeds, labels.reshape(-1)[part] if labels is not None else None

    def _named(self, store: TensorStore, file: str) -> dict[str, str]:
        """The array for each input."""
        others = [name for name in store if name != self._labels]
        if self._labels is not None and self._labels not in store:
            raise UsageError("U824", f"there is no array '{self._labels}' of labels", path=file, hint=f"it has {', '.join(store)}")
        if len(self._inputs) == 1 and self._inputs[0].name not in store and len(others) == 1:
            return {self._inputs[0].name: others[0]}
        for each in self._inputs:
            if each.name not in store:
                has = ", ".join(list(store)[:5]) or "no arrays"
                raise UsageError("U824", f"there is no array for the input '{each.name}'", path=file, hint=f"it has {has}")
        return {i.name: i.name for i in self._inputs}

    def _size(self, store: TensorStore, names: Mapping[str, str], file: str) -> int:
        """How many samples a file has, all its arrays as many."""
        found: dict[str, int] = {}
        for each in self._inputs:
            tensor = store[names[each.name]]
            shape = tensor.shape if len(tensor.shape) != len(each.shape) - 1 else (1, *tensor.shape)
            rest = [n if n is not None else "any" for n in each.shape[1:]]
            fits = len(shape) == len(each.shape) and all(w is None or n == w for n, w in zip(shape[1:], each.shape[1:], strict=True))
            if not fits or tensor.dtype.kind == "complex":
                what = f"{tensor.dtype} {list(tensor.shape)} is no set of samples of {rest}, which '{each.name}' takes"
                raise UsageError("U824", what, path=file, tensor=tensor.name, hint="the first axis counts samples")
            found[tensor.name] = shape[0]
        if self._labels is not None:
            labels = store[self._labels]
            if labels.dtype.kind not in ("int", "uint"):
                raise UsageError("U824", f"labels are integers, and this is {labels.dtype}", path=file, tensor=self._labels)
            found[self._labels] = labels.size
        if len(set(found.values())) > 1:
            counts = ", ".join(f"'{name}' {n}" for name, n in found.items())
            raise UsageError("U824", f"arrays have different numbers of samples: {counts}", path=file)
        return next(iter(found.values()))


def _batched(array: NDArray[Any], each: Input) -> NDArray[Any]:
    return array if array.ndim == len(each.shape) else array[None]


def _fed(array: NDArray[Any], each: Input, start: int, file: str) -> NDArray[Any]:
    """`array`, whose first sample is number `start` of the file, in the type that the input takes."""
    import numpy as np

    dtype = DTYPES[each.dtype]
    with np.errstate(over="ignore", invalid="ignore"):
        made = np.ascontiguousarray(array.astype(dtype.numpy()))
        fits = np.isfinite(made) if dtype.kind == "float" else made == array
    if fits.all():
        return made
    at = [int(i) for i in np.unravel_index(int(np.argmin(fits)), fits.shape)]
    why = "is not finite" if dtype.kind == "float" else f"is none that {dtype} has"
    message = f"{array[tuple(at)]} at {[at[0] + start, *at[1:]]} {why}{' as ' + str(dtype) if dtype.kind == 'float' else ''}"
    raise UsageError("U824", message, path=file, tensor=each.name, hint="leave the sample out, or prepare it as the network expects it")


def _opened(file: str) -> TensorStore:
    try:
        return open_store(file)
    except FormatError as error:
        if error.code == "F009":
            error.hint = "samples are arrays: numpy.savez('data.npz', INPUT=array), of images as they are fed to the network"
        raise


def _files(path: str) -> list[str]:
    if not os.path.isdir(path):
        return [path]
    try:
        found = sorted(entry.path for entry in os.scandir(path) if entry.is_file() and not entry.name.startswith("."))
    except OSError as error:
        raise access_error(error, path, "reading") from error
    if not found:
        raise FileAccessError("I001", "reading: there are no files in this folder", path=path)
    return found
