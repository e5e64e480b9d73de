"""Layers of types that porter does not know: importers of a user's own, and nodes of the domain `caffe`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from graph_nets import kinds, one_layer, out, ported

from porter.errors import FileAccessError, GraphError
from porter.graph.caffe.custom import load

F = np.float32

SQUARE = """
from porter.graph.caffe.layer import Layer


def square(layer: Layer) -> None:
    (x,) = layer.bottoms
    scale = layer.parameters.number("square_param.scale", 1.0)
    layer.put(layer.builder.scalar("Mul", layer.builder.binary("Mul", x, x, hint="square"), scale))


LAYERS = {"Square": square, "Python:SquareLayer": square}
"""


def written(folder: Path, text: str, name: str = "my_layers.py") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


@pytest.mark.parametrize("kind", ['type: "Square"', 'type: "Python" python_param { layer: "SquareLayer" }'])
def test_an_importer_of_ones_own(tmp_path: Path, kind: str) -> None:
    text = one_layer(f"{kind} square_param {{ scale: 3 }}", [2, 3])
    layers = load(
        written(tmp_path, SQUARE.replace("(x,) = layer.bottoms", '(x,) = layer.bottoms\n    layer.parameters.ignore("python_param")'))
    )
    x = np.array([[1, 2, 3], [4, 5, 6]], F)
    net = ported(text, custom=layers)
    np.testing.assert_array_equal(out(net, data=x), 3 * x * x)
    assert kinds(net) == ["Mul", "Mul"]
    assert [node.name for node in net.model.graph] == ["l/square", "l"]


def test_it_wins_over_porters(tmp_path: Path) -> None:
    layers = load(written(tmp_path, SQUARE.replace('"Square":', '"ReLU":')))
    assert kinds(ported(one_layer('type: "ReLU"', [2, 3]), custom=layers)) == ["Mul", "Mul"]


def test_its_parameters_are_honoured_or_refused(tmp_path: Path) -> None:
    layers = load(written(tmp_path, SQUARE))
    with pytest.raises(GraphError, match=r"square_param\.offset is stated"):
        ported(one_layer('type: "Square" square_param { offset: 1 }', [2, 3]), custom=layers)


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("def f(:\n  pass", "is no Python", 1),
        ("x = 1\nx = 1 / 0\n", "fails: ZeroDivisionError: division by zero", 2),
        ("import no_such_module_at_all", "fails: ModuleNotFoundError", 1),
        ("import sys\nsys.exit(3)", "fails: SystemExit", 2),
        ("layers = {}", "no dictionary LAYERS", None),
        ("LAYERS = ['Square']", "no dictionary LAYERS", None),
        ("LAYERS = {'Square': 3}", "'Square'", None),
        ("LAYERS = {3: print}", "3", None),
        ("\0", "is no Python", None),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, text: str, message: str, line: int | None) -> None:
    with pytest.raises(GraphError, match=message) as caught:
        load(written(tmp_path, text))
    assert caught.value.code == "G051"
    assert caught.value.where.line == line
    assert caught.value.where.path == str(tmp_path / "my_layers.py")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileAccessError):
        load(str(tmp_path / "none.py"))
    with pytest.raises(FileAccessError):
        load(str(tmp_path))
    with pytest.raises(GraphError, match=r"'\.py'"):
        load(written(tmp_path, SQUARE, "layers.txt"))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("layer.bottoms[7]", r"my_layers\.py:2: IndexError: list index out of range"),
        ("layer.put(3)", "did not make"),
        ("raise ValueError", r"my_layers\.py:2: ValueError"),
        ("raise SystemExit(0)", r"my_layers\.py:2: SystemExit: 0"),
        ("pass", "it has 1 tops, and makes 0"),
    ],
)
def test_an_importer_that_fails(tmp_path: Path, body: str, message: str) -> None:
    layers = load(written(tmp_path, f"def f(layer):\n    {body}\nLAYERS = {{'Square': f}}"))
    with pytest.raises(GraphError, match=message) as caught:
        ported(one_layer('type: "Square"', [2, 3]), custom=layers)
    assert "layer 'l' (Square)" in str(caught.value)


# ---- nodes of the domain caffe ----------------------------------------------------------------------------------------------------

STRANGE = (
    'type: "Strange" strange_param { alpha: 2 beta: 0.5 on: true mode: FAST size: [3, 4] scale: [1, 2.5] inner { name: "x" } } other: 7'
)


def test_a_node_with_the_layers_parameters() -> None:
    net = ported(one_layer(STRANGE, [1, 3]), {}, allow_custom=True, custom_shapes={"out": (1, 5)})
    (node,) = net.model.graph
    assert (node.domain, node.op_type, node.name) == ("caffe", "Strange", "l")
    found = {name: a.value for name, a in node.attributes.items()}
    assert found == {"alpha": 2, "beta": 0.5, "on": 1, "mode": "FAST", "size": (3, 4), "scale": (1.0, 2.5), "inner_name": "x", "other": 7}
    model = ir.to_proto(net.model)
    onnx.checker.check_model(model, full_check=True)
    assert {o.domain: o.version for o in model.opset_import} == {"": 13, "caffe": 1}
    assert [d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim] == [1, 5]


def test_its_weights_are_inputs_behind_the_bottoms() -> None:
    net = ported(one_layer(STRANGE, [1, 3]), {"l": [np.ones((2, 3), F), np.zeros(2, F)]}, allow_custom=True, custom_shapes={"out": (1, 2)})
    (node,) = net.model.graph
    assert [i.name for i in node.inputs] == ["data", "l.blob0", "l.blob1"]


def test_a_layer_behind_it_needs_the_shape() -> None:
    text = one_layer(STRANGE.replace("Strange", "First"), [1, 3]) + '\nlayer { name: "r" type: "ReLU" bottom: "out" top: "r" }'
    with pytest.raises(GraphError, match="'out', whose shape is not known") as caught:
        ported(text, {}, allow_custom=True)
    assert caught.value.code == "G035"
    assert "--custom-shape out=" in (caught.value.hint or "")
    assert kinds(ported(text, {}, allow_custom=True, custom_shapes={"out": (1, 9)})) == ["First", "Relu"]


def test_a_custom_layer_behind_it_does_not() -> None:
    text = one_layer(STRANGE, [1, 3]) + '\nlayer { name: "s" type: "Second" bottom: "out" top: "s" }'
    net = ported(text, {}, allow_custom=True, custom_shapes={"s": (1, 4)})
    assert kinds(net) == ["Strange", "Second"]
    onnx.checker.check_model(ir.to_proto(net.model), full_check=True)


def test_an_output_needs_the_shape() -> None:
    with pytest.raises(GraphError, match="output 'out' is not known, and ONNX needs it"):
        ported(one_layer(STRANGE, [1, 3]), {}, allow_custom=True)


def test_the_batch_may_stay_open() -> None:
    net = ported(one_layer(STRANGE, [1, 3]), {}, allow_custom=True, custom_shapes={"out": (-1, 5)}, dynamic_batch=True)
    assert [str(d) for d in net.model.graph.outputs[0].shape] == ["N", "5"]
    with pytest.raises(GraphError, match="leaves a size open"):
        ported(one_layer(STRANGE, [1, 3]), {}, allow_custom=True, custom_shapes={"out": (-1, 5)})


@pytest.mark.parametrize(
    ("layer", "shapes", "message"),
    [
        (STRANGE, {"outt": (1, 2)}, "'outt', which is no top of a custom layer"),
        ('type: "ReLU"', {"out": (1, 2)}, "'out', which is no top of a custom layer"),
        ('type: "S" s_param { a { b: 1 } a { b: 2 } }', {"out": (1, 2)}, "several messages"),
        ('type: "S" s_param { b: 1 } t_param { b: 2 }', {"out": (1, 2)}, "the name of another"),
    ],
)
def test_what_cannot_be_a_node(layer: str, shapes: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        ported(one_layer(layer, [1, 3]), {}, allow_custom=True, custom_shapes=shapes)


def test_all_unknown_types_are_listed() -> None:
    text = one_layer(STRANGE, [1, 3]) + '\nlayer { name: "s" type: "Second" bottom: "out" top: "s" second_param { x: 1 } }'
    with pytest.raises(GraphError, match=r"Strange 'l' of data \(.*alpha.*\); Second 's' of out \(second_param\.x\)"):
        ported(text, {})
