"""The store: order, ties, digests that do not depend on the container, and who holds files open."""

from __future__ import annotations

import gc
import hashlib
import itertools
import os
import time
from pathlib import Path

import numpy as np
import pytest

import porter
from porter import manifest
from porter.errors import FormatError, PorterError, UnknownTensorError, UsageError
from porter.store import Provenance, TensorStore, digest_of
from porter.tensor import Tensor


def tensor(name: str, values: object = (1.0, 2.0), **spec: object) -> Tensor:
    return Tensor.from_array(name, np.asarray(values, "f4"), **spec)  # type: ignore[arg-type]


def test_a_store_is_an_ordered_mapping() -> None:
    store = TensorStore([tensor("b"), tensor("a")])
    assert list(store) == ["b", "a"]
    assert len(store) == 2
    assert "a" in store
    assert "c" not in store
    assert (store.nbytes, store.size) == (16, 4)
    assert (store.get("c"), store.get("c", 5), store.get("a")) == (None, 5, store["a"])
    assert repr(store) == "<TensorStore of 2 tensors, 16 bytes>"


def test_a_tensor_that_is_not_there() -> None:
    store = TensorStore([tensor("fc.weight"), tensor("fc.bias")], source=Provenance("a.pth", "pytorch"))
    with pytest.raises(KeyError) as caught:
        store["fc.weights"]
    assert isinstance(caught.value, UnknownTensorError)
    where = caught.value.where
    assert (caught.value.code, where.path, where.tensor) == ("U018", "a.pth", "fc.weights")
    assert caught.value.hint == "did you mean 'fc.weight'?"
    assert str(caught.value).startswith("error[U018]: there is no tensor of this name")
    with pytest.raises(UnknownTensorError) as caught:
        store["?"]
    assert caught.value.hint == "it has 'fc.weight', 'fc.bias'"
    assert "fc.weights" not in store


def test_two_tensors_of_one_name_are_refused() -> None:
    with pytest.raises(FormatError) as caught:
        TensorStore([tensor("a"), tensor("a")])
    assert (caught.value.code, caught.value.where.tensor) == ("F004", "a")


def test_replace_keeps_the_place() -> None:
    store = TensorStore([tensor("a"), tensor("b"), tensor("c")])
    store.replace(tensor("b", [7.0]))
    assert list(store) == ["a", "b", "c"]
    assert store["b"].shape == (1,)
    with pytest.raises(UsageError) as caught:
        store.replace(tensor("d"))
    assert caught.value.code == "U013"


def test_ties_point_to_the_first_name() -> None:
    store = TensorStore([tensor("a")])
    store.tie(tensor("b"), "a")
    store.tie(tensor("c"), "b")
    assert store.ties == {"b": "a", "c": "a"}
    assert list(store) == ["a", "b", "c"]


def test_ties_end_where_bytes_are_replaced() -> None:
    store = TensorStore([tensor("a")])
    for alias in ("b", "c", "d"):
        store.tie(store["a"].with_spec(name=alias), "a")
    store.replace(store["a"].with_spec(role="weight"))
    assert store.ties == {"b": "a", "c": "a", "d": "a"}
    store.replace(tensor("c", (5, 6)))
    assert store.ties == {"b": "a", "d": "a"}
    store.replace(tensor("a", (7, 8)))
    assert store.ties == {"d": "b"}
    assert store["d"].payload is store["b"].payload
    store.replace(tensor("b", (9, 9)))
    assert store.ties == {}


@pytest.mark.parametrize("target", ["a.safetensors", "a.npz", "a.wts", "a.pth", "a.onnx", "a.h5", "a.caffemodel"])
def test_what_no_container_can_carry_is_refused_by_all(target: str, tmp_path: Path) -> None:
    circle: list[object] = []
    circle.append(circle)
    for value in (np.float32(1), {1, 2}, b"x", {"a": [np.int64(2)]}, {3: 4}, circle):
        with pytest.raises(UsageError) as caught:
            porter.save(TensorStore([tensor("w", attributes={"k": value})]), tmp_path / target)
        assert (caught.value.code, caught.value.where.tensor) == ("U017", "w")
        store = TensorStore([tensor("w")])
        store.metadata["k"] = value
        with pytest.raises(UsageError, match="metadata 'k'"):
            porter.save(store, tmp_path / target)
    store = TensorStore([tensor("w")])
    store.attachments["k"] = "text"  # type: ignore[assignment]
    with pytest.raises(UsageError, match="attachment 'k'"):
        porter.save(store, tmp_path / target)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("alias", "target"),
    [(tensor("x"), "nobody"), (tensor("x", [1.0]), "a"), (Tensor.from_array("x", np.zeros(2, "i4")), "a"), (tensor("x"), "x")],
)
def test_ties_to_something_else_are_refused(alias: Tensor, target: str) -> None:
    store = TensorStore([tensor("a")])
    with pytest.raises(UsageError) as caught:
        store.tie(alias, target)
    assert caught.value.code == "U012"
    assert list(store) == ["a"]
    assert store.ties == {}


def test_the_weights_digest_is_written_out_here() -> None:
    store = TensorStore([tensor("é", [1.0]), Tensor.from_array("a", np.array([[True]]))])
    sha_e = hashlib.sha256(b"\x00\x00\x80\x3f").hexdigest()
    sha_a = hashlib.sha256(b"\x01").hexdigest()
    text = f'["a","bool",[1,1],"{sha_a}"]\n["é","float32",[1],"{sha_e}"]\n'
    assert store.digest() == hashlib.sha256(text.encode()).hexdigest()


def test_the_weights_digest_depends_on_names_dtypes_shapes_and_bytes_only() -> None:
    a, b = tensor("a", [[1.0, 2.0]]), tensor("b", [3.0])
    digest = TensorStore([a, b]).digest()
    same = TensorStore([b, a.with_spec(axes="OI", role="weight", attributes={"x": 1})])
    same.metadata["k"] = "v"
    assert same.digest() == digest
    for other in (
        [a.with_spec(name="c"), b],
        [a.with_spec(shape=(2, 1)), b],
        [tensor("a", [[1.0, -2.0]]), b],
        [Tensor.from_array("a", np.array([[1.0, 2.0]], "f4").view("i4")), b],
        [a],
    ):
        assert TensorStore(other).digest() != digest


def test_names_that_are_no_unicode_have_a_digest_and_sort() -> None:
    assert digest_of([("\ud800", "bool", (), "0"), ("z", "bool", (), "1")]) == digest_of(
        [("z", "bool", (), "1"), ("\ud800", "bool", (), "0")]
    )


def test_the_weights_digest_is_the_same_in_every_container(tmp_path: Path) -> None:
    store = TensorStore([tensor("conv.weight", [[1.0, -0.0], [np.nan, 4.0]]), tensor("conv.bias", [0.5])])
    for name in ("m.safetensors", "m.npz"):
        porter.save(store, tmp_path / name)
        assert porter.open(tmp_path / name).digest() == store.digest()


# Files


def descriptors(path: Path) -> int:
    """Open descriptors of this process on `path`."""
    count = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{fd}") == str(path)
        except OSError:
            continue
    return count


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    porter.save(TensorStore([tensor("a", np.arange(1000.0))]), tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def test_a_store_holds_its_file_until_it_is_closed(saved: Path) -> None:
    with porter.open(saved) as store:
        assert descriptors(saved) == 1
        store["a"].tobytes()
    assert descriptors(saved) == 0


def test_a_store_that_is_dropped_releases_its_file(saved: Path) -> None:
    porter.open(saved)["a"].tobytes()
    gc.collect()
    assert descriptors(saved) == 0


def test_arrays_outlive_their_store_and_the_file(saved: Path) -> None:
    with porter.open(saved) as store:
        values = store["a"].numpy()
    del store
    saved.unlink()
    gc.collect()
    np.testing.assert_array_equal(values, np.arange(1000.0))


def test_reading_after_close_is_an_error_of_ours(saved: Path) -> None:
    with porter.open(saved) as store:
        lazy = store["a"]
    for read in (lazy.tobytes, lazy.digest, lazy.numpy, lambda: list(lazy.chunks())):
        with pytest.raises(PorterError) as caught:
            read()
        assert caught.value.where.tensor == "a"


def test_opening_a_refused_file_leaves_nothing_open(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-1])
    with pytest.raises(PorterError):
        porter.open(saved)
    gc.collect()
    assert descriptors(saved) == 0


# The description that containers carry


def described() -> TensorStore:
    store = TensorStore([tensor("w", [[1.0]], axes="OI", role="weight", attributes={"k": [1, {"a": None}]}), tensor("plain")])
    store.tie(tensor("again"), "plain")
    store.metadata["epoch"] = 3
    store.attachments["net"] = b"\0\xff"
    return store


def test_a_description_comes_back() -> None:
    store = described()
    document = manifest.describe(store)
    assert document is not None
    back = TensorStore([tensor("w", [[1.0]]), tensor("plain"), tensor("again")])
    manifest.apply(back, manifest.loads(manifest.dumps(document), "here"), "here")
    assert (back["w"].axes, back["w"].role, back["w"].attributes) == ("OI", "weight", {"k": [1, {"a": None}]})
    assert (back.ties, back.metadata, back.attachments) == (store.ties, store.metadata, store.attachments)
    assert back.notices == []


def test_nothing_to_say_is_said_by_none() -> None:
    assert manifest.describe(TensorStore([tensor("a")])) is None
    store = described()
    assert set(manifest.describe(store, omit=("ties", "metadata", "attachments")) or ()) == {"porter", "tensors"}


def test_a_description_that_no_longer_fits_is_noted_and_not_guessed() -> None:
    document = manifest.describe(described())
    assert document is not None
    other = TensorStore([tensor("w", [1.0]), tensor("again", [1.0]), tensor("plain")])
    manifest.apply(other, document, "here")
    assert other["w"].axes is None
    assert other["w"].role == "weight"
    assert other.ties == {}
    assert [(n.kind, n.tensor) for n in other.notices] == [("skipped", "w"), ("skipped", "again")]
    manifest.apply(empty := TensorStore(), document, "here")
    assert len(empty.notices) == 2


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "1", "{}", '{"porter": "1"}', '{"porter": null}', "{" * 100_000, "\ud800",
    ],
    ids=lambda t: ascii(t[:12]),
)  # fmt: skip
def test_what_is_no_description_is_refused(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        manifest.loads(text, "here")
    assert caught.value.code == "F006"


def test_a_description_of_a_later_version_is_refused() -> None:
    with pytest.raises(FormatError) as caught:
        manifest.loads('{"porter": 2}', "here")
    assert (caught.value.code, bool(caught.value.hint)) == ("F007", True)


@pytest.mark.parametrize(
    "part",
    [
        {"tensors": []},
        {"tensors": {"w": 1}},
        {"tensors": {"w": {"axes": 3}}},
        {"tensors": {"w": {"role": []}}},
        {"tensors": {"w": {"attributes": "x"}}},
        {"ties": []},
        {"metadata": "x"},
        {"attachments": {"a": "not base64!"}},
        {"attachments": {"a": 3}},
        {"attachments": {"a": "é"}},
    ],
    ids=str,
)
def test_descriptions_with_parts_of_another_type_are_refused(part: dict[str, object]) -> None:
    with pytest.raises(FormatError) as caught:
        manifest.apply(TensorStore([tensor("w", [[1.0]])]), {"porter": 1, **part}, "here")
    assert caught.value.code == "F006"


@pytest.mark.parametrize("step", [1, -1])
def test_long_chains_of_ties_end_at_one_tensor(step: int) -> None:
    names = [f"c{i}" for i in range(20_000)]
    store = TensorStore(tensor(name) for name in names)
    started = time.process_time()
    manifest.apply(store, {"porter": 1, "ties": dict(itertools.pairwise(names[::step]))}, "here")
    assert time.process_time() - started < 2
    assert store.ties == dict.fromkeys(names[::step][:-1], names[::step][-1])
    assert store.notices == []


@pytest.mark.parametrize(
    "ties", [{"a": "b", "b": "a", "c": "c"}, {"c": "b", "b": "a"}, {"b": "a", "c": "b"}, {"a": "b", "b": "c", "c": "a"}], ids=str
)
def test_ties_of_a_description_do_not_chain_or_circle(ties: dict[str, str]) -> None:
    store = TensorStore([tensor("a"), tensor("b"), tensor("c")])
    manifest.apply(store, {"porter": 1, "ties": ties}, "here")
    for alias, target in store.ties.items():
        assert alias != target
        assert target not in store.ties
