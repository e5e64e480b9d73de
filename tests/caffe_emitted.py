"""Graphs written as Caffe nets, run by OpenCV and taken over again, against onnxruntime on the graph itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from caffe_runs import relative
from onnx import TensorProto, helper, numpy_helper

from porter.formats.base import ReadOptions, WriteOptions
from porter.formats.caffe.net import net_from_prototxt
from porter.formats.registry import open_store, save_store
from porter.graph.caffe.importer import ImportedNet, ImportOptions, import_net
from porter.graph.caffe_source.emitter import emit

Values = dict[str, np.ndarray]


def graph(
    nodes: Sequence[onnx.NodeProto], inputs: Mapping[str, Sequence[Any]], outputs: Sequence[str], opset: int = 13, **constants: Any
) -> ir.Model:
    """A model of these nodes. Floats of constants become float32."""
    tensors = [
        numpy_helper.from_array(v if (v := np.asarray(c)).dtype.kind == "i" else v.astype(np.float32), n) for n, c in constants.items()
    ]
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()]
    known = {i.name: i for i in infos}
    made = helper.make_graph(nodes, "g", infos, [known.get(n, onnx.ValueInfoProto(name=n)) for n in outputs], tensors)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in {n.domain for n in nodes} - {""})]
    model = helper.make_model(made, opset_imports=opsets, ir_version=8)
    return ir.from_proto(onnx.shape_inference.infer_shapes(model))


@dataclass(frozen=True)
class Written:
    """A net that was written to files."""

    prototxt: Path
    weights: Path
    text: str
    notices: list[str]


def written(model: ir.Model, folder: Path, fork: str = "bvlc") -> Written:
    source = emit(model, fork=fork)
    prototxt, weights = folder / "deploy.prototxt", folder / "deploy.caffemodel"
    prototxt.write_text(source.prototxt)
    save_store(source.store, weights, "caffe", options=WriteOptions(net=str(prototxt), overwrite=True))
    return Written(prototxt, weights, source.prototxt, [n.message for n in source.store.notices])


def values_for(model: ir.Model, seed: int = 0) -> Values:
    rng = np.random.default_rng(seed)
    inputs = [v for v in model.graph.inputs if v.name not in model.graph.initializers]
    return {str(v.name): rng.standard_normal([int(n) for n in v.shape or ()]).astype(np.float32) for v in inputs}


def by_onnxruntime(model: ir.Model, inputs: Values) -> Values:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def taken_over(net: Written) -> ImportedNet:
    """The net by porter's importer."""
    store = open_store(net.weights, options=ReadOptions(net=str(net.prototxt)))
    return import_net(net_from_prototxt(str(net.prototxt)), store, ImportOptions())


def by_opencv(net: Written, inputs: Values, names: Sequence[str]) -> Values:
    import cv2

    made = cv2.dnn.readNetFromCaffe(str(net.prototxt), str(net.weights))
    made.enableFusion(False)
    made.enableWinograd(False)
    for name, value in inputs.items():
        made.setInput(value, name)
    known = set(made.getLayerNames())
    found = {}
    for name in names:
        layer, index = _maker(net.text, name)
        # OpenCV calls some layers by their top.
        found[name] = made.forwardAndRetrieve([layer if layer in known else name])[0][index]
    return found


def _maker(text: str, top: str) -> tuple[str, int]:
    """The layer that makes a blob, and as which of its tops."""
    from porter.formats.caffe.prototxt import parse

    return next((m.string("name") or "", m.strings("top").index(top)) for m in parse(text).messages("layer") if top in m.strings("top"))


def differences(expected: Values, actual: Values) -> float:
    """The largest difference over all outputs, relative to the largest value of each."""
    assert set(expected) <= set(actual), (sorted(expected), sorted(actual))
    worst = 0.0
    for name, value in expected.items():
        found = actual[name]
        assert found.size == value.size, (name, found.shape, value.shape)
        wide = value.astype(np.float64)
        scale = float(np.abs(wide[np.isfinite(wide)]).max(initial=0))
        worst = max(worst, relative(found.reshape(-1), value.reshape(-1), scale))
    return worst
