"""Skeletons of protobuf messages: what is cut out and put back is what google.protobuf reads, and what it refuses is refused."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message
from hypothesis import given, settings
from hypothesis import strategies as st

from porter.errors import FormatError, PorterError, UnsafeFileError
from porter.io.protobuf_wire import CUT_FIELD, DELIMITED, Rule, delimited, encode_tag, encode_varint, scan
from porter.io.source import FileSource
from porter.tensor import BytesPayload

_TYPE = descriptor_pb2.FieldDescriptorProto


def _classes() -> tuple[type[Message], type[Message]]:
    """`Plain`, a tree with payloads of every kind, and `Skeleton`, the same with the field that cuts go into."""
    file = descriptor_pb2.FileDescriptorProto(name="wire_test.proto", package="wire", syntax="proto2")
    cut = file.message_type.add(name="Cut")
    for i, name in enumerate(("field", "offset", "nbytes", "stride"), 1):
        cut.field.add(name=name, number=i, type=_TYPE.TYPE_UINT64, label=_TYPE.LABEL_OPTIONAL)
    for kind in ("Plain", "Skeleton"):
        message = file.message_type.add(name=kind)
        add = message.field.add
        add(name="name", number=1, type=_TYPE.TYPE_STRING, label=_TYPE.LABEL_OPTIONAL)
        add(name="child", number=2, type=_TYPE.TYPE_MESSAGE, type_name=f".wire.{kind}", label=_TYPE.LABEL_OPTIONAL)
        add(name="kids", number=3, type=_TYPE.TYPE_MESSAGE, type_name=f".wire.{kind}", label=_TYPE.LABEL_REPEATED)
        add(name="number", number=4, type=_TYPE.TYPE_SINT64, label=_TYPE.LABEL_OPTIONAL)
        add(name="packed", number=5, type=_TYPE.TYPE_FLOAT, label=_TYPE.LABEL_REPEATED).options.packed = True
        add(name="loose", number=6, type=_TYPE.TYPE_FLOAT, label=_TYPE.LABEL_REPEATED)
        add(name="fixed", number=7, type=_TYPE.TYPE_FIXED64, label=_TYPE.LABEL_REPEATED)
        add(name="doubles", number=20, type=_TYPE.TYPE_DOUBLE, label=_TYPE.LABEL_REPEATED)
        add(name="raw", number=9, type=_TYPE.TYPE_BYTES, label=_TYPE.LABEL_REPEATED)
        group = message.nested_type.add(name="Group")
        group.field.add(name="text", number=1, type=_TYPE.TYPE_STRING, label=_TYPE.LABEL_OPTIONAL)
        group.field.add(name="value", number=2, type=_TYPE.TYPE_FIXED32, label=_TYPE.LABEL_OPTIONAL)
        add(name="group", number=11, type=_TYPE.TYPE_GROUP, type_name=f".wire.{kind}.Group", label=_TYPE.LABEL_REPEATED)
        if kind == "Skeleton":
            add(name="cuts", number=CUT_FIELD, type=_TYPE.TYPE_MESSAGE, type_name=".wire.Cut", label=_TYPE.LABEL_REPEATED)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    plain, skeleton = (message_factory.GetMessageClass(pool.FindMessageTypeByName(f"wire.{k}")) for k in ("Plain", "Skeleton"))
    return plain, skeleton


Plain, Skeleton = _classes()
RULE = Rule(cut={5: 4, 6: 4, 20: 8, 9: 0})
RULE.descend.update({2: RULE, 3: RULE})


def restore(skeleton: Any, data: bytes) -> Any:
    """The message that `skeleton` stands for, its cuts put back out of `data`."""
    bare = Skeleton()
    bare.CopyFrom(skeleton)
    for name in ("cuts", "child", "kids"):
        bare.ClearField(name)
    raw = bare.SerializeToString()
    for cut in skeleton.cuts:
        piece = data[cut.offset : cut.offset + cut.nbytes]
        assert len(piece) == cut.nbytes
        raw += piece if cut.stride else encode_tag(cut.field, DELIMITED) + encode_varint(len(piece)) + piece
    whole: Any = Plain.FromString(raw)
    if skeleton.HasField("child"):
        whole.child.CopyFrom(restore(skeleton.child, data))
    for kid in skeleton.kids:
        whole.kids.add().CopyFrom(restore(kid, data))
    return whole


def skeleton_of(data: bytes, folder: Path, rule: Rule = RULE) -> Any:
    path = folder / "message"
    path.write_bytes(data)
    return Skeleton.FromString(scan(FileSource(path), rule))


floats = st.floats(width=32, allow_nan=False)
messages = st.recursive(
    st.fixed_dictionaries(
        {},
        optional={
            "name": st.text(max_size=5),
            "number": st.integers(-(2**63), 2**63 - 1),
            "packed": st.lists(floats, max_size=5),
            "loose": st.lists(floats, max_size=5),
            "fixed": st.lists(st.integers(0, 2**64 - 1), max_size=3),
            "doubles": st.lists(st.floats(allow_nan=False), max_size=4),
            "raw": st.lists(st.binary(max_size=300), max_size=3),
            "group": st.lists(st.fixed_dictionaries({}, optional={"text": st.text(max_size=3), "value": st.integers(0, 99)}), max_size=2),
        },
    ),
    lambda inner: st.fixed_dictionaries({}, optional={"child": inner, "kids": st.lists(inner, max_size=3), "name": st.text(max_size=3)}),
    max_leaves=6,
)


def build(value: dict[str, Any]) -> Any:
    message: Any = Plain()
    for name, part in value.items():
        if name == "child":
            message.child.CopyFrom(build(part))
        elif name == "kids":
            message.kids.extend(build(p) for p in part)
        elif name == "group":
            for entry in part:
                message.group.add(**entry)
        elif isinstance(part, list):
            getattr(message, name).extend(part)
        else:
            setattr(message, name, part)
    return message


@settings(max_examples=150, deadline=None)
@given(st.lists(messages, min_size=1, max_size=3))
def test_what_is_cut_and_put_back_is_the_message(tmp_path_factory: pytest.TempPathFactory, values: list[dict[str, Any]]) -> None:
    """Several serialised messages behind each other are their merge: payloads come in several pieces."""
    data = b"".join(build(v).SerializeToString() for v in values)
    skeleton = skeleton_of(data, tmp_path_factory.mktemp("p"))
    assert restore(skeleton, data) == Plain.FromString(data)
    for message in (skeleton, *skeleton.kids):
        assert not message.packed
        assert not message.loose
        assert not message.doubles
        assert not message.raw


def sample() -> bytes:
    value = {
        "name": "net",
        "number": -5,
        "kids": [{"name": "a", "packed": [1.0, 2.0, 3.0], "fixed": [7]}, {"loose": [1.0, 2.0], "group": [{"text": "g", "value": 3}]}],
        "child": {"doubles": [1.0, -1.0], "raw": [b"0123456789", b""]},
    }
    data: bytes = build(value).SerializeToString()
    return data


def both(data: bytes, folder: Path) -> tuple[Any, Any]:
    """What google.protobuf makes of `data`, and what the skeleton makes of it; None for a refusal."""
    try:
        expected = Plain.FromString(data)
    except DecodeError:
        expected = None
    try:
        found = restore(skeleton_of(data, folder), data)
    except (PorterError, DecodeError):
        found = None
    return expected, found


def same(a: Any, b: Any) -> bool:
    """Equality that takes NaN for equal to itself."""
    return bool(a.SerializeToString(deterministic=True) == b.SerializeToString(deterministic=True))


def test_truncations_are_refused_where_protobuf_refuses_them(tmp_path: Path) -> None:
    data = sample()
    refused = 0
    for n in range(len(data)):
        expected, found = both(data[:n], tmp_path)
        assert (expected is None) == (found is None), n
        if expected is None:
            refused += 1
        else:
            assert same(expected, found)
    assert refused > 0.8 * len(data)


def test_changed_bytes_are_refused_where_protobuf_refuses_them(tmp_path: Path) -> None:
    data = sample()
    accepted = 0
    for at in range(len(data)):
        for mask in (1, 2, 4, 8, 16, 32, 64, 128, 255):
            changed = data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]
            expected, found = both(changed, tmp_path)
            if expected is None:
                assert found is None, (at, mask)
            elif found is None:
                pytest.fail(f"refused what protobuf reads: byte {at} ^ {mask:#x}")
            else:
                accepted += 1
                assert same(expected, found), (at, mask)
    assert accepted > 100


def test_random_bytes_never_do_more_than_be_refused(tmp_path: Path) -> None:
    rng = random.Random(4)
    path = tmp_path / "noise"
    for _ in range(1500):
        data = bytes(
            rng.choice([rng.randrange(256), rng.choice([0x12, 0x1A, 0x2A, 0x35, 0x5B, 0x5C, 0x4A, 0x0A])]) for _ in range(rng.randrange(60))
        )
        path.write_bytes(data)
        try:
            scan(FileSource(path), RULE)
        except FormatError as error:
            assert error.where.path == str(path)
            assert error.where.offset is not None


def test_golden_skeleton(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(b"\x0a\x01n" + b"\x2a\x08abcdefgh" + b"\x35\0\0\x80\x3f" * 2 + b"\x20\x07")
    cut_tag = b"\xfa\xff\xff\xff\x0f"
    assert scan(FileSource(path), RULE) == (
        b"\x0a\x01n" + cut_tag + b"\x06\x08\x05\x10\x05\x18\x08" + cut_tag + b"\x08\x08\x06\x10\x0d\x18\x0a\x20\x05" + b"\x20\x07"
    )


def test_runs_of_unpacked_elements_are_one_cut_each(tmp_path: Path) -> None:
    element = b"\x35\0\0\x80\x3f"
    data = element * 3 + b"\x20\x07" + element * 300_000 + b"\x35\0\0\0\0" + b"\x0a\0" + element
    skeleton = skeleton_of(data, tmp_path)
    assert [(c.offset, c.nbytes, c.stride) for c in skeleton.cuts] == [(0, 15, 5), (17, 5 * 300_001, 5), (17 + 5 * 300_001 + 2, 5, 5)]


def test_tags_with_superfluous_bytes_are_read(tmp_path: Path) -> None:
    """A tag may have padding bytes; a run keeps its own stride, and a run whose tags change is two."""
    long_tag = b"\xb5\x80\x00" + struct.pack("<f", 2.0)
    data = long_tag * 2 + b"\x35" + struct.pack("<f", 1.0)
    skeleton = skeleton_of(data, tmp_path)
    assert [(c.offset, c.nbytes) for c in skeleton.cuts] == [(0, 14), (14, 5)]
    assert list(Plain.FromString(data).loose) == [2.0, 2.0, 1.0]


def test_elements_that_look_like_tags_do_not_confuse_a_run(tmp_path: Path) -> None:
    data = b"".join(b"\x35" + bytes([0x35] * 4) for _ in range(1000)) + b"\x20\x35"
    skeleton = skeleton_of(data, tmp_path)
    assert [(c.offset, c.nbytes) for c in skeleton.cuts] == [(0, 5000)]
    assert restore(skeleton, data) == Plain.FromString(data)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x0a\x05abc", "F001"),
        (b"\x2a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "F001"),
        (b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "F001"),
        (b"\x35\0\0", "F001"),
        (b"\x20", "F012"),
        (b"\x20" + b"\x80" * 10 + b"\x01", "F012"),
        (b"\x80" * 11, "F012"),
        (b"\x00\x00", "F012"),
        (b"\x26", "F012"),
        (b"\x27", "F012"),
        (b"\x5b", "F012"),
        (b"\x5b\x64", "F012"),
        (b"\x5c", "F012"),
        (encode_tag(CUT_FIELD, DELIMITED) + b"\x02\x08\x05", "S005"),
        (b"\x1a\x0a" + encode_tag(CUT_FIELD, DELIMITED) + b"\x03\x08\x05\x10\x00"[:5], "S005"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "F012"),
    ],
    ids=lambda v: v[:12].hex() if isinstance(v, bytes) else v,
)
def test_broken_messages(data: bytes, code: str, tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(data)
    with pytest.raises(FormatError) as caught:
        scan(FileSource(path), RULE)
    assert caught.value.code == code, caught.value
    assert caught.value.where.offset is not None


@pytest.mark.parametrize("what", ["messages", "groups"])
def test_deep_nesting_is_refused(what: str, tmp_path: Path) -> None:
    data = b""
    for _ in range(5000):
        data = b"\x12" + encode_varint(len(data)) + data if what == "messages" else b"\x5b" + data + b"\x5c"
    path = tmp_path / "m"
    path.write_bytes(data)
    with pytest.raises(UnsafeFileError) as caught:
        scan(FileSource(path), RULE)
    assert caught.value.code == "S004"


def test_nesting_that_protobuf_reads_is_read(tmp_path: Path) -> None:
    data = b""
    for _ in range(95):
        data = b"\x12" + encode_varint(len(data)) + data
    assert restore(skeleton_of(data, tmp_path), data) == Plain.FromString(data)


def test_a_part_of_a_file_is_scanned_with_offsets_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(b"junk" + b"\x2a\x04abcd" + b"junk")
    skeleton: Any = Skeleton.FromString(scan(FileSource(path), RULE, offset=4, nbytes=6))
    assert [(c.field, c.offset, c.nbytes) for c in skeleton.cuts] == [(5, 6, 4)]
    with pytest.raises(FormatError):
        scan(FileSource(path), RULE, offset=4, nbytes=100)


def test_structure_beyond_bounds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("porter.io.protobuf_wire._MAX_SKELETON", 1000)
    path = tmp_path / "m"
    path.write_bytes(b"\x0a\x64" + bytes(100))
    assert len(scan(FileSource(path), RULE)) == 102
    path.write_bytes((b"\x0a\x64" + bytes(100)) * 11)
    with pytest.raises(UnsafeFileError) as caught:
        scan(FileSource(path), RULE)
    assert caught.value.code == "S006"


def test_small_messages_may_be_copied_whole_and_messages_marked(tmp_path: Path) -> None:
    leaf = Rule(cut={5: 4}, whole=20)
    root = Rule(descend={3: leaf, 2: Rule(cut={5: 4}, marked=True)})
    small, large = b"\x2a\x04abcd", b"\x2a\x28" + bytes(40)
    data = b"\x1a" + bytes([len(small)]) + small + b"\x1a" + bytes([len(large)]) + large + b"\x12" + bytes([len(small)]) + small
    skeleton = skeleton_of(data, tmp_path, root)
    assert len(skeleton.kids[0].packed) == 1
    assert [(c.field, c.nbytes) for c in skeleton.kids[1].cuts] == [(5, 40)]
    assert [(c.field, c.offset, c.nbytes) for c in skeleton.child.cuts] == [(0, 54, 6), (5, 56, 4)]


def test_a_private_field_within_a_message_copied_whole_is_refused(tmp_path: Path) -> None:
    forged = encode_tag(CUT_FIELD, DELIMITED) + b"\x02\x08\x05"
    path = tmp_path / "m"
    path.write_bytes(b"\x1a" + bytes([len(forged)]) + forged)
    with pytest.raises(UnsafeFileError):
        scan(FileSource(path), Rule(descend={3: Rule(whole=100)}))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(1, CUT_FIELD), st.sampled_from([0, 1, 2, 5]))
def test_numbers_and_tags_are_googles(value: int, number: int, wire: int) -> None:
    from google.protobuf.internal import encoder

    out: list[bytes] = []
    encoder._EncodeVarint(out.append, value)  # type: ignore[attr-defined]
    assert encode_varint(value) == b"".join(out)
    assert encode_tag(number, wire) == encoder.TagBytes(number, wire)


def test_messages_are_written_in_pieces() -> None:
    payload = BytesPayload.of(b"\0\0\x80\x3f" * 3)
    inner = delimited(5, payload)
    pieces = delimited(3, b"\x0a\x01k", *inner)
    message: Any = Plain.FromString(b"".join(bytes(p.buffer()) for p in pieces))
    assert message == build({"kids": [{"name": "k", "packed": [1.0, 1.0, 1.0]}]})
    assert pieces[-1] is payload, "payloads are passed on, not copied"
