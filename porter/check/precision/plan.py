"""A mixed-precision plan: which type each tensor is to have, as a JSON file that `porter convert --dtype-plan` takes."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from porter.check.precision.audit import Audit, dtype_of
from porter.check.precision.targets import TARGETS
from porter.dataclass import dataclass
from porter.dtypes import DTYPES
from porter.errors import FormatError, UsageError, did_you_mean
from porter.io.source import FileSource
from porter.tensor import Json

LARGEST = 256 << 20
"""Bytes of a plan that are read: one of a million tensors has half of that."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Tensor name to porter's name of its new element type. What is not named stays as it is. made_for: types when it was made."""

    dtypes: Mapping[str, str]
    made_for: Mapping[str, str]


def propose(result: Audit) -> dict[str, Json]:
    """The plan that an audit comes to, as JSON values: for each tensor the narrowest type asked for that is good for it.

    Only casts can be carried out by `convert`; for scaled types see `quantize`.
    """
    entries: list[dict[str, Json]] = []
    for one in result.tensors:
        casts = [v for v in one.verdicts if v.verdict == "ok" and v.best is not None and v.best.scheme is None]
        good = [(TARGETS[v.target], v) for v in casts if dtype_of(TARGETS[v.target]) is not None]
        fit = [(t, v) for t, v in good if t.bits < one.spec.dtype.bits]
        target, judged = min(fit, key=lambda pair: pair[0].bits, default=(None, None))
        entry: dict[str, Json] = {"name": one.spec.name, "from": one.spec.dtype.name}
        if target is None or judged is None:
            reasons = [v.reason for v in one.verdicts if TARGETS[v.target].layout is not None]
            entry |= {"dtype": one.spec.dtype.name, "reason": reasons[0] if reasons else "no cast was asked for"}
        else:
            entry |= {"dtype": dtype_of(target), "reason": judged.reason}
        entries.append(entry)
    return {"porter": 1, "kind": "dtype-plan", "targets": [t.name for t in result.targets], "tensors": entries}


def read_plan(path: str) -> Plan:
    """The plan in a file.

    Raises:
        FileAccessError: it cannot be read, or is no regular file.
        FormatError: it is no plan, or names a type that porter lacks.
    """
    dtypes: dict[str, str] = {}
    made_for: dict[str, str] = {}
    for entry in _entries(_document(path), path):
        name, dtype, before = (entry.get(key) for key in ("name", "dtype", "from"))
        if not isinstance(name, str) or not isinstance(dtype, str):
            raise FormatError("F801", "an entry of 'tensors' has no 'name' or no 'dtype'", path=path)
        if dtype not in DTYPES or DTYPES[dtype].kind != "float":
            near = did_you_mean(dtype, [d.name for d in DTYPES.values() if d.kind == "float"])
            raise FormatError("F801", f"'{dtype}' is no type of floating-point numbers", path=path, tensor=name, hint=near)
        if dtypes.setdefault(name, dtype) != dtype:
            raise FormatError("F801", "two entries give this tensor different types", path=path, tensor=name)
        if before is not None:
            if not isinstance(before, str):
                raise FormatError("F801", "'from' is no name of a type", path=path, tensor=name)
            made_for[name] = before
    return Plan(dtypes, made_for)


def _document(path: str) -> object:
    source = FileSource(path)
    try:
        if source.size > LARGEST:
            raise FormatError("F801", f"{source.size:,} bytes are too many for a plan", path=path)
        return json.loads(source.read(0, source.size))
    except (ValueError, RecursionError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError("F801", f"this is no JSON: {error}", path=path) from error
    finally:
        source.close()


def _entries(document: object, path: str) -> list[dict[str, object]]:
    hint = "'porter audit FILE --plan plan.json' writes one"
    if not isinstance(document, dict) or document.get("kind") != "dtype-plan" or not isinstance(document.get("tensors"), list):
        raise FormatError("F801", "this is no plan of element types", path=path, hint=hint)
    version = document.get("porter")
    if type(version) is not int or version != 1:
        said = "says no version" if version is None else f"is of version {json.dumps(version)[:40]}"
        raise FormatError("F801", f'the plan {said}; this porter reads version 1 ("porter": 1)', path=path, hint=hint)
    entries = document["tensors"]
    if not all(isinstance(entry, dict) for entry in entries):
        raise FormatError("F801", "an entry of 'tensors' has no 'name' or no 'dtype'", path=path)
    return list(entries)


def check_names(dtypes: Mapping[str, str], names: Collection[str], path: str | None) -> None:
    """Refuse a plan for another file.

    Raises:
        UsageError: the plan names a tensor that is not there.
    """
    missing = [n for n in dtypes if n not in names]
    if missing:
        what = "a tensor that is" if len(missing) == 1 else f"{len(missing):,} tensors that are"
        hint = (
            did_you_mean(missing[0], names) or "names are those after the map; 'porter audit' of a file that has them makes a plan for it"
        )
        raise UsageError("U807", f"the plan names {what} not there", path=path, tensor=missing[0], hint=hint)
