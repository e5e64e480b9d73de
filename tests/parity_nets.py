"""One small network in every form that `porter verify` takes, and networks with names or layers of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from porter.graph.porting import PortOptions, port
from porter.parity.opening import OpenOptions, open_side
from porter.parity.side import Side

NET = """
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 14 dim: 14 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" convolution_param { num_output: 8 kernel_size: 3 pad: 1
  weight_filler { type: "xavier" } } }
layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "conv1" }
layer { name: "scale1" type: "Scale" bottom: "conv1" top: "conv1" scale_param { bias_term: true } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "norm1" type: "LRN" bottom: "conv1" top: "norm1" lrn_param { local_size: 5 alpha: 0.5 beta: 0.75 } }
layer { name: "pool1" type: "Pooling" bottom: "norm1" top: "pool1" pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "left/1x1" type: "Convolution" bottom: "pool1" top: "left/1x1" convolution_param { num_output: 4 kernel_size: 1
  weight_filler { type: "xavier" } } }
layer { name: "right/1x1" type: "Convolution" bottom: "pool1" top: "right/1x1" convolution_param { num_output: 4 kernel_size: 1
  weight_filler { type: "xavier" } } }
layer { name: "both" type: "Concat" bottom: "left/1x1" bottom: "right/1x1" top: "both" }
layer { name: "drop" type: "Dropout" bottom: "both" top: "both" }
layer { name: "ip" type: "InnerProduct" bottom: "both" top: "ip" inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""

VALUES = ["conv1", "bn1", "scale1", "relu1", "norm1", "pool1", "left/1x1", "right/1x1", "both", "ip", "prob"]
"""What the layers make, as porter's graph calls it."""

FORMS = ("net.prototxt,deploy.caffemodel", "model.onnx", "model.py:Net,model.pth", "net.py:build,net.wts", "golden.npz")


def make(folder: Path) -> Path:
    """The network in every form of `FORMS`, and layers.json, in `folder`. The weights are generated, and the same in all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "net.prototxt").write_text(NET)
    port(str(folder / "net.prototxt"), None, str(folder), PortOptions(("caffe", "onnx", "torch")))
    port(str(folder / "net.prototxt"), None, str(folder), PortOptions(("tensorrt-py",), overwrite=True))
    record(folder)
    return folder


def record(folder: Path) -> None:
    """`golden.npz` of the Caffe net, as a recorder writes it; of one value only some elements."""
    fed = np.random.default_rng(1).standard_normal((1, 3, 14, 14)).astype(np.float32)
    made: dict[str, np.ndarray] = {"input/data": fed}
    keys, types = [], []
    with side(folder, FORMS[0]) as caffe:
        tops = {v: name for v, names in caffe.aliases.items() for name in names if "/" in name and not name.startswith("drop/")}
        kinds = {v: step.type for step in caffe.steps for v in step.outputs}
        for number, observed in enumerate(caffe.run({"data": fed}, VALUES), 1):
            key = f"layer/{number:04}/{tops[observed.name]}"
            keys.append(key)
            types.append(kinds[observed.name])
            flat = observed.array.reshape(-1)
            index = np.arange(0, flat.size, 7) if observed.name == "conv1" else None
            made |= {key: flat if index is None else flat[index], f"{key}@shape": np.array(observed.shape)}
            made |= {f"{key}@absmax": np.abs(flat).max()} | ({f"{key}@idx": index} if index is not None else {})
            if observed.name == "prob":
                made |= {"output/prob": observed.array}
    np.savez(folder / "golden.npz", layer_keys=np.array(keys), layer_types=np.array(types), outputs=np.array(["prob"]), **made)


def side(folder: Path, form: str, **options: str) -> Side:
    return open_side(",".join(str(folder / part) for part in form.split(",")), OpenOptions(**options))


def model(folder: Path, name: str, text: str) -> str:
    """An ONNX model of its text, with weights where it says `weight`: these are made up, and the same for the same name and shape."""
    parsed = onnx.parser.parse_model(text)
    for value in [v for v in parsed.graph.input if v.name.startswith("w_")]:
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        rng = np.random.default_rng(sum(map(ord, value.name)))
        parsed.graph.initializer.append(onnx.numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), value.name))
        parsed.graph.input.remove(value)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(parsed, folder / name)
    return str(folder / name)
