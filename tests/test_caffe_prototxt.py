"""Text-format protobuf, read by names: what is accepted, what is refused and where, and that trees survive rendering."""

from __future__ import annotations

import contextlib
import math
import string
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porter.errors import FormatError, PorterError, UnsafeFileError
from porter.formats.caffe.message_tree import Field, Message, NumberRun, Scalar, python_value, quote, render, scalar_bytes
from porter.formats.caffe.prototxt import MAX_DEPTH, decode, looks_like_prototxt, parse, read_text


def number(text: str) -> Scalar:
    return Scalar("number", text)


def word(text: str) -> Scalar:
    return Scalar("identifier", text)


def quoted(text: str) -> Scalar:
    return Scalar("string", text)


def shown(text: str) -> list[tuple[str, object]]:
    return [(f.name, f.value) for f in parse(text)]


def message(*fields: tuple[str, Scalar | Message]) -> Message:
    return Message(tuple(Field(name, value) for name, value in fields))


# What the format allows


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("a: 1", [("a", number("1"))]),
        ("a:1 b:2", [("a", number("1")), ("b", number("2"))]),
        ("a: 1, b: 2; c: 3", [("a", number("1")), ("b", number("2")), ("c", number("3"))]),
        ("a { }", [("a", Message())]),
        ("a: { b: x }", [("a", message(("b", word("x"))))]),
        ("a < b: x >", [("a", message(("b", word("x"))))]),
        ("a: < b { c <> } >", [("a", message(("b", message(("c", Message())))))]),
        ("a: [1, 2]", [("a", number("1")), ("a", number("2"))]),
        ("a: [ ]", []),
        ("a: ['x' 'y', z, -1]", [("a", quoted("xy")), ("a", word("z")), ("a", number("-1"))]),
        ("a: [{b: 1}, <b: 2>] c: 3", [("a", message(("b", number("1")))), ("a", message(("b", number("2")))), ("c", number("3"))]),
        ("a [{}, {}] b <>", [("a", Message()), ("a", Message()), ("b", Message())]),
        ("[org.caffe.ext]: 3", [("[org.caffe.ext]", number("3"))]),
        ("[type.googleapis.com/x.Y] { a: 1 }", [("[type.googleapis.com/x.Y]", message(("a", number("1"))))]),
        ("5: 3 6 { 7: 'x' }", [("5", number("3")), ("6", message(("7", quoted("x"))))]),
        ("# c\na: 1 # d\n#e", [("a", number("1"))]),
        ("a: - # c\n 2", [("a", number("-2"))]),
        ("a: -inf b: nan c: -Infinity", [("a", word("-inf")), ("b", word("nan")), ("c", word("-Infinity"))]),
        ("a: 0x1F b: 017 c: 1.5f d: .5 e: 1. f: 1e-5 g: 2E+3F", None),
        ("", []),
        (" \t\r\n\v\f", []),
    ],
)
def test_the_format(text: str, fields: list[tuple[str, object]] | None) -> None:
    if fields is None:
        assert [f.value.kind for f in parse(text) if isinstance(f.value, Scalar)] == ["number"] * 7
    else:
        assert shown(text) == fields


@pytest.mark.parametrize(
    ("literal", "data"),
    [
        (r"'a\"b\'c\\d\?'", b"a\"b'c\\d?"),
        (r"'\a\b\f\n\r\t\v'", b"\a\b\f\n\r\t\v"),
        (r"'\1\12\123\1234'", b"\x01\x0a\x53\x534"),
        (r"'\377\x41\xfg'", b"\xff\x41\x0fg"),
        (r"'\u00e9\u4e2d'", "é中".encode()),
        (r"'\ud83d\ude00 \U0001F600'", "😀 😀".encode()),
        ("'é中'", "é中".encode()),
        ("'a' \"b\"\n# c\n'c'", b"abc"),
    ],
)
def test_strings(literal: str, data: bytes) -> None:
    (field,) = parse(f"a: {literal}")
    assert isinstance(field.value, Scalar)
    assert field.value.kind == "string"
    assert scalar_bytes(field.value.text) == data


def test_an_escape_that_is_none_keeps_its_backslash_and_says_so() -> None:
    notices: list[str] = []
    (field,) = parse('\n source: "C:\\data\\net"', notices=notices)
    assert field.value == quoted("C:\\data\net")
    assert notices == ["line 2: '\\d' is no escape; the backslash was kept (Caffe refuses such a file)"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-3", -3),
        ("0x10", 16),
        ("-0X1f", -31),
        ("017", 15),
        ("08", 8),
        ("0", 0),
        ("1.5", 1.5),
        ("1.5f", 1.5),
        (".5e1", 5.0),
        ("2f", 2.0),
        ("true", True),
        ("false", False),
        ("MAX", "MAX"),
        ("'3'", "3"),
        ("'true'", "true"),
        ("9" * 5000, math.inf),
    ],
)
def test_values_without_a_schema(text: str, value: object) -> None:
    (field,) = parse(f"a: {text}")
    assert isinstance(field.value, Scalar)
    found = python_value(field.value)
    assert found == value
    assert type(found) is type(value)


# Encodings


def test_bytes_that_are_no_utf8_survive(tmp_path: Path) -> None:
    gbk, latin = "卷积层".encode("gbk"), "é".encode("latin-1")
    path = tmp_path / "net.prototxt"
    path.write_bytes(b"\xef\xbb\xbf# " + gbk + b'\r\nname: "' + gbk + latin + b'"\r\nlayer {}\r\n')
    notices: list[str] = []
    tree = parse(read_text(str(path), notices), notices=notices)
    assert scalar_bytes(tree.string("name") or "") == gbk + latin
    assert parse(render(tree)) == tree
    assert [(f.line, f.column) for f in tree] == [(2, 1), (3, 1)]
    assert notices == []


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_with_a_mark_is_read_and_said(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "net.prototxt"
    path.write_bytes(("\ufeff" + 'name: "卷积"\nlayer { }').encode(encoding))
    notices: list[str] = []
    assert parse(read_text(str(path), notices)).string("name") == "卷积"
    assert notices == ["the file is UTF-16, which Caffe does not read"]
    assert looks_like_prototxt(path.read_bytes())


def test_broken_utf16_becomes_text_that_can_be_written_again() -> None:
    data = "\ufeffa: '😀'\n".encode("utf-16-le")
    for n in range(len(data)):
        decode(data[:n]).encode("utf-8", "surrogateescape")
    assert decode(b"\xff\xfe\x00\xd8a\0") == "\ufffda"


def test_line_ends_of_old_macs() -> None:
    tree = parse(decode(b"# a\rname: 'x'\rlayer {\r}"))
    assert [(f.name, f.line) for f in tree] == [("name", 2), ("layer", 3)]


# Places


def test_every_field_knows_its_line_and_column() -> None:
    tree = parse('name: "x"\nlayer {\n\tpad: 1  stride: 2\n  blobs { data: [1, 2] } }')
    layer = tree.message("layer")
    assert layer is not None
    assert [(f.name, f.line, f.column) for f in tree] == [("name", 1, 1), ("layer", 2, 1)]
    assert [(f.name, f.line, f.column) for f in layer] == [("pad", 3, 2), ("stride", 3, 10), ("blobs", 4, 3)]
    blobs = layer.message("blobs")
    assert blobs is not None
    assert [(f.line, f.column) for f in blobs] == [(4, 18), (4, 21)]


# Rows of numbers


@pytest.mark.parametrize("count", [1, 8, 9, 10, 1000])
@pytest.mark.parametrize("form", ["data: {}\n", "data:{} ", "data: {} # c\n", "data: {},\n"])
def test_long_rows_of_numbers_are_equal_to_short_ones(count: int, form: str) -> None:
    values = [f"{i}.5e-3" if i % 3 else f"-{i}" for i in range(count)]
    text = "shape { dim: 1 } " + "".join(form.format(v) for v in values) + "diff: 1"
    tree = parse(text)
    assert [f.value.text for f in tree.fields("data") if isinstance(f.value, Scalar)] == values
    assert tree == parse(render(tree))
    assert parse(f"shape {{ dim: 1 }} data: [{' , '.join(values)}] diff: 1") == tree


@pytest.mark.parametrize("name", ["data", "e", "nan", "f", "5", "[a.b]", "inf"])
@pytest.mark.parametrize("size", [1, 7, 50])
def test_long_rows_are_worked_on_in_pieces(monkeypatch: pytest.MonkeyPatch, name: str, size: int) -> None:
    monkeypatch.setattr("porter.formats.caffe.prototxt._PIECE", size)
    values = [v for i in range(30) for v in (f"{i}e-3", f"-{i}.5E5", "5", "inf", "-nan")]
    tree = parse("".join(f"{name} : {v}\r\n" for v in values) + "x: 1")
    assert [f.value.text for f in tree.fields(name) if isinstance(f.value, Scalar)] == values
    assert tree.string("x") == "1"


def test_a_long_row_is_one_entry() -> None:
    tree = parse("a { " + "data: nan data: -inf data: 1 " * 10_000 + "}")
    inner = tree.message("a")
    assert inner is not None
    assert len(inner.entries) < 20
    run = inner.entries[-1]
    assert isinstance(run, NumberRun)
    assert len(run) + len(inner.entries) - 1 == 30_000
    assert {f.value for f in inner} == {word("nan"), word("-inf"), number("1")}


# Errors


def error_of(text: str) -> str:
    with pytest.raises(FormatError) as caught:
        parse(text, path="net.prototxt")
    return str(caught.value)


def test_errors_show_the_place() -> None:
    assert error_of('layer {\n  name: "conv1\n}') == (
        "error[F152]: the string that begins here is not closed on its line\n"
        "  --> net.prototxt:2:9\n"
        "   |\n"
        ' 2 |   name: "conv1\n'
        "   |         ^\n"
        '   = help: add the missing ", or write a line break as \\n'
    )
    assert error_of("layer {\n\tpad 3\n}") == (
        "error[F150]: expected ':' or '{' after 'pad', found '3'\n  --> net.prototxt:2:6\n   |\n 2 |  pad 3\n   |      ^\n"
        "   = help: 'porter explain F150' says what this means and what to do"
    )
    assert error_of("a: 1\nconvolution_param { kernel_size: 3x3 }") == (
        "error[F153]: '3x3' is no number\n"
        "  --> net.prototxt:2:34\n"
        "   |\n"
        " 2 | convolution_param { kernel_size: 3x3 }\n"
        "   |                                  ^\n"
        "   = help: 'porter explain F153' says what this means and what to do"
    )


def test_an_unclosed_layer_is_named_where_it_begins() -> None:
    assert error_of('name: "x"\nlayer {\n  name: "a"\nlayer {\n  name: "b"\n}\n') == (
        "error[F151]: 'layer' is not closed when the file ends\n"
        "  --> net.prototxt:2:1\n"
        "   |\n"
        " 2 | layer {\n"
        "   | ^\n"
        "   = help: another 'layer' begins inside it on line 4: the '}' is probably missing just before"
    )
    assert "the file looks truncated, or a closing brace is missing" in error_of("layer {")


def test_the_wrong_brace_says_what_it_meets() -> None:
    assert error_of("a: 1\n}") == (
        "error[F150]: '}' closes nothing\n"
        "  --> net.prototxt:2:1\n"
        "   |\n"
        " 2 | }\n"
        "   | ^\n"
        "   = help: there is one too many, here or further up"
    )
    assert "'a', which opened on line 1, ends with '>'" in error_of("a < b: 1 }")


def test_long_lines_are_cut_around_the_caret() -> None:
    lines = error_of("a: 1 " * 5000 + "@" + " a: 1" * 5000).splitlines()
    assert all(len(line) < 140 for line in lines)
    assert lines[3].startswith(" 1 | ...")
    assert lines[3][lines[4].index("^")] == "@"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a", "F150"),
        ("a:", "F150"),
        ("a:: 1", "F150"),
        ("a: -", "F150"),
        ("a: -x", "F150"),
        ("a: - -1", "F150"),
        ("a: [1, 2", "F150"),
        ("a: [1 2]", "F150"),
        ("a: [1,,2]", "F150"),
        ("[a b]: 1", "F150"),
        ("a: 1,, b: 2", "F150"),
        ("{}", "F150"),
        ("a: 1\0", "F150"),
        ("a: 卷", "F150"),
        ("a: 'x\ny'", "F152"),
        ("a: 'x", "F152"),
        ("a: '\\'", "F152"),
        ("a: 1.2.3", "F153"),
        ("a: 5abc", "F153"),
        ("a: 0x", "F153"),
        ("a: +", "F153"),
        ("a: .", "F153"),
        ("a {", "F151"),
        ("a { b < ", "F151"),
    ],
)
def test_what_is_refused(text: str, code: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse(text)
    assert caught.value.code == code
    assert caught.value.where.line is not None
    assert caught.value.where.column is not None


def test_nesting_is_limited() -> None:
    assert parse("a {" * MAX_DEPTH + "}" * MAX_DEPTH)
    for text in ("a {" * 100_000, "a: [{" * 100_000, "a <" * (MAX_DEPTH + 1)):
        with pytest.raises(UnsafeFileError) as caught:
            parse(text)
        assert caught.value.code == "S004"


def test_the_number_of_fields_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("porter.formats.caffe.prototxt.MAX_FIELDS", 100)
    assert parse("a: 1 b: 2 " * 50)
    with pytest.raises(UnsafeFileError) as caught:
        parse("a: 1 b: 2 " * 51)
    assert caught.value.code == "S150"
    assert parse("a: 1 " * 5000), "a row of numbers is one field"


@pytest.mark.parametrize(
    "text",
    [
        "#" * 200_000,
        "# a" * 60_000 + "\x01",
        " " * 200_000 + "\x01",
        '"' * 200_000,
        "a: '" + "\\" * 200_001,
        "a: " + "9" * 200_000,
        "a: 1e" + "9" * 200_000,
        "a: 0" + "0" * 200_000,
        "a: [" + "1," * 100_000,
        "a: [" + "1 " * 100_000,
        "a: [" + "1,\n" * 100_000 + "x]",
        "a:1 " * 50_000 + "@",
        "a: " + "'y' " * 50_000,
        "[" + "a." * 100_000,
        ":" * 200_000,
        "-" * 200_000,
        "\r" * 200_000 + "}",
    ],
    ids=lambda t: f"{t[:6]!r}",
)
def test_no_text_takes_long(text: str) -> None:
    start = time.process_time()
    with contextlib.suppress(PorterError):
        for field in parse(text):
            if isinstance(field.value, Scalar):
                python_value(field.value)
    assert time.process_time() - start < 5


SAMPLE = b"""name: "n\\303\\251t" # \xe9
layer { name: 'a' type: "Convolution" bottom: "x", top: "y"; convolution_param < kernel_size: [3, 3] pad: 0x1 > }
layers { type: RELU blobs_lr: 1. blobs { shape { dim: 10 } data: -1.5e-3 data: 1 data: 1 data: 1 data: 1 data: 1 data: 1
  data: 1 data: 1 data: inf } [a.b]: - 3 }
"""


def test_every_truncation_and_every_changed_byte_reads_or_says_where() -> None:
    variants = [SAMPLE[:n] for n in range(len(SAMPLE))]
    for n in range(len(SAMPLE)):
        variants += [SAMPLE[:n] + bytes([SAMPLE[n] ^ mask]) + SAMPLE[n + 1 :] for mask in (0x01, 0x20, 0x80, 0xFF)]
    refused = 0
    for data in variants:
        try:
            tree = parse(decode(data), path="x")
        except FormatError as error:
            refused += 1
            assert error.where.line
            str(error)
        else:
            assert parse(render(tree)) == tree
    assert refused > len(variants) // 4


# Rendering

names = st.one_of(
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True),
    st.from_regex(r"\[[a-z]{1,3}\.[a-z]{1,3}\]", fullmatch=True),
    st.sampled_from(["data", "dim"]),
)
text_of_bytes = st.binary(max_size=20).map(lambda b: b.decode("utf-8", "surrogateescape"))
scalars = st.one_of(
    st.one_of(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), text_of_bytes).map(quoted),
    st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False)).map(lambda v: number(repr(v))),
    st.sampled_from(["0x1F", "017", "+3", "1.f", "2e5F"]).map(number),
    st.sampled_from(["MAX", "true", "nan", "-inf", "inf", "LMDB"]).map(word),
)
entries = st.recursive(
    st.builds(Field, names, scalars, st.just(0), st.just(0)),
    lambda inner: st.builds(lambda n, fields: Field(n, Message(tuple(fields))), names, st.lists(inner, max_size=12)),
    max_leaves=20,
)
rows = st.builds(
    lambda name, values: [Field(name, number(repr(v))) for v in values],
    st.sampled_from(["data", "dim"]),
    st.lists(st.integers(-5, 10**6), min_size=8, max_size=30),
)
trees = st.builds(lambda a, row, b: Message((*a, *row, *b)), st.lists(entries, max_size=8), rows, st.lists(entries, max_size=8))


@settings(max_examples=30, deadline=None)
@given(trees)
def test_a_rendered_tree_parses_to_itself(tree: Message) -> None:
    text = render(tree)
    again = parse(text)
    assert again == tree
    assert hash(again) == hash(tree)
    assert render(again) == text


@settings(max_examples=100, deadline=None)
@given(text_of_bytes)
def test_quoted_strings_are_clean_text_and_come_back(value: str) -> None:
    literal = quote(value)
    assert literal.isprintable()
    literal.encode("utf-8")
    (field,) = parse(f"a: {literal}")
    assert field.value == quoted(value)


@settings(max_examples=300, deadline=None)
@given(st.text(string.printable, max_size=60))
def test_any_text_reads_or_is_refused(text: str) -> None:
    try:
        tree = parse(text)
    except FormatError as error:
        assert error.where.line
    else:
        assert parse(render(tree)) == tree


# Detection


@pytest.mark.parametrize(
    "head",
    [
        b'name: "x"\nlayer {\n',
        b"layers: { layer { name: 'd'",
        b"\n# a comment\n# layer\ninput: 'data'\ninput_dim: 1",
        b'net: "train_val.prototxt"\nbase_lr: 0.01\n',
        b'name: "x" input_shape { dim: 1 } layer { name: "a',
        b"layer { blobs { data: 1.",
    ],
)
def test_detection_finds_nets(head: bytes) -> None:
    assert looks_like_prototxt(head)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b'{"layer": {"name": "x"}}',
        b"name: LeNet\nlayers:\n  - type: conv\n",
        b"layer:\n  name: x\n",
        b"7767517\n75 83\nInput data 0 1 data 0=227\n",
        b"[net]\nbatch=1\n[convolutional]\n",
        b"10\nconv1.weight 4 3f800000 00000000 00000000 3f800000\n",
        b"import torch\nlayer = {}\n",
        b"<?xml version='1.0'?><net><layer name='x'></layer></net>",
        b'item {\n  name: "background"\n  id: 0\n}\n',
        b"\x0a\x05LeNet\x12\x10layer { name: 1 }",
        b"\x89HDF\r\n\x1a\nlayer {",
        b"# layer { name: 'x' }\nkey: value\n",
        b"#include <x>\nstruct layer { int a; };\n",
        b"name: x\nlayer { oops\n  name: 'x'\n}\nlayer {\n",
    ],
)
def test_detection_leaves_other_files_alone(head: bytes) -> None:
    assert not looks_like_prototxt(head)


def test_every_head_of_a_net_is_recognised_once_it_shows_a_layer() -> None:
    found = [looks_like_prototxt(SAMPLE[:n]) for n in range(len(SAMPLE))]
    first = found.index(True)
    assert first == SAMPLE.index(b"layer {") + len(b"layer {")
    assert all(found[first:])


# Real files


def prototxts(shared: Path) -> list[Path]:
    return [*(shared / "real").rglob("*.prototxt"), *(shared / "oracle").rglob("deploy.prototxt")]


def test_every_real_prototxt_reads_and_renders(shared: Path) -> None:
    paths = prototxts(shared)
    assert len(paths) > 300
    for path in paths:
        notices: list[str] = []
        tree = parse(read_text(str(path), notices), path=str(path), notices=notices)
        assert notices == [], path
        assert parse(render(tree)) == tree, path
        assert looks_like_prototxt(path.read_bytes()[:4096]), path


def test_no_other_real_file_is_taken_for_one(shared: Path) -> None:
    others = [p for p in (shared / "real").rglob("*") if p.is_file() and p.suffix != ".prototxt"]
    assert len(others) > 30
    for path in others:
        with path.open("rb") as file:
            assert not looks_like_prototxt(file.read(4096)), path
