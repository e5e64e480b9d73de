"""The page in a real browser: what it shows, search, sort, pointer, keyboard, hostile names, many tensors, printing, narrow windows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import NAMES, Chromium, find
from conftest import ROOT
from test_report import HOSTILE, hostile_store, made

import porter
from porter.mapping import library
from porter.report.document import report
from porter.report.page import page
from porter.report.request import Inputs, MapInput, Request
from porter.store import TensorStore
from porter.tensor import Tensor

MANY = 10_000
pytestmark = pytest.mark.skipif(find() is None, reason=f"no browser: none of {', '.join(NAMES)} is installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def browser(folder: Path) -> Iterator[Chromium]:
    program = find()
    assert program is not None
    with Chromium(program, folder / "profile") as chromium:
        yield chromium


def written(folder: Path, name: str, document: dict[str, Any]) -> Path:
    path = folder / f"{name}.html"
    path.write_bytes(page(document))
    return path


@pytest.fixture(scope="module")
def hostile(folder: Path) -> Path:
    a, b = hostile_store(), hostile_store()
    changed = b[HOSTILE[0]].numpy().copy()
    changed[1, 2] += 0.5
    b.replace(Tensor.from_array(HOSTILE[0], changed))
    b.add(Tensor.from_array("<b>only in b</b>", np.ones(3, "<f4")))
    a.note("changed", "<img src=x onerror=alert(1)>", HOSTILE[1])
    document = made(a, b)
    document["title"] = HOSTILE[2]
    return written(folder, "hostile", document)


@pytest.fixture(scope="module")
def mapped(folder: Path) -> Path:
    a, b = porter.open(ROOT / "examples/digits/digits.caffemodel"), folder / "digits.pth"
    porter.convert(ROOT / "examples/digits/digits.caffemodel", b, map="caffe:torch")
    from porter.check.precision.targets import parse_targets

    request = Request("Digits", "2026-01-01T00:00:00Z", parse_targets("f16,bf16,i8"))
    with a, porter.open(b) as other:
        return written(folder, "mapped", report(request, Inputs(a, other, MapInput("caffe:torch", library.load("caffe:torch")))))


@pytest.fixture(scope="module")
def many(folder: Path) -> tuple[Path, list[str]]:
    """A page of so many tensors; the rows of a few are repeated under other names."""
    rng = np.random.default_rng(1)
    few = TensorStore([Tensor.from_array(f"w{i}", rng.normal(size=(8, 1 + i)).astype(d)) for i, d in enumerate(("<f4", "<f2", "<f4"))])
    other = TensorStore([Tensor.from_array("w0", few["w0"].numpy() + np.float32(0.1)), few["w1"], few["w2"]])
    document = made(few, other)
    roles = ("weight", "bias", "scale")
    labels = [f"model.layers.{i // 3}.block.{roles[i % 3]}" for i in range(MANY)]
    document["tensors"] = [{**document["tensors"][i % 3], "name": n, "role": roles[i % 3]} for i, n in enumerate(labels)]
    document["findings"] = []
    return written(folder, "many", document), labels


def rows(browser: Chromium) -> list[str]:
    """The names of the tensors in the part of the table that is there."""
    return browser.js("[...document.querySelectorAll('#tensors .scroller tbody .row-button')].map((b) => b.textContent)")


def scroll(browser: Chromium, top: float) -> None:
    """Scroll the table of tensors, and wait until it is drawn."""
    drawn = "await new Promise(requestAnimationFrame)"
    browser.js(f"(async () => {{document.querySelector('#tensors .scroller').scrollTop = {top}; {drawn}; {drawn}}})()")


def search(browser: Chromium, text: str) -> str:
    field = "document.querySelector('#tensors input')"
    browser.js(f"{field}.value = {json.dumps(text)}; {field}.dispatchEvent(new Event('input'))")
    return browser.js("document.querySelector('#tensors [role=status]').textContent")


def test_hostile_names(browser: Chromium, hostile: Path) -> None:
    """Nothing that a name says has happened, and each name stands there as text."""
    browser.open(hostile)
    assert browser.complaints() == []
    assert [url for url in browser.requests() if not url.startswith("data:")] == [hostile.as_uri()]
    assert browser.js("document.title") == HOSTILE[2]
    assert browser.js("document.querySelectorAll('script').length") == 2
    assert browser.js("document.querySelectorAll('img, iframe, object, embed, b:not([class])').length") == browser.js(
        "document.querySelectorAll('#summary b, #provenance b').length"
    )
    invisible = str.maketrans({"\u202e": "\\u{202e}", "\u2028": "\\u{2028}", "\u2029": "\\u{2029}", "\x00": "\\u{0}", "\x1b": "\\u{1b}"})
    expected = [name.translate(invisible).replace("\ud800", "\\u{d800}") for name in HOSTILE]
    assert rows(browser) == [*expected, "<b>only in b</b>"]
    for name in expected:
        browser.js(f"[...document.querySelectorAll('.row-button')].find((b) => b.textContent === {json.dumps(name)}).click()")
        assert browser.js("document.getElementById('panel-heading').textContent") == name
    assert "<img src=x onerror=alert(1)>" in browser.js("document.getElementById('provenance').textContent")
    assert browser.complaints() == []


def test_the_policy_stops_what_gets_in(browser: Chromium, hostile: Path) -> None:
    """Were there a hole, the browser would not run what came through it, nor fetch anything."""
    browser.open(hostile)
    browser.js(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title=1\"><svg onload=\"document.title=2\"></svg>')"
    )
    browser.js("(() => {const s = document.createElement('script'); s.textContent = 'document.title = 3'; document.body.append(s)})()")
    assert browser.js("fetch('https://example.com').then(() => 'fetched', () => 'refused')") == "refused"
    assert browser.js("new Promise((r) => setTimeout(() => r(document.title), 100))") == HOSTILE[2]


def test_differences(browser: Chromium, hostile: Path) -> None:
    browser.open(hostile)
    assert browser.js("document.querySelector('.verdict').textContent") == f"Different: 1 of {len(HOSTILE)} tensors, 1 only in B"
    shown = browser.js("[...document.querySelectorAll('#comparison .scroller tbody tr:not(.pad)')].map((r) => r.innerText)")
    assert [[cell.strip() for cell in line.split("\t")[:2]] for line in shown] == [
        [HOSTILE[0], "differs"],
        ["<b>only in b</b>", "only in B"],
    ]
    browser.js("document.querySelector('#comparison .row-button').click()")
    panel = browser.js("document.getElementById('panel').innerText")
    assert "Max |Δ|\n0.5\n" in panel
    assert "[1, 2]: " in panel
    browser.js("[...document.querySelectorAll('.figure')].find((b) => b.textContent.includes('different')).click()")
    assert rows(browser) == [HOSTILE[0]]


def test_unpacked_is_what_was_packed(browser: Chromium, mapped: Path, folder: Path) -> None:
    """The inverse of the packing, run in the browser, against the document."""
    store = porter.open(ROOT / "examples/digits/digits.caffemodel")
    document = made(store)
    path = written(folder, "unpacked", document)
    browser.open(path)
    parts = "".join((ROOT / "porter/report/page" / name).read_text() for name in ("data.js", "text.js"))
    unpack = """const d = JSON.parse(document.getElementById('data').textContent);
        return unpackTensors(d.tensors).map((t) => ({name: t.name, shape: t.shape, dtype: t.dtype, bytes: t.bytes, kind: t.kind,
          zeros: t.zeros,
          linear: linearBins(d.tensors.linear[t.index]), octaves: octaveBins(d.tensors.octaves[t.index]),
          verdicts: t.precision.map((p) => p.verdict)}));"""
    found = browser.js(f"(() => {{{parts}\n{unpack}}})()")
    assert len(found) == len(store)
    for mine, entry in zip(found, document["tensors"], strict=True):
        assert {k: mine[k] for k in ("name", "shape", "dtype", "bytes", "kind")} == {
            k: entry[k] for k in ("name", "shape", "dtype", "bytes", "kind")
        }
        s = entry["statistics"]
        assert mine["zeros"] == s["counts"]["zeros"]
        assert [b["count"] for b in mine["linear"]] == s["linear"]["count"]
        assert mine["linear"][0]["from"] == s["linear"]["first"] * s["linear"]["step"]
        assert [b["negative"] for b in mine["octaves"]["bins"]] == s["octaves"]["negative"]
        assert [b["positive"] for b in mine["octaves"]["bins"]] == s["octaves"]["positive"]
        assert mine["octaves"]["bins"][0]["exponent"] == s["octaves"]["first"]
        assert mine["verdicts"] == [v["verdict"] for v in entry["precision"]["verdicts"]]


def test_search_and_filters(browser: Chromium, many: tuple[Path, list[str]]) -> None:
    path, labels = many
    browser.open(path)
    assert search(browser, "LAYERS.33 bias") == f"{sum('layers.33' in n and 'bias' in n for n in labels)} of 10,000 tensors"
    assert all("layers.33" in n and "bias" in n for n in rows(browser))
    assert search(browser, "nothing like it") == "0 of 10,000 tensors"
    assert browser.js("document.querySelector('#tensors .empty').checkVisibility()")
    browser.js("[...document.querySelectorAll('.found button')].find((b) => b.textContent === 'Show all').click()")
    assert browser.js("document.querySelector('#tensors table').getAttribute('aria-rowcount')") == str(MANY + 1)
    assert browser.js("document.activeElement.type") == "search"

    def choose(label: str, value: str) -> str:
        select = (
            f"[...document.querySelectorAll('#tensors .field')].find((f) => f.firstChild.textContent === '{label}').querySelector('select')"
        )
        browser.js(f"(() => {{const s = {select}; s.value = '{value}'; s.dispatchEvent(new Event('change'))}})()")
        return browser.js("document.querySelector('#tensors [role=status]').textContent")

    assert choose("Type", "float16") == "3,333 of 10,000 tensors"
    assert choose("Role", "weight") == "0 of 10,000 tensors"
    assert choose("Type", "") == "3,334 of 10,000 tensors"
    assert choose("Verdict", "c:different") == "3,334 of 10,000 tensors"
    assert choose("Verdict", "c:equal") == "0 of 10,000 tensors"


def test_sorting(browser: Chromium, many: tuple[Path, list[str]]) -> None:
    path, labels = many
    browser.open(path)

    def sort(label: str) -> tuple[str, list[str]]:
        header = f"[...document.querySelectorAll('#tensors .scroller thead th')].find((h) => h.textContent === '{label}')"
        browser.js(f"{header}.querySelector('button').click()")
        return browser.js(f"{header}.getAttribute('aria-sort')"), rows(browser)

    def natural(name: str) -> list[object]:
        return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]

    first = rows(browser)
    assert first == labels[: len(first)]
    order = sorted(labels, key=natural)
    assert sort("Tensor") == ("ascending", order[: len(first)])
    assert sort("Tensor") == ("descending", order[::-1][: len(first)])
    assert sort("Tensor") == ("none", first)
    state, largest = sort("Shape")
    assert (state, {n.rsplit(".", 1)[1] for n in largest}) == ("descending", {"scale"})
    assert sort("Type")[0] == "ascending"
    assert browser.js("document.querySelectorAll('#tensors .scroller [aria-sort=descending]').length") == 0


def test_ten_thousand_tensors(browser: Chromium, many: tuple[Path, list[str]]) -> None:
    """Only what is in view is in the document, the first view takes a second at most, and the last row is reached."""
    path, labels = many
    browser.size(1280, 900)
    browser.open(path)
    assert browser.work() < 1.0
    scroller = "document.querySelector('#tensors .scroller')"
    assert len(rows(browser)) < 80
    before = browser.work()
    for at in range(0, MANY, 500):
        scroll(browser, at * 34)
        assert labels[at] in rows(browser)
        index = browser.js(
            f"[...{scroller}.querySelectorAll('tbody tr')].find((r) => r.textContent.startsWith('{labels[at]}')).ariaRowIndex"
        )
        assert index == str(at + 2)
    assert (browser.work() - before) / 20 < 0.2
    scroll(browser, 1e9)
    assert rows(browser)[-1] == labels[-1]
    assert browser.js(f"{scroller}.scrollHeight") == pytest.approx(MANY * 34 + 34, abs=8)


def test_keyboard(browser: Chromium, many: tuple[Path, list[str]]) -> None:
    path, labels = many
    browser.open(path)
    browser.key("Tab")
    assert browser.js("document.activeElement.textContent") == "Skip to the summary"
    browser.key("Enter")
    assert browser.js("location.hash") == "#summary"
    browser.js("document.querySelector('#tensors .row-button').focus()")
    active = "document.activeElement.textContent"
    heading = "document.getElementById('panel-heading').textContent"
    browser.key("ArrowDown")
    browser.key("ArrowDown")
    assert browser.js(active) == browser.js(heading) == labels[2]
    browser.key("End")
    assert browser.js(active) == browser.js(heading) == labels[-1]
    browser.key("ArrowUp")
    assert browser.js(active) == browser.js(heading) == labels[-2]
    assert browser.js("document.querySelectorAll('#tensors .row-button[tabindex=\"0\"]').length") == 1
    assert browser.js("document.querySelectorAll('#tensors .row-button[aria-pressed=true]').length") == 1
    # Scrolled away by the wheel, the focus is not lost.
    scroll(browser, 0)
    assert browser.js("document.querySelector('#tensors .scroller').contains(document.activeElement)")
    browser.key("Home")
    assert browser.js(active) == labels[0]


def test_tab_goes_through_everything(browser: Chromium, mapped: Path) -> None:
    """In the order of the page, every kind of control is reached, and each table of rows is one stop and its headings."""
    browser.size(1280, 900)
    browser.open(mapped)
    seen = []
    while len(seen) < 120:
        browser.key("Tab")
        what = browser.js(
            """(() => { const e = document.activeElement;
          if (e === document.body) return '';
          const name = e.ariaLabel || e.labels?.[0]?.firstChild.textContent || e.textContent;
          return `${e.tagName} ${e.getAttribute('role') || e.type || ''} ${e.closest('section, header')?.id || ''} ${name}`; })()"""
        )
        if not what:
            break
        seen.append(what)
    wanted = [
        "A   Skip to the summary",
        "A   Summary",
        "BUTTON button  Use dark colours",
        "BUTTON button summary 13 equal, bit for bit",
        "DIV slider summary Values of all parameters, bins",
        "SUMMARY  summary As a table",
        "INPUT search tensors Search",
        "SELECT select-one tensors Verdict",
        "BUTTON button tensors Tensor",
        "BUTTON button tensors Max",
        "BUTTON button tensors conv1.weight",
        "DIV slider tensors Magnitudes, bins",
        "INPUT search map Search the map",
        "DIV region map What becomes of every tensor of A",
        "BUTTON button commands Copy the command for the audit of A",
    ]
    assert [w for w in seen if w in wanted] == [w for w in wanted for _ in range(seen.count(w))], seen
    assert set(wanted) <= set(seen), seen
    assert sum(w.startswith("BUTTON button tensors") and ".weight" in w for w in seen) == 1


def test_histograms(browser: Chromium, mapped: Path) -> None:
    """By the pointer, by keys, and as a table."""
    browser.size(1280, 900)
    browser.open(mapped)
    plot = "document.querySelector('#panel .plot')"
    browser.js(f"{plot}.scrollIntoView({{block: 'center'}})")
    x, y, width, height = browser.js(f"(() => {{const r = {plot}.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]}})()")
    bins = int(browser.js(f"{plot}.ariaValueMax"))
    readout = "document.querySelector('#panel .readout').textContent"
    at_rest = browser.js(readout)
    assert at_rest.startswith("Most: ")
    seen = []
    for i in range(bins):
        browser.pointer(x + (i + 0.5) * width / bins, y + height / 2)
        seen.append(browser.js(readout))
    assert len(set(seen)) == bins
    counted = [int(re.search(r": ([\d,]+) \(", text)[1].replace(",", "")) for text in seen]  # type: ignore[index]
    assert sum(counted) == 144  # conv1.weight
    browser.pointer(2, 2)
    assert browser.js(readout) == at_rest
    browser.js(f"{plot}.focus()")
    browser.key("Home")
    assert (browser.js(f"{plot}.ariaValueNow"), browser.js(f"{plot}.ariaValueText"), browser.js(readout)) == ("1", seen[0], seen[0])
    browser.key("ArrowRight")
    assert browser.js(readout) == seen[1]
    browser.key("End")
    browser.key("ArrowRight")
    assert browser.js(f"{plot}.ariaValueText") == seen[-1]
    browser.js("document.querySelector('#panel .as-table').open = true")
    table = browser.js(
        "new Promise((r) => setTimeout(() => r([...document.querySelectorAll('#panel .as-table td')].map((c) => c.innerText)), 50))"
    )
    assert sum(int(cell.replace(",", "")) for cell in table) == 144
    browser.js("document.querySelector('#panel figcaption button').click()")
    assert browser.js("document.querySelector('#panel figcaption button').ariaPressed") == "true"
    assert browser.complaints() == []


def test_map_and_provenance(browser: Chromium, mapped: Path) -> None:
    browser.open(mapped)
    text = browser.js("document.getElementById('map').innerText")
    assert "13 of 13 tensors of A used · 13 made, all of B among them." in text
    browser.js("[...document.querySelectorAll('.row-button')].find((b) => b.textContent === 'bn1.running_mean').click()")
    panel = browser.js("document.getElementById('panel').innerText")
    assert "computed, line" in panel
    assert "bn1.scale_factor" in panel
    digest = browser.js("[...document.querySelectorAll('.digest')].map((d) => d.textContent)")
    with porter.open(ROOT / "examples/digits/digits.caffemodel") as store:
        assert store.digest() in digest
    notes = browser.js("[...document.querySelectorAll('.notices li')].map((n) => n.textContent)")
    assert notes == ["map, skipped: caffe.net is left out: it speaks of the tensors as they were before the map"]
    commands = browser.js("[...document.querySelectorAll('.command code')].map((c) => c.textContent)")
    assert commands[0].startswith("porter report ")


def test_structure(browser: Chromium, mapped: Path) -> None:
    """Landmarks, one first heading, no level skipped, everything that can be used has a name, tables have captions and headers."""
    browser.open(mapped)
    assert browser.js("['header', 'nav', 'main', 'footer', 'aside'].map((t) => document.querySelectorAll(t).length)") == [1, 1, 1, 1, 1]
    levels = browser.js(
        "[...document.querySelectorAll('h1, h2, h3, h4')].filter((h) => h.checkVisibility()).map((h) => Number(h.tagName[1]))"
    )
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    tree = browser.call("Accessibility.getFullAXTree")["nodes"]
    usable = {"button", "link", "searchbox", "combobox", "slider", "table", "region", "complementary", "navigation"}
    unnamed = [n for n in tree if not n.get("ignored") and n["role"]["value"] in usable and not n.get("name", {}).get("value")]
    assert unnamed == []
    assert browser.js("[...document.querySelectorAll('table')].every((t) => t.caption || t.closest('.print-only'))")
    assert browser.js("[...document.querySelectorAll('[id]')].every((e, i, all) => all.findIndex((x) => x.id === e.id) === i)")
    assert browser.js(
        "[...document.querySelectorAll('[aria-labelledby]')].every((e) => document.getElementById(e.getAttribute('aria-labelledby')))"
    )


@pytest.mark.parametrize("width", [360, 800, 1280, 1920])
def test_windows(browser: Chromium, mapped: Path, many: tuple[Path, list[str]], hostile: Path, width: int) -> None:
    """Nothing is wider than the window, and names keep their room."""
    browser.size(width, 800)
    for path in (mapped, many[0], hostile):
        browser.open(path)
        assert browser.js("document.documentElement.scrollWidth") <= width
        assert browser.js("document.querySelector('#tensors .scroller thead th').offsetWidth") >= 120
        assert (
            browser.js(
                "document.querySelector('#tensors .scroller').scrollWidth - document.querySelector('#tensors .scroller').clientWidth"
            )
            <= 1
        )
    browser.size(1280, 900)


def test_themes(browser: Chromium, mapped: Path) -> None:
    """As the system has it, unless the button says otherwise; text stands out in both."""
    for scheme, other in (("dark", "light"), ("light", "dark")):
        browser.scheme(scheme)
        browser.open(mapped)
        browser.js("localStorage.clear()")
        browser.open(mapped)
        assert browser.js("document.documentElement.dataset.theme") == scheme
        assert contrasts(browser) == []
        browser.js("document.getElementById('theme').click()")
        assert browser.js("document.documentElement.dataset.theme") == other
        browser.open(mapped)
        assert browser.js("document.documentElement.dataset.theme") == other
    browser.js("localStorage.clear()")
    browser.scheme("light")


def contrasts(browser: Chromium) -> list[str]:
    """Texts whose contrast is below 4.5. Source: WCAG 2.2, 1.4.3 and its definition of relative luminance."""
    return browser.js(
        """(() => {
      const parse = (c) => (c.match(/[\\d.]+/g) || []).map(Number);
      const light = (c) => { const [r, g, b] = c.map((x) => { x /= 255; return x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4; });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
      const ground = (e) => { for (; e; e = e.parentElement) {
        const c = parse(getComputedStyle(e).backgroundColor);
        if (c.length === 3 || c[3] > 0) return c;
      } };
      const found = new Set();
      for (const e of document.querySelectorAll('main *, header *, footer *')) {
        if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
        if (!e.checkVisibility() || e.closest('.glyph')) continue;
        const [a, b] = [light(parse(getComputedStyle(e).color).slice(0, 3)), light(ground(e).slice(0, 3))].sort((x, y) => y - x);
        if ((a + 0.05) / (b + 0.05) < 4.5) found.add(`${e.className || e.tagName}: ${((a + 0.05) / (b + 0.05)).toFixed(2)}`);
      }
      return [...found];
    })()"""
    )


def test_printing(browser: Chromium, many: tuple[Path, list[str]]) -> None:
    """A stated number of rows, in light colours, on pages."""
    path, labels = many
    browser.open(path)
    assert browser.pdf("1-2").startswith(b"%PDF-")
    printed = browser.js("[...document.querySelectorAll('#tensors .print-only tbody th')].map((c) => c.textContent)")
    assert printed == labels[:500]
    assert browser.js("document.querySelector('#tensors .print-only p').textContent") == (
        "The first 500 of 10,000 tensors are printed; the page itself has all of them."
    )


def test_histograms_left_out(browser: Chromium, folder: Path) -> None:
    with porter.open(ROOT / "examples/digits/digits.caffemodel") as store:
        browser.open(written(folder, "plain", made(store, targets=(), histograms=False)))
    assert browser.complaints() == []
    assert browser.js("[document.querySelectorAll('.chart').length, document.getElementById('precision').hidden]") == [0, True]


def test_strange_tensors(browser: Chromium, folder: Path) -> None:
    """Empty ones, scalars, all NaN, integers beyond 2^53, complex numbers, and no tensor at all."""
    strange = {
        "empty": np.zeros((0, 3), "<f4"),
        "nan": np.full((2, 2), np.nan, "<f4"),
        "large": np.array(2**62),
        "complex": np.array([1 + 2j], "<c8"),
        "double": np.array([1e308, -1e-320]),
        "bools": np.array([True, False]),
    }
    browser.open(written(folder, "strange", made(TensorStore([Tensor.from_array(n, x) for n, x in strange.items()]))))
    for name in strange:
        browser.js(f"[...document.querySelectorAll('.row-button')].find((b) => b.textContent === '{name}').click()")
        text = browser.js("document.getElementById('panel').innerText")
        assert not re.search(r"\bundefined\b|\[object|\bnull\b", text), text
    browser.open(written(folder, "none", made(TensorStore())))
    assert browser.complaints() == []
    assert browser.js("document.querySelector('#tensors .empty').checkVisibility()")
