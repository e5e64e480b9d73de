"""What `porter tensorrt build` shows: the layers with their weights, the verdict, and what was written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from porter.cli.quantities import bytes_text, count
from porter.cli.screen import Screen
from porter.cli.table import Cell, Column

if TYPE_CHECKING:
    from porter.tensorrt.building import Built
    from porter.tensorrt.checking.weights import Checked

COLUMNS = (
    Column("LAYER", fit="shrink"),
    Column("TYPE", fit="drop"),
    Column("WEIGHTS"),
    Column("BYTES", align="right"),
    Column("COMPARED WITH"),
    Column("VERDICT"),
)

AGAINST = {"file": "the file", "formula": "the formula", "graph": "the graph"}
"""What a weight was compared with: the file's values, what the formula makes of these, or what the graph made."""

ONLY_A_GPU = "only a GPU shows how kernels round, which layers are fused, and whether float32 products are shortened to TF32"


def document(source: str, weights: str | None, built: Built) -> dict[str, Any]:
    """The result as JSON."""
    report = built.report
    check = None
    if report is not None:
        check = {"equal": report.equal, "others": list(report.others), "weights": [c.to_json() for c in report.weights]}
    return {
        "source": source,
        "weights": weights,
        "package": {"name": built.package.name, "version": built.package.version},
        "inputs": built.manifest["inputs"],
        "outputs": built.manifest["outputs"],
        "layers": len(built.network.layers),
        "check": check,
        "map": built.map,
        "files": [{"path": path, "bytes": size} for path, size in built.files.items()],
        "notices": list(built.notices),
        "unknown": ONLY_A_GPU,
    }


def print_built(screen: Screen, source: str, weights: str | None, built: Built) -> None:
    """What came in, what TensorRT holds, what came out."""
    if not screen.quiet:
        read = ", ".join(screen.name(path) for path in (source, weights) if path)
        rows = [("read", count(len(built.network.layers), "layer"), read)]
        for label, values in (("input", built.manifest["inputs"]), ("output", built.manifest["outputs"])):
            rows += [(label, screen.name(value["name"]), _value(value)) for value in values]
        screen.aligned([*rows, ("built", built.package.name, built.package.version)])
        if built.report is not None and built.report.weights:
            screen.brief_table(COLUMNS, list(_rows(screen, built.report.weights)))
    if built.report is not None:
        _verdict(screen, built)
    if not screen.quiet:
        screen.aligned([("wrote", bytes_text(size), screen.name(path)) for path, size in built.files.items()])
    for text in () if screen.quiet else (*built.notices, ONLY_A_GPU):
        screen.aside("note", screen.name(text))


def _value(value: dict[str, Any]) -> str:
    shape = "×".join("?" if n == -1 else str(n) for n in value["shape"] or ()) or "scalar"
    return f"{value['dtype']} {shape}"


def _rows(screen: Screen, weights: Sequence[Checked]) -> Iterable[tuple[str | Cell, ...]]:
    """A row for each layer that holds weights."""
    layers: dict[str, list[Checked]] = {}
    for checked in weights:
        layers.setdefault(checked.layer, []).append(checked)
    for name, held in layers.items():
        verdict = Cell("equal", "good") if all(c.equal for c in held) else Cell("different", "bad")
        against = " and ".join(dict.fromkeys(AGAINST[c.against] for c in held))
        size = bytes_text(sum(c.weights.tensor.nbytes for c in held))
        yield screen.name(name), held[0].type, ", ".join(c.role for c in held), size, against, verdict


def _verdict(screen: Screen, built: Built) -> None:
    """One line if all is well, else a line for each thing that is not."""
    assert built.report is not None
    report = built.report
    total = bytes_text(sum(c.weights.tensor.nbytes for c in report.weights))
    if report.equal:
        counts = Counter([str(c.against) for c in report.weights])
        said = ", ".join(f"{counts[key]:,} with {words}" for key, words in AGAINST.items() if counts[key])
        text = f"{count(len(report.weights), 'weight')} of {total} {'is' if len(report.weights) == 1 else 'are'} equal, bit for bit"
        if not screen.quiet:
            screen.paragraph(f"{text}{f' ({said})' if said else ''}", "equal: ")
        return
    shown = report.problems if screen.verbose else report.problems[:10]
    for text in shown:
        screen.paragraph(screen.name(text), "different: ")
    if len(shown) < len(report.problems):
        screen.line(f"…{len(report.problems) - len(shown):,} more (-v)")
    screen.line("nothing was written")
