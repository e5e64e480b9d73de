"""Darknet: a net as text (`NAME.cfg`) and its values (`NAME.weights`), read only.

Either file names the other, which lies beside it; `NAME_final.weights` and its like, which training leaves behind, belong
to `NAME.cfg`. Tensors are called `layers.<number>.<name>`, counted from 0 as Darknet does; see
`porter.formats.darknet.layers`. The text travels as the attachment `darknet.cfg`.
"""

from __future__ import annotations

import os
import re

from porter.errors import UsageError
from porter.formats.base import Capabilities, Probe, ReadOptions, WriteOptions, WriteReport
from porter.formats.darknet import cfg
from porter.io.source import FileSource
from porter.io.unindexed import description, missing, partner
from porter.store import Provenance, TensorStore

CAPABILITIES = Capabilities(
    dtypes=frozenset({"float32"}),
    writable=False,
    description=True,
    metadata=True,
    attachments=True,
)

ATTACHMENT = "darknet.cfg"
"""The attachment that holds the text of the net as it was."""

_TRAINED = ("_final", "_best", "_last")
_SAVED = re.compile(r"_(?:final|best|last|[0-9]+)$")
_VERSIONS = tuple(b"\0\0\0\0" + bytes([minor, 0, 0, 0]) for minor in (1, 2))


def detect(probe: Probe) -> str | None:
    """Recognises a text whose first section is `[net]`, and by its name and version a file of values.

    The dialect stays open (""): which program wrote the values shows when the layers are held against the file's size.
    """
    if cfg.looks_like_cfg(probe.head):
        return ""
    named = probe.path.lower().endswith(".weights")
    return "" if named and (probe.head[:8] in _VERSIONS or _text_of(probe.path) is not None) else None


def read(path: str, options: ReadOptions) -> TensorStore:
    """Read the text, and the header of the values."""
    text_path, values_path = _pair(path)
    text = description(text_path)
    sections, strays = cfg.parse(text, text_path)
    store = TensorStore()
    source = FileSource(values_path)
    try:
        from porter.formats.darknet.weights import place

        dialect = place(sections, source, options.dialect or None, store)
    except BaseException:
        source.close()
        raise
    store.manage(source)
    store.source = Provenance(path, "darknet", dialect)
    store.attachments[ATTACHMENT] = text
    if strays:
        more = f", and neither are {len(strays) - 1} others" if len(strays) > 1 else ""
        store.note("skipped", f"line {strays[0]} of {os.path.basename(text_path)} is no setting{more}")
    for index, section in enumerate(sections[1:]):
        if "share_index" in section.settings:
            store.note(
                "note", f"layer {index} has no weights of its own: share_index={section.text('share_index', '')} names whose it takes"
            )
    stems = {os.path.splitext(os.path.basename(p))[0] for p in (text_path, values_path)}
    if len(stems) > 1:
        store.note("assumed", f"{os.path.basename(values_path)} holds the values of {os.path.basename(text_path)}, which lies beside it")
    return store


def write(store: TensorStore, path: str, options: WriteOptions) -> WriteReport:
    """Refuse: porter does not write nets for Darknet."""
    raise UsageError("U004", "darknet files can be read, not written", path=path)


def _pair(path: str) -> tuple[str, str]:
    """The paths of the text and of the values, one of which is `path`."""
    source = FileSource(path)
    try:
        is_text = cfg.looks_like_cfg(source.read_up_to(0, 4096)) or path.lower().endswith(".cfg")
    finally:
        source.close()
    if is_text:
        stem = os.path.splitext(os.path.basename(path))[0]
        values = partner(path, ".weights", tuple(stem + ending for ending in _TRAINED))
        if values is None or os.path.samefile(values, path):
            raise missing(path, ".weights", "the values")
        return path, values
    text = _text_of(path)
    if text is None:
        raise missing(path, ".cfg", "the net as text: layers and sizes")
    return text, path


def _text_of(path: str) -> str | None:
    """The `.cfg` beside a `.weights`, if there is one."""
    stem = os.path.splitext(os.path.basename(path))[0]
    return partner(path, ".cfg", (_SAVED.sub("", stem),))
