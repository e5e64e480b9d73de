"""`porter port`: a network as files of other frameworks."""

from __future__ import annotations

import os
from typing import Any

import click

from porter.cli.options import common_options, shapes
from porter.cli.port_screen import document, print_layers, print_report
from porter.cli.screen import Screen
from porter.cli.status import ExitCode
from porter.errors import UsageError


def _list_layers(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        print_layers(ctx.obj)
        ctx.exit()


@click.command("port", short_help="Write a Caffe network as ONNX and PyTorch, layer by layer.")
@click.argument("source", metavar="PROTOTXT")
@click.argument("weights", metavar="[WEIGHTS]", required=False)
@click.option("-o", "--output", "folder", metavar="DIR", required=True, help="The folder to write into; made where there is none.")
@click.option(
    "-t",
    "--to",
    "targets",
    metavar="TARGETS",
    default="onnx",
    help="What to write, with commas between: onnx (default), torch, wts, caffe, caffe:ssd, caffe:mobilenet-yolo, "
    "tensorrt-cpp, tensorrt-py.",
)
@click.option(
    "--input-shape",
    "input_shapes",
    metavar="NAME=SHAPE",
    multiple=True,
    callback=shapes(1),
    help="The shape of an input (data=1x3x224x224).",
)
@click.option("--phase", type=click.Choice(["TEST", "TRAIN"], case_sensitive=False), default="TEST", help="Layers of this phase (TEST).")
@click.option("--level", type=int, default=0, help="Layers of this level (0).")
@click.option("--stage", "stages", metavar="NAME", multiple=True, help="Layers of this stage; may be repeated.")
@click.option("--dynamic-batch", is_flag=True, help="Leave the size of the batch open.")
@click.option("--opset", type=click.IntRange(1), metavar="N", help="ONNX's operator set; by default the lowest that is exact.")
@click.option("--fold-bn", is_flag=True, help="Fold batch normalisation into the layer before it.")
@click.option(
    "--preprocess",
    metavar="WORDS",
    multiple=True,
    is_flag=False,
    flag_value="known",
    help="Put preprocessing at the beginning of the graph: what the prototxt says (known), or 'mean=104,117,123 scale=0.017 channels=rgb'.",
)
@click.option("--custom", metavar="FILE.py", multiple=True, help="Importers of layers porter does not know. Runs the file.")
@click.option("--allow-custom", is_flag=True, help="Leave layers of unknown types as nodes of the domain 'caffe'.")
@click.option(
    "--custom-shape",
    "custom_shapes",
    metavar="TOP=SHAPE",
    multiple=True,
    callback=shapes(-1),
    help="The shape of what such a layer makes.",
)
@click.option("--seed", type=click.IntRange(0), default=0, metavar="N", help="Of generated weights, where WEIGHTS is left out (0).")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option(
    "--list-layers",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_layers,
    help="List the types of layers porter knows.",
)
@common_options()
@click.pass_obj
def command(screen: Screen, /, source: str, weights: str | None, folder: str, **given: Any) -> ExitCode:
    """Write the Caffe network in PROTOTXT, with the weights in WEIGHTS, as files of other frameworks in DIR.

    PROTOTXT may be an ONNX model as well, which has its weights in itself. Every parameter of every layer is honoured, or the network
    is refused. report.json says what was cut, folded and assumed, layers.json which value each layer made. All files appear, or none.
    """
    from porter.graph.porting import port

    if os.path.normpath(folder) in ("", "."):
        folder = "."
    ported = port(source, weights, folder, _options(given))
    if screen.json:
        screen.document(document(folder, ported))
    else:
        print_report(screen, folder, ported)
    return ExitCode.YES


def _options(given: dict[str, Any]) -> Any:
    from porter.graph.caffe.custom import load
    from porter.graph.caffe.importer import ImportOptions
    from porter.graph.caffe.preparation import State
    from porter.graph.porting import PortOptions
    from porter.graph.preprocessing import wanted

    custom: dict[str, Any] = {}
    for path in given["custom"]:
        custom.update(load(path))
    targets = [word.strip() for word in given["targets"].split(",") if word.strip()]
    if not targets:
        raise UsageError("U930", "'--to' names nothing to write", hint="--to onnx")
    return PortOptions(
        targets=targets,
        overwrite=given["overwrite"],
        fold_bn=given["fold_bn"],
        preprocess=wanted(given["preprocess"]),
        importing=ImportOptions(
            state=State(given["phase"].upper(), given["level"], frozenset(given["stages"])),
            input_shapes=given["input_shapes"],
            dynamic_batch=given["dynamic_batch"],
            opset=given["opset"],
            custom=custom,
            allow_custom=given["allow_custom"],
            custom_shapes=given["custom_shapes"],
            seed=given["seed"],
        ),
    )
