"""`porter tensorrt verify`: does what TensorRT holds compute what the network computes? Answered without a GPU."""

from __future__ import annotations

import math
from typing import Any

import click

from porter.cli.options import common_options, shapes
from porter.cli.screen import Screen
from porter.cli.status import ExitCode
from porter.cli.tensorrt_build import DTYPES
from porter.cli.tensorrt_verify_screen import document, print_layers, print_verified
from porter.errors import UsageError


def _list_layers(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        print_layers(ctx.obj)
        ctx.exit()


@click.command("verify", short_help="Compare what TensorRT holds with the network, value by value, without a GPU.")
@click.argument("source", metavar="SOURCE")
@click.argument("weights", metavar="[WEIGHTS]", required=False)
@click.option(
    "--network", metavar="FILE.py:FUNCTION", help="Verify the network that this function builds, and not porter's. Runs the file."
)
@click.option("--wts", metavar="FILE", help="Weights for FUNCTION, or instead of those in SOURCE, by their names in net.json.")
@click.option("--input", "inputs", metavar="FILE.npz", help="What to feed: an array for each input.")
@click.option("--golden", metavar="FILE.npz", help="A recorded run: feed what was fed, and compare with what came out as well.")
@click.option("--seed", type=click.IntRange(0), default=0, metavar="N", help="Of the values that are fed otherwise (0).")
@click.option(
    "--tolerance",
    type=click.FloatRange(0),
    metavar="T",
    help="The largest difference, as a part of a value's largest magnitude (1e-4; f16 2e-2, bf16 1e-1).",
)
@click.option("--dtype", type=click.Choice(list(DTYPES)), default="f32", help="What the network that porter builds computes in (f32).")
@click.option(
    "--input-shape",
    "input_shapes",
    metavar="NAME=SHAPE",
    multiple=True,
    callback=shapes(1),
    help="The shape of an input of a Caffe net (data=1x3x224x224).",
)
@click.option("--dynamic-batch", is_flag=True, help="Leave the size of the batch open.")
@click.option("--fold-bn", is_flag=True, help="Fold batch normalisation into what is before it.")
@click.option("--gpu/--no-gpu", default=True, help="Run the engine as well where there is a GPU (--gpu).")
@click.option(
    "--list-layers",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_layers,
    help="List the types of layers that can be verified.",
)
@common_options()
@click.pass_obj
def command(screen: Screen, /, source: str, weights: str | None, **given: Any) -> ExitCode:
    """Build the network in SOURCE with TensorRT, read it back, and compare what it computes with the original, layer by layer.

    SOURCE is a Caffe prototxt, with its weights in WEIGHTS, or an ONNX model. Everything that TensorRT holds is read through its API, said
    as ONNX, and run in onnxruntime beside the original. Exits with 0 if all values agree, with 1 and the place if not.

    FUNCTION takes an empty INetworkDefinition, and a dictionary of arrays where it has a second parameter: the weights, by their names in
    the file. Its inputs and outputs are matched by name, or else in order; tensors between are compared where they are called as in SOURCE.
    """
    from porter.graph.caffe.importer import ImportOptions
    from porter.graph.porting import PortOptions
    from porter.tensorrt.verifying import VerifyOptions, verify_network

    if given["inputs"] is not None and given["golden"] is not None:
        raise UsageError("U942", "both --input and --golden say what to feed", hint="leave one of them out")
    if given["tolerance"] is not None and not math.isfinite(given["tolerance"]):
        raise UsageError("U801", f"a tolerance of {given['tolerance']} says nothing", hint="it is a small number, such as 1e-4")
    if given["network"] is not None and given["dtype"] != "f32":
        raise UsageError("U942", "--dtype is for the network that porter builds", hint="FUNCTION decides what its network computes in")
    importing = ImportOptions(input_shapes=given["input_shapes"], dynamic_batch=given["dynamic_batch"])
    options = VerifyOptions(
        graph=PortOptions(fold_bn=given["fold_bn"], importing=importing),
        network=given["network"],
        wts=given["wts"],
        dtype=DTYPES[given["dtype"]],
        inputs=given["inputs"],
        golden=given["golden"],
        seed=given["seed"],
        tolerance=given["tolerance"],
        gpu=given["gpu"],
    )
    verified = verify_network(source, weights, options)
    if screen.json:
        screen.document(document(source, weights, options, verified))
    else:
        print_verified(screen, source, weights, options, verified)
    return ExitCode.YES if verified.same else ExitCode.NO
