"""A mixed-precision plan: which type each tensor is to have, as a JSON file that `porter convert --dtype-plan` takes."""

from __future__ import annotations

import json
from collections.abc import Mapping

from porter.check.precision.audit import Audit, dtype_of
from porter.check.precision.targets import TARGETS
from porter.dataclass import dataclass
from porter.dtypes import DTYPES
from porter.errors import FormatError, UsageError, access_error, did_you_mean
from porter.tensor import Json


@dataclass(frozen=True, slots=True)
class Plan:
    """Tensor name to porter's name of its new element type. What is not named stays as it is."""

    dtypes: Mapping[str, str]


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
        FileAccessError: it cannot be read.
        FormatError: it is no plan, or names a type that porter lacks.
    """
    try:
        with open(path, "rb") as file:
            document = json.load(file)
    except OSError as error:
        raise access_error(error, path, "reading") from error
    except (ValueError, RecursionError) as error:
        raise FormatError("F801", f"this is no JSON: {error}", path=path) from error
    if not isinstance(document, dict) or document.get("kind") != "dtype-plan" or not isinstance(document.get("tensors"), list):
        hint = "'porter audit FILE --plan plan.json' writes one"
        raise FormatError("F801", "this is no plan of element types", path=path, hint=hint)
    found: dict[str, str] = {}
    for entry in document["tensors"]:
        name, dtype = (entry.get("name"), entry.get("dtype")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(dtype, str):
            raise FormatError("F801", "an entry of 'tensors' has no 'name' or no 'dtype'", path=path)
        if dtype not in DTYPES or DTYPES[dtype].kind != "float":
            near = did_you_mean(dtype, [d.name for d in DTYPES.values() if d.kind == "float"])
            raise FormatError("F801", f"'{dtype}' is no type of floating-point numbers", path=path, tensor=name, hint=near)
        if found.setdefault(name, dtype) != dtype:
            raise FormatError("F801", "two entries give this tensor different types", path=path, tensor=name)
    return Plan(found)


def check_names(plan: Plan, names: Mapping[str, object], path: str) -> None:
    """Refuse a plan for another file.

    Raises:
        UsageError: the plan names a tensor that is not there.
    """
    missing = [n for n in plan.dtypes if n not in names]
    if missing:
        hint = did_you_mean(missing[0], names)
        raise UsageError("U807", f"the plan names {len(missing):,} tensors that are not there", path=path, tensor=missing[0], hint=hint)
