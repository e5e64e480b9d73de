"""`porter audit`: what lower precision would do to the numbers of a weight file."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from porter.check.precision.audit import Audit, audit
from porter.check.precision.targets import USUAL, parse_targets
from porter.check.precision.verdicts import SNR
from porter.cli.options import common_options, read_options
from porter.cli.outputs import check_output
from porter.cli.screen import Screen, document_text
from porter.cli.status import ExitCode
from porter.errors import UsageError
from porter.formats.base import ReadOptions
from porter.formats.registry import open_store
from porter.store import TensorStore

if TYPE_CHECKING:
    from porter.check.precision.following_layers import Layers


@click.command("audit", short_help="Say what lower precision would do to a weight file.")
@click.argument("file")
@click.argument("pattern", required=False)
@click.option(
    "--to",
    "types",
    metavar="TYPES",
    default=",".join(USUAL),
    show_default=True,
    help="f16, bf16, tf32, f8_e4m3, f8_e5m2, f6_e2m3, f6_e3m2, f4_e2m1, i8, i4, nf4, pow2, log; several with commas.",
)
@click.option("-a", "--all", "everything", is_flag=True, help="Show every tensor; terminals otherwise cut long tables.")
@click.option("--details", is_flag=True, help="Show every cost: each type, each way into it.")
@click.option(
    "--schemes",
    is_flag=True,
    help="Try every way into scaled types: affine; groups of 32, 64, 128; and, but for groups, which are too small for them,"
    " ranges by percentile, MSE and KL.",
)
@click.option("--snr", type=float, default=SNR, show_default=True, metavar="DB", help="The signal-to-noise ratio that is enough.")
@click.option("--fold", is_flag=True, help="The same before and after batch normalisation is folded into the weights before it.")
@click.option("--eps", type=float, help="Batch normalisation's epsilon, where the file does not say it (1e-5).")
@click.option("--equalise", is_flag=True, help="Say which weights would gain from cross-layer equalisation.")
@click.option("--plan", "plan_path", metavar="PATH", help="Write a mixed-precision plan as JSON, for 'convert --dtype-plan'.")
@click.option("--overwrite", is_flag=True, help="Replace the plan if it exists.")
@read_options
@common_options()
@click.pass_obj
def command(
    screen: Screen,
    file: str,
    pattern: str | None,
    types: str,
    everything: bool,
    details: bool,
    schemes: bool,
    snr: float,
    fold: bool,
    eps: float | None,
    equalise: bool,
    plan_path: str | None,
    overwrite: bool,
    source_format: str | None,
    select: str | None,
    net: str | None,
) -> ExitCode:
    """Say what casts and quantisation would do to FILE before anyone builds an engine: overflow, underflow, subnormal numbers, noise.

    PATTERN chooses tensors by name. The verdict on a tensor is 'ok', 'per-channel' (integers need a scale for each channel) or
    'keep f32'. Variances of batch normalisation and slopes of PReLU are held to more.
    """
    from porter.check.precision.following_layers import layers_of

    targets = parse_targets(types)
    if not math.isfinite(snr):
        raise UsageError("U808", f"an SNR of {snr} dB is no threshold")
    if eps is not None and not 0 <= eps <= 1:
        raise UsageError("U808", f"an epsilon of {eps} means nothing", hint="it is a small positive number, such as 1e-5")
    if plan_path is not None:
        check_output(plan_path, (file, net), overwrite=overwrite)
    with open_store(file, source_format, options=ReadOptions(select=select, net=net)) as store:
        with screen.progress("reading", 2 * store.nbytes) as advance:
            result = audit(store, targets, pattern, every_scheme=schemes, least_snr=snr, advance=advance)
        layers = layers_of(store, result, net, eps, fold=fold, equalise=equalise, every_scheme=schemes)
        if plan_path is not None:
            _write_plan(screen, result, plan_path)
        _report(screen, store, result, layers, everything, details)
        screen.notices(store.notices)
    return ExitCode.YES


def _report(screen: Screen, store: TensorStore, result: Audit, layers: Layers, everything: bool, details: bool) -> None:
    if screen.json:
        from porter.check.precision.document import document

        source = store.source
        notices = [{"kind": n.kind, "message": n.message, "tensor": n.tensor} for n in store.notices]
        where = {"path": source.path if source else None, "format": source.format if source else None}
        found = document(result, layers.epsilons, layers.folded, layers.advice, layers.known)
        screen.document({**where, **found, "notices": notices})
        return
    if screen.quiet:
        return
    from porter.cli import audit_screen

    audit_screen.overview(screen, result, everything)
    if details:
        audit_screen.details(screen, result, everything)
    audit_screen.totals(screen, result, layers.epsilons)
    if layers.folded is not None:
        audit_screen.folded(screen, result, layers.folded, everything, guessed=layers.known == "order")
    if layers.advice is not None:
        audit_screen.equalisation(screen, layers.advice, guessed=layers.known == "order")


def _write_plan(screen: Screen, result: Audit, path: str) -> None:
    from porter.check.precision.plan import propose
    from porter.io.atomic import OutputGroup

    document = propose(result)
    with OutputGroup() as group:
        group.create(path).write(document_text(document).encode("ascii"))
    if not screen.quiet:
        changed = sum(t["dtype"] != t["from"] for t in document["tensors"])
        screen.aside("saved", f"plan, {changed:,} of {len(result.tensors):,} tensors get another type → {screen.name(path)}", "good")
