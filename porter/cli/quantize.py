"""`porter quantize`: weights, or a whole network, in narrow types with scales, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import click

from porter.cli.options import common_options, map_options, read_options
from porter.cli.outputs import refuse_inputs
from porter.cli.screen import Screen
from porter.cli.status import ExitCode
from porter.conversion import Conversion, settle
from porter.errors import UsageError
from porter.formats.base import WriteOptions, WriteReport
from porter.quantisation.ways import RANGES, TYPES, Way
from porter.quantisation.ways import settle as settle_way
from porter.store import Notice, TensorStore

if TYPE_CHECKING:
    from porter.quantisation.weights import Kept, Quantised

Granularity = Literal["tensor", "channel", "group"]


@click.command("quantize", short_help="Quantise weights, or a whole network, and back.")
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@read_options
@click.option("-t", "--to", "target_format", metavar="FORMAT", help="Format of the output; by default its extension tells.")
@click.option("--type", "type_name", type=click.Choice(list(TYPES)), default="i8", show_default=True, help="The type of the codes.")
@click.option(
    "--per",
    type=click.Choice(["tensor", "channel", "group"]),
    help="What has a scale of its own: channel for i8 and f8, group for i4 (of 32) and nf4 (of 64).",
)
@click.option("--group", type=int, metavar="N", help="A scale for every N neighbours within a channel.")
@click.option("--affine", is_flag=True, help="With zero points: the range need not be symmetric about zero.")
@click.option("--range", "range_", type=click.Choice(RANGES), default="minmax", show_default=True, help="Where ranges are cut.")
@click.option("--only", metavar="PATTERN", multiple=True, help="Quantise only weights whose names match ('fc*'); may be repeated.")
@click.option("--exclude", metavar="PATTERN", multiple=True, help="Leave weights whose names match as they are; may be repeated.")
@click.option("--dequantize", is_flag=True, help="The way back: quantised tensors become floating-point numbers.")
@click.option("--calib", metavar="DATA", help="Quantise activations too, with ranges measured on these samples: an .npz or a folder.")
@click.option("--test", metavar="DATA", help="Compare with the floating-point network on these samples; by default those of --calib.")
@click.option("--labels", metavar="NAME", help="The array of the test set that holds the right classes.")
@click.option("--fold-bn", is_flag=True, help="Fold batch normalisation of an ONNX network into what is before it.")
@map_options
@click.option("--raw", is_flag=True, help="Leave names and values as they are, even where a map is usual.")
@click.option("--overwrite", is_flag=True, help="Replace DST if it exists.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be quantised at what cost, and write nothing.")
@common_options()
@click.pass_obj
def command(
    screen: Screen,
    /,
    source: str,
    target: str,
    type_name: str,
    per: Granularity | None,
    group: int | None,
    affine: bool,
    range_: str,
    only: tuple[str, ...],
    exclude: tuple[str, ...],
    dequantize: bool,
    fold_bn: bool,
    overwrite: bool,
    dry_run: bool,
    **given: Any,
) -> ExitCode:
    """Quantise the weights of SRC and write them to DST, and say what that costs each.

    Weights of at least two axes are quantised, not biases and statistics. An ONNX network that is written as one gets
    DequantizeLinear nodes; with --calib its activations are quantised as well, as TensorRT's explicit quantisation takes it.
    Elsewhere a tensor X has its codes, X.scale its scales and X.zero_point its zero points; for PyTorch they are one quantised tensor.
    """
    ctx = click.get_current_context()
    given |= {"only": only, "exclude": exclude, "fold_bn": fold_bn, "dry_run": dry_run, "overwrite": overwrite}
    _refuse_contradictions(ctx, given, dequantize)
    # KL is of activations where there are such; ranges of weights are those of onnxruntime then.
    way = settle_way(type_name, per, group, affine, "minmax" if given["calib"] else range_)
    conversion = settle(
        source,
        target,
        source_format=given["source_format"],
        target_format=given["target_format"],
        select=given["select"],
        net=given["net"],
        write=WriteOptions(overwrite=overwrite),
        map=given["map_name"],
        params=given["params"],
        raw=given["raw"],
    )
    refuse_inputs(target, (given["calib"], given["test"], given["net"], given["map_name"]))
    network = _is_network(conversion)
    if given["calib"] is not None:
        from porter.cli import quantize_network

        return quantize_network.static(screen, conversion, network, way, range_, given)
    if network:
        from porter.cli import quantize_network

        run = quantize_network.numbers if dequantize else quantize_network.weights
        return run(screen, conversion, way, given)
    if fold_bn:
        hint = "fold the batch normalisation of other weights by a map (fold_bn), or port the network first"
        raise UsageError("U965", "--fold-bn is for ONNX networks that are written as ONNX", hint=hint)
    return _numbers(screen, conversion, dry_run) if dequantize else _weights(screen, conversion, way, given)


def _refuse_contradictions(ctx: click.Context, given: dict[str, Any], dequantize: bool) -> None:
    """Refuse options that mean nothing beside others."""
    from click.core import ParameterSource

    def said(*names: str) -> list[str]:
        return [n for n in names if ctx.get_parameter_source(n) not in (ParameterSource.DEFAULT, None)]

    words = {"type_name": "type", "range_": "range", "fold_bn": "fold-bn"}
    wrong: list[str] = []
    if dequantize:
        wrong = said("type_name", "per", "group", "affine", "range_", "only", "exclude", "calib", "test", "labels", "fold_bn")
        beside = "--dequantize"
    elif given["calib"] is None:
        wrong, beside = said("test", "labels"), "weights alone, without --calib"
    else:
        wrong, beside = said("group", "affine", "only", "exclude", "map_name", "params", "raw", "select", "net", "dry_run"), "--calib"
    if wrong:
        options = ", ".join("--" + words.get(n, n.removesuffix("_name").replace("_", "-")) for n in wrong)
        raise UsageError("U965", f"{options} says nothing about {beside}", hint="leave it out")


def _is_network(conversion: Conversion) -> bool:
    """Whether a graph is to be written with its weights quantised."""
    if conversion.source_format.name != "onnx" or conversion.target_format.name != "onnx" or conversion.map is not None:
        return False
    from porter.formats.onnx.contents import NODES

    with conversion.open() as store:
        return bool(store.metadata.get(NODES))


def _weights(screen: Screen, conversion: Conversion, way: Way, given: dict[str, Any]) -> ExitCode:
    from porter.cli import quantize_screen
    from porter.quantisation.stored import stored

    with conversion.open() as source:
        mapped = conversion.mapped(source)
        found, kept = _quantised(screen, mapped, way, given)
        store = stored(mapped, found, conversion.target_format.name, conversion.target_format.adapter().CAPABILITIES)
        report = None
        if not given["dry_run"]:
            with screen.progress("writing", store.nbytes) as advance:
                report = conversion.save(store, advance)
        losses = report.losses if report is not None else ()
        paths = report.paths if report is not None else ()
        notices = _notices(source, mapped, store, report)
        quantize_screen.show_weights(screen, conversion, way, found, kept, (mapped.nbytes, store.nbytes), paths, losses, notices)
    return ExitCode.YES


def _quantised(screen: Screen, store: TensorStore, way: Way, given: dict[str, Any]) -> tuple[dict[str, Quantised], list[Kept]]:
    from porter.quantisation.weights import Kept, Quantised, choose, quantise

    found: dict[str, Quantised] = {}
    kept: list[Kept] = []
    chosen = choose(store, given["only"], given["exclude"])
    with screen.progress("measuring", sum(store[n].nbytes for n, reason in chosen.items() if reason is None)) as advance:
        for name, reason in chosen.items():
            made = quantise(store[name], way, advance=advance) if reason is None else Kept(store[name].spec, reason)
            if isinstance(made, Quantised):
                found[name] = made
            else:
                kept.append(made)
    return found, kept


def _notices(source: TensorStore, mapped: TensorStore, made: TensorStore, report: WriteReport | None) -> list[Notice]:
    """All that was said on the way; `mapped` is `source` itself where there is no map."""
    return [*source.notices, *(mapped.notices if mapped is not source else ()), *made.notices, *(report.notices if report else ())]


def _numbers(screen: Screen, conversion: Conversion, dry_run: bool) -> ExitCode:
    from porter.cli import quantize_screen
    from porter.quantisation.stored import dequantised

    with conversion.open() as source:
        mapped = conversion.mapped(source)
        store, found = dequantised(mapped)
        report = None
        if not dry_run:
            with screen.progress("writing", store.nbytes) as advance:
                report = conversion.save(store, advance)
        notices = _notices(source, mapped, store, report)
        paths = report.paths if report is not None else ()
        names = [d.spec.name for d in found]
        losses = report.losses if report is not None else ()
        quantize_screen.show_numbers(screen, conversion, names, (mapped.nbytes, store.nbytes), paths, losses, notices)
    return ExitCode.YES
