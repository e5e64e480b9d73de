"""What a report says against numpy and the commands it gathers, and the page without a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import porter
from porter.check.compare import compare
from porter.check.precision.targets import parse_targets
from porter.mapping import library
from porter.report.document import report
from porter.report.packing import DETAILED, counts, digits, names, pack
from porter.report.page import SCRIPTS, embedded, page
from porter.report.request import Inputs, MapInput, Request
from porter.store import TensorStore
from porter.tensor import Tensor

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "<!--",
    "]]>",
    "{{title}}",
    "&lt;b&gt;",
    "\u202egnp.weight",
    "a\u2028b\u2029c",
    "\ud800",
    "\x00\x1b[31m",
    "__proto__",
    "constructor",
)


def store_of(**tensors: np.ndarray) -> TensorStore:
    return TensorStore([Tensor.from_array(n.replace("__", "."), x) for n, x in tensors.items()])


def made(store: TensorStore, other: TensorStore | None = None, **options: Any) -> dict[str, Any]:
    request = Request("title", "2026-01-01T00:00:00Z", **{"targets": parse_targets("f16,i8"), **options})
    return report(request, Inputs(store, other))


def hostile_store() -> TensorStore:
    rng = np.random.default_rng(0)
    return TensorStore([Tensor.from_array(n, rng.normal(size=(3, 4)).astype("<f4")) for n in HOSTILE])


class Parsed(HTMLParser):
    """The elements of a page as Python's own parser sees them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append((self.tags[-1][0] if self.tags else "", data))

    def first(self, tag: str) -> str:
        return "".join(text for at, text in self.texts if at == tag)


def data_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert found
    document: dict[str, Any] = json.loads(found[1])
    return document


def test_rows_are_what_numpy_says() -> None:
    x = np.array([[1.5, -2, 0, -0.0], [np.nan, np.inf, 1e-40, 3]], "<f4")
    document = made(store_of(fc__weight=x, fc__bias=np.zeros(3, "<f4"), steps=np.array(7)))
    weight, bias, steps = document["tensors"]
    finite = x[np.isfinite(x)].astype(float)
    assert weight["statistics"]["mean"] == pytest.approx(finite.mean())
    assert weight["statistics"]["min"] == {"value": -2.0, "index": [0, 1]}
    assert weight["statistics"]["counts"]["subnormal"] == 1
    assert sum(weight["statistics"]["linear"]["count"]) == finite.size
    assert [t["role"] for t in (weight, bias, steps)] == ["weight", "bias", "steps"]
    assert steps["precision"] is None
    assert document["precision"]["passed_over"] == ["steps"]
    assert [(f["kind"], f["tensors"]) for f in document["findings"]] == [
        ("nan", ["fc.weight"]),
        ("infinite", ["fc.weight"]),
        ("zero", ["fc.bias"]),
        ("subnormal", ["fc.weight"]),
    ]


def test_the_comparison_is_that_of_diff() -> None:
    x = np.linspace(0, 1, 12, dtype="<f4").reshape(3, 4)
    a = store_of(w=x, t=x, s=x, z=x[0], r=x[1])
    b = store_of(w=x + np.float32(0.25), t=x.astype("<f2"), s=x.reshape(4, 3), z=x[0], q=x[1])
    document = made(a, b)
    expected = compare(a, b).to_json()
    by_name = {t["name"]: t for t in document["tensors"]}
    for entry in expected["tensors"]:  # type: ignore[union-attr]
        mine = by_name[entry["name"]]["comparison"]  # type: ignore[index, call-overload]
        assert {k: mine[k] for k in ("verdict", "difference", "notes", "b")} == {
            k: entry[k] for k in ("verdict", "difference", "notes", "b")
        }  # type: ignore[index, call-overload]
    assert document["comparison"]["counts"] == expected["counts"]
    assert document["comparison"]["same_bytes"] == [{"a": "r", "b": "q"}]
    assert by_name["q"]["in"] == "b"


def test_what_is_no_number_in_b_is_seen() -> None:
    """NaN on one side is no difference of 0, and is named where a reader looks first."""
    x = np.linspace(0, 1, 12, dtype="<f4")
    y = x.copy()
    y[3] = np.nan
    document = made(store_of(w=x), store_of(w=y, q=np.full(3, np.inf, "<f4")))
    assert [(f["kind"], f["tensors"]) for f in document["findings"]] == [("nan in b", ["w"]), ("infinite in b", ["q"])]
    ((at, differing, max_abs, max_ulp, lacking, rest),) = pack(document)["tensors"]["comparison"]["found"]
    assert (at, differing, max_abs, max_ulp, lacking) == (0, 1, "nan", None, None)
    assert rest["notes"] == ["1 element: NaN on one side only"]
    assert pack(document)["findings"][1]["tensors"] == [1]


def test_a_map_that_fails_while_it_runs() -> None:
    """A drop with a condition reads values: what it finds is a problem of the report, not an error."""
    store = store_of(a=np.zeros(3, "<f4"), b=np.ones(3, "<f4"))
    request = Request("t", "2026-01-01T00:00:00Z")
    use = MapInput("caffe:torch", library.load("caffe:torch"))
    from porter.mapping.parser import parse

    mapping = parse("a -> drop if = b\nb -> b\n", "m.pmap")
    document = report(request, Inputs(store, None, MapInput(use.name, mapping)))
    assert document["verdict"]["answer"] == "map does not fit"
    assert [p["code"] for p in document["map"]["problems"]] == ["M240"]


def test_hostile_names_stay_data() -> None:
    document = made(hostile_store(), hostile_store())
    document["title"] = HOSTILE[1]
    text = page(document).decode()
    parsed = Parsed(text)
    tags = [tag for tag, _ in parsed.tags]
    assert tags.count("script") == 2
    assert "img" not in tags
    assert all(not key.startswith("on") for _, attributes in parsed.tags for key in attributes)
    assert parsed.first("title").startswith(HOSTILE[1])
    packed = data_of(text)
    assert unpacked(packed["tensors"]["names"]) == list(HOSTILE)
    assert packed["title"] == HOSTILE[1]
    # What a browser could take for the end of the script or a comment, and what JavaScript took for the end of a line.
    block = re.search(r'id="data">(.*?)</script>', text, re.S)
    assert block
    assert not re.search("[<>&\u2028\u2029\ud800-\udfff]", block[1])


def test_the_policy_allows_what_is_there_and_nothing_else() -> None:
    text = page(made(hostile_store())).decode()
    parsed = Parsed(text)
    policy = next(a["content"] for t, a in parsed.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    for directive, tag in (("script-src", r"<script>(.*?)</script>"), ("style-src", r"<style>(.*?)</style>")):
        (content,) = re.findall(tag, text, re.S)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    links = [a.get("href") or a.get("src") for _, a in parsed.tags if a.get("href") or a.get("src")]
    assert all(link is not None and link.startswith(("#", "data:")) for link in links)
    script = text[text.rindex("<script>") :]
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        "fetch(",
        "XMLHttpRequest",
        "import(",
    ):
        assert way not in script
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)


def test_the_page_is_the_same_each_time() -> None:
    assert page(made(hostile_store())) == page(made(hostile_store()))


def test_the_parts_of_the_page_are_in_the_package() -> None:
    from importlib.resources import files

    folder = files("porter.report") / "page"
    assert {p.name for p in folder.iterdir()} == {*SCRIPTS, "report.css", "report.html"}


def test_size_of_ten_thousand_tensors() -> None:
    """Less than 2 MB, even where all of them differ."""
    rng = np.random.default_rng(0)
    value = rng.normal(0, 0.05, (24, 32)).astype("<f4")
    one = made(store_of(w=value), store_of(w=value + np.float32(1e-3)), targets=parse_targets("f16,bf16,i8"))
    row = one["tensors"][0]
    count = 10_000
    one["tensors"] = [
        {
            **row,
            "name": f"model.layers.{i // 40}.block_sparse_moe.experts.{i % 40}.w1.weight",
            "statistics": _shaken(row["statistics"], rng),
        }
        for i in range(count)
    ]
    assert count > DETAILED
    assert len(page(one)) < 2_000_000


def _shaken(statistics: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    some = {k: float(statistics[k] * rng.normal(1, 0.1)) for k in ("mean", "std", "smallest")}
    ends = {k: {"value": float(statistics[k]["value"] * rng.normal(1, 0.1)), "index": [1, 2]} for k in ("min", "max")}
    return {**statistics, **some, **ends}


def unpacked(packed: dict[str, Any]) -> list[str]:
    found: list[str] = []
    for shared, rest in zip(packed["shared"], packed["rest"], strict=True):
        found.append((found[-1][:shared] if found else "") + rest)
    return found


@given(st.lists(st.text(max_size=12)))
def test_names_survive_packing(values: list[str]) -> None:
    assert unpacked(names(values)) == values


@given(st.lists(st.integers(0, 2**50)))
def test_counts_survive_packing(values: list[int]) -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    found, value, unit = [], 0, 1
    for char in counts(values):
        digit = alphabet.index(char)
        value += digit % 32 * unit
        unit *= 32
        if digit < 32:
            found.append(value)
            value, unit = 0, 1
    assert found == values


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_digits_are_five(value: float) -> None:
    short = float(f"{value:.5g}")
    assert float(digits(value)) == (short if np.isfinite(short) else value)


def test_numbers_that_json_and_javascript_lack() -> None:
    assert digits(2**60) == str(2**60)
    assert json.loads(embedded(pack(made(store_of(w=np.array([1e308, -1e308])))))) is not None


def test_a_file_without_tensors(tmp_path: Path) -> None:
    porter.save(TensorStore(), tmp_path / "none.safetensors")
    with porter.open(tmp_path / "none.safetensors") as store:
        document = made(store)
    assert document["tensors"] == []
    assert page(document).startswith(b"<!doctype html>")


def test_a_distribution_that_is_halved_keeps_its_counts() -> None:
    """Large pages have every two bins as one."""
    rng = np.random.default_rng(3)
    document = made(store_of(w=rng.normal(size=(64, 64)).astype("<f4")))
    small = pack(document)["tensors"]["linear"][0]
    document["tensors"] = document["tensors"] * (DETAILED + 1)
    large = pack(document)["tensors"]["linear"][0]
    assert large[0] == 2 * small[0]
    assert large[1] == small[1] // 2


def test_reasons_of_any_number_leave_room_for_schemes() -> None:
    """Every tensor is kept for a reason of its own before the first that is not."""
    rng = np.random.default_rng(0)
    tensors = {f"w{i}": rng.standard_normal((9, 9)).astype("<f4") for i in range(72)}
    for i, values in enumerate(tensors.values()):
        values.reshape(-1)[:i] = np.nan
    whole = {"v": np.float32([[1e-4], [1]]) * rng.standard_normal((2, 40)).astype("<f4")}
    document = made(store_of(**dict(reversed(tensors.items())), **whole), targets=parse_targets("i8"))
    (packed,) = pack(document)["tensors"]["precision"]
    best = [
        next(c["scheme"] for c in v["costs"] if c["scheme"] == v["best"]) for t in document["tensors"] for v in t["precision"]["verdicts"]
    ]
    assert len(set(packed["words"])) > 64
    assert [packed["ways"][ord(c) - ord("A")] for c in packed["schemes"]] == best
    assert len(set(best)) > 1
