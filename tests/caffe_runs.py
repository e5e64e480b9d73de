"""Networks run through the real Caffe, and porter's ONNX graph of them run on the same input: how far they are apart."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from porter.formats.base import ReadOptions
from porter.formats.caffe.net import net_from_prototxt
from porter.formats.registry import open_store
from porter.graph.caffe.importer import ImportedNet, ImportOptions, import_net


@dataclass(frozen=True)
class Difference:
    """The largest difference at one top, relative to the blob's largest magnitude in Caffe."""

    place: str
    relative: float


def weights_of(folder: Path) -> Path | None:
    for name in ("model.caffemodel", "model.caffemodel.h5"):
        if (folder / name).exists():
            return folder / name
    return None


def imported(folder: Path, **options: Any) -> ImportedNet:
    """porter's graph of the network in `folder`, for the shapes of the recorded inputs."""
    prototxt = str(folder / "deploy.prototxt")
    weights = weights_of(folder)
    store = open_store(str(weights), options=ReadOptions(net=prototxt)) if weights is not None else None
    if store is None:
        from porter.store import TensorStore

        store = TensorStore()
    return import_net(net_from_prototxt(prototxt), store, ImportOptions(**options))


def run(imported_net: ImportedNet, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every value that holds a top, and the outputs, from onnxruntime."""
    import onnx
    import onnx_ir as ir
    import onnxruntime as ort

    model = ir.to_proto(imported_net.model)
    onnx.checker.check_model(model, full_check=True)
    have = {o.name for o in model.graph.output} | {i.name for i in model.graph.input}
    wanted = dict.fromkeys(v for r in imported_net.layers for v in r.tops.values())
    initializers = {i.name for i in model.graph.initializer}
    types = {v.name: v for v in onnx.shape_inference.infer_shapes(model).graph.value_info}
    model.graph.output.extend(types[n] for n in wanted if n not in have and n not in initializers and n in types)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    values = dict(zip(names, session.run(names, {i.name: inputs[i.name] for i in session.get_inputs()}), strict=True))
    values.update({n: inputs[n] for n in wanted if n in inputs})
    for i in model.graph.initializer:
        if i.name in wanted:
            values[i.name] = onnx.numpy_helper.to_array(i)
    return values


def golden(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "golden.npz", allow_pickle=False) as archive:
        return {k: archive[k] for k in archive.files}


def recorded_inputs(record: dict[str, np.ndarray], net: ImportedNet) -> dict[str, np.ndarray]:
    """Values for the graph's inputs: what was fed to Caffe, or what its data layers made."""
    found = {k.removeprefix("input/"): v for k, v in record.items() if k.startswith("input/")}
    for key in map(str, record["layer_keys"]):
        top = key[len("layer/0000/") :].rpartition("/")[2]
        for value in net.model.graph.inputs:
            # Data layers are recorded as layers; a top may have slashes in its name.
            if value.name not in found and value.name is not None and (value.name == top or key.endswith("/" + value.name)):
                found[value.name] = record[key].reshape(record[f"{key}@shape"])
    return found


def compare(folder: Path, net: ImportedNet) -> list[Difference]:
    """The difference at every recorded top that the graph still has."""
    record = golden(folder)
    values = run(net, recorded_inputs(record, net))
    found = []
    ours = {f"{r.name}/{top}": name for r in net.layers for top, name in r.tops.items()}
    for key in map(str, record["layer_keys"]):
        place = key[len("layer/0000/") :]
        if place not in ours:
            continue
        actual = values[ours[place]]
        shape = tuple(record[f"{key}@shape"])
        assert tuple(actual.shape) == shape, f"{place} is {actual.shape}, Caffe's {shape}"
        flat = actual.reshape(-1)
        if f"{key}@idx" in record:
            flat = flat[record[f"{key}@idx"]]
        found.append(Difference(place, relative(flat, record[key].reshape(-1), float(record[f"{key}@absmax"]))))
    # Of an input that a layer works in place on, the output has another name.
    outputs = {o.name for o in net.model.graph.outputs}
    for key, expected in record.items():
        if key.startswith("output/"):
            name = key.removeprefix("output/")
            if name in outputs:
                scale = float(np.abs(expected[np.isfinite(expected)]).max(initial=0))
                found.append(Difference(f"output {name}", relative(values[name].reshape(-1), expected.reshape(-1), scale)))
    return found


def relative(actual: np.ndarray, expected: np.ndarray, scale: float) -> float:
    same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    if same.all():
        return 0.0
    with np.errstate(invalid="ignore"):
        delta = np.abs(actual.astype(np.float64) - expected.astype(np.float64))[~same]
    return float("inf") if not np.isfinite(delta).all() else float(delta.max()) / (scale or 1.0)


def cases(root: Path) -> list[Path]:
    return sorted(Path(e.path) for e in os.scandir(root) if e.is_dir() and (Path(e.path) / "golden.npz").exists())
