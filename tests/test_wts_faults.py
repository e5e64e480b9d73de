"""What the usual loader gets silently wrong is an error here, with the place."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile import assert_survives, byte_changes, growths, read_everything, truncations
from wts_files import open_bytes

import porter
from porter.errors import PorterError

# What is wrong: the file, the code, line, column, tensor, a part of the message.
FAULTS: dict[str, tuple[bytes, str, int, int | None, str | None, str]] = {
    "truncated inside a word": (b"2\na 1 3f800000\nb 2 3f800000 3f80", "F001", 3, 14, "b", "4 of its 8 digits"),
    "truncated behind a word": (b"2\na 1 3f800000\nb 3 3f800000 3f800000", "F001", 3, 22, "b", "3 values, the line ends after 2"),
    "truncated behind a space": (b"1\nb 3 3f800000 3f800000 ", "F001", 2, 22, "b", "ends after 2"),
    "truncated behind the count": (b"1\nb 3", "F001", 2, 4, "b", "ends after 0"),
    "truncated behind the name": (b"2\na 1 3f800000\nbias", "F001", 3, 5, "bias", "before its count"),
    "truncated behind a line": (b"2\na 1 3f800000\n", "F407", 3, None, None, "2 tensors, the file has 1"),
    "row cut": (b"2\na 3 3f800000 3f800000\nb 1 3f800000\n", "F403", 2, 22, "a", "3 values, the line ends after 2"),
    "row cut inside a word": (b"2\na 2 3f800000 3f8\nb 1 3f800000\n", "F406", 2, 14, "a", "3 digits"),
    "count too large": (b"2\na 4 3f800000 3f800000\nb 1 3f800000\n", "F403", 2, 22, "a", "4 values, the line ends after 2"),
    "count too large, jumping over a line": (
        b"3\na 4 3f800000 3f800000\nbbbb 1 3f800000\nc 1 3f800000\n",
        *("F403", 2, 22, "a", "ends after 2"),
    ),
    "count too small": (b"2\na 1 3f800000 3f800001\nb 1 3f800000\n", "F404", 2, 14, "a", "1 values, here is one more"),
    "count zero": (b"2\nb 1 3f800000\na 0 3f800000\n", "F404", 3, 5, "a", "0 values"),
    "count far too large": (b"1\na 999999999999999999 3f800000\n", "F403", 2, 30, "a", "ends after 1"),
    "count beyond all reason": (b"1\na " + b"9" * 5000 + b" 3f800000\n", "F402", 2, 3, "a", "expected the number of values"),
    "count negative": (b"1\na -1 3f800000\n", "F402", 2, 3, "a", "found '-1'"),
    "count in hexadecimal": (b"1\na 1f 3f800000\n", "F402", 2, 3, "a", "found '1f'"),
    "count with leading zeros": (b"1\na 01 3f800000\n", "F402", 2, 3, "a", "found '01'"),
    "a name with a space": (b"2\na 1 3f800000\nmy bias 1 3f800000\n", "F402", 3, 4, "my", "found 'bias'"),
    "a stray character": (b"1\na 2 3f800000 3f8g0000\n", "F405", 2, 17, "a", "'g' is no hexadecimal digit"),
    "a stray byte": (b"1\na 2 3f800000 3f8\xff0000\n", "F405", 2, 17, "a", "byte 0xff is no"),
    "a prefix": (b"1\na 2 0x3f800000 0x3f800000\n", "F405", 2, 6, "a", "'x' is no"),
    "nine digits": (b"1\na 2 3f8000001 3f800000\n", "F406", 2, 5, "a", "more than the 8 digits"),
    "a separator lost": (b"1\na 2 3f8000003f800000\n", "F406", 2, 5, "a", "more than the 8 digits"),
    "seven digits": (b"1\na 2 3f80000 3f800000\n", "F406", 2, 5, "a", "7 digits, where every one has 8"),
    "a digit moved": (b"1\na 2 3f80000 03f800000\n", "F406", 2, 5, "a", "7 digits"),
    "a carriage return inside": (b"1\na 2 3f800000\r3f800000\n", "F405", 2, 13, "a", "'\\r' is no"),
    "a line too many": (b"1\na 1 3f800000\nb 1 3f800000\n", "F407", 3, 1, "b", "1 tensors, here is one more"),
    "a line missing": (b"3\na 1 3f800000\nb 1 3f800000\n", "F407", 4, None, None, "3 tensors, the file has 2"),
    "a name twice": (b"2\na 1 3f800000\na 1 3f800000\n", "F004", 3, 1, "a", "on line 2"),
    "no first line": (b"a 1 3f800000\nb 1 3f800000\n", "F401", 1, 1, None, "begins 'a 1 3f800000'"),
    "the count behind a name of two bytes a letter": (b"1\n\xc3\xa4\xc3\xb6 2 3f800000 3f8000\n", "F406", 2, 15, "äö", "6 digits"),
    "v1, then tensorrtx": (b"2\na 0 1 3f800000 \nb 1 3f800000\n", "F408", 3, 5, "b", "found '3f800000'"),
    "tensorrtx, then v1": (b"2\nb 1 3f800000\na 0 1 3f800000 \n", "F408", 3, 1, "a", "another dialect"),
    "tensorrtx, then v2": (b"2\nb 1 3f800000\na 0 (1,) abcd\n", "F408", 3, 1, "a", "another dialect"),
    "v1, half with 5 digits": (b"1\na 1 1 13c00 \n", "F406", 2, 7, "a", "more than the 4 digits that float16 has"),
    "v1, int8 of a sign-extended word": (b"1\na 2 2 7f ffffff80 \n", "F406", 2, 10, "a", "more than the 2 digits that int8 has"),
    "v1, unknown type": (b"2\na 0 1 0 \nb 7 1 0 \n", "F402", 3, 3, "b", "unknown type 7"),
    "v1, count too large": (b"2\na 0 3 3f800000 1 \nb 0 1 2 \n", "F403", 2, 17, "a", "3 values, the line ends after 2"),
    "v1, count too small": (b"2\na 0 1 3f800000 1 \nb 0 1 2 \n", "F404", 2, 16, "a", "1 values, here is one more"),
    "v1, truncated inside a word": (b"2\na 0 1 3f800000 \nb 0 2 3f800000 3f8", "F001", 3, 19, "b", "may lack digits"),
    "v1, truncated behind the type": (b"2\na 0 1 3f800000 \nb 0", "F001", 3, 4, "b", "before its count"),
    "a control character behind white space": (b"1\n  a\x01b 1 3f800000\n", "F402", 2, 4, None, "has a control character"),
}


def fault(folder: Path, data: bytes) -> PorterError:
    path = folder / "m.wts"
    path.write_bytes(data)
    with pytest.raises(PorterError) as caught:
        read_everything(path)
    return caught.value


@pytest.mark.parametrize(("data", "code", "line", "column", "tensor", "message"), FAULTS.values(), ids=FAULTS)
def test_fault(tmp_path: Path, data: bytes, code: str, line: int, column: int | None, tensor: str | None, message: str) -> None:
    error = fault(tmp_path, data)
    where = error.where
    assert (error.code, where.line, where.column, where.tensor) == (code, line, column, tensor), str(error)
    assert message in error.message
    assert where.path == str(tmp_path / "m.wts")
    assert error.hint


@pytest.mark.parametrize(("data", "code", "line", "column", "tensor", "message"), FAULTS.values(), ids=FAULTS)
def test_nothing_is_written(tmp_path: Path, data: bytes, code: str, line: int, column: int, tensor: str, message: str) -> None:
    with pytest.raises(PorterError):
        porter.save(open_bytes(tmp_path, data), tmp_path / "out.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["m.wts"]


V2_FAULTS = {
    "truncated bytes": (b"1\na 0 (2,) abcd", "F001", 11),
    "truncated header": (b"1\na 0 (2", "F001", 8),
    "shape too small": (b"1\na 0 (1,) abcdefgh\n", "F410", 15),
    "shape too large": (b"2\na 2 (6,) abcd\nb 2 (1,) x\n", "F410", 17),
    "no tuple": (b"2\na 2 (1,) x\nb 2 2 xx\n", "F402", 13),
    "a name with a space": (b"2\na 2 (1,) x\nb c 2 (1,) x\n", "F402", 13),
    "unknown type": (b"1\na 9 (1,) x\n", "F402", 2),
    "a dimension that is none": (b"1\na 2 (1 2,) x\n", "F402", 2),
    "a huge dimension": (b"1\na 2 (999999999999999999, 999999999999999999) x\n", "F001", 47),
    "one too many": (b"1\na 2 (1,) x\nb 2 (1,) x\n", "F407", 13),
    "one missing": (b"2\na 2 (1,) x\n", "F407", 13),
    "a name twice": (b"2\na 2 (1,) x\na 2 (1,) x\n", "F004", 13),
}


@pytest.mark.parametrize(("data", "code", "offset"), V2_FAULTS.values(), ids=V2_FAULTS)
def test_v2_fault(tmp_path: Path, data: bytes, code: str, offset: int) -> None:
    error = fault(tmp_path, data)
    assert (error.code, error.where.offset) == (code, offset), str(error)
    assert error.hint


def test_v2_float16_under_type_0_says_so(tmp_path: Path) -> None:
    error = fault(tmp_path, b"1\na 0 (4,) \0\x3c\0\x3c\0\x3c\0\x3c\n")
    assert "correct the 0 to 1" in (error.hint or "")


def test_v1_of_one_line_that_may_be_cut_is_noted(tmp_path: Path) -> None:
    store = open_bytes(tmp_path, b"1\na 0 2 3f800000 3f8")
    assert store["a"].size == 2
    assert any(n.kind == "assumed" and n.tensor == "a" for n in store.notices)


@pytest.mark.parametrize("at", [0, 5, 900_000, 1_199_998])
@pytest.mark.parametrize("what", ["character", "separator", "digit lost", "newline"])
def test_fault_deep_in_a_long_line(tmp_path: Path, at: int, what: str) -> None:
    """The place is exact wherever it is, though threads and blocks see it."""
    line = bytearray(b" ".join([b"3f80a000"] * 1_200_000))
    column, code = 1 + len(b"w 1200000 ") + 9 * at, "F405"
    if what == "character":
        line[9 * at + 3] = ord("-")
        column += 3
    elif what == "separator":
        line[9 * at + 8 : 9 * at + 9] = b"."
        column += 8
    elif what == "digit lost":
        del line[9 * at + 7]
        code = "F406"
    else:
        line[9 * at + 4] = 10
        code = "F406"
    error = fault(tmp_path, b"2\nw 1200000 %s\nb 1 3f800000\n" % line)
    assert (error.code, error.where.line, error.where.column, error.where.tensor) == (code, 2, column, "w"), str(error)


SMALL = {
    "tensorrtx": b"3\na.weight 3 3f800000 00000000 bf80000a\nb 0\nc 1 3f800000\n",
    "nvidia-v1": b"3\na.weight 0 3 3f800000 0 bf80000a \nb 1 2 3c00 1 \nc 3 1 ffffffff \n",
    "nvidia-v2": b"3\na.weight 0 (2, 1) abcd\nfgh\nb 1 (1,) ab\nc 2 () x\n",
}


@pytest.mark.parametrize("dialect", SMALL)
@pytest.mark.parametrize("named", ["m.wts", "m.bin"])
def test_every_truncation_and_every_flip(tmp_path: Path, dialect: str, named: str) -> None:
    data, path = SMALL[dialect], tmp_path / named
    whole = len(data.rstrip())
    refused = assert_survives(path, truncations(data))
    assert refused >= whole - 1, "a truncation was taken for a whole file"
    assert assert_survives(path, byte_changes(data))
    assert assert_survives(path, growths(data))


@pytest.mark.parametrize("data", [b"1\n" + b" " * 3_000_000, b"1\n" + b"\n" * 3_000_000, b"1\na 5" + b" " * 3_000_000 + b"3f800000\n"])
def test_white_space_without_end(tmp_path: Path, data: bytes) -> None:
    assert assert_survives(tmp_path / "m.wts", iter([("blank", data)])) == 1


def test_a_line_without_end(tmp_path: Path) -> None:
    error = fault(tmp_path, b"1\na 100000000 " + b"f" * 5_000_000)
    assert (error.code, error.where.column) == ("F406", 13)
    error = fault(tmp_path, b"1\n" + b"f" * 5_000_000)
    assert error.code == "F402"
