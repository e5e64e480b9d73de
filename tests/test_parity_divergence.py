"""The first divergence: a layer that goes wrong by itself is told from those that inherit it, between all kinds of networks."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from parity_faults import Case as Real
from parity_faults import diverged, recorded
from parity_nets import FORMS, model, side

from porter.errors import GraphError
from porter.graph.porting import PortOptions, port
from porter.parity.comparison import Comparison, compare
from porter.parity.divergence import Divergence, find
from porter.parity.matching import match
from porter.parity.opening import open_side
from porter.parity.side import Side

FED = {"data": np.random.default_rng(1).standard_normal((1, 3, 14, 14)).astype(np.float32)}
CAFFE, ONNX, TORCH, TENSORRT, GOLDEN = FORMS


def searched(a: Side, b: Side, *, tolerance: float = 1e-4, everything: bool = True) -> Divergence:
    fed = (dict.fromkeys(a.inputs, FED["data"]), dict.fromkeys(b.inputs, FED["data"]))
    matching = match(a, b)
    try:
        comparison = compare(a, b, fed, matching, tolerance=tolerance)
    except GraphError:
        comparison = Comparison(matching, (), matching.pairs, tolerance)
    return find(a, b, fed, comparison, everything=everything)


def spoilt(nets: Path, folder: Path, *layers: str, factor: float = 1.3) -> Path:
    """The ONNX model with the weights of some layers times a factor."""
    proto = onnx.load(nets / "model.onnx")
    for i in proto.graph.initializer:
        if i.name in [f"{layer}.weight" for layer in layers]:
            i.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(i) * np.float32(factor), i.name))
    onnx.save(proto, folder / "spoilt.onnx")
    return folder / "spoilt.onnx"


def test_the_first_of_two_faults(nets: Path, tmp_path: Path) -> None:
    path = spoilt(nets, tmp_path, "right/1x1", "ip")
    with side(nets, CAFFE) as a, open_side(str(path)) as b:
        found = searched(a, b)
        first = searched(a, b, everything=False)
    assert found.verdict == "guilty"
    assert found.guilty is not None
    assert found.guilty.examined.pair.b == "right/1x1"
    assert [e.pair.b for e in found.others] == ["ip"]
    by_value = {e.pair.b: e for e in found.examined}
    both = by_value["both"]
    assert not both.is_wrong()
    assert both.own is not None
    assert both.own.relative == 0
    assert both.inherited is not None
    assert both.inherited > 0.01
    assert [e.pair.b for e in first.examined] == ["right/1x1"]
    assert [(a, b) for a, b, _ in found.guilty.weights] == [(f"right/1x1.{n}", f"right/1x1.{n}") for n in ("weight", "bias")]
    assert [r for _, _, r in found.guilty.weights] == ["1.3 times it", "bit-equal"]


@pytest.mark.parametrize("form", [ONNX, TORCH, TENSORRT, CAFFE])
@pytest.mark.parametrize("reference", [CAFFE, ONNX, GOLDEN])
def test_faithful_ports_have_no_fault(nets: Path, reference: str, form: str) -> None:
    with side(nets, reference) as a, side(nets, form) as b:
        assert searched(a, b).verdict == "same"


@pytest.mark.parametrize("form", [CAFFE, TORCH, GOLDEN])
@pytest.mark.parametrize("backwards", [False, True])
def test_kinds_of_sides(nets: Path, tmp_path: Path, form: str, backwards: bool) -> None:
    """Whichever side the fault is in, and whatever the other is; a recording cannot be run again, and the other side is."""
    path = spoilt(nets, tmp_path, "left/1x1")
    with side(nets, form) as good, open_side(str(path)) as bad:
        found = searched(*((bad, good) if backwards else (good, bad)))
    assert found.verdict == "guilty"
    assert found.guilty is not None
    assert (found.guilty.a if backwards else found.guilty.b).name == "left/1x1"
    assert found.replayed == ("a" if backwards and form == GOLDEN else "b")
    assert found.others == ()


def test_inputs_that_were_recorded_in_part(nets: Path, tmp_path: Path) -> None:
    """The value before the fault has samples only; where these agree, the replayed side's own value stands for it."""
    proto = onnx.load(nets / "model.onnx")
    next(n for n in proto.graph.node if n.op_type == "BatchNormalization").attribute[0].f = 0.1
    onnx.save(proto, tmp_path / "spoilt.onnx")
    with side(nets, GOLDEN) as a, open_side(str(tmp_path / "spoilt.onnx")) as b:
        found = searched(a, b)
    assert found.guilty is not None
    assert found.guilty.examined.pair.b == "bn1"
    assert found.guilty.examined.forced
    assert [c.cause.id for c in found.guilty.causes] == ["batch-norm-eps"]
    assert (found.guilty.causes[0].a, found.guilty.causes[0].b) == ("eps 1e-05", "eps 0.1")


def test_a_network_that_does_not_run_as_a_whole(nets: Path, tmp_path: Path) -> None:
    """Its layers run one by one, on the other side's values."""
    proto = onnx.load(nets / "model.onnx")
    del proto.graph.value_info[:]
    pool = next(n for n in proto.graph.node if n.op_type == "MaxPool")
    next(a for a in pool.attribute if a.name == "pads").ints[:] = [0, 0, 0, 0]
    next(a for a in pool.attribute if a.name == "strides").ints[:] = [2, 3]
    onnx.save(proto, tmp_path / "spoilt.onnx")
    with side(nets, CAFFE) as a, open_side(str(tmp_path / "spoilt.onnx")) as b:
        with pytest.raises(GraphError, match="onnxruntime cannot run"):
            compare(a, b, (FED, FED), match(a, b))
        found = searched(a, b)
    assert found.verdict == "guilty"
    assert found.guilty is not None
    assert found.guilty.examined.pair.b == "pool1"
    assert found.guilty.examined.misshapen
    assert found.others == ()


def test_errors_that_add_up(tmp_path: Path) -> None:
    """Forty layers, each off by less than the tolerance: no layer is to blame."""
    head = '<ir_version: 8, opset_import: ["" : 17]> g (float[1,3,14,14] data) => (float[1,3,14,14] v40) {'
    paths = []
    for name, factor in (("c", 1.0), ("d", 1.00002)):
        body = " ".join(f"v{n} = Mul (v{n - 1}, {name})" for n in range(1, 41)).replace("v0", "data", 1)
        text = f"{head} {name} = Constant <value_float = {factor}> () {body} }}"
        paths.append(model(tmp_path, f"{name}.onnx", text))
    with open_side(paths[0]) as a, open_side(paths[1]) as b:
        found = searched(a, b)
    assert found.verdict == "accumulated"
    assert found.guilty is None
    assert max(e.own.relative for e in found.examined if e.own is not None) < 3e-5


def test_layers_that_one_side_has_folded(nets: Path, tmp_path: Path) -> None:
    """What is one layer there and three here is run again as a whole."""
    port(str(nets / "net.prototxt"), str(nets / "deploy.caffemodel"), str(tmp_path / "folded"), PortOptions(fold_bn=True))
    with side(nets, CAFFE) as a, open_side(str(tmp_path / "folded/model.onnx")) as b:
        assert searched(a, b).verdict == "same"
        fold = next(s for s in b.steps if s.type == "Conv").name
    path = spoilt(tmp_path / "folded", tmp_path, "conv1")
    with side(nets, CAFFE) as a, open_side(str(path)) as b:
        found = searched(a, b)
    assert found.guilty is not None
    assert found.guilty.a is not None
    assert found.guilty.b is not None
    assert [s.type for s in found.guilty.a.steps] == ["Convolution", "BatchNorm", "Scale"]
    assert [s.name for s in found.guilty.b.steps] == [fold]


@pytest.mark.parametrize(("cause", "pattern", "new"), [
    ("ceil-pooling", r"(max_pool2d\(norm1, 3, 2), ceil_mode=True", r"\1"),
    ("activation-slope", r"F\.relu\((\w+)\)", r"F.leaky_relu(\1, 0.2)"),
    ("rgb-bgr", r"self\.conv1\((\w+)\)", r"self.conv1(\1.flip(1))"),
    ("input-scale", r"self\.conv1\((\w+)\)", r"self.conv1(\1 / 255)"),
    ("kernel-flipped", r"self\.conv1\((\w+)\)", r"F.conv2d(\1, self.conv1.weight.flip(2, 3), self.conv1.bias, padding=1)"),
    ("batch-norm-eps", r"nn\.BatchNorm2d\(8", r"nn.BatchNorm2d(8, eps=0.1"),
    ("flatten-order", r"both\.flatten\(1\)", r"both.permute(0, 2, 3, 1).flatten(1)"),
    ("softmax-axis", r"F\.softmax\((\w+), 1\)", r"F.softmax(\1, 0)"),
])  # fmt: skip
def test_faults_in_pytorch_source(nets: Path, tmp_path: Path, cause: str, pattern: str, new: str) -> None:
    """What the module makes is explained by changing the other side's layer."""
    text = (nets / "model.py").read_text()
    changed = re.sub(pattern, new, text, count=1)
    assert changed != text
    (tmp_path / "changed.py").write_text(changed)
    with side(nets, CAFFE) as a, open_side(f"{tmp_path / 'changed.py'}:Net,{nets / 'model.pth'}") as b:
        found = searched(a, b)
    assert found.guilty is not None
    assert [c.cause.id for c in found.guilty.causes][:1] == [cause]
    assert found.guilty.causes[0].changed == "a"


@pytest.mark.parametrize("name", ["lenet_v1", "cifar10_quick_h5", "hyperlpr_finemapping", "mtcnn_det3"])
def test_real_ports_have_no_fault(shared: Path, tmp_path: Path, name: str) -> None:
    folder = shared / "oracle" / name
    case = recorded(folder, tmp_path)
    port(*case.a.split(","), str(tmp_path / "torch"), PortOptions(("torch",)))
    sides = [case.a, str(case.path), f"{tmp_path / 'torch/model.py'}:Net,{tmp_path / 'torch/model.pth'}", str(folder / "golden.npz")]
    for first in sides:
        for second in sides:
            with open_side(first) as a, open_side(second) as b:
                comparison, found = diverged(a, b, Real(name, first, case.path, case.fed), everything=True)
            assert comparison.compared, (first, second)
            assert found.verdict == "same", (first, second)
