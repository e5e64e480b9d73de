"""An ONNX model written as PyTorch source, loaded as a user would load it, and run beside onnxruntime."""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper

from porter.formats.base import WriteOptions
from porter.formats.registry import save_store
from porter.graph.torch_source.emitter import TorchSource, emit

Arrays = Mapping[str, np.ndarray]


def graph(
    nodes: Iterable[onnx.NodeProto],
    inputs: Mapping[str, tuple[Any, ...]],
    outputs: Iterable[str],
    constants: Arrays | None = None,
    *,
    opset: int = 17,
    types_: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """A model of float inputs (unless `types_` says otherwise) whose outputs' shapes nobody states."""
    kinds = types_ or {}
    made = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), shape) for n, shape in inputs.items()],
        [onnx.ValueInfoProto(name=n) for n in outputs],
        [numpy_helper.from_array(np.asarray(a, order="C"), n) for n, a in (constants or {}).items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def emitted(model: onnx.ModelProto) -> TorchSource:
    return emit(ir.from_proto(model))


def load(source: TorchSource, folder: Path) -> Any:
    """`Net` with its weights, out of the files as they are written."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(source.text)
    save_store(source.state, folder / "model.pth", options=WriteOptions(overwrite=True))
    module = types.ModuleType("model")
    exec(compile(source.text, str(folder / "model.py"), "exec"), module.__dict__)
    net = module.Net()
    net.load_state_dict(torch.load(folder / "model.pth", weights_only=True), strict=True)
    assert list(net.state_dict()) == list(source.state)
    return net.eval()


def run(net: Any, inputs: Arrays) -> list[np.ndarray]:
    with torch.no_grad():
        made = net(*[torch.from_numpy(np.ascontiguousarray(inputs[n]).reshape(np.shape(inputs[n]))) for n in net.input_names])
    return [t.numpy() for t in (made if isinstance(made, tuple) else (made,))]


def expected(model: onnx.ModelProto | str, inputs: Arrays) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        model if isinstance(model, str) else model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {i.name: inputs[i.name] for i in session.get_inputs()})


def check(model: onnx.ModelProto, inputs: Arrays, folder: Path, tolerance: float = 1e-5) -> TorchSource:
    """The source, after it computed what onnxruntime computes, in the same shapes and types."""
    source = emitted(model)
    for ours, theirs in zip(run(load(source, folder), inputs), expected(model, inputs), strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * float(np.abs(theirs).max(initial=1e-3)))
    return source


def ruff(folder: Path) -> str:
    """What ruff finds wrong with the sources in a folder: their format, or anything that its usual rules and some more say."""
    rules = "E4,E7,E9,F,I,UP,B,C4,PIE,SIM,RUF,W"
    found = ""
    for command in (["format", "--isolated", "--diff", "--quiet"], ["check", "--isolated", "--quiet", "--select", rules]):
        ran = subprocess.run([sys.executable, "-m", "ruff", *command, str(folder)], capture_output=True, text=True, check=False)
        found += ran.stdout + ran.stderr if ran.returncode else ""
    return found
