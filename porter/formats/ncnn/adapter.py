"""ncnn: a net as text (`NAME.param`) and its values (`NAME.bin`), read only.

Either file names the other, which lies beside it. A tensor is called `<layer>.<role>`; the text travels as the
attachment `ncnn.param`. Values keep the type in which they are stored: float32, float16 or int8 with its scales.
"""

from __future__ import annotations

import os

from porter.errors import FormatError, UsageError
from porter.formats.base import Capabilities, Probe, ReadOptions, WriteOptions, WriteReport
from porter.formats.ncnn import param
from porter.io.source import FileSource
from porter.io.unindexed import Values, description, missing, partner
from porter.store import Provenance, TensorStore

CAPABILITIES = Capabilities(
    dtypes=frozenset({"float32", "float16", "int8"}),
    writable=False,
    description=True,
    attachments=True,
)

ATTACHMENT = "ncnn.param"
"""The attachment that holds the text of the net as it was."""


def detect(probe: Probe) -> str | None:
    """Recognises the first line of the text, in this file or in the `.param` beside a `.bin`; and `.param.bin`, to refuse it."""
    if param.looks_like_param(probe.head) or probe.head.startswith(param.BINARY_MAGIC):
        return "model"
    return "model" if probe.path.lower().endswith(".bin") and _text_of(probe.path) is not None else None


def read(path: str, options: ReadOptions) -> TensorStore:
    """Read the text, and the flags among the values."""
    text_path, values_path = _pair(path)
    text = description(text_path)
    layers = param.parse(text, text_path)
    store = TensorStore(source=Provenance(path, "ncnn", "model"))
    source = FileSource(values_path)
    try:
        from porter.formats.ncnn.weights import place

        place(layers, Values(source, os.path.basename(text_path)), store)
    except BaseException:
        source.close()
        raise
    store.manage(source)
    store.attachments[ATTACHMENT] = text
    return store


def write(store: TensorStore, path: str, options: WriteOptions) -> WriteReport:
    """Refuse: porter does not write nets for ncnn."""
    raise UsageError("U004", "ncnn files can be read, not written", path=path)


def _pair(path: str) -> tuple[str, str]:
    """The paths of the text and of the values, one of which is `path`."""
    source = FileSource(path)
    try:
        head = source.read_up_to(0, 4096)
    finally:
        source.close()
    if head.startswith(param.BINARY_MAGIC):
        raise FormatError(
            "F085",
            "a .param.bin file has numbers in place of names, and porter reads .param files",
            path=path,
            hint="give the .param file that ncnn2mem made this one from",
        )
    if param.looks_like_param(head) or path.lower().endswith(".param"):
        values = partner(path, ".bin")
        if values is None or os.path.samefile(values, path):
            raise missing(path, ".bin", "the values")
        return path, values
    text = _text_of(path)
    if text is None:
        raise missing(path, ".param", "the net as text: layers and sizes")
    return text, path


def _text_of(path: str) -> str | None:
    """The `.param` beside a `.bin`, if it is the text of a net."""
    beside = partner(path, ".param")
    if beside is None:
        return None
    source = FileSource(beside)
    try:
        return beside if param.looks_like_param(source.read_up_to(0, 64)) else None
    finally:
        source.close()
