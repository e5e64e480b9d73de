"""Sides of a comparison: every form of one network makes the same values, whole, alone and as fragments; what cannot be opened says why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from parity_nets import FORMS, VALUES, model, side

from porter.errors import PorterError, UsageError
from porter.graph.runtime import Runnable
from porter.parity import side as protocol
from porter.parity.comparison import compare
from porter.parity.matching import match
from porter.parity.opening import OpenOptions, open_side, parse
from porter.parity.side import Side
from porter.parity.sides.engine import EngineSide

FED = {"data": np.random.default_rng(0).standard_normal((1, 3, 14, 14)).astype(np.float32)}
CAFFE, ONNX, TORCH, TENSORRT, GOLDEN = FORMS


def made(opened: Side, names: list[str]) -> dict[str, np.ndarray]:
    return {o.name: o.array.copy() for o in opened.run(FED, names)}


@pytest.mark.parametrize(("form", "kind", "runner"), [
    (CAFFE, "caffe", "onnxruntime"),
    (ONNX, "onnx", "onnxruntime"),
    (TORCH, "torch", "torch"),
    (TENSORRT, "tensorrt", "onnxruntime"),
    (GOLDEN, "golden", "recorded"),
])  # fmt: skip
def test_what_a_side_says_of_itself(nets: Path, form: str, kind: str, runner: str) -> None:
    with side(nets, form) as opened:
        assert (opened.kind, opened.runner) == (kind, runner)
        assert opened.label == ",".join(str(nets / part) for part in form.split(","))
        assert list(opened.inputs) == ["data"]
        assert len(opened.outputs) == 1
        assert opened.inputs["data"].shape == (None if kind == "torch" else (1, 3, 14, 14))
        known = {v for step in opened.steps for v in step.outputs}
        assert known >= set(opened.outputs)
        ours = "user's own code" if kind == "torch" else "was run"
        assert any(ours in text for text in opened.notices) == (kind in ("torch", "tensorrt"))


@pytest.mark.parametrize("form", FORMS[1:])
def test_every_form_computes_the_same(nets: Path, form: str) -> None:
    with side(nets, CAFFE) as a, side(nets, form) as b:
        matching = match(a, b)
        fed = dict(b.recorded_inputs()) or FED
        found = compare(a, b, (fed, fed), matching, tolerance=1e-5)
        assert found.same, found.first
        assert {c.pair.a for c in found.compared} >= set(VALUES) - {"bn1"}
        assert {pair.way for pair in matching.pairs} == {"name"}
        assert [c.sampled for c in found.compared if c.pair.a == "conv1"] == [form == GOLDEN]


def test_opencv_computes_the_same(nets: Path) -> None:
    with side(nets, CAFFE) as a, side(nets, CAFFE, runner="opencv") as b:
        assert (b.kind, b.runner, b.outputs) == ("caffe", "opencv", ("prob",))
        found = compare(a, b, (FED, FED), match(a, b), tolerance=1e-4)
        assert found.same, found.first
        assert len(found.compared) == len(VALUES)
        assert found.worst is not None
        assert found.worst.relative > 0  # nothing of porter's computed both
        assert b.replay(b.steps[0], FED) is None
        assert b.fragment(b.steps[0]) is None
        assert b.weight("conv1.weight") is not None


def test_an_engine_is_built_for_values_inside_a_network(nets: Path) -> None:
    """Up to where a GPU is needed."""
    with side(nets, TENSORRT, runner="engine") as opened:
        assert isinstance(opened, EngineSide)
        assert (opened.kind, opened.runner) == ("tensorrt", "engine")
        with opened.marked(["pool1", "prob"]) as (outputs, plan):
            assert sorted(outputs) == ["pool1", "prob"]
            assert b"pool1" in bytes(plan(FED))
        with opened.marked([]) as (outputs, plan):
            assert outputs == ["prob"]


@pytest.mark.parametrize("form", FORMS[:4])
def test_a_layer_run_alone_makes_what_it_makes_in_the_network(nets: Path, form: str) -> None:
    with side(nets, form) as opened:
        values = made(opened, [v for step in opened.steps for v in step.outputs]) | FED
        for step in opened.steps:
            alone = opened.replay(step, {name: values[name] for name in step.inputs})
            assert alone is not None, step
            for name in step.outputs:
                np.testing.assert_array_equal(alone[name], values[name], strict=True)


@pytest.mark.parametrize("form", [CAFFE, ONNX, TENSORRT])
def test_a_layer_as_a_model_of_its_own(nets: Path, form: str) -> None:
    with side(nets, form) as opened:
        values = made(opened, [v for step in opened.steps for v in step.outputs]) | FED
        for step in opened.steps:
            fragment = opened.fragment(step)
            assert isinstance(fragment, ir.Model)
            given = {name: values[name] for name in step.inputs}
            again = Runnable(fragment, "a fragment").run(given, step.outputs)
            for name in step.outputs:
                np.testing.assert_array_equal(again[name], values[name], strict=True)


def test_layers_of_caffe_have_their_parameters_and_weights(nets: Path) -> None:
    with side(nets, CAFFE) as opened:
        steps = {step.name: step for step in opened.steps}
        assert "drop" not in steps  # it changes nothing
        assert steps["norm1"].settings == {"local_size": 5, "alpha": 0.5, "beta": 0.75}
        assert steps["relu1"].inputs == ("scale1",)
        assert steps["both"].inputs == ("left/1x1", "right/1x1")
        assert steps["conv1"].weights == ("conv1.weight", "conv1.bias")
        kernel = opened.weight("conv1.weight")
        assert kernel is not None
        assert kernel.shape == (8, 3, 3, 3)
        assert opened.aliases["relu1"] == ("relu1/conv1",)
        assert opened.weight("nothing") is None


def test_values_come_in_batches(nets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for one value at a time the same comes out: the networks run again and again."""
    runs = []
    run = Runnable.run

    def counted(self: Runnable, *given: object) -> dict[str, np.ndarray]:
        runs.append(len(given[1]))  # type: ignore[arg-type]
        return run(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr("porter.parity.sides.model.BUDGET", 7000)
    monkeypatch.setattr(Runnable, "run", counted)
    with side(nets, CAFFE) as a, side(nets, ONNX) as b:
        found = compare(a, b, (FED, FED), match(a, b))
        assert found.same
        assert len(found.compared) == len(VALUES)
        assert len(runs) > 6
        assert max(runs) < len(VALUES)
    assert protocol.BUDGET == 1 << 26


def test_layers_that_work_in_place_do_not_spoil_what_was_seen(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("""
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.relu = nn.ReLU(inplace=True)
    def forward(self, data):
        return self.relu(self.conv(data))
""")
    with open_side(f"{tmp_path}/m.py:Net") as a, open_side(f"{tmp_path}/m.py:Net") as b:
        fed = {"data": np.random.default_rng(0).standard_normal((1, 1, 9, 9)).astype(np.float32)}
        assert any("no weights" in text for text in a.notices)
        found = compare(a, b, (fed, fed), match(a, b))
        assert [c.problem for c in found.compared] == [None, None]
        values = {o.name: o.array.copy() for o in a.run(fed, ["conv", "relu"])}
        assert values["conv"].min() < 0 == values["relu"].min()


UNTRACEABLE = """
import torch
from torch import nn
class Net(nn.Module):
    input_names = ("data",)
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True))
    def forward(self, data):
        x = self.a(data)
        if x.sum() > 1000:
            x = -x
        return self.b(x)
"""


def test_modules_that_cannot_be_traced_are_watched_by_hooks(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(UNTRACEABLE)
    (tmp_path / "n.py").write_text(UNTRACEABLE.replace("if x.sum() > 1000:", "if False:"))
    fed = {"data": np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)}
    with open_side(f"{tmp_path}/m.py:Net") as hooked, open_side(f"{tmp_path}/n.py:Net") as traced:
        assert any("cannot trace" in text for text in hooked.notices)
        assert [(s.name, s.type) for s in hooked.steps] == [("a", "Linear"), ("b.0", "Linear"), ("b.1", "ReLU")]
        assert hooked.steps[0].weights == ("a.weight", "a.bias")
        assert hooked.replay(hooked.steps[0], fed) is None
        found = compare(traced, hooked, (fed, fed), match(traced, hooked))
        assert found.same
        assert {c.pair.b for c in found.compared} == {"a", "b.0", "b.1"}


def test_variables_name_the_values_of_a_module(nets: Path) -> None:
    """Not the modules: `bn1` of the module does what Caffe's `bn1` and `scale1` do."""
    with side(nets, TORCH) as opened:
        steps = {step.outputs[0]: step for step in opened.steps}
        assert (steps["scale1"].name, steps["scale1"].type) == ("bn1", "BatchNorm2d")
        assert steps["scale1"].weights[:2] == ("bn1.weight", "bn1.bias")
        assert steps["pool1"].settings["ceil_mode"] is True
        assert "left_1x1" in steps


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("no.onnx", "I001", "no such file"),
        ("deploy.prototxt,", "U950", "no two files"),
        ("deploy.caffemodel", "U950", "weights without a network"),
        ("deploy.caffemodel,deploy.prototxt", "U950", "its text comes first"),
        ("model.onnx,model.pth", "U950", "needs no second file"),
        ("model.py", "U950", "nothing in it is named"),
        ("words.txt", "U950", "no kind that porter knows"),
        ("model.py:Other,model.pth", "G094", "no function or class 'Other'"),
        ("model.py:Net,other.npz", "G094", "12 tensors that the file lacks"),
        ("broken.py:Net", "G094", "SyntaxError"),
        ("failing.py:Net", "G094", "ZeroDivisionError"),
        ("number.py:make", "G094", "no torch.nn.Module"),
        ("other.npz", "G091", "no recorded run"),
    ],
)
def test_what_cannot_be_opened_says_why(nets: Path, monkeypatch: pytest.MonkeyPatch, text: str, code: str, said: str) -> None:
    monkeypatch.chdir(nets)
    Path("words.txt").write_text("only words")
    Path("broken.py").write_text("def (")
    Path("failing.py").write_text("class Net:\n    def __init__(self):\n        1 / 0\n")
    Path("number.py").write_text("def make():\n    return 1\n")
    np.savez("other.npz", x=np.zeros(3, np.float32))
    with pytest.raises(PorterError) as caught, open_side(text):
        pass
    assert caught.value.code == code
    assert said in str(caught.value)
    assert caught.value.hint or code == "I001"


def test_files_may_have_commas_in_their_names(nets: Path, tmp_path: Path) -> None:
    for name in ("deploy.prototxt", "deploy.caffemodel"):
        (tmp_path / f"a,b,{name}").write_bytes((nets / name).read_bytes())
    source = parse(f"{tmp_path}/a,b,deploy.prototxt,{tmp_path}/a,b,deploy.caffemodel")
    assert (source.kind, source.path, source.weights) == ("caffe", f"{tmp_path}/a,b,deploy.prototxt", f"{tmp_path}/a,b,deploy.caffemodel")


def test_a_runner_runs_caffe_nets_alone(nets: Path) -> None:
    with pytest.raises(UsageError, match="runs Caffe nets"):
        open_side(str(nets / "model.onnx"), OpenOptions(runner="opencv"))


def test_graphs_inside_nodes_read_values_too(tmp_path: Path) -> None:
    """What an If reads from outside is computed, and given where the layer is run alone."""
    path = model(tmp_path, "if.onnx", """
<ir_version: 8, opset_import: ["" : 17]>
g (float[2, 3] x, bool c) => (float[2, 3] y)
{
  a = Relu(x)
  n = Neg(x)
  y = If(c) <then_branch = t () => (float[2, 3] p) { p = Exp(a) }, else_branch = e () => (float[2, 3] q) { q = Sin(n) }>
}
""")  # fmt: skip
    fed = {"x": np.full((2, 3), 0.5, np.float32), "c": np.array(True)}
    with open_side(path) as opened:
        assert {o.name: float(o.array.flat[0]) for o in opened.run(fed, ["y"])} == {"y": pytest.approx(np.exp(0.5))}


def test_recorded_runs_of_caffe(shared: Path) -> None:
    """Every recorded value of every network: porter's graph makes it, and it is found by its name."""
    folders = sorted(path.parent for path in (shared / "oracle").glob("*/golden.npz"))
    assert len(folders) == 21
    for folder in folders:
        weights = next(folder.glob("model.caffemodel*"))
        with open_side(f"{folder}/deploy.prototxt,{weights}") as caffe, open_side(str(folder / "golden.npz")) as golden:
            matching = match(caffe, golden)
            assert not matching.only_b, folder.name
            fed = golden.recorded_inputs()
            found = compare(caffe, golden, (fed, fed), matching, tolerance=1e-5)
            assert found.same, (folder.name, found.first)
