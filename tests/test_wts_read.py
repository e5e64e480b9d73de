"""Reading `.wts`: the three dialects, told apart by content, with all that is met in the wild."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from wts_files import open_bytes, usual_text, words

import porter

TENSORRTX = b"3\nconv.weight 4 3f800000 bf800000 00000000 80000000\nbn.num_batches_tracked 1 42280000\nempty 0\n"
EXPECTED = {"conv.weight": ["3f800000", "bf800000", "00000000", "80000000"], "bn.num_batches_tracked": ["42280000"], "empty": []}


def test_tensorrtx(tmp_path: Path) -> None:
    store = open_bytes(tmp_path, TENSORRTX)
    assert store.source is not None
    assert (store.source.format, store.source.dialect) == ("wts", "tensorrtx")
    assert words(store) == EXPECTED
    assert [(t.dtype.name, t.shape) for t in store.values()] == [("float32", (4,)), ("float32", (1,)), ("float32", (0,))]
    assert store["bn.num_batches_tracked"].numpy() == 42
    assert [n.kind for n in store.notices] == ["note"]
    assert "shapes are not in the file" in store.notices[0].message


ODDITIES = {
    "two spaces before the values": TENSORRTX.replace(b" 4 3", b" 4  3").replace(b" 1 4", b" 1  4").replace(b"y 0", b"y 0 "),
    "two spaces before some": TENSORRTX.replace(b" 4 3", b" 4  3"),
    "two spaces everywhere": TENSORRTX.replace(b" ", b"  "),
    "tabs": TENSORRTX.replace(b" ", b"\t"),
    "a tab between two words": TENSORRTX.replace(b"0 bf", b"0\tbf"),
    "crlf": TENSORRTX.replace(b"\n", b"\r\n"),
    "crlf in the first line only": TENSORRTX.replace(b"\n", b"\r\n", 1),
    "blank last line": TENSORRTX + b"\n",
    "blank last lines with white space": TENSORRTX + b" \r\n\t\n\n",
    "blank line between": TENSORRTX.replace(b"\nbn", b"\n\nbn"),
    "no last newline": TENSORRTX[:-1],
    "spaces behind the values": TENSORRTX.replace(b"\n", b" \n"),
    "spaces before the names": TENSORRTX.replace(b"\nb", b"\n b").replace(b"\nc", b"\n  c"),
    "capitals": TENSORRTX.replace(b"3f", b"3F").replace(b"bf", b"Bf"),
    "spaces around the first number": b" 3 \n" + TENSORRTX[2:],
}


@pytest.mark.parametrize("text", ODDITIES.values(), ids=ODDITIES)
def test_oddities(tmp_path: Path, text: bytes) -> None:
    store = open_bytes(tmp_path, text)
    assert store.source is not None
    assert store.source.dialect == "tensorrtx"
    assert words(store) == EXPECTED


def test_nvidia_v1(tmp_path: Path) -> None:
    text = b"5\nfc_w 0 4 3f800000 0 80000000 7f \nh 1 4 3c00 0 1 8001 \nq 2 3 ff 0 80 \nn 3 3 ffffffff 0 a \nnone 0 0 \n"
    store = open_bytes(tmp_path, text)
    assert store.source is not None
    assert store.source.dialect == "nvidia-v1"
    assert [t.dtype.name for t in store.values()] == ["float32", "float16", "int8", "int32", "float32"]
    assert words(store) == {
        "fc_w": ["3f800000", "00000000", "80000000", "0000007f"],
        "h": ["3c00", "0000", "0001", "8001"],
        "q": ["ff", "00", "80"],
        "n": ["ffffffff", "00000000", "0000000a"],
        "none": [],
    }
    assert store["q"].numpy().tolist() == [-1, 0, -128]
    assert store["n"].numpy().tolist() == [-1, 0, 10]


@pytest.mark.parametrize("change", [(b" \n", b"\n"), (b"\n", b"\r\n"), (b" ", b"  ")], ids=["no trailing space", "crlf", "two spaces"])
def test_nvidia_v1_oddities(tmp_path: Path, change: tuple[bytes, bytes]) -> None:
    text = b"2\na 0 3 3f800000 0 bf800000 \nb 0 2 3f800000 bf800000 \n".replace(*change)
    assert words(open_bytes(tmp_path, text)) == {"a": ["3f800000", "00000000", "bf800000"], "b": ["3f800000", "bf800000"]}


def test_nvidia_v2(tmp_path: Path) -> None:
    raw = b"\n\n\n\n1 0 (2,) \n\n\n"  # bytes that look like structure
    text = b"4\nw 0 (2, 2) " + raw + b"\nh 1 (1,) \x00\x3c\nq 2 () \n\ne 0 (3, 0) \n"
    store = open_bytes(tmp_path, text, "m.wts2")
    assert store.source is not None
    assert store.source.dialect == "nvidia-v2"
    assert [(t.name, t.dtype.name, t.shape) for t in store.values()] == [
        ("w", "float32", (2, 2)),
        ("h", "float16", (1,)),
        ("q", "int8", ()),
        ("e", "float32", (3, 0)),
    ]
    assert store["w"].tobytes() == raw
    assert store["h"].numpy().tolist() == [1.0]
    assert store["q"].tobytes() == b"\n"
    assert store["w"].location is not None, "raw bytes are copied by the kernel"
    assert not store.notices


@pytest.mark.parametrize(
    ("text", "shape"),
    [(b"(10,)", (10,)), (b"(2, 5)", (2, 5)), (b"(2,5)", (2, 5)), (b"(2L, 5L)", (2, 5)), (b"( 10 , )", (10,))],
)
def test_nvidia_v2_shapes(tmp_path: Path, text: bytes, shape: tuple[int, ...]) -> None:
    for end in (b"\n", b"", b"\r\n"):
        store = open_bytes(tmp_path, b"1\nw 2 " + text + b" 0123456789" + end)
        assert store["w"].shape == shape
        assert store["w"].tobytes() == b"0123456789"


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        (b"1\nw 1 00000001\n", "tensorrtx"),
        (b"1\nw 1 12345678\n", "tensorrtx"),
        (b"1\nw 3 12345678 3f800000 00000003\n", "tensorrtx"),
        (b"1\nw 0 1 3f800000 \n", "nvidia-v1"),
        (b"1\nw 2 1 7f \n", "nvidia-v1"),
        (b"1\nw 3 3 1 2 3 \n", "nvidia-v1"),
        (b"1\nw 1 0 \n", "nvidia-v1"),
        (b"2\nw 0\nv 1 3f800000\n", "tensorrtx"),
        (b"2\nw 0 0 \nv 0 1 3f800000 \n", "nvidia-v1"),
        (b"1\nw 0 (1,) abcd\n", "nvidia-v2"),
        (b"1\nw 0 (1,) 1 1 \n", "nvidia-v2"),
    ],
)
def test_dialect_by_content(tmp_path: Path, text: bytes, dialect: str) -> None:
    store = open_bytes(tmp_path, text, "named.bin")
    assert store.source is not None
    assert (store.source.format, store.source.dialect) == ("wts", dialect)
    for tensor in store.values():
        assert len(tensor.tobytes()) == tensor.nbytes


def test_no_tensors_is_any_dialect_and_says_so(tmp_path: Path) -> None:
    store = open_bytes(tmp_path, b"0\n")
    assert len(store) == 0
    assert [n.kind for n in store.notices] == ["assumed"]


@pytest.mark.parametrize("data", [b"3\nwater\nO 0.0 0.0 0.0\n", b"3\n4 5 6 7\n", b"12\n", b"{}", b"1\n\xff\xfe"])
def test_other_files_are_not_taken_for_wts(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(porter.PorterError) as caught:
        open_bytes(tmp_path, data, "other.param")
    assert caught.value.code == "F009"


def test_names_as_they_are(tmp_path: Path) -> None:
    names = ["module.features.0.weight", "größe.重み", "a(b)", "0", "3f800000", "x" * 5000]
    text = usual_text({n: [1.0] for n in names})
    assert list(open_bytes(tmp_path, text)) == names


def test_a_name_that_is_no_utf8_survives(tmp_path: Path) -> None:
    data = b"1\nna\xefve 1 3f800000\n"
    store = open_bytes(tmp_path, data)
    porter.save(store, tmp_path / "again.wts")
    assert (tmp_path / "again.wts").read_bytes() == data


def test_real_file(shared: Path) -> None:
    store = porter.open(shared / "real/wts/tensorrtx_mlp.wts")
    assert words(store) == {"linear.weight": ["3fff7e32"], "linear.bias": ["3c138a5a"]}


def test_agrees_with_per_value_decoding(tmp_path: Path) -> None:
    """Every byte value in every place of a word, against Python's own idea of hexadecimal."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 1 << 32, 70_001, dtype=np.uint32)
    line = b" ".join(b"%08x" % v for v in values.tolist())
    store = open_bytes(tmp_path, b"1\nw %d %s\n" % (values.size, line))
    assert store["w"].tobytes() == values.astype("<u4").tobytes()
    assert b"".join(bytes(c) for c in store["w"].chunks(1000)) == values.astype("<u4").tobytes()
    upper = open_bytes(tmp_path, b"1\nw %d %s\n" % (values.size, line.upper()), "upper.wts")
    assert upper["w"].tobytes() == values.astype("<u4").tobytes()


def test_every_character_in_every_place(tmp_path: Path) -> None:
    """All 256 in one place of a word and between two; around the edges of the digits in the others."""
    edges = [ord(c) + step for c in "09AFaf \t" for step in (-1, 0, 1)]
    path = tmp_path / "m.wts"
    for place in range(17):
        for character in range(256) if place in (3, 8) else edges:
            text = bytearray(b"3f80a000 bf80c000")
            text[place] = character
            path.write_bytes(b"1\nw 2 " + bytes(text) + b"\n")
            if chr(character) in ("0123456789abcdefABCDEF" if place != 8 else " \t"):
                found = words(porter.open(path, "wts:tensorrtx"))["w"]
                assert found == [w.decode().lower() for w in bytes(text).split()], (place, character)
            else:
                with pytest.raises(porter.PorterError):
                    porter.open(path, "wts:tensorrtx")["w"].tobytes()


@pytest.mark.parametrize("odd", ["none", "late tab", "late double space", "capitals late"])
def test_many_values_through_threads(tmp_path: Path, odd: str) -> None:
    values = np.arange(1_400_000, dtype="<u4") * np.uint32(2654435761)
    text = [b"%08x" % v for v in values.tolist()]
    line = b" ".join(text)
    at = 9 * 900_001 - 1
    if odd == "late tab":
        line = line[:at] + b"\t" + line[at + 1 :]
    elif odd == "late double space":
        line = line[:at] + b" " + line[at:]
    elif odd == "capitals late":
        line = line[:at] + line[at:].upper()
    store = open_bytes(tmp_path, b"2\nw %d %s\nb 1 3f800000\n" % (values.size, line))
    assert store["w"].tobytes() == values.tobytes()
    assert words(store)["b"] == ["3f800000"]
    # A consumer that stops early leaves no thread behind that would keep the process.
    chunks = store["w"].chunks(1 << 16)
    assert bytes(next(chunks)) == values.tobytes()[: 1 << 16]
    chunks.close()


def test_sparse_values_in_v1(tmp_path: Path) -> None:
    values = np.random.default_rng(3).integers(0, 1 << 32, 100_000, dtype=np.uint32)
    values[::7] = 0
    values[1::11] &= 0xFFFF
    line = b" ".join(b"%x" % v for v in values.tolist())
    store = open_bytes(tmp_path, b"2\nw 0 %d %s \nb 0 1 0 \n" % (values.size, line))
    assert store["w"].tobytes() == values.astype("<u4").tobytes()


def test_the_index_needs_no_numpy_and_no_values(tmp_path: Path) -> None:
    path = tmp_path / "m.wts"
    path.write_bytes(b"2\nw 300000" + b" 3f800000" * 300_000 + b"\nb 2 3f800000 3f800000\n")
    code = f"import sys, porter; s = porter.open({str(path)!r}); print(len(s), s.size, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "300002", "False"]


def test_reading_after_close_is_an_error(tmp_path: Path) -> None:
    with open_bytes(tmp_path, TENSORRTX) as store:
        tensor = store["conv.weight"]
    with pytest.raises(porter.PorterError) as caught:
        tensor.tobytes()
    assert caught.value.code == "U015"
