"""Every example of `schemas/pmap.md` does what the page says.

An example is a fenced block `pmap`; then `text`, the tensors that it is applied to, a line for each: name, shape, type (with
`--param name=value` behind `text`); then `text`, what comes out, or the error; then, where there is one, `python`, which holds for the
arrays `source` and `result`; and `pmap inverse`, the text of the inverse. `pmap NAME` is a file that the next example includes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

from porter.dataclass import dataclass
from porter.errors import MapError
from porter.mapping import lalr
from porter.mapping.execution import apply
from porter.mapping.inverse import invert
from porter.mapping.library import load
from porter.mapping.ops import registry
from porter.mapping.render import dumps
from porter.mapping.syntax import Map
from porter.store import TensorStore
from porter.tensor import Tensor

sys.path.insert(0, str(ROOT / "schemas"))
import compile as schemas

PAGE = (ROOT / "schemas" / "pmap.md").read_text("utf-8")


@dataclass(slots=True)
class Example:
    heading: str
    map: str
    files: dict[str, str]
    params: dict[str, str]
    source: str | None
    result: str
    python: str | None
    inverse: str | None


def blocks() -> list[tuple[str, str, str, str]]:
    """Heading, language, what stands behind it, and content of every fenced block."""
    found, heading = [], ""
    for match in re.finditer(r"^#+ (.*)$|^```(\w+) ?(.*)\n((?:(?!```).*\n)*)```$", PAGE, re.MULTILINE):
        if match[1]:
            heading = match[1]
        else:
            found.append((heading, match[2], match[3], match[4]))
    return found


def examples() -> list[Example]:
    found: list[Example] = []
    files: dict[str, str] = {}
    waiting = blocks()
    while waiting:
        heading, language, rest, content = waiting.pop(0)
        if language != "pmap":
            continue
        if rest:
            files[rest] = content
            continue

        def following(language: str, rest: str = "") -> str | None:
            if waiting and waiting[0][1] == language and (waiting[0][2] == rest or language == "text"):
                return waiting.pop(0)[3]
            return None

        params = dict(p.split("=") for p in re.findall(r"--param (\S+)", waiting[0][2]))
        first, second = following("text"), following("text")
        source, result = (first, second) if second is not None else (None, first)
        assert result is not None, content
        found.append(Example(heading, content, files, params, source, result, following("python"), following("pmap", "inverse")))
        files = {}
    return found


EXAMPLES = examples()


def listed(store: Mapping[str, Tensor]) -> str:
    lines = [f"{name} {'x'.join(map(str, t.shape)) or '()'} {t.dtype.short}\n" for name, t in store.items()]
    return "".join(lines)


def made(text: str) -> TensorStore:
    """Tensors of a list, each with the numbers 0, 1, 2 … in it."""
    store = TensorStore()
    for line in text.splitlines():
        name, shape, dtype = line.rsplit(" ", 2)
        sizes = [] if shape == "()" else [int(size) for size in shape.split("x")]
        values = np.arange(int(np.prod(sizes))).reshape(sizes).astype({"f32": "f4", "f16": "f2", "i64": "i8"}[dtype])
        store.add(Tensor.from_array(name, values))
    return store


def arrays(store: TensorStore) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in store.items()}


def read(example: Example, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Map:
    monkeypatch.chdir(folder)
    for name, text in {**example.files, "example.pmap": example.map}.items():
        Path(name).write_text(text, "utf-8")
    return load("example.pmap")


def names(example: Example) -> str:
    return f"{example.heading}: {example.map.splitlines()[0]}"


WORKING = [example for example in EXAMPLES if not example.result.startswith("error[")]
FAILING = [example for example in EXAMPLES if example.result.startswith("error[")]


@pytest.mark.parametrize("example", WORKING, ids=names)
def test_examples(example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    map = read(example, tmp_path, monkeypatch)
    assert example.source is not None
    source = made(example.source)
    result = apply(map, source, params=example.params)
    assert listed(result) == example.result
    if example.python is not None:
        exec(example.python, {"np": np, "source": arrays(source), "result": arrays(result)})
    if example.inverse is not None:
        assert dumps(invert(map)) == example.inverse


@pytest.mark.parametrize("example", WORKING, ids=names)
def test_examples_lead_back_where_they_can(example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    map = read(example, tmp_path, monkeypatch)
    assert example.source is not None
    source = made(example.source)
    if "sources=any" in example.map:
        return  # what is let go does not come back
    try:
        back = invert(map, params=example.params)
    except MapError as error:
        assert error.code.startswith("M5")
        return
    again = apply(back, apply(map, source, params=example.params), params=example.params)
    assert {name: (t.dtype, t.shape, t.numpy().tobytes()) for name, t in again.items()} == {
        name: (t.dtype, t.shape, t.numpy().tobytes()) for name, t in source.items()
    }


@pytest.mark.parametrize("example", WORKING, ids=names)
def test_everything_is_accounted_for(example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each tensor that goes into a stage is taken or said to be left out; each that comes out says its rule, line and inputs."""
    map = read(example, tmp_path, monkeypatch)
    result = apply(map, made(example.source or ""), params=example.params)
    noted = {notice.tensor for notice in result.notices if notice.kind == "skipped"}
    there = set(made(example.source or ""))
    for stage, origins in zip(result.plan.stages, result.origins, strict=True):
        taken = {name for step in stage.steps if step.action != "tie" for name in step.sources}
        assert taken | set(stage.left) == there
        assert not taken & set(stage.left)
        assert {step.sources[0] for step in stage.steps if step.action == "drop"} | set(stage.left) <= noted
        there = set(stage.result)
        assert set(origins) == there
    assert set(result) == there
    for name in result:
        for _, _, origin in result.path(name):
            document: Any = origin.to_json(Tensor.digest)
            assert document["map"] in {"example.pmap", *example.files}
            lines = Path(document["map"]).read_text("utf-8").splitlines()
            assert 1 <= document["line"] <= len(lines)
            assert document["rule"].split()[0].strip("[,") in lines[document["line"] - 1]
            assert [i["sha256"] for i in document["inputs"]] == [t.digest() for t in origin.inputs]
            assert document["inputs"] or document["action"] == "fill"


@pytest.mark.parametrize("example", FAILING, ids=names)
def test_examples_of_errors(example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> None:
        apply(read(example, tmp_path, monkeypatch), made(example.source or ""), params=example.params)

    with pytest.raises(MapError) as caught:
        run()
    assert f"{caught.value}\n" == example.result


def test_every_construct_has_an_example() -> None:
    """The statements and the kinds of captures and values that the grammar has all stand on the page."""
    used: set[str] = set()
    rules = {rule.alias or rule.origin.name for rule in schemas.grammar(schemas._Newlines()).rules}
    for example in EXAMPLES:
        if not example.result.startswith("error[M0"):
            for text in (example.map, *example.files.values()):
                lalr.drive(text, {name: (lambda children, start, end, name=name: used.add(name)) for name in rules})
    unused = {str(name) for name in rules if not name.startswith("_")} - used
    assert unused <= {"statement", "pattern", "value", "type", "element", "expression", "product", "factor"}, unused


def test_every_operation_is_on_the_page() -> None:
    (table,) = re.findall(r"\| operation \|.*?\n\n", PAGE, re.DOTALL)
    assert set(registry.names()) <= set(re.findall(r"`(\w+)", table))
