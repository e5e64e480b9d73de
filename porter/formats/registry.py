"""Every format porter knows, which adapter serves it, and opening and saving by name, by content or by extension.

Adapter modules are imported when they are used. Other packages add formats through the entry-point group
`porter.formats`: each entry point names a `FormatEntry`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType
from typing import cast

from porter.dataclass import dataclass, field_names, replace
from porter.errors import FormatError, PorterError, UsageError, printable
from porter.formats.base import Adapter, Probe, ReadOptions, WriteOptions, WriteReport, refuse_overwrite, refuse_stream
from porter.io.source import FileSource
from porter.store import Provenance, TensorStore


@dataclass(frozen=True, slots=True)
class FormatEntry:
    """One format: its name, the adapter's module, and how it is recognised.

    `extensions` maps a file name's ending to the dialect it implies ("" for the default); the longest ending wins.
    `magic` are the first bytes of its files, empty where only a look inside tells. `dialects` lists what `-t
    name:dialect` may say.
    """

    name: str
    module: str
    summary: str
    extensions: Mapping[str, str]
    magic: tuple[bytes, ...] = ()
    dialects: tuple[str, ...] = ()

    def adapter(self) -> Adapter:
        """The adapter module, imported now."""
        return cast(Adapter, importlib.import_module(self.module))


_BUILT_IN = (
    FormatEntry(
        "safetensors",
        "porter.formats.safetensors",
        "safetensors, single or sharded",
        {".safetensors": "", ".safetensors.index.json": "sharded"},
        dialects=("single", "sharded"),
    ),
    FormatEntry(
        "pytorch",
        "porter.formats.pytorch.adapter",
        "PyTorch checkpoints: zip, legacy stream, tar, TorchScript, plain pickles",
        {".pth": "", ".pt": "", ".th": "", ".bin": "", ".ckpt": "", ".tar": "", ".bin.index.json": "sharded"},
        magic=(b"PK\x03\x04", b"\x80\x02"),
        dialects=("zip", "legacy", "tar", "torchscript", "pickle", "sharded"),
    ),
    FormatEntry(
        "npz",
        "porter.formats.npz",
        "NumPy .npz and .npy, dictionaries of arrays included",
        {".npz": "npz", ".npy": "npy"},
        magic=(b"PK\x03\x04", b"\x93NUMPY"),
        dialects=("npz", "npy"),
    ),
    FormatEntry(
        "hdf5",
        "porter.formats.hdf5.adapter",
        "HDF5: porter's own layout, Keras 1 to 3, Caffe",
        {
            ".h5": "",
            ".hdf5": "",
            ".caffemodel.h5": "caffe",
            ".solverstate.h5": "caffe-solverstate",
            ".weights.h5": "keras3",
            ".keras": "keras-archive",
        },
        magic=(b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"),
        dialects=("porter", "caffe", "caffe-solverstate", "keras2", "keras3", "keras-archive", "plain"),
    ),
    FormatEntry(
        "wts",
        "porter.formats.wts.adapter",
        "TensorRT .wts text files, three dialects",
        {".wts": "tensorrtx", ".wts2": "nvidia-v2"},
        dialects=("tensorrtx", "nvidia-v1", "nvidia-v2"),
    ),
    FormatEntry(
        "onnx",
        "porter.formats.onnx.adapter",
        "ONNX models: initialisers, constants, external data",
        {".onnx": ""},
        dialects=("model",),
    ),
    FormatEntry(
        "caffe",
        "porter.formats.caffe.adapter",
        "Caffe .caffemodel (V0, V1, V2, forks), .solverstate, .binaryproto, .prototxt",
        {".caffemodel": "v2", ".solverstate": "solverstate", ".binaryproto": "mean", ".prototxt": "prototxt"},
        dialects=("v2", "v1", "v0", "mixed", "solverstate", "mean", "prototxt"),
    ),
    FormatEntry(
        "ncnn",
        "porter.formats.ncnn.adapter",
        "ncnn nets, read only: .param and the .bin beside it",
        {".param": "", ".bin": ""},
        magic=(b"7767517",),
        dialects=("model",),
    ),
    FormatEntry(
        "darknet",
        "porter.formats.darknet.adapter",
        "Darknet nets, read only: .cfg and the .weights beside it",
        {".cfg": "", ".weights": ""},
        magic=(b"[net]",),
        dialects=("original", "alexeyab"),
    ),
)

_FOREIGN = (
    # Files that people take for one of ours: (offset, bytes there, what it is, the way out).
    (0, b"GGUF", "a GGUF file", None),
    (4, b"TFL3", "a TensorFlow Lite model", None),
    (4, b"ORTM", "an ONNX Runtime .ort model", "convert the .onnx file that it was made from"),
    (0, b"ir_version:", "an ONNX model as text", "save it as a binary .onnx file with the onnx package"),
    (0, b"<\n   ir_version:", "an ONNX model as text", "save it as a binary .onnx file with the onnx package"),
    (0, b'{"irVersion"', "an ONNX model as JSON", "save it as a binary .onnx file with the onnx package"),
    (0, b'{\n  "irVersion"', "an ONNX model as JSON", "save it as a binary .onnx file with the onnx package"),
    (0, b"<?xml", "an XML file, perhaps an OpenVINO model", None),
    (0, b"<!DOCTYPE", "a web page, perhaps of a download that failed", "fetch the file itself"),
    (0, b"<html", "a web page, perhaps of a download that failed", "fetch the file itself"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself", "run 'git lfs pull'"),
    (0, b"\x1f\x8b", "a gzip file", "unpack it first"),
    (0, b"BZh", "a bzip2 file", "unpack it first"),
    (0, b"7z\xbc\xaf", "a 7-zip archive", "unpack it first"),
    (0, b"Rar!", "a RAR archive", "unpack it first"),
    (0, b"\xfd7zXZ", "an xz file", "unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard file", "unpack it first"),
    (0, b"\xff\xfe", "text in UTF-16, perhaps what PowerShell's '>' made of a file", "fetch or write the file again, as UTF-8"),
    (0, b"\xfe\xff", "text in UTF-16", "fetch or write the file again, as UTF-8"),
    (0, b"\xef\xbb\xbf", "text with a byte order mark", "save it as UTF-8 without the mark"),
    (0, b"\x89PNG", "a PNG image", None),
    (0, b"\xff\xd8\xff", "a JPEG image", None),
    (0, b"%PDF", "a PDF document", None),
    (0, b"\x7fELF", "a program or library (ELF)", None),
    (0, b"MZ", "a Windows program or library", None),
    (0, b"SQLite format 3", "an SQLite database", None),
)


@cache
def formats() -> Mapping[str, FormatEntry]:
    """All formats by name: the built-in ones, then those of the entry-point group `porter.formats`."""
    from importlib.metadata import entry_points

    table = {entry.name: entry for entry in _BUILT_IN}
    for point in entry_points(group="porter.formats"):
        entry = point.load()
        table.setdefault(entry.name, entry)
    return MappingProxyType(table)


def find_format(name: str) -> tuple[FormatEntry, str | None]:
    """The format called `name`, and its dialect where `name` is `format:dialect`.

    Raises:
        UsageError: there is no such format or dialect.
    """
    base, _, dialect = name.partition(":")
    table = {e.name: e for e in _BUILT_IN}
    entry = table.get(base) or formats().get(base)
    if entry is None:
        raise UsageError("U001", f"unknown format '{base}'", hint=_nearest(base, formats()))
    if dialect and dialect not in entry.dialects:
        raise UsageError("U002", f"{base} has no dialect '{dialect}'", hint=_nearest(dialect, entry.dialects))
    return entry, dialect or None


def format_for_path(path: str) -> tuple[FormatEntry, str | None]:
    """The format and dialect that the name of an output file implies.

    Raises:
        UsageError: no format has this extension.
    """
    name = os.path.basename(path).lower()
    found = _by_ending(name, _BUILT_IN) or _by_ending(name, formats().values())
    if found is not None:
        return found
    known = " ".join(sorted({e for entry in formats().values() if entry.adapter().CAPABILITIES.writable for e in entry.extensions}))
    raise UsageError("U003", "the output's extension names no format", path=path, hint=f"use -t FORMAT, or one of {known}")


def _by_ending(name: str, entries: Iterable[FormatEntry]) -> tuple[FormatEntry, str | None] | None:
    endings = [(ending, entry) for entry in entries for ending in entry.extensions if name.endswith(ending)]
    if not endings:
        return None
    ending, entry = max(endings, key=lambda e: len(e[0]))
    return entry, entry.extensions[ending] or None


def identify(source: FileSource) -> tuple[FormatEntry, str | None]:
    """The format and dialect of a file, by its content; its extension only says which formats to try first.

    Raises:
        FormatError: no format recognises it; says what it is where that is known.
    """
    probe = Probe(source)
    name = os.path.basename(source.path).lower()

    def rank(entry: FormatEntry) -> tuple[bool, bool]:
        by_magic = any(probe.head.startswith(m) for m in entry.magic)
        return (not by_magic, not any(name.endswith(e) for e in entry.extensions))

    for entry in sorted(_BUILT_IN, key=rank):
        dialect = entry.adapter().detect(probe)
        if dialect is not None:
            return entry, dialect
    for entry in formats().values():
        if entry not in _BUILT_IN:
            dialect = entry.adapter().detect(probe)
            if dialect is not None:
                return entry, dialect
    raise _unknown(probe)


def open_store(path: str | os.PathLike[str], format: str | None = None, *, options: ReadOptions | None = None) -> TensorStore:
    """Open a weight file: read its index, leave its values where they are until they are asked for.

    `format` ("caffe", "wts:nvidia-v1") overrides what the content says.

    Raises:
        PorterError: with the path, the place in the file and a way out.
    """
    options = options or ReadOptions()
    name = os.fspath(path)
    try:
        refuse_stream(name)
        if format is None:
            source = FileSource(name)
            try:
                entry, dialect = identify(source)
            finally:
                source.close()
        else:
            entry, dialect = find_format(format)
        options = replace(options, dialect=options.dialect or dialect)
        check_options(entry, options)
        store = entry.adapter().read(name, options)
    except PorterError as error:
        raise error.located(path=name) from error.__cause__
    if store.source is None:
        store.source = Provenance(name, entry.name, dialect)
    return store


def save_store(
    store: TensorStore, path: str | os.PathLike[str], format: str | None = None, *, options: WriteOptions | None = None
) -> WriteReport:
    """Write `store` to `path` as `format` ("safetensors", "wts:nvidia-v2"), by default what the extension says.

    The file appears whole or not at all. The report says what was lost.

    Raises:
        PorterError: with the tensor and a way out; the output is then untouched.
    """
    options = options or WriteOptions()
    name = os.fspath(path)
    try:
        entry, dialect = find_format(format) if format is not None else format_for_path(name)
        options = replace(options, dialect=options.dialect or dialect)
        adapter = entry.adapter()
        if not adapter.CAPABILITIES.writable:
            raise UsageError("U004", f"{entry.name} files can be read, not written", hint="'porter formats' says which can be written")
        check_options(entry, options)
        refuse_overwrite(name, options)
        store.check_json()
        return adapter.write(store, name, options)
    except PorterError as error:
        raise error.located(path=name) from error.__cause__


def check_options(entry: FormatEntry, given: ReadOptions | WriteOptions) -> None:
    """Raise a `UsageError` for an option that was given and that the format does not understand."""
    capabilities = entry.adapter().CAPABILITIES
    understood = capabilities.read_options if isinstance(given, ReadOptions) else capabilities.write_options
    defaults = type(given)()
    for name in field_names(given):
        if name in understood or name in ("dialect", "overwrite", "progress"):
            continue
        if getattr(given, name) != getattr(defaults, name):
            flag = "--" + name.replace("_", "-")
            raise UsageError("U005", f"{flag} means nothing to {entry.name}", hint=f"leave {flag} out")


def _unknown(probe: Probe) -> FormatError:
    if not probe.size:
        return FormatError("F008", "the file is empty", path=probe.path)
    for offset, magic, what, hint in _FOREIGN:
        if probe.head[offset : offset + len(magic)] == magic:
            return FormatError("F009", f"this is {what}, which porter does not read", path=probe.path, hint=hint)
    if probe.head.startswith(b"PK\x03\x04"):
        return _unknown_zip(probe)
    start = probe.head[:16].hex(" ")
    return FormatError(
        "F009",
        f"no known format; the first bytes are {start}",
        path=probe.path,
        hint="if you know what it is, say so with -f FORMAT (see 'porter formats')",
    )


def _unknown_zip(probe: Probe) -> FormatError:
    """What is wrong with a zip archive that no format takes: that it is broken, or what it holds instead."""
    from porter.io.zip_archive import ZipArchive

    try:
        names = list(ZipArchive(probe.source).entries)
    except FormatError as error:
        return error
    shown = ", ".join(names[:4]) + (", …" if len(names) > 4 else "") if names else "nothing"
    return FormatError(
        "F009",
        f"a zip archive of no known format; it holds {shown}",
        path=probe.path,
        hint="if it is a packed weight file, unpack it first",
    )


def _nearest(word: str, known: Mapping[str, object] | tuple[str, ...]) -> str:
    import difflib

    names = list(known)
    close = difflib.get_close_matches(word, names, 1)
    return f"did you mean '{printable(close[0])}'?" if close else f"known: {', '.join(names)}"
