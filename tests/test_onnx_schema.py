"""porter's part of the ONNX schema is the packaged one, and says what the onnx package's schema says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import onnx
import pytest

from porter.io.protobuf_messages import message_classes
from porter.io.protobuf_wire import CUT_FIELD

ROOT = Path(__file__).resolve().parent.parent
_SET = "onnx_weights.binpb"
_SAME_ON_THE_WIRE = {("fixed32", "float"), ("fixed64", "double"), ("bytes", "string"), ("int32", "enum")}


def test_the_packaged_descriptors_are_current() -> None:
    pytest.importorskip("grpc_tools")
    spec = importlib.util.spec_from_file_location("compile_schemas", ROOT / "schemas" / "compile.py")
    assert spec is not None
    assert spec.loader is not None
    compiler = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(compiler)
    packaged = (ROOT / "porter" / "io" / "descriptors" / _SET).read_bytes()
    assert compiler.compiled(ROOT / "schemas" / "onnx_weights.proto") == packaged, "run: python schemas/compile.py"


def _kind(field: Any) -> str:
    names = {getattr(type(field), n): n.removeprefix("TYPE_").lower() for n in dir(type(field)) if n.startswith("TYPE_")}
    return names[field.type]


def _repeated(field: Any) -> bool:
    return bool(field.is_repeated) if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED


def test_numbers_and_types_are_those_of_onnx() -> None:
    messages = [m for name, m in message_classes(_SET).items() if not name.endswith(".Cut")]
    assert len(messages) == 10
    for message in messages:
        theirs = getattr(onnx, message.DESCRIPTOR.name).DESCRIPTOR.fields_by_number
        for field in message.DESCRIPTOR.fields:
            if field.number == CUT_FIELD:
                assert field.number not in theirs
                continue
            other = theirs[field.number]
            assert (other.name, _repeated(other)) == (field.name, _repeated(field)), field.full_name
            if field.message_type is not None:
                assert other.message_type.name == field.message_type.name
            else:
                assert _kind(field) == _kind(other) or (_kind(field), _kind(other)) in _SAME_ON_THE_WIRE, field.full_name


def test_every_field_with_values_or_tensors_is_known() -> None:
    """What the scan looks into covers every place in the official schema where a tensor can be."""
    classes = message_classes(_SET)
    seen, todo, missing = set(), [onnx.ModelProto.DESCRIPTOR], []
    while todo:
        theirs = todo.pop()
        if theirs.name in seen:
            continue
        seen.add(theirs.name)
        ours = classes.get(f"onnx_weights.{theirs.name}")
        for field in theirs.fields:
            if field.message_type is not None and _reaches_tensors(field.message_type, set()):
                todo.append(field.message_type)
                if ours is None or field.number not in ours.DESCRIPTOR.fields_by_number:
                    missing.append(field.full_name)
    assert not missing


def _reaches_tensors(message: Any, seen: set[str]) -> bool:
    if message.name == "TensorProto":
        return True
    if message.name in seen:
        return False
    seen.add(message.name)
    return any(f.message_type is not None and _reaches_tensors(f.message_type, seen) for f in message.fields)
