"""The sidecar `NAME.wts.json`: what it keeps, and that it never contradicts its file in silence."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from conftest import ROOT

import porter
from porter.errors import PorterError
from porter.store import TensorStore
from porter.tensor import Tensor

SCHEMA = json.loads((ROOT / "schemas/wts_sidecar.schema.json").read_text())
DIALECTS = ("tensorrtx", "nvidia-v1", "nvidia-v2")


def example() -> TensorStore:
    weight = np.arange(24, dtype="<f4").reshape(2, 3, 2, 2)
    store = TensorStore(
        [
            Tensor.from_array("conv.weight", weight, axes="OIHW", role="weight", attributes={"caffe.layer": "conv", "caffe.blob": 0}),
            Tensor.from_array("bn.num_batches_tracked", np.array(1000, "<i8")),
            Tensor.from_array("half", np.array([1.5, np.nan], "<f2")),
        ]
    )
    store.tie(store["conv.weight"].with_spec(name="tied"), "conv.weight")
    store.metadata["epoch"] = 3
    store.attachments["caffe.net"] = b"\x00net"
    return store


@pytest.fixture(params=DIALECTS)
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "m.wts"
    porter.save(example(), path, f"wts:{request.param}")
    return path


def read_all(path: Path) -> TensorStore:
    store = porter.open(path)
    for tensor in store.values():
        tensor.tobytes()
    return store


def beside(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def test_golden(tmp_path: Path) -> None:
    porter.save(TensorStore([Tensor.from_array("w", np.array([[1.0]], "<f4"))]), tmp_path / "m.wts")
    sha = hashlib.sha256(b"\x00\x00\x80\x3f").hexdigest()
    assert (tmp_path / "m.wts.json").read_text() == (
        '{"porter": 1, "kind": "wts-sidecar", "dialect": "tensorrtx", "file": {"nbytes": 15}, "tensors": [\n'
        ' {"name": "w", "dtype": "float32", "shape": [1, 1], "stored": "float32", "count": 1, '
        f'"crc32": "{zlib.crc32(bytes([0, 0, 128, 63])):08x}", "sha256": "{sha}"}}]}}\n'
    )


def test_follows_its_schema(written: Path) -> None:
    document = json.loads(beside(written).read_text())
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    for store in (TensorStore(), TensorStore([Tensor.from_array("w", np.array([0.1]))])):
        porter.save(store, written, "wts", overwrite=True, allow_lossy=True)
        jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(beside(written).read_text()))


def test_everything_comes_back(written: Path) -> None:
    store, back = example(), read_all(written)
    assert back.digest() == store.digest()
    assert [(t.name, t.axes, t.role, t.attributes) for t in back.values()] == [
        (t.name, t.axes, t.role, t.attributes) for t in store.values()
    ]
    assert back.ties == store.ties
    assert back.metadata == store.metadata
    assert back.attachments == store.attachments
    assert not back.notices


def test_checksums_are_of_the_stored_values(written: Path) -> None:
    document = json.loads(beside(written).read_text())
    assert document["file"]["nbytes"] == written.stat().st_size
    beside(written).unlink()
    for entry, tensor in zip(document["tensors"], porter.open(written).values(), strict=True):
        data = tensor.tobytes()
        assert entry["stored"] == tensor.dtype.name
        assert entry["crc32"] == f"{zlib.crc32(data):08x}"
        assert entry["sha256"] == hashlib.sha256(data).hexdigest()


def test_losses_name_the_sidecar(tmp_path: Path) -> None:
    report = porter.save(example(), tmp_path / "m.wts")
    assert {loss.kind for loss in report.losses} == {"shape", "dtype", "description", "tie", "metadata", "attachment"}
    assert {loss.saved_in for loss in report.losses} == {str(tmp_path / "m.wts.json")}
    assert report.paths == (str(tmp_path / "m.wts"), str(tmp_path / "m.wts.json"))


def _swap(document: dict[str, Any]) -> None:
    document["tensors"][0], document["tensors"][1] = document["tensors"][1], document["tensors"][0]


def _set(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        document["tensors"][0][key] = value

    return change


def _delete(key: str) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        del document["tensors"][0][key]

    return change


DISAGREEMENTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "order": _swap,
    "a name": _set("name", "conv.kernel"),
    "a count": lambda d: d["tensors"][0].update(count=23, shape=[23]),
    "a shape that does not fit the count": _set("shape", [2, 3, 2, 3]),
    "one more": lambda d: d["tensors"].append(dict(d["tensors"][0], name="more")),
    "one fewer": lambda d: d["tensors"].pop(),
    "a checksum": _set("crc32", "00000000"),
    "what is stored": _set("stored", "int8"),
    "another dialect": lambda d: d.update(dialect="nvidia-v1" if d["dialect"] != "nvidia-v1" else "tensorrtx"),
    "a type that the values are not": lambda d: d["tensors"][2].update(dtype="bool"),
    "an unknown type": _set("dtype", "float7"),
    "a complex type": _set("dtype", "complex64"),
    "a wider type than what is stored": lambda d: d["tensors"][2].update(dtype="float32", stored="float16"),
    "another float than what is stored": lambda d: d["tensors"][2].update(dtype="bfloat16", stored="float16"),
    "a float of what is stored as integers": lambda d: d["tensors"][2].update(dtype="float16", stored="int32"),
    "a list for what is stored": _set("stored", []),
    "no count": _delete("count"),
    "no checksum": _delete("crc32"),
    "a negative dimension": _set("shape", [-24, -1]),
    "a boolean for a count": _set("count", True),
    "a number for a name": _set("name", 5),
    "a list for a tensor": lambda d: d["tensors"].__setitem__(0, []),
    "an object for the list": lambda d: d.update(tensors={}),
    "no version": lambda d: d.pop("porter"),
    "a later version": lambda d: d.update(porter=2),
    "attributes that are a list": _set("attributes", []),
    "axes that are a number": _set("axes", 7),
    "attachments that are no base64": lambda d: d.update(attachments={"a": "?"}),
}


@pytest.mark.parametrize("change", DISAGREEMENTS.values(), ids=DISAGREEMENTS)
def test_disagreement(written: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    document = json.loads(beside(written).read_text())
    change(document)
    beside(written).write_text(json.dumps(document))
    with pytest.raises(PorterError) as caught:
        read_all(written)
    assert caught.value.code in ("F409", "F006", "F007"), str(caught.value)
    if caught.value.code == "F409":
        assert caught.value.where.path == str(beside(written))
        assert "delete" in (caught.value.hint or "")


@pytest.mark.parametrize("text", ["", "{", "[]x", '{"kind": "wts-sidecar"}', "\xff", "[" * 100_000, "1" * 10_000])
def test_broken_json(written: Path, text: str) -> None:
    beside(written).write_bytes(text.encode("latin-1"))
    with pytest.raises(PorterError) as caught:
        read_all(written)
    assert caught.value.code == "F409"


@pytest.mark.parametrize("text", ["{}", "[]", "3", '{"kind": "other"}'])
def test_a_foreign_json_file_is_left_alone_and_noted(written: Path, text: str) -> None:
    beside(written).write_text(text)
    store = read_all(written)
    assert any(n.kind == "skipped" and "no sidecar" in n.message for n in store.notices)


def test_a_changed_value_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "m.wts"
    porter.save(example(), path)
    path.write_bytes(path.read_bytes().replace(b"41b80000", b"41b80001", 1))
    store = porter.open(path)
    with pytest.raises(PorterError) as caught:
        store["conv.weight"].tobytes()
    assert (caught.value.code, caught.value.where.tensor) == ("F409", "conv.weight")
    with pytest.raises(PorterError):
        porter.save(porter.open(path), tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_other_white_space_is_no_disagreement_but_noted(tmp_path: Path) -> None:
    path = tmp_path / "m.wts"
    porter.save(example(), path)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    back = read_all(path)
    assert back.digest() == example().digest()
    assert any("when its sidecar was written" in n.message for n in back.notices)


def test_a_stale_sidecar_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "m.wts"
    porter.save(example(), path)
    other = TensorStore([Tensor.from_array("w", np.ones((2, 2), "<f4"))])
    porter.save(other, path, overwrite=True)
    assert read_all(path).digest() == other.digest()


def test_a_sidecar_alone_is_not_overwritten_unasked(tmp_path: Path) -> None:
    path = tmp_path / "m.wts"
    beside(path).write_text("{}")
    with pytest.raises(PorterError) as caught:
        porter.save(example(), path)
    assert (caught.value.code, caught.value.where.path) == ("I010", str(beside(path)))
    assert beside(path).read_text() == "{}"
    assert not path.exists()


@pytest.mark.parametrize("text", ["{}", '{"kind": "other"}', "[1]"])
def test_another_programs_json_is_never_replaced(written: Path, text: str) -> None:
    before = written.read_bytes()
    beside(written).write_text(text)
    with pytest.raises(PorterError) as caught:
        porter.save(TensorStore(), written, "wts", overwrite=True)
    assert (caught.value.code, caught.value.where.path) == ("I010", str(beside(written)))
    assert (written.read_bytes(), beside(written).read_text()) == (before, text)


@pytest.mark.parametrize("text", ["{", '{"kind": "wts-sidecar"}', ""])
def test_a_damaged_sidecar_is_replaced(written: Path, text: str) -> None:
    beside(written).write_text(text)
    porter.save(example(), written, "wts", overwrite=True)
    assert read_all(written).digest() == example().digest()


def test_a_folder_in_the_sidecars_place(tmp_path: Path) -> None:
    (tmp_path / "m.wts.json").mkdir()
    with pytest.raises(PorterError):
        porter.save(example(), tmp_path / "m.wts", overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["m.wts.json"]


@pytest.mark.parametrize("step", range(4))
def test_killed_between_the_steps_of_the_commit(tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is there after a stop agrees: the old file, or the new one, with its own sidecar or none."""
    path = tmp_path / "m.wts"
    old = TensorStore([Tensor.from_array("conv.weight", np.zeros((4, 6), "<f4"))])
    porter.save(old, path)

    class Killed(BaseException):
        pass

    done = 0

    def stopping(function: Callable[..., None]) -> Callable[..., None]:
        def call(*args: Any, **kwargs: Any) -> None:
            nonlocal done
            if str(args[0]).endswith((".wts", ".json")) or len(args) > 1:
                if done == step:
                    raise Killed
                done += 1
            function(*args, **kwargs)

        return call

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", stopping(os.unlink))
        patched.setattr(os, "replace", stopping(os.replace))
        try:
            porter.save(example(), path, overwrite=True)
        except Killed:
            assert step < 3
    wanted = {old.digest(), example().digest()}
    found = read_all(path)
    assert sorted(found)[0] in ("bn.num_batches_tracked", "conv.weight")
    if beside(path).exists():
        assert found.digest() in wanted
    else:
        assert b"".join(t.tobytes() for t in found.values())


def test_onto_itself(written: Path) -> None:
    before = written.read_bytes()
    store = porter.open(written)
    assert store.source is not None
    porter.save(store, written, f"wts:{store.source.dialect}", overwrite=True)
    assert written.read_bytes() == before
    assert read_all(written).digest() == example().digest()


def test_a_link_for_the_file_keeps_the_sidecar_beside_the_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "m.wts").symlink_to(tmp_path / "real/other.wts")
    porter.save(example(), tmp_path / "m.wts", overwrite=True)
    assert (tmp_path / "m.wts").is_symlink()
    assert read_all(tmp_path / "m.wts").digest() == example().digest()
