"""Caffe: binary nets of three generations and of forks, solver states, mean images, and nets as text.

Reading scans the file's structure and leaves the values where they lie; the structure without them travels as the
attachment `caffe.net`. Writing puts the tensors back into it, or into the net that `net` gives, or into plain layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from porter.errors import FormatError, UsageError
from porter.formats.base import Capabilities, Probe, ReadOptions, WriteOptions, WriteReport
from porter.formats.caffe.binary import read_mean, read_net, read_solver_state
from porter.formats.caffe.detect import binary_dialect
from porter.io.source import FileSource
from porter.io.widening import WIDENED_TO_FLOAT32
from porter.store import TensorStore

if TYPE_CHECKING:
    from porter.formats.caffe.net import CaffeNet

CAPABILITIES = Capabilities(
    dtypes=frozenset({"float32", "float64"}),
    widened=dict(WIDENED_TO_FLOAT32),
    ties=True,
    description=True,
    metadata=True,
    attachments=True,
    read_options=frozenset({"net"}),
    write_options=frozenset({"ints", "allow_lossy", "net"}),
)

_LONG_HEAD = 1 << 16
_NO_TEXT = (b"<", b"version https://git-lfs")
"""What a failed download leaves under any name."""


def detect(probe: Probe) -> str | None:
    """Recognises layers of a binary net, the history of a solver, a lone blob, or the text of a net."""
    dialect = binary_dialect(probe.source)
    if dialect is not None:
        return dialect
    from porter.formats.caffe.prototxt import looks_like_prototxt

    # A licence in comments can fill the usual head.
    head = probe.source.read_up_to(0, _LONG_HEAD) if probe.head.lstrip()[:1] == b"#" else probe.head
    if looks_like_prototxt(head):
        return "prototxt"
    # A mistake at its beginning makes text look like nothing. Where the name says what it is, reading says where the mistake is.
    named = probe.path.lower().endswith(".prototxt") and bool(probe.head.strip()) and not probe.head.startswith(_NO_TEXT)
    return "prototxt" if named and b"\0" not in probe.head else None


def read(path: str, options: ReadOptions) -> TensorStore:
    """Read the structure of a net, a solver state or a lone blob, or a net's text; `net` helps where a binary net says too little."""
    source = FileSource(path)
    try:
        if not source.size:  # which is a valid message, and no net
            raise FormatError("F008", "the file is empty", path=path)
        dialect = options.dialect or detect(Probe(source))
        if dialect == "prototxt":
            if options.net is not None:
                raise UsageError("U101", "--net names a prototxt, and the file to read is one itself", hint="leave --net out")
            from porter.formats.caffe.text_blobs import read_prototxt

            return read_prototxt(path)
        if dialect in ("solverstate", "mean"):
            store = read_solver_state(source) if dialect == "solverstate" else read_mean(source)
            if options.net is not None:
                store.note("note", "the file does not name layers, so --net says nothing about it")
        else:
            store = read_net(source, _stated(options.net))
    except BaseException:
        source.close()
        raise
    store.manage(source)
    return store


def _stated(path: str | None) -> CaffeNet | None:
    if path is None:
        return None
    from porter.formats.caffe.net import net_from_prototxt

    return net_from_prototxt(path)


def write(store: TensorStore, path: str, options: WriteOptions) -> WriteReport:
    """Write a binary net of V2 layers (by default) or V1 layers, or a solver state."""
    dialect = options.dialect or "v2"
    if dialect not in ("v2", "v1", "solverstate"):
        raise UsageError(
            "U100", f"porter reads caffe:{dialect} and does not write it", hint="write caffe:v2, caffe:v1 or caffe:solverstate"
        )
    from porter.formats.caffe.writer import write_net, write_solver_state

    if dialect == "solverstate":
        return write_solver_state(store, path, options)
    return write_net(store, path, options, dialect)
