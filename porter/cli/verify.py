"""`porter verify`: do two networks compute the same, and if not, which layer goes wrong first?"""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from porter.check.measures import TOLERANCE
from porter.cli.options import common_options, shapes
from porter.cli.screen import Screen
from porter.cli.status import ExitCode
from porter.cli.verify_screen import document, print_verified
from porter.errors import UsageError
from porter.graph.feeds import FILLS
from porter.parity.opening import RUNNERS, OpenOptions

if TYPE_CHECKING:
    from porter.parity.verifying import VerifyOptions


@click.command("verify", short_help="Compare what two networks compute, layer by layer.")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Of the values that both are fed (0).")
@click.option("--fill", type=click.Choice(FILLS), help="These values: normal (0, 1), or uniform in 0…1 (normal).")
@click.option("--input", "inputs", metavar="FILE.npz", help="Feed these instead: an array for each input.")
@click.option("--image", metavar="FILE", help="Feed an image, resized to the input: PNG, JPEG, PGM, PPM.")
@click.option(
    "--preprocess",
    metavar="WORDS",
    multiple=True,
    help="How the image is fed: 'known' for what the prototxt says, or 'mean=104,117,123 scale=0.017 channels=bgr input=data'.",
)
@click.option(
    "--input-shape",
    "input_shapes",
    metavar="NAME=SHAPE",
    multiple=True,
    callback=shapes(1),
    help="The shape of an input: data=1x3x9x9.",
)
@click.option("--tolerance", type=float, default=TOLERANCE, metavar="T", help="Of a value's largest magnitude in A (1e-4).")
@click.option("--layers", metavar="layers.json", help="Which value holds what a Caffe layer makes: 'porter port' writes it.")
@click.option(
    "--runner",
    type=click.Choice(RUNNERS),
    default=RUNNERS[0],
    help="opencv: OpenCV's own importer runs the Caffe net (B, else A). engine: a GPU runs networks of TensorRT.",
)
@click.option("-a", "--all", "everything", is_flag=True, help="Show all values in the order of A's layers, and every layer that is wrong.")
@click.option("--first/--no-first", default=True, help="Find the first layer that is wrong by itself, and why (--first).")
@common_options()
@click.pass_obj
def command(screen: Screen, /, a: str, b: str, **given: Any) -> ExitCode:
    """Feed A and B the same and compare what they make, layer by layer, whatever frameworks they are of.

    Each is deploy.prototxt,model.caffemodel or model.onnx or model.py:Net,model.pth (PyTorch: runs the file) or net.py:build,net.wts
    (TensorRT: runs the file, needs no GPU) or golden.npz, a recorded run, which brings what was fed with it.

    Where they part, each layer of B is run again on A's own inputs: so the layer that is wrong is told from those that inherit it. Exits
    with 0 if all values agree within the tolerance, with 1 if not, with 2 if they could not be compared.
    """
    from porter.parity.verifying import verify

    options = _options(given)
    with ExitStack() as stack:
        verified = verify(a, b, options, lambda what, layers: stack.enter_context(screen.layers(what, layers)))
    if screen.json:
        screen.document(document(verified, options))
    else:
        print_verified(screen, verified, options, given["everything"])
    return ExitCode.YES if verified.same else ExitCode.NO


def _options(given: dict[str, Any]) -> VerifyOptions:
    from porter.graph.caffe.importer import ImportOptions
    from porter.graph.porting import PortOptions
    from porter.graph.preprocessing import wanted
    from porter.parity.feeding import FeedOptions
    from porter.parity.verifying import VerifyOptions

    if given["inputs"] is not None and given["image"] is not None:
        raise UsageError("U942", "both --input and --image say what to feed", hint="leave one of them out")
    if given["preprocess"] and given["image"] is None:
        raise UsageError("U942", "--preprocess says how an image is fed, and there is none", hint="say '--image FILE'")
    if not (math.isfinite(given["tolerance"]) and given["tolerance"] >= 0):
        raise UsageError("U801", f"a tolerance of {given['tolerance']} says nothing", hint="it is a small number, such as 1e-4")
    shaped = given["input_shapes"]
    return VerifyOptions(
        opening=OpenOptions(PortOptions(importing=ImportOptions(input_shapes=shaped)), given["runner"]),
        feeding=FeedOptions(given["inputs"], given["image"], wanted(given["preprocess"]), shaped, given["seed"], given["fill"]),
        layers=given["layers"],
        tolerance=given["tolerance"],
        first=given["first"],
        everything=given["everything"],
    )
