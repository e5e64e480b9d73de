"""A network whose weights and activations are integers, with ranges measured on samples: Q/DQ nodes, as TensorRT takes them.

onnxruntime measures and places the nodes; every zero point is 0, biases stay floating-point, and weights are quantised as asked, a scale
for the tensor or for each output channel.

Source: onnxruntime `python/tools/quantization/quantize.py` (1.31, `quantize_static` and its options); NVIDIA TensorRT developer guide,
"Working with Quantized Types": explicit quantisation is symmetric.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass
from porter.errors import GraphError, PorterError
from porter.graph.onnx_output import write_model
from porter.graph.runtime import onnxruntime_package
from porter.quantisation.comparison import Comparison, compare
from porter.quantisation.samples import Samples

if TYPE_CHECKING:
    import onnx_ir as ir

METHODS = {"minmax": "MinMax", "percentile": "Percentile", "kl": "Entropy"}
"""How ranges of activations are found; `kl` is what onnxruntime and TensorRT call entropy."""

BINS = 1024
"""Bins of the histograms, both signs together, that divergence is measured in."""

_WEIGHTS_ALONE = "quantise its weights: leave --calib out"

EMBEDDED = 1 << 30
"""Bytes of weights up to which onnxruntime is handed one file."""

_WARNING, _FATAL = 2, 4
"""Severities of onnxruntime's logger: from which on it writes to stderr by default, and while it quantises."""

Step = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Static:
    """A network quantised: the files written, how many nodes of each type have quantised inputs, both models on the test set."""

    paths: tuple[str, ...]
    nodes: dict[str, int]
    comparison: Comparison


def quantise_network(
    model: ir.Model, target: str, calibration: Samples, test: Samples, *, method: str, per_channel: bool, overwrite: bool, step: Step
) -> Static:
    """Quantise `model` and write it to `target`; `step` is told what is being done.

    Raises:
        MissingDependencyError: onnxruntime is not there.
        GraphError: onnxruntime cannot quantise or run the network, or finds nothing to quantise; or what it computes is not finite.
        FileAccessError: the output exists.
    """
    onnxruntime_package()
    already = next((node for node in model.graph if node.op_type in ("QuantizeLinear", "DequantizeLinear")), None)
    if already is not None:
        hint = "take the floating-point network it was made of, or make numbers of its weights first: --dequantize"
        raise GraphError("G049", f"'{already.outputs[0].name}' of this network is quantised already", hint=hint)
    with tempfile.TemporaryDirectory(prefix="porter-") as folder:
        whole, made = os.path.join(folder, "float.onnx"), os.path.join(folder, "quantised.onnx")
        write_model(model, whole)
        step(f"measuring ranges on {calibration}")
        large = os.path.getsize(whole) > EMBEDDED or os.path.exists(whole + ".data")
        quantised = _quantised(whole, made, calibration, method, per_channel, large)
        nodes = _quantised_nodes(quantised)
        if not nodes:
            raise GraphError("G049", "onnxruntime finds no operator in this network that it quantises", hint=_WEIGHTS_ALONE)
        _check_ranges(quantised)
        step(f"comparing on {test}")
        comparison = compare(whole, made, test)
        return Static(write_model(quantised, target, overwrite=overwrite), nodes, comparison)


def _quantised(source: str, target: str, samples: Samples, method: str, per_channel: bool, large: bool) -> ir.Model:
    import onnx_ir as ir
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    options: dict[str, Any] = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
    try:
        with _silent():
            if method == "kl":
                options["TensorQuantOverrides"] = _by_divergence(source, samples, large)
                # What is measured again below is overridden.
                method = "minmax"
            quantize_static(
                source,
                target,
                _reader(samples),
                quant_format=QuantFormat.QDQ,
                per_channel=per_channel,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=getattr(CalibrationMethod, METHODS[method]),
                use_external_data_format=large,
                extra_options=options,
            )
            # It gives a name twice where the network has one of its own making.
            return ir.load(target)
    except PorterError:
        raise
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise GraphError("G049", f"onnxruntime cannot quantise the network: {said}", hint=_WEIGHTS_ALONE) from error


def _by_divergence(source: str, samples: Samples, large: bool) -> dict[str, list[dict[str, Any]]]:
    """The ranges of activations by least divergence, as onnxruntime takes them.

    Its `quantize_static` looks for them in 128 bins for 128 steps, which leaves nothing to choose: there they are the smallest and largest.
    Where a network begins and ends, and behind Softmax and Sigmoid, nothing is cut: few large numbers among many small ones are the result.
    """
    import numpy as np
    import onnx_ir as ir
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    with tempfile.TemporaryDirectory(prefix="porter-") as folder:
        calibrator = create_calibrator(
            source,
            augmented_model_path=os.path.join(folder, "augmented.onnx"),
            calibrate_method=CalibrationMethod.Entropy,
            use_external_data_format=large,
            extra_options={"num_bins": BINS, "num_quantized_bins": 128, "symmetric": True},
        )
        calibrator.collect_data(_reader(samples))
        ranges = calibrator.compute_data()
    graph = ir.load(source).graph
    whole = {v.name for v in (*graph.inputs, *graph.outputs)}
    whole |= {v.name for node in graph if node.op_type in ("Softmax", "Sigmoid") for v in node.outputs}
    found = {}
    for name, each in ranges.data.items():
        if name not in whole:
            low, high = each.range_value
            found[name] = [{"rmin": np.float32(low), "rmax": np.float32(high)}]
    return found


def _reader(samples: Samples) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Batches, one after the other."""

        def __init__(self) -> None:
            self._batches = samples.batches()

        def get_next(self) -> Any:
            feeds, _ = next(self._batches, (None, None))
            return feeds

    return Reader()


@contextmanager
def _silent() -> Iterator[None]:
    """No advice from onnxruntime's loggers, nor from what it prints, nor warnings of its arithmetic, for the time being."""
    import contextlib
    import io
    import warnings

    onnxruntime = onnxruntime_package()
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    onnxruntime.set_default_logger_severity(_FATAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        onnxruntime.set_default_logger_severity(_WARNING)
        logging.disable(before)


def _check_ranges(model: ir.Model) -> None:
    """Refuse scales that are no numbers: some value of the network was not finite on the samples, or is so always."""
    import numpy as np

    for node in model.graph:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        scale = node.inputs[1].const_value if node.inputs[1] is not None else None
        if scale is not None and not (np.isfinite(scale.numpy()) & (scale.numpy() > 0)).all():
            name = str(scale.name).removesuffix("_scale")
            hint = "look at what it computes: 'porter verify' shows every value; weights alone are quantised without --calib"
            raise GraphError("G049", f"'{name}' has no range: NaN, infinity or what is too large for float32 is in it", hint=hint)


def _quantised_nodes(model: ir.Model) -> dict[str, int]:
    """Nodes that read what was quantised, by their type."""
    counts: Counter[str] = Counter()
    for node in model.graph:
        makers = [v.producer() for v in node.inputs if v is not None]
        if node.op_type != "QuantizeLinear" and any(m is not None and m.op_type == "DequantizeLinear" for m in makers):
            counts[node.op_type] += 1
    return dict(sorted(counts.items()))
