"""Sides by what a user writes: `deploy.prototxt,model.caffemodel`, `model.onnx`, `model.py:Net,model.pth`, `golden.npz`."""

from __future__ import annotations

import os
import re
from functools import partial

from porter.dataclass import dataclass, field
from porter.errors import GraphError, UsageError, access_error
from porter.graph.porting import PortOptions, kind_of
from porter.graph.user_code import named, required
from porter.parity.side import Side

RUNNERS = ("onnxruntime", "opencv", "engine")
"""What runs a network, the usual one first: onnxruntime runs graphs, OpenCV's own importer a Caffe net, an engine one of TensorRT."""

WAYS = "a side is deploy.prototxt,model.caffemodel or model.onnx or model.py:Net,model.pth or net.py:build,net.wts or golden.npz"

_CODE = re.compile(r"(.+\.py):([A-Za-z_][A-Za-z0-9_]*)")


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """What a caller may say about a side. graph: how a Caffe net is taken over. runner: of `RUNNERS`; PyTorch runs its own modules."""

    graph: PortOptions = field(default_factory=PortOptions)
    runner: str = RUNNERS[0]


@dataclass(frozen=True, slots=True)
class Source:
    """What a side is made of. kind: `caffe`, `onnx`, `golden` or `code`; of code, the file and the name in it are in `path`."""

    kind: str
    path: str
    weights: str | None

    @property
    def label(self) -> str:
        """As the user writes it."""
        return f"{self.path},{self.weights}" if self.weights else self.path


def parse(text: str) -> Source:
    """What `text` names, by the files' content.

    Raises:
        UsageError: it names nothing that can be run.
        FileAccessError: a file cannot be read.
    """
    path, weights = _parts(text)
    if weights is not None:
        _refuse_missing(weights)
    code = _CODE.fullmatch(path)
    if code is not None:
        _refuse_missing(code[1])
        return Source("code", path, weights)
    if path.endswith(".py"):
        raise UsageError("U950", f"'{path}' is a source, and nothing in it is named", hint="write it as model.py:Net,model.pth")
    _refuse_missing(path)
    kind = kind_of(path)
    if kind == "prototxt":
        found = kind_of(weights) if weights is not None else None
        if found not in ("caffe", "hdf5", "prototxt", None):
            raise UsageError("U950", f"'{weights}' has no weights of a Caffe net: it is {found}", hint=WAYS)
        return Source("caffe", path, weights)
    if weights is None and kind in ("onnx", "npz"):
        return Source("onnx" if kind == "onnx" else "golden", path, None)
    if weights is not None and kind_of(weights) == "prototxt":
        raise UsageError("U950", f"'{path}' is no network: its text comes first", hint=f"{weights},{path}")
    if kind in ("onnx", "npz"):
        raise UsageError("U950", f"'{path}' needs no second file, and '{weights}' is given as well", hint=WAYS)
    said = f"it is {kind}, weights without a network" if kind else "it is of no kind that porter knows"
    raise UsageError("U950", f"'{path}' is no network: {said}", hint=WAYS)


def open_side(text: str, options: OpenOptions | None = None) -> Side:
    """The network that `text` names. Runs the file where it is a source.

    Raises:
        PorterError: it names nothing that can be run, or a file is broken.
    """
    from porter.parity.sides import caffe, golden, onnx, opencv

    source, options = parse(text), options or OpenOptions()
    if options.runner == "opencv" and source.kind != "caffe":
        raise UsageError("U951", f"'opencv' runs Caffe nets, and '{source.label}' is none", hint="leave '--runner' out")
    if source.kind == "golden":
        return golden.open_side(source.path)
    if source.kind == "onnx":
        return onnx.open_side(source.path)
    if source.kind == "code":
        return _open_code(source, options.runner)
    if options.runner == "opencv":
        return opencv.open_side(source.path, source.weights, options.graph)
    return caffe.open_side(source.path, source.weights, options.graph)


def _open_code(source: Source, runner: str) -> Side:
    """A class, or a function of nothing, makes a PyTorch module; a function of a network builds one of TensorRT."""
    from porter.parity.sides import engine, tensorrt, torch

    path, _, name = source.path.rpartition(":")
    found = named(path, name, partial(GraphError, "G094"))
    if isinstance(found, type) and required(found):
        hint = f"write a function of no arguments that makes it: def make(): return {name}(…)"
        raise GraphError("G094", f"the class '{name}' takes arguments, and is given none", path=path, hint=hint)
    if required(found) == 0:
        return torch.open_side(source.label, found, path, source.weights)
    side = engine.EngineSide if runner == "engine" else tensorrt.TensorRTSide
    return tensorrt.open_side(source.label, found, path, source.weights, side)


def _parts(text: str) -> tuple[str, str | None]:
    """The network and its weights, parted at a comma; names of files may have commas themselves."""
    if os.path.exists(text) or "," not in text:
        return text, None
    cuts = [match.start() for match in re.finditer(",", text)]
    pairs = [(text[:cut], text[cut + 1 :]) for cut in cuts]
    there = [pair for pair in pairs if all(os.path.exists(_file(part)) for part in pair)]
    path, weights = (there or pairs)[0]
    if not path or not weights:
        raise UsageError("U950", f"'{text}' names no two files", hint=WAYS)
    return path, weights


def _file(part: str) -> str:
    code = _CODE.fullmatch(part)
    return code[1] if code is not None else part


def _refuse_missing(path: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise access_error(error, path, "reading") from error
