"""`porter quantize` for ONNX networks: their weights, weights and activations, and the way back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from porter.cli import quantize_screen
from porter.cli.screen import Screen
from porter.cli.status import ExitCode
from porter.conversion import Conversion
from porter.errors import UsageError
from porter.quantisation.ways import Way
from porter.store import Notice, TensorStore

if TYPE_CHECKING:
    from porter.graph.network import Network


@contextmanager
def _opened(conversion: Conversion, fold_bn: bool) -> Iterator[tuple[Network, TensorStore, list[Notice]]]:
    """The network, its weights as they are after folding, and what there is to say of them. Open until the end of the block."""
    from porter.graph.porting import PortOptions, open_network

    with open_network(conversion.source, None, PortOptions(fold_bn=fold_bn)) as network:
        assert network.store is not None
        notices = [Notice("note", text) for text in network.notices]
        if not fold_bn:
            yield network, network.store, notices
            return
        notices.append(Notice("changed", f"{len(network.folded):,} batch normalisations are folded into what is before them"))
        yield network, _initializers(network), notices


def _initializers(network: Network) -> TensorStore:
    """The initialisers of a graph that was changed, as a store."""
    from porter.tensor import Tensor

    arrays = {name: v.const_value.numpy() for name, v in network.model.graph.initializers.items() if v.const_value is not None}
    return TensorStore([Tensor.from_array(name, array) for name, array in arrays.items() if array.dtype.kind not in "OSU"])


def weights(screen: Screen, conversion: Conversion, way: Way, given: dict[str, Any]) -> ExitCode:
    """Quantise the weights of the network."""
    from porter.graph.onnx_output import write_model
    from porter.quantisation.onnx_weights import chosen, fix, put, raised

    with _opened(conversion, given["fold_bn"]) as (network, store, notices):
        model, changed = raised(network.model, way)
        notices += _changed(changed)
        with screen.progress("measuring", store.nbytes) as advance:
            found, kept = chosen(model, store, way, given["only"], given["exclude"], advance)
        notices += _changed(fix(model, found))
        put(model, found)
        paths: tuple[str, ...] = ()
        if not given["dry_run"]:
            paths = write_model(model, conversion.target, overwrite=given["overwrite"])
        after = store.nbytes - sum(q.tensor.nbytes - q.nbytes for q in found.values())
        quantize_screen.show_weights(screen, conversion, way, found, kept, (store.nbytes, after), paths, (), notices)
    return ExitCode.YES


def numbers(screen: Screen, conversion: Conversion, way: Way, given: dict[str, Any]) -> ExitCode:
    """Make the weights of the network floating-point numbers again."""
    from porter.graph.onnx_output import write_model
    from porter.quantisation.onnx_numbers import unfold

    with _opened(conversion, fold_bn=False) as (network, store, notices):
        made, left = unfold(network.model)
        reasons: dict[str, list[str]] = {}
        for each in left:
            reasons.setdefault(each.reason, []).append(each.name)
        for reason, names in reasons.items():
            stay = "1 DequantizeLinear node stays" if len(names) == 1 else f"{len(names):,} DequantizeLinear nodes stay"
            notices.append(Notice("note", f"{stay} ({screen.listed(names)}): {reason}"))
        after = sum(v.const_value.nbytes for v in network.model.graph.initializers.values() if v.const_value is not None)
        paths: tuple[str, ...] = ()
        if not given["dry_run"]:
            paths = write_model(network.model, conversion.target, overwrite=given["overwrite"])
        quantize_screen.show_numbers(screen, conversion, made, (store.nbytes, after), paths, (), notices)
    return ExitCode.YES


def static(screen: Screen, conversion: Conversion, network: bool, way: Way, method: str, given: dict[str, Any]) -> ExitCode:
    """Quantise weights and activations, with ranges measured on samples."""
    from porter.graph.runtime import onnxruntime_package
    from porter.quantisation.onnx_weights import fix, raised
    from porter.quantisation.samples import Samples, inputs_of
    from porter.quantisation.static import METHODS, quantise_network

    if not network:
        hint = "'porter port' makes an ONNX network of a Caffe one; weights alone are quantised without --calib"
        raise UsageError("U966", "--calib takes an ONNX network, and writes one", hint=hint)
    if way.type.name != "i8" or way.scheme.granularity == "group" or method not in METHODS:
        hint = f"say --type i8, --per tensor or channel, and --range {', '.join(METHODS)}"
        raise UsageError("U966", f"activations are not quantised as {way}, with ranges by {method}", hint=hint)
    onnxruntime_package()
    with _opened(conversion, given["fold_bn"]) as (opened, _, notices):
        inputs = inputs_of(opened.model)
        test_labels = given["labels"] if given["test"] is None else None
        calibration = Samples(given["calib"], inputs, test_labels)
        test = Samples(given["test"], inputs, given["labels"]) if given["test"] is not None else calibration
        for samples in dict.fromkeys((calibration, test)):
            if samples.left_out:
                text = f"{samples.left_out:,} samples at the end fill no batch, and are left out"
                notices.append(Notice("skipped", text, samples.path))
        half = any(value.dtype is not None and value.dtype.name == "FLOAT16" for value in opened.model.graph.initializers.values())
        model, changed = raised(opened.model, way, scales="float16" if half else "float32")
        notices += _changed(changed) + _changed(fix(model, list(model.graph.initializers)))
        made = quantise_network(
            model,
            conversion.target,
            calibration,
            test,
            method=method,
            per_channel=way.scheme.granularity == "channel",
            overwrite=given["overwrite"],
            step=lambda text: _step(screen, text),
        )
    if given["labels"] is not None and made.comparison.right is None:
        notices.append(Notice("skipped", "no output of the network has classes, so labels say nothing of it"))
    sizes = (os.path.getsize(conversion.source), sum(os.path.getsize(p) for p in made.paths))
    quantize_screen.show_static(screen, conversion, way, method, made, (calibration, test), sizes, notices)
    return ExitCode.YES


def _changed(text: str | None) -> list[Notice]:
    return [Notice("changed", text)] if text is not None else []


def _step(screen: Screen, text: str) -> None:
    import sys

    if sys.stderr.isatty() and not screen.quiet:
        screen.aside("…", text, "dim")
