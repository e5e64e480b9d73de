"""Which dialect a store is written as, and where each of its tensors goes in it."""

from __future__ import annotations

import contextlib

from porter.errors import UsageError
from porter.formats.base import WriteOptions, WriteReport
from porter.formats.hdf5 import caffe_plan, keras_plan
from porter.formats.hdf5.names import name_of, paths
from porter.formats.hdf5.plain import VERSION
from porter.formats.hdf5.plans import Plan
from porter.formats.hdf5.recognition import MARK
from porter.formats.hdf5.writing import write_file
from porter.io.source import FileSource
from porter.store import TensorStore


def write(store: TensorStore, path: str, options: WriteOptions) -> WriteReport:
    """Write `store` to `path` in the dialect of `options`, or into a copy of the file that `options.into` names."""
    dialect = options.dialect or "porter"
    if options.net is not None and dialect != "caffe":
        raise UsageError("U005", f"--net means nothing to hdf5:{dialect}", hint="leave --net out")
    if options.into is not None:
        return _write_into(store, path, options, options.into)
    if dialect == "keras-archive":
        from porter.formats.hdf5.archive import write_archive

        return write_archive(store, path, options)
    if dialect == "porter":
        return write_file(store, path, options, _porter(store))
    if dialect == "keras2":
        return write_file(store, path, options, keras_plan.keras2(store))
    if dialect == "keras3":
        return write_file(store, path, options, keras_plan.keras3(store))
    if dialect == "caffe":
        store, notices = caffe_plan.shaped(store, options.net)
        plan = caffe_plan.weights(store, options.net)
        plan.notices[:0] = notices
        return write_file(store, path, options, plan)
    if dialect == "caffe-solverstate":
        return write_file(store, path, options, caffe_plan.solver_state(store))
    raise UsageError("U502", f"hdf5:{dialect} can be read, not written", hint="write hdf5:porter")


def _write_into(store: TensorStore, path: str, options: WriteOptions, target: str) -> WriteReport:
    with contextlib.closing(FileSource(target)) as source:
        if source.read_up_to(0, 4) == b"PK\x03\x04":
            from porter.formats.hdf5.archive import write_into_archive

            return write_into_archive(source, store, path, options)
        from porter.formats.hdf5.into import write_into

        return write_into(source, store, path, options)


def _porter(store: TensorStore) -> Plan:
    places = paths(store)
    assert all(name_of(path) == name for name, path in places.items())
    return Plan("porter", places, groups={(): {MARK: VERSION}})
