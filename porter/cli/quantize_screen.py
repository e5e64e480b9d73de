"""What `porter quantize` prints: each tensor with what it costs, what stays as it is and why, networks beside what they were made of."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from porter.cli.quantities import bytes_text, count, shape_text
from porter.cli.screen import Screen
from porter.cli.table import Cell, Column

if TYPE_CHECKING:
    from porter.conversion import Conversion
    from porter.formats.base import Loss
    from porter.quantisation.samples import Samples
    from porter.quantisation.static import Static
    from porter.quantisation.ways import Way
    from porter.quantisation.weights import Kept, Quantised
    from porter.store import Notice

WEIGHTS = (
    Column("TENSOR", fit="shrink"),
    Column("SHAPE", fit="drop"),
    Column("SCALES", "right", fit="drop"),
    Column("BYTES", "right"),
    Column("SNR", "right"),
    Column("WORST", "right", fit="drop"),
    Column("CLIPPED", "right", fit="drop"),
    Column("ZEROED", "right", fit="drop"),
)
UNOPTIMISED = (
    "compared without onnxruntime's optimisations: where it fuses, sums of int8 saturate on x86 without VNNI, unless the session option "
    "session.x64quantprecision is 1"
)
"""Source: measured with onnxruntime 1.31.1 on a processor with AVX2, whose fused convolutions were off by 0.43 without the option."""

OUTPUTS = (Column("OUTPUT", fit="shrink"), Column("MAX |Δ|", "right"), Column("SNR", "right"), Column("SAME CLASS", "right"))


def show_weights(
    screen: Screen,
    conversion: Conversion,
    way: Way,
    found: Mapping[str, Quantised],
    kept: Sequence[Kept],
    nbytes: tuple[int, int],
    paths: Sequence[str],
    losses: Sequence[Loss],
    notices: Sequence[Notice],
) -> None:
    """Weights that were quantised, or would be where there are no `paths`."""
    screen.notices(notices)
    if screen.json:
        screen.document(
            {
                **_head(conversion, "weights", paths, nbytes),
                "way": _way(way),
                "tensors": [_tensor_json(q) for q in found.values()],
                "kept": [{"name": k.spec.name, "dtype": k.spec.dtype.name, "shape": k.spec.shape, "reason": k.reason} for k in kept],
                "static": None,
                "losses": _losses(losses),
                "notices": _notices(notices),
            }
        )
        return
    _print_losses(screen, losses)
    if screen.quiet:
        return
    if found:
        screen.brief_table(WEIGHTS, [_row(screen, q) for q in found.values()])
    reasons: dict[str, list[str]] = {}
    for each in kept:
        reasons.setdefault(each.reason, []).append(each.spec.name)
    for reason, names in reasons.items():
        screen.paragraph(f"{reason} ({screen.listed(names)})", "kept  ")
    assumed = [name for name, q in found.items() if q.assumed]
    if assumed:
        screen.paragraph(f"channels are taken to come first in {screen.listed(assumed)}: the file does not say", "note  ")
    what = f"{count(len(found), 'tensor')} as {way}"
    _print_files(screen, conversion, paths, what, nbytes)


def _row(screen: Screen, q: Quantised) -> tuple[str | Cell, ...]:
    f = q.fidelity
    return (
        screen.name(q.tensor.name),
        shape_text(q.tensor.shape),
        f"{q.scale.size:,}",
        bytes_text(q.nbytes),
        f"{f.snr:.1f}" if f.snr is not None else "" if f.worst else "exact",
        f"{f.worst:.2f}",
        f"{f.clipped:,}" if f.clipped else "",
        f"{f.zeros:,}" if f.zeros else "",
    )


def show_numbers(
    screen: Screen,
    conversion: Conversion,
    names: Sequence[str],
    nbytes: tuple[int, int],
    paths: Sequence[str],
    losses: Sequence[Loss],
    notices: Sequence[Notice],
) -> None:
    """Tensors that are numbers again."""
    screen.notices(notices)
    if screen.json:
        screen.document(
            {
                **_head(conversion, "dequantized", paths, nbytes),
                "way": None,
                "tensors": [{"name": name} for name in names],
                "kept": [],
                "static": None,
                "losses": _losses(losses),
                "notices": _notices(notices),
            }
        )
        return
    _print_losses(screen, losses)
    if not screen.quiet:
        _print_files(screen, conversion, paths, f"{count(len(names), 'tensor')} dequantised", nbytes)


def show_static(
    screen: Screen,
    conversion: Conversion,
    way: Way,
    method: str,
    made: Static,
    sets: tuple[Samples, Samples],
    sizes: tuple[int, int],
    notices: Sequence[Notice],
) -> None:
    """A network whose activations are quantised too, beside the one that it was made of."""
    screen.notices(notices)
    compared = made.comparison
    if screen.json:
        outputs = [{"name": o.name, "largest": o.largest, "snr": o.snr, "same": o.same} for o in compared.outputs]
        static = {
            "range": method,
            "calibration": {"path": sets[0].path, "samples": sets[0].count},
            "test": {"path": sets[1].path, "samples": sets[1].count},
            "nodes": made.nodes,
            "outputs": outputs,
            "right": None if compared.right is None else {"float": compared.right[0], "quantized": compared.right[1]},
        }
        document = {**_head(conversion, "static", made.paths, sizes), "way": _way(way), "tensors": [], "kept": [], "static": static}
        screen.document({**document, "losses": [], "notices": _notices(notices)})
        return
    if screen.quiet:
        return
    rows = [
        (
            screen.name(o.name),
            f"{o.largest:.3g}",
            "exact" if o.snr is None and o.largest == 0 else "" if o.snr is None else f"{o.snr:.1f}",
            f"{o.same / compared.count:.2%}" if o.same is not None else "",
        )
        for o in compared.outputs
    ]
    screen.table(OUTPUTS, rows)
    lines: list[tuple[str, ...]] = []
    if compared.right is not None:
        right = [f"{n / compared.count:.2%}" for n in compared.right]
        lines.append(("accuracy", f"{right[0]} float, {right[1]} quantised", f"{sets[1]} of {screen.name(sets[1].path)}"))
    else:
        lines.append(("compared", "float and quantised", f"{sets[1]} of {screen.name(sets[1].path)}"))
    lines.append(("ranges", method, f"{sets[0]} of {screen.name(sets[0].path)}"))
    nodes = ", ".join(f"{n:,} {op_type}" for op_type, n in made.nodes.items())
    lines.append(("nodes", str(way), nodes))
    kind = f"{bytes_text(sizes[0])} → {bytes_text(sizes[1])}"
    screen.aligned([*lines, ("wrote", kind, screen.listed(made.paths))])
    screen.paragraph(UNOPTIMISED, "note      ")


def _print_files(screen: Screen, conversion: Conversion, paths: Sequence[str], what: str, nbytes: tuple[int, int]) -> None:
    files = screen.listed(paths) if paths else f"{screen.name(conversion.target)}, which was not written"
    screen.paragraph(f"{what}, {bytes_text(nbytes[0])} → {bytes_text(nbytes[1])}: {files}", "wrote " if paths else "plan  ")


def _print_losses(screen: Screen, losses: Sequence[Loss]) -> None:
    for loss in losses:
        tensors = f" ({screen.listed(loss.tensors)})" if loss.tensors else ""
        if loss.saved_in is None:
            screen.aside("lost", screen.name(loss.detail) + tensors)
        elif not screen.quiet:
            screen.aside("saved", f"{screen.name(loss.detail)}{tensors} → {screen.name(loss.saved_in)}", "good")


def _head(conversion: Conversion, kind: str, paths: Sequence[str], nbytes: tuple[int, int]) -> dict[str, Any]:
    return {
        "kind": kind,
        "dry_run": not paths,
        "source": {"path": conversion.source, "format": conversion.source_format.name, "bytes": nbytes[0]},
        "target": {"path": conversion.target, "format": conversion.target_format.name, "bytes": nbytes[1]},
        "files": [{"path": path, "bytes": os.path.getsize(path)} for path in paths],
    }


def _way(way: Way) -> dict[str, Any]:
    s = way.scheme
    return {"type": way.type.name, "per": s.granularity, "group": s.group, "symmetric": s.symmetric, "range": s.range}


def _tensor_json(q: Quantised) -> dict[str, Any]:
    f = q.fidelity
    return {
        "name": q.tensor.name,
        "dtype": q.tensor.dtype.name,
        "shape": q.tensor.shape,
        "scales": q.layout.scales,
        "axis": q.layout.axis if q.layout.granularity != "tensor" else None,
        "axis_assumed": q.assumed,
        "bytes": q.nbytes,
        "snr": f.snr,
        "worst": f.worst,
        "clipped": f.clipped,
        "zeroed": f.zeros,
    }


def _losses(losses: Sequence[Loss]) -> list[dict[str, Any]]:
    return [{"kind": x.kind, "detail": x.detail, "tensors": x.tensors, "saved_in": x.saved_in} for x in losses]


def _notices(notices: Sequence[Notice]) -> list[dict[str, Any]]:
    return [{"kind": n.kind, "message": n.message, "tensor": n.tensor} for n in notices]
