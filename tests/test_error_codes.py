"""Every error code is documented, every documented code exists, and errors that promise a way out have one."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache

import pytest
from conftest import ROOT

from porter.cli.codes import AREAS, explanations

FOLDER = ROOT / "porter" / "error_codes"
CODE = re.compile(r"[FSLUDIMGT][0-9]{3}")
ERRORS = {
    "FormatError": "F",
    "UnsafeFileError": "S",
    "LossError": "L",
    "MapError": "M",
    "GraphError": "G",
    "TensorRTError": "T",
    "UsageError": "U",
    "MissingDependencyError": "D",
    "FileAccessError": "I",
}


@cache
def trees() -> dict[str, ast.Module]:
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in sorted((ROOT / "porter").rglob("*.py"))}


@cache
def used() -> dict[str, str]:
    """Codes that the source names, with one place each."""
    return {
        node.value: f"{path}:{node.lineno}"
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value)
    }


def raised() -> Iterator[tuple[str, ast.Call, str]]:
    """Calls of the errors' classes: class, call and place."""
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS:
                yield node.func.id, node, f"{path}:{node.lineno}"


def test_every_code_is_documented() -> None:
    documented = explanations()
    missing = {code: place for code, place in used().items() if code not in documented}
    assert not missing, "document them in porter/error_codes"


def test_every_documented_code_is_used() -> None:
    assert sorted(set(explanations()) - set(used())) == []


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda p: p.stem)
def test_explanations(path: object) -> None:
    area = path.stem  # type: ignore[attr-defined]
    family = [a for a in AREAS if a.split("_")[0] == "tensorrt"] if area.startswith("tensorrt_") else list(AREAS)
    digit = "0" if area == "graph" else str(family.index(area) % 10)
    for code, entry in tomllib.loads(path.read_text("utf-8")).items():  # type: ignore[attr-defined]
        assert CODE.fullmatch(code), code
        assert code[1] == digit, f"{code} belongs into another file than {area}.toml"
        assert (code[0] == "M") == area.startswith("map_"), f"{code} belongs into another file than {area}.toml"
        assert (code[0] == "G") == (area == "graph"), f"{code} belongs into another file than {area}.toml"
        assert (code[0] == "T") == area.startswith("tensorrt_"), f"{code} belongs into another file than {area}.toml"
        assert set(entry) == {"title", "text"}, code
        assert entry["title"] == entry["title"].strip()
        assert not entry["title"].endswith("."), code
        assert "\n" not in entry["title"]
        assert len(entry["title"]) <= 72, f"{code}: a title fits a line"
        text = " ".join(entry["text"].split())
        assert len(text) > 30, code
        assert text.endswith((".", "'.")), code


def test_the_letter_says_which_class() -> None:
    for name, call, place in raised():
        first = call.args[0] if call.args else None
        if isinstance(first, ast.Constant):
            assert str(first.value)[0] == ERRORS[name], f"{place}: {name} with {first.value}"


def test_messages_are_one_line_in_lower_case() -> None:
    for _, call, place in raised():
        message = call.args[1] if len(call.args) > 1 else None
        text = message.value if isinstance(message, ast.Constant) else None
        if isinstance(message, ast.JoinedStr) and isinstance(message.values[-1], ast.Constant):
            text = str(message.values[-1].value)
        if isinstance(text, str):
            assert "\n" not in text, place
            assert not text.rstrip().endswith("."), f"{place}: a message ends without a full stop"


def test_refusals_to_lose_say_the_way_out() -> None:
    """What porter refuses to write is refused for the user's sake: each refusal says what to do instead."""
    for name, call, place in raised():
        if name == "LossError":
            assert any(k.arg in ("hint", None) for k in call.keywords) or len(call.args) > 2, f"{place}: no hint"
