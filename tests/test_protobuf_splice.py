"""Replacing parts of a protobuf file leaves every other byte, and only lengths around the parts change."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_models import field, varint

from porter.errors import FormatError
from porter.io.protobuf_splice import Edit, splice, without_fields
from porter.io.source import FileSource
from porter.tensor import BytesPayload, Payload


def source_of(folder: Path, data: bytes) -> FileSource:
    path = folder / "m"
    path.write_bytes(data)
    return FileSource(path)


def joined(parts: list[Payload] | tuple[Payload, ...]) -> bytes:
    return b"".join(bytes(p.buffer()) for p in parts)


def edit(data: bytes, old: bytes, new: bytes) -> Edit:
    assert data.count(old) == 1
    return Edit(data.index(old), len(old), (BytesPayload.of(new),))


def test_golden_bytes(tmp_path: Path) -> None:
    data = bytes.fromhex("0801 1207 0a03616263 1005 1a01 7a")
    same = splice(source_of(tmp_path, data), [edit(data, b"abc", b"xyz")])
    assert joined(same) == bytes.fromhex("0801 1207 0a0378797a 1005 1a01 7a")
    longer = splice(source_of(tmp_path, data), [edit(data, b"abc", b"12345"), edit(data, b"z", b"")])
    assert joined(longer) == bytes.fromhex("0801 1209 0a05 3132333435 1005 1a00")


def test_lengths_that_are_not_the_shortest_stay_where_nothing_changes(tmp_path: Path) -> None:
    data = bytes.fromhex("12 8600 0a 8300") + b"abc"
    assert joined(splice(source_of(tmp_path, data), [edit(data, b"abc", b"xyz")])) == data.replace(b"abc", b"xyz")
    assert joined(splice(source_of(tmp_path, data), [edit(data, b"abc", b"ab")])) == bytes.fromhex("1204 0a02") + b"ab"


def test_groups_and_fixed_fields_are_stepped_over(tmp_path: Path) -> None:
    data = bytes.fromhex("0b 1005 0c 25 01020304 29 0102030405060708") + field(7, b"old")
    assert joined(splice(source_of(tmp_path, data), [edit(data, b"old", b"newer")])) == data[:-5] + field(7, b"newer")


@pytest.mark.parametrize("at", [(0, 2), (3, 2), (4, 4)])
def test_an_edit_must_be_the_content_of_a_field(at: tuple[int, int], tmp_path: Path) -> None:
    data = field(2, field(1, b"abc"))
    with pytest.raises(FormatError):
        splice(source_of(tmp_path, data), [Edit(*at, (BytesPayload.of(b"x"),))])


def test_edits_may_not_overlap(tmp_path: Path) -> None:
    data = field(2, field(1, b"abc"))
    with pytest.raises(FormatError, match="overlap"):
        splice(source_of(tmp_path, data), [edit(data, b"abc", b"x"), Edit(2, 5, (BytesPayload.of(b"y"),))])


def test_without_fields_puts_the_new_where_the_first_old_was(tmp_path: Path) -> None:
    data = field(1, b"a") + b"\x10\x05" + field(3, b"b") + b"\x10\x06" + field(4, b"c")
    source = source_of(tmp_path, b"##" + data)
    assert joined(without_fields(source, 2, len(data), {2}, b"new")) == field(1, b"a") + b"new" + field(3, b"b") + field(4, b"c")
    assert joined(without_fields(source, 2, len(data), {9}, b"new")) == data + b"new"


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_tree(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A random tree of fields with some leaves replaced is the tree built with the new leaves."""
    counter = iter(range(1000))
    leaves: list[tuple[bytes, bytes]] = []

    def build(depth: int) -> tuple[bytes, bytes]:
        old, new = b"", b""
        for _ in range(data.draw(st.integers(0, 3))):
            number = data.draw(st.integers(1, 40))
            kind = data.draw(st.sampled_from(("leaf", "message", "number")))
            if kind == "number":
                value = varint(number << 3) + varint(data.draw(st.integers(0, 1 << 40)))
                old, new = old + value, new + value
            elif kind == "message" and depth:
                inner = build(depth - 1)
                old, new = old + field(number, inner[0]), new + field(number, inner[1])
            else:
                before = b"<leaf %d>" % next(counter)
                after = data.draw(st.sampled_from((before, b"", before.upper(), b"longer" * 40)))
                leaves.append((before, after))
                old, new = old + field(number, before), new + field(number, after)
        return old, new

    old, new = build(4)
    source = source_of(tmp_path_factory.mktemp("t"), old)
    edits = [edit(old, before, after) for before, after in leaves if before != after]
    assert joined(splice(source, edits)) == new
