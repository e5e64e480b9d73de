"""What `porter port` shows: the summary of a network that was written, and the table of layers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from porter.cli.quantities import bytes_text, count
from porter.cli.screen import Screen
from porter.cli.table import Column

if TYPE_CHECKING:
    from porter.graph.porting import Ported

LAYERS = (Column("TYPE"), Column("PARAMETERS", fit="wrap"), Column("ONNX", fit="wrap"), Column("CHECKED AGAINST", fit="drop"))


def document(folder: str, ported: Ported) -> dict[str, Any]:
    """The report, with the folder that the files are in."""
    return {"folder": folder, **ported.report}


def print_report(screen: Screen, folder: str, ported: Ported) -> None:
    """What came in, what came out, and everything that a reader has to know about the way."""
    report: Mapping[str, Any] = ported.report
    if not screen.quiet:
        rows = [_source(screen, report), *_values(screen, report), *_folded(report), *_files(screen, folder, report)]
        screen.aligned([row + ("",) * (4 - len(row)) for row in rows])
        for reason, names in _by_reason(report["cut"]).items():
            screen.paragraph(f"{screen.listed(names, 6)}: {screen.name(reason)}", "cut: ")
    _notes(screen, report)


def _source(screen: Screen, report: Mapping[str, Any]) -> tuple[str, ...]:
    source = report["source"]
    paths = ", ".join(screen.name(p) for p in (source["path"], source["weights"]) if p)
    what = count(report["layers"], "layer" if source["kind"] == "caffe" else "node")
    return "read", source["kind"], f"{what}, {count(report['parameters'], 'parameter')}", paths


def _values(screen: Screen, report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for label, values in (("input", report["inputs"]), ("output", report["outputs"])):
        shown = values if screen.verbose or len(values) <= 6 else values[:5]
        rows += [(label, screen.name(v["name"]), _shape(v["shape"])) for v in shown]
        rows += [(label, f"and {len(values) - 5:,} more")] if len(shown) < len(values) else []
    return rows


def _shape(shape: Sequence[Any] | None) -> str:
    return "of unknown shape" if shape is None else "×".join(["?" if n is None else str(n) for n in shape]) or "scalar"


def _folded(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    if report["folded"]:
        nodes = sum(len(f["nodes"]) for f in report["folded"])
        rows.append(("folded", "batch norm", f"{count(nodes, 'node')} into {len(report['folded']):,}", _vanished(report)))
    rows += [("folded", "preprocessing", _preprocessing(p), "") for p in report["preprocessing"] if p["folded"]]
    return rows


def _vanished(report: Mapping[str, Any]) -> str:
    gone = len(report["vanished"])
    return f"{count(gone, 'value')} no longer {'exists' if gone == 1 else 'exist'}" if gone else ""


def _preprocessing(what: Mapping[str, Any]) -> str:
    said = [f"{what['given']} images"] if what["given"] else []
    said += [f"less {', '.join(f'{m:g}' for m in what['mean'])}"] if what["mean"] else []
    said += [f"less {what['mean_file']}"] if what["mean_file"] else []
    said += [f"times {what['scale']:g}"] if what["scale"] != 1 else []
    return ", ".join(said) or "nothing"


def _files(screen: Screen, folder: str, report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows = []
    for file in report["files"]:
        kind = f"onnx, opset {report['opset']}" if file["target"] == "onnx" else file["target"]
        rows.append(("wrote", kind, bytes_text(file["bytes"]), screen.name(os.path.join(folder, file["name"]))))
    return [*rows, ("wrote", "report", "", screen.name(os.path.join(folder, "report.json")))]


def _by_reason(cut: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """Names of layers that were left out, with their types, by the reason."""
    found: dict[str, list[str]] = {}
    for layer in cut:
        found.setdefault(layer["reason"], []).append(f"{layer['name']} ({layer['type']})")
    return found


def _notes(screen: Screen, report: Mapping[str, Any]) -> None:
    if report["source"]["generated"]:
        screen.aside("note", "no weights were given: these are made up, and the network computes nothing of use")
    if screen.quiet:
        return
    for what in report["preprocessing"]:
        if not what["folded"] and (what["mean"] or what["mean_file"] or what["scale"] != 1):
            text = f"'{what['input']}' is to be given {_preprocessing(what)}; '--preprocess known' puts that into the graph"
            screen.aside("note", screen.name(text))
    for text in (*report["notices"], *report["assumed"]):
        screen.aside("note", screen.name(text))
    if report["unused_weights"]:
        screen.aside("note", f"the weights have layers that the network does not use ({screen.listed(report['unused_weights'])})")


def print_layers(screen: Screen) -> None:
    """Every type of layer that porter takes over."""
    from porter.graph.caffe.registry import TABLE

    entries = sorted(TABLE.values(), key=lambda e: e.type.casefold())
    if screen.json:
        rows = [{"type": e.type, "parameters": e.parameters, "onnx": e.onnx, "checked": e.checked} for e in entries]
        screen.document({"layers": rows})
    else:
        screen.table(LAYERS, [(e.type, e.parameters, e.onnx, e.checked) for e in entries])
