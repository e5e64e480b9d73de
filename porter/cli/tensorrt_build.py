"""`porter tensorrt build`: a network as an engine of TensorRT, whose weights were read back and compared."""

from __future__ import annotations

from typing import Any

import click

from porter.cli.options import common_options, shape_of, shapes
from porter.cli.screen import Screen
from porter.cli.status import ExitCode
from porter.cli.tensorrt_screen import document, print_built
from porter.errors import UsageError

DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}


def _profiles(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
    """Parses `NAME=1x3x224x224,8x3x224x224,32x3x224x224`."""
    found: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = {}
    for text in values:
        name, equals, rest = text.rpartition("=")
        stated = [shape for word in rest.split(",") if (shape := shape_of(word)) is not None]
        if not equals or not name or len(stated) != 3 or rest.count(",") != 2 or min(map(min, stated)) < 0:
            raise click.BadParameter(f"{text!r} is no NAME=SMALLEST,USUAL,LARGEST, such as data=1x3x224x224,8x3x224x224,32x3x224x224")
        if name in found:
            raise click.BadParameter(f"'{name}' is given twice")
        found[name] = (stated[0], stated[1], stated[2])
    return found


@click.command("build", short_help="Build a network with TensorRT, check every weight, and write its engine.")
@click.argument("source", metavar="SOURCE")
@click.argument("weights", metavar="[WEIGHTS]", required=False)
@click.option(
    "-o", "--output", metavar="ENGINE", help="The engine to write, net.engine; net.json comes beside it. Without it nothing is written."
)
@click.option("--wts", metavar="FILE", help="Take the values of all weights from this file, by name (conv1.weight, bn1.running_mean).")
@click.option("--check/--no-check", default=True, help="Read every weight back and compare it, bit for bit (--check).")
@click.option("--dtype", type=click.Choice(list(DTYPES)), default="f32", help="What the network computes in (f32).")
@click.option("--dtype-plan", "plan", metavar="PLAN", help="What it computes in, tensor by tensor: a plan of 'porter audit --plan'.")
@click.option("--dynamic-batch", is_flag=True, help="Leave the size of the batch open; needs --profile.")
@click.option(
    "--profile",
    "profiles",
    metavar="NAME=SHAPES",
    multiple=True,
    callback=_profiles,
    help="The smallest, usual and largest shape of an input with open sizes (data=1x3x8x8,4x3x8x8,9x3x8x8).",
)
@click.option(
    "--input-shape",
    "input_shapes",
    metavar="NAME=SHAPE",
    multiple=True,
    callback=shapes(1),
    help="The shape of an input of a Caffe net (data=1x3x224x224).",
)
@click.option("--fold-bn", is_flag=True, help="Fold batch normalisation into what is before it.")
@click.option("--optimization-level", type=click.IntRange(0, 5), metavar="N", help="How long TensorRT looks for fast kernels, from 0 to 5.")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@common_options()
@click.pass_obj
def command(screen: Screen, /, source: str, weights: str | None, output: str | None, **given: Any) -> ExitCode:
    """Build the network in SOURCE with TensorRT, check every weight that it holds, and write its engine.

    SOURCE is a Caffe prototxt, with its weights in WEIGHTS, or an ONNX model, which has its weights in itself. Layers are called as in
    the network. Each weight is read back from TensorRT and compared with the file that it came from, which is that of --wts where it is
    given. Both files appear, or none.
    """
    if given["plan"] is not None and given["dtype"] != "f32":
        raise UsageError("U942", "--dtype-plan says what every layer computes in, and so does --dtype", hint="give one of them")
    from porter.graph.caffe.importer import ImportOptions
    from porter.graph.porting import PortOptions
    from porter.tensorrt.building import BuildOptions, build_engine

    importing = ImportOptions(input_shapes=given["input_shapes"], dynamic_batch=given["dynamic_batch"])
    options = BuildOptions(
        PortOptions(fold_bn=given["fold_bn"], importing=importing),
        given["wts"],
        DTYPES[given["dtype"]],
        given["profiles"],
        given["check"],
        given["overwrite"],
        given["optimization_level"],
        given["plan"],
    )
    built = build_engine(source, weights, output, options)
    if screen.json:
        screen.document(document(source, given["wts"] or weights, built))
    else:
        print_built(screen, source, given["wts"] or weights, built)
    return ExitCode.YES if built.report is None or built.report.equal else ExitCode.NO
