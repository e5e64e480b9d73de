"""Recorded runs of Caffe through the whole chain: the net as a graph, as layers, as TensorRT's network, read back, said as ONNX, run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import caffe_runs

from porter.graph import recording
from porter.tensorrt import live, package, walk
from porter.tensorrt.layers import Network
from porter.tensorrt.lowering.lower import lower
from porter.tensorrt.verification import Verification, verify


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
