"""Keras 3 archives: a zip of `config.json`, `metadata.json`, `model.weights.h5` and the assets of layers.

Keras stores its members uncompressed, so the values are ranges of the archive. A compressed member is expanded into an
unnamed temporary file.

Source: keras-team/keras at 040582fc160b, `keras/src/saving/saving_lib.py` (save_model, `_save_model_to_fileobj`).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Iterable
from typing import Any

from porter.errors import FormatError, UnsafeFileError, UsageError, access_error
from porter.formats.base import ReadOptions, WriteOptions, WriteReport
from porter.formats.hdf5 import description, into, keras3, keras_plan
from porter.formats.hdf5.keras_layers import parse_config
from porter.formats.hdf5.reading import Reader
from porter.formats.hdf5.storage import Window
from porter.formats.hdf5.writing import check, lay_out
from porter.io.atomic import AtomicFile, OutputGroup
from porter.io.source import FileSource
from porter.io.zip_archive import ZipArchive
from porter.io.zip_writer import ZipWriter
from porter.store import Provenance, TensorStore
from porter.tensor import CHUNK, Payload

CONFIG, METADATA, WEIGHTS, ASSETS = "config.json", "metadata.json", "model.weights.h5", "assets/"
_CONFIG_KEY, _ASSET_KEY = "keras.config", "keras.asset/"
_MAX_ASSETS = 64 << 20
_EXPANDED = 4 << 20
_DIALECT = "keras-archive"


def read_archive(source: FileSource, store: TensorStore, options: ReadOptions) -> TensorStore:
    """Read the weights of an archive, its configuration and assets as attachments, its metadata as metadata."""
    if options.net is not None:
        raise UsageError("U005", "--net means nothing to this file", hint="leave --net out")
    archive = _checked(ZipArchive(source))
    config = _read_texts(archive, store)
    window = _weights(archive, store)
    reader = Reader(window, store)
    described = keras3.read(reader, config, options.select)
    reader.finish()
    description.fill_store(store, reader.found, described)
    store.source = Provenance(source.path, "hdf5", _DIALECT)
    return store


def _read_texts(archive: ZipArchive, store: TensorStore) -> Any:
    data = archive.read(CONFIG, _room(archive))
    config = parse_config(data)
    if config is None:
        raise FormatError("F511", f"'{CONFIG}' is not valid JSON", path=archive.source.path)
    store.attachments[_CONFIG_KEY] = data
    if METADATA in archive.entries:
        metadata = parse_config(archive.read(METADATA, _room(archive)))
        if isinstance(metadata, dict):
            store.metadata.update(metadata)
        else:
            store.note("skipped", f"'{METADATA}' is not a JSON object")
    assets = [m for m in archive.entries.values() if m.name not in (CONFIG, METADATA, WEIGHTS)]
    if sum(m.size for m in assets) > min(_MAX_ASSETS, 16 * _room(archive)):
        store.note("skipped", f"{len(assets)} assets of {sum(m.size for m in assets)} bytes in all, too many to carry along")
    else:
        store.attachments.update((_ASSET_KEY + m.name, archive.read(m.name, _MAX_ASSETS)) for m in assets)
    return config


def _checked(archive: ZipArchive) -> ZipArchive:
    """`archive`, none of whose members would be written elsewhere than below the folder that it is unpacked into."""
    for member in archive.entries.values():
        parts = member.name.replace("\\", "/").split("/")
        if ".." in parts or parts[0] == "" or ":" in parts[0]:
            raise UnsafeFileError(
                "S505",
                f"the archive's member '{member.name}' would be unpacked outside the model's folder",
                path=archive.source.path,
                offset=member.offset,
                hint="no framework writes such a name; do not load this file in the framework either, unless you trust who made it",
            )
    return archive


def _room(archive: ZipArchive) -> int:
    """Bytes that a member with text may expand to: as JSON it takes twenty times that in memory."""
    return max(_EXPANDED, archive.source.size)


def _weights(archive: ZipArchive, store: TensorStore) -> Window:
    """The file of weights as a window of the archive, or of a temporary file where it is compressed."""
    if WEIGHTS not in archive.entries:
        hint = (
            "weights in NumPy's format are in 'model.weights.npz'; unpack the archive" if "model.weights.npz" in archive.entries else None
        )
        raise FormatError("F511", f"the archive has no '{WEIGHTS}'", path=archive.source.path, hint=hint)
    member = archive.entries[WEIGHTS]
    if member.stored == member.size and member.method == zipfile.ZIP_STORED:
        return Window(archive.source, member.offset, member.size)
    source = _expanded(archive.payload(WEIGHTS), archive.source.path)
    store.manage(source)
    return Window(source, 0, source.size)


def _expanded(payload: Payload, shown: str) -> FileSource:
    """The bytes of `payload` in a temporary file that has no name any more; messages call it `shown`."""
    try:
        with tempfile.NamedTemporaryFile(prefix="porter-") as file:
            for chunk in payload.chunks(CHUNK):
                file.write(chunk)
            file.flush()
            source = FileSource(file.name)
    except OSError as error:
        raise access_error(error, shown, "expanding a member of") from error
    source.path = shown
    return source


def write_archive(store: TensorStore, path: str, options: WriteOptions) -> WriteReport:
    """Write an archive around the configuration that the store brings.

    Raises:
        UsageError: it brings none, so there is no model to write.
    """
    data = store.attachments.get(_CONFIG_KEY)
    config = parse_config(data) if data is not None else None
    if data is None or not isinstance(config, dict):
        raise UsageError(
            "U504",
            "a Keras archive needs the model's configuration, which these weights do not have",
            hint="put them into an existing archive with --into MODEL.keras, or write hdf5:keras3 for weights alone",
        )
    plan = keras_plan.keras3(store)
    check(plan, store)
    around = _around(store)
    scratch = AtomicFile(path)
    try:
        places = lay_out(scratch.temporary, path, plan, store, around=around, read=lambda reader: keras3.read(reader, config, None))
        with OutputGroup(progress=options.progress) as group, contextlib.closing(FileSource(scratch.temporary)) as skeleton:
            archive = ZipWriter(group.create(path))
            archive.add(METADATA, json.dumps(around.metadata).encode())
            archive.add(CONFIG, data)
            for key, asset in around.attachments.items():
                if key != _CONFIG_KEY:
                    archive.add(key.removeprefix(_ASSET_KEY), asset)
            archive.add(WEIGHTS, *into.overlaid(Window(skeleton, 0, skeleton.size), places))
            archive.finish()
    finally:
        scratch.discard()
    return WriteReport("hdf5", _DIALECT, (path,), len(store), tuple(plan.losses), tuple(plan.notices))


def _around(store: TensorStore) -> TensorStore:
    """What the archive keeps beside its file of weights."""
    around = TensorStore()
    around.metadata = {k: v for k, v in store.metadata.items() if k in ("keras_version", "date_saved")} or {"keras_version": "3.0.0"}
    around.attachments = {
        key: data
        for key, data in store.attachments.items()
        if key == _CONFIG_KEY or (key.startswith(_ASSET_KEY + ASSETS) and "\0" not in key and ".." not in key.split("/"))
    }
    return around


def write_into_archive(source: FileSource, store: TensorStore, path: str, options: WriteOptions) -> WriteReport:
    """Write a copy of the archive in `source` with the values of `store` in it."""
    if options.dialect not in (None, _DIALECT):
        raise UsageError("U503", f"'{source.path}' is hdf5:{_DIALECT}, not hdf5:{options.dialect}", hint=f"write hdf5:{_DIALECT}")
    with TensorStore() as target:
        archive = _checked(ZipArchive(source))
        config = parse_config(archive.read(CONFIG, _room(archive)))
        window = _weights(archive, target)
        reader = Reader(window, target)
        description.fill_store(target, reader.found, keras3.read(reader, config, None))
        new, notices = into.replacements(store, target, reader)
        scratch = AtomicFile(path) if new.by_library else None
        try:
            with OutputGroup(progress=options.progress) as group:
                output = group.create(path)
                if scratch is not None:
                    into.copy_with(scratch, window, new)
                    changed = FileSource(scratch.temporary)
                    target.manage(changed)
                    _copy_archive(archive, output, [changed.payload(0, changed.size)], changed.size)
                else:
                    _copy_archive(archive, output, into.overlaid(window, new.in_place), window.size)
        finally:
            if scratch is not None:
                scratch.discard()
    return WriteReport("hdf5", _DIALECT, (path,), len(store), tuple(into.losses(store)), tuple(notices))


def _copy_archive(archive: ZipArchive, output: AtomicFile, weights: Iterable[Payload], nbytes: int) -> None:
    """All members of the archive as they were but for the weights."""
    source = archive.source
    try:
        with open(source.fd, "rb", closefd=False) as old, zipfile.ZipFile(old) as directory:
            infos, comment = directory.infolist(), directory.comment
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise FormatError("F010", f"broken zip archive: {error}", path=source.path) from error
    with zipfile.ZipFile(_Output(output), "w", zipfile.ZIP_STORED) as after:
        for info in infos:
            copy = zipfile.ZipInfo(info.filename, info.date_time)
            copy.compress_type, copy.external_attr, copy.comment = info.compress_type, info.external_attr, info.comment
            if info.is_dir():
                after.writestr(copy, b"")
            elif info.filename == WEIGHTS:
                _stream(after, copy, weights, nbytes)
            else:
                _stream(after, copy, [archive.payload(info.filename)], info.file_size)
        after.comment = comment


def _stream(archive: zipfile.ZipFile, member: zipfile.ZipInfo, payloads: Iterable[Payload], nbytes: int) -> None:
    member.file_size = nbytes
    with archive.open(member, "w", force_zip64=nbytes >= 1 << 31) as file:
        for payload in payloads:
            for chunk in payload.chunks(CHUNK):
                file.write(chunk)


class _Output(io.RawIOBase):
    """An `AtomicFile` as the seekable file that `zipfile` writes to."""

    def __init__(self, file: AtomicFile) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._file.write(data)
        return memoryview(data).nbytes

    def tell(self) -> int:
        return self._file.position

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self._file.position, os.fstat(self._file.fd).st_size)[whence]
        self._file.seek(base + offset)
        return self._file.position

    def seekable(self) -> bool:
        return True
