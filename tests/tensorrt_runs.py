"""Recorded runs of Caffe through the whole chain: the net as a graph, as layers, as TensorRT's network, read back, said as ONNX, run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import caffe_runs
import numpy as np
import onnx

from porter.graph import recording
from porter.tensorrt import package
from porter.tensorrt.checking.values import Verification, verify
from porter.tensorrt.layers import Network
from porter.tensorrt.live import live
from porter.tensorrt.lowering.lower import lower
from porter.tensorrt.walk import walk


@dataclass(frozen=True)
class Run:
    """A network that was taken through. lowered: what was built. held: what TensorRT has of it."""

    lowered: Network
    held: Network
    verification: Verification

    def worst(self, against: str) -> float:
        """The largest difference of all values, relative to each one's largest magnitude."""
        found = [c for c in self.verification.compared if c.against == against]
        return max((c.relative if c.problem is None or c.place is not None else float("inf") for c in found), default=float("nan"))


def run(folder: Path, *, precision: str = "float32", **options: Any) -> Run:
    """The network in `folder`, compared with porter's graph of it and with what Caffe made."""
    net = caffe_runs.imported(folder)
    record = recording.read(str(folder / "golden.npz"))
    lowered = lower(net.model, precision=precision)
    made = live.build(lowered, package.find())
    held = walk.read(made.network, made.package, copy=False)
    names = [v.name for v in net.model.graph.inputs]
    given = recording.inputs(record)
    outputs = [v.name or "" for v in net.model.graph.outputs]
    records = recording.recorded(record, net.layers, outputs)
    verification = verify(net.model, held, {n: given[n] for n in names if n is not None}, values=lowered.values, records=records, **options)
    return Run(lowered, held, verification)


def model_with_values(text: str) -> onnx.ModelProto:
    """The model that onnx's text says, with made-up values for the weights it declares; each node is called after its output."""
    model = onnx.parser.parse_model(text)
    random = np.random.default_rng(3)
    for value in model.graph.value_info:
        array = random.standard_normal([d.dim_value for d in value.type.tensor_type.shape.dim]).astype(np.float32) * np.float32(0.3)
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.abs(array) + 0.5 if value.name == "bn_var" else array, value.name))
    del model.graph.value_info[:]
    for node in model.graph.node:
        node.name = node.output[0]
    onnx.checker.check_model(model, full_check=True)
    return model
