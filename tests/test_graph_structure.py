"""Nets as a whole: memory that blobs share, rules, inputs and outputs, weights by name, names, opsets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from caffe_runs import run
from graph_nets import kinds, one_layer, out, ported, store_of

from porter.errors import GraphError
from porter.formats.caffe.net import net_from_prototxt, net_from_tree
from porter.formats.caffe.prototxt import parse
from porter.graph.caffe.importer import ImportOptions, import_net
from porter.graph.caffe.preparation import State

DATA = 'input: "data" input_shape { dim: 2 dim: 3 }\n'
INNER = 'type: "InnerProduct" inner_product_param { num_output: 4 }'


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(list(shape)).standard_normal(shape).astype(np.float32)


def layer(name: str, kind: str, bottom: str, top: str, more: str = "") -> str:
    return f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top}" {more} }}\n'


def inner(name: str, bottom: str, top: str, more: str = "") -> str:
    return layer(name, "InnerProduct", bottom, top, f"inner_product_param {{ num_output: 4 }} {more}")


def refused(code: str, text: str, weights: dict[str, list[np.ndarray]] | None = None, **options: object) -> str:
    with pytest.raises(GraphError) as caught:
        ported(text, weights, **options)
    assert caught.value.code == code, caught.value
    return f"{caught.value.message}\n{caught.value.hint}"


# ---- recorded nets -------------------------------------------------------------------------------------------------------


def test_prototxts_of_the_world(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each ports with generated weights, or is refused for the one thing that it does not state."""
    true_reasons = {
        "lenet_train_test.prototxt": "nothing states the shape of the input 'data'",
        "mnist_siamese_train_test.prototxt": "nothing states the shape of the input 'pair_data'",
        "mnist_autoencoder.prototxt": "it reads the blob 'data', which nothing before it makes",
    }
    told = {
        "lenet_train_test.prototxt": ImportOptions(input_shapes={"data": (100, 1, 28, 28)}),
        "mnist_siamese_train_test.prototxt": ImportOptions(input_shapes={"pair_data": (100, 2, 28, 28)}),
        "mnist_autoencoder.prototxt": ImportOptions(
            state=State(stages=frozenset({"test-on-test"})), input_shapes={"data": (100, 1, 28, 28)}
        ),
    }
    files = sorted((shared / "real").rglob("*.prototxt"))
    count = 0
    for file in files:
        net = net_from_prototxt(str(file))
        try:
            import_net(net, None, ImportOptions())
            count += 1
        except GraphError as error:
            assert true_reasons[file.name] in error.message
            assert import_net(net, None, told[file.name]).layers, "told what is missing, it ports"
    with capsys.disabled():
        print(f"\n{count} of {len(files)} prototxts port as they are, {len(files) - count} once told the shape or stage of their data")
    assert count >= len(files) - len(true_reasons) > 30


# ---- memory --------------------------------------------------------------------------------------------------------------


def test_in_place_on_an_alias_changes_the_others() -> None:
    text = DATA + layer("p", "Power", "data", "p") + 'layer { name: "s" type: "Split" bottom: "p" top: "a" top: "b" }\n'
    text += layer("r", "ReLU", "a", "a") + layer("t", "Power", "b", "out", "power_param { scale: 2 }")
    x = values(2, 3)
    np.testing.assert_array_equal(out(ported(text), data=x), 2 * np.maximum(x, 0))


def test_in_place_on_a_reshaped_alias_changes_its_bottom() -> None:
    text = DATA + layer("f", "Flatten", "data", "f", "flatten_param { axis: 0 }")
    text += layer("r", "ReLU", "f", "f") + layer("t", "Power", "data", "out", "power_param { shift: 1 }")
    x = values(2, 3)
    net = ported(text)
    np.testing.assert_array_equal(out(net, data=x), np.maximum(x, 0) + 1)
    assert kinds(net).count("Reshape") == 2, "one there, and one back"


def test_in_place_on_a_copy_changes_nothing_else() -> None:
    text = (
        DATA
        + layer("d", "Dropout", "data", "d")
        + layer("r", "ReLU", "d", "d")
        + layer("t", "Power", "data", "out", "power_param { shift: 1 }")
    )
    x = values(2, 3)
    np.testing.assert_array_equal(out(ported(text), data=x), x + 1)


def test_a_layer_in_place_on_an_input_that_comes_out() -> None:
    net = ported(DATA + layer("r", "ReLU", "data", "data"))
    assert [o.name for o in net.model.graph.outputs] == ["r"]
    assert "is called 'r'" in net.assumed[0]


def test_two_makers_of_a_blob_are_refused() -> None:
    refused("G036", DATA + layer("a", "ReLU", "data", "x") + layer("b", "TanH", "data", "x"))
    # In place is the same place: the second bottom is none.
    refused("G036", DATA + layer("a", "ReLU", "data", "x") + 'layer { name: "e" type: "Eltwise" bottom: "data" bottom: "x" top: "x" }')


# ---- inputs, outputs, rules ----------------------------------------------------------------------------------------------


def test_one_value_under_two_names_comes_out_twice() -> None:
    text = DATA + layer("r", "ReLU", "data", "r") + 'layer { name: "s" type: "Split" bottom: "r" top: "b" top: "a" }'
    net = ported(text)
    assert [o.name for o in net.model.graph.outputs] == ["a", "b"]
    x = values(2, 3)
    found = run(net, {"data": x})
    np.testing.assert_array_equal(found["a"], found["b"])


def test_an_input_as_output() -> None:
    net = ported(DATA + 'layer { name: "s" type: "Split" bottom: "data" top: "b" top: "a" }')
    assert [o.name for o in net.model.graph.outputs] == ["a", "b"]
    assert kinds(net) == ["Identity", "Identity"]


def test_a_blob_that_nothing_makes() -> None:
    assert "did you mean 'data'?" in refused("G034", DATA + layer("r", "ReLU", "dta", "r"))
    said = refused("G034", DATA + layer("t", "ReLU", "r", "x") + layer("r", "ReLU", "data", "r"))
    assert "'r' (ReLU) makes it, and stands behind it" in said
    said = refused("G034", DATA + layer("r", "ReLU", "data", "r", "include { phase: TRAIN }") + layer("t", "TanH", "r", "t"))
    assert "'r' (ReLU) makes it, and is left out: it runs in phase TRAIN" in said


def test_losses_and_what_only_they_read_are_cut() -> None:
    text = DATA + 'input: "label" input_shape { dim: 2 }\n' + inner("f", "data", "f")
    text += 'layer { name: "l" type: "SoftmaxWithLoss" bottom: "f" bottom: "label" top: "loss" loss_param { ignore_label: 3 } }'
    text += 'layer { name: "a" type: "Accuracy" bottom: "f" bottom: "label" top: "acc" }'
    net = ported(text)
    assert [i.name for i in net.model.graph.inputs] == ["data"]
    assert [o.name for o in net.model.graph.outputs] == ["f"]
    assert [c.name for c in net.cut] == ["l", "a", "label"]


def test_the_softmax_of_a_loss_is_kept() -> None:
    text = DATA + 'input: "label" input_shape { dim: 2 }\n'
    text += (
        'layer { name: "l" type: "SoftmaxWithLoss" bottom: "data" bottom: "label" top: "loss" top: "prob" loss_param { ignore_label: 3 } }'
    )
    net = ported(text)
    assert kinds(net) == ["Softmax"]
    assert [o.name for o in net.model.graph.outputs] == ["prob"]


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        ('type: "Data" transform_param { crop_size: 8 } data_param { batch_size: 5 }', (5, 3, 8, 8)),
        ('type: "Data" transform_param { crop_size: 8 force_gray: true } data_param { batch_size: 5 }', (5, 1, 8, 8)),
        ('type: "ImageData" image_data_param { batch_size: 2 new_height: 6 new_width: 7 is_color: false }', (2, 1, 6, 7)),
        ('type: "MemoryData" memory_data_param { batch_size: 2 channels: 4 height: 6 width: 7 }', (2, 4, 6, 7)),
        ('type: "DummyData" dummy_data_param { shape { dim: 2 dim: 4 } }', (2, 4)),
        ('type: "DummyData" dummy_data_param { num: 2 channels: 3 height: 4 width: 5 }', (2, 3, 4, 5)),
        ('type: "Input" input_param { shape { dim: 7 dim: 2 } }', (7, 2)),
    ],
)
def test_data_layers_become_inputs(data: str, shape: tuple[int, ...]) -> None:
    net = ported(f'layer {{ name: "d" top: "data" {data} }}\n' + layer("r", "ReLU", "data", "r"))
    (found,) = net.model.graph.inputs
    assert (found.name, tuple(found.shape or ())) == ("data", shape)


def test_inputs_of_another_phase_say_nothing() -> None:
    text = """
    layer { name: "data" type: "Input" top: "data" include { phase: TEST } input_param { shape { dim: 2 dim: 3 } } }
    layer { name: "data" type: "Input" top: "data" include { phase: TRAIN } input_param { shape { dim: 64 dim: 3 } } }
    layer { name: "r" type: "ReLU" bottom: "data" top: "r" }"""
    assert tuple(ported(text).model.graph.inputs[0].shape or ()) == (2, 3)
    assert tuple(ported(text, state=State("TRAIN")).model.graph.inputs[0].shape or ()) == (64, 3)


def test_shapes_that_nothing_states_are_asked_for() -> None:
    text = 'layer { name: "d" type: "Data" top: "data" top: "label" }\n' + layer("r", "ReLU", "data", "r")
    assert "--input-shape data=" in refused("G030", text)
    assert tuple(ported(text, input_shapes={"data": (1, 2, 3)}).model.graph.inputs[0].shape or ()) == (1, 2, 3)
    assert "the inputs are: data, label" in refused("G031", text, input_shapes={"dat": (1,)})
    refused("G030", 'input: "data" input_dim: 0 input_dim: 3 input_dim: 4 input_dim: 4\n' + layer("r", "ReLU", "data", "r"))


def test_a_shape_from_outside_wins() -> None:
    net = ported(DATA + layer("r", "ReLU", "data", "r"), input_shapes={"data": (9, 9)})
    assert tuple(net.model.graph.outputs[0].shape or ()) == (9, 9)


def test_stages_and_levels() -> None:
    text = (
        DATA + layer("a", "ReLU", "data", "a", 'include { stage: "deploy" }') + layer("b", "TanH", "data", "b", "include { min_level: 2 }")
    )
    text += layer("c", "Sigmoid", "data", "c")
    assert kinds(ported(text)) == ["Sigmoid"]
    assert kinds(ported('state { stage: "deploy" }\n' + text)) == ["Relu", "Sigmoid"]
    assert kinds(ported(text, state=State(level=2, stages=frozenset({"deploy"})))) == ["Relu", "Tanh", "Sigmoid"]


def test_unknown_layers_are_listed_together() -> None:
    said = refused("G033", DATA + layer("a", "Relu", "data", "a") + layer("b", "Foo", "a", "b", "foo_param { bar: 1 }"))
    assert "Relu 'a' of data (no parameters); Foo 'b' of a (foo_param.bar)" in said
    assert "did you mean 'ReLU'?" in said


def test_parameters_that_nobody_reads_are_refused() -> None:
    assert "relu_param.alpha is stated" in refused("G013", DATA + layer("a", "ReLU", "data", "a", "relu_param { alpha: 2 }"))


# ---- weights -------------------------------------------------------------------------------------------------------------


def test_missing_layers_are_listed_with_their_nearest() -> None:
    text = DATA + inner("fc_1", "data", "a") + inner("fc_2", "a", "b") + inner("fc_3", "b", "c")
    said = refused("G020", text, {"fc1": [values(4, 3), values(4)], "fc_2": [values(4, 4), values(4)]})
    assert "layer 'fc_1'" in said
    assert "'fc_3'" in said
    assert "'fc1' for 'fc_1'" in said


def test_blobs_that_are_too_few_or_too_many() -> None:
    text = DATA + inner("f", "data", "a")
    refused("G021", text, {"f": [values(4, 3)]})
    refused("G024", text, {"f": [values(4, 3), values(4), values(1)]})


def test_shapes_are_compared_as_caffe_does() -> None:
    text = DATA + inner("f", "data", "a")
    assert "[4, 5]" in refused("G023", text, {"f": [values(4, 5), values(4)]})
    refused("G023", text, {"f": [values(1, 1, 4, 3), values(4)]})
    store = store_of({"f": [values(4, 3), values(4)]})
    for name, old in (("f.blob0", [1, 1, 4, 3]), ("f.blob1", [1, 1, 1, 4])):
        tensor = store[name]
        store = type(store)(
            t if t.name != name else tensor.with_spec(attributes={**tensor.attributes, "caffe.shape": old}) for t in store.values()
        )
    net = import_net(net_from_tree(parse(text)), store, ImportOptions())
    x = values(2, 3)
    np.testing.assert_allclose(out(net, data=x), x @ values(4, 3).T + values(4), rtol=1e-5)


def test_weights_that_are_not_caffes() -> None:
    store = store_of({"f": [values(4, 3), values(4)]})
    store = type(store)(t.with_spec(attributes={}) for t in store.values())
    with pytest.raises(GraphError, match="give the caffemodel"):
        import_net(net_from_tree(parse(DATA + inner("f", "data", "a"))), store, ImportOptions())


def test_extra_layers_are_reported() -> None:
    net = ported(DATA + inner("f", "data", "a"), {"f": [values(4, 3), values(4)], "old": [values(1)]})
    assert net.unused_weights == ("old",)


def shared_text(mode: str = "") -> str:
    named = 'param {{ name: "w" {} }} param {{ name: "b" }}'
    return (
        'input: "data" input_shape { dim: 2 dim: 4 }\n'
        + inner("f", "data", "a", named.format(""))
        + inner("g", "a", "b", named.format(mode))
    )


def test_layers_share_parameters_by_name() -> None:
    x, w, b = values(2, 4), values(4, 4), values(4)
    expected = (x @ w.T + b) @ w.T + b
    for weights in ({"f": [w, b], "g": [w, b]}, {"f": [w, b]}, {"f": [w * 2, b * 2], "g": [w, b]}):
        # Caffe copies what stands in the file one over the other, so the last one counts.
        net = ported(shared_text(), weights)
        np.testing.assert_allclose(out(net, data=x), expected, rtol=1e-5)
        assert len([n for n in net.model.graph.initializers if "blob" in n]) == 2


def test_a_shared_blob_in_two_shapes() -> None:
    text = 'input: "data" input_shape { dim: 2 dim: 4 }\n' + layer(
        "f", "InnerProduct", "data", "a", 'param { name: "w" } inner_product_param { num_output: 2 bias_term: false }'
    )
    more = "inner_product_param { num_output: 4 bias_term: false }"
    x, w = values(2, 4), values(2, 4)
    net = ported(text + layer("g", "InnerProduct", "a", "out", f'param {{ name: "w" share_mode: PERMISSIVE }} {more}'), {"f": [w]})
    np.testing.assert_allclose(out(net, data=x), x @ w.T @ w.reshape(4, 2).T, rtol=1e-4)
    assert "[2, 4]" in refused("G023", text + layer("g", "InnerProduct", "a", "out", f'param {{ name: "w" }} {more}'), {"f": [w]})


def test_generated_weights_are_shared_and_fit() -> None:
    x = values(2, 4)
    assert out(ported(shared_text()), data=x).shape == (2, 4)
    refused("G023", shared_text().replace("num_output: 4", "num_output: 3", 1))


def test_generated_weights_are_the_same_each_time() -> None:
    text = DATA + inner("f", "data", "a")
    x = values(2, 3)
    first = out(ported(text), data=x)
    np.testing.assert_array_equal(first, out(ported(text), data=x))
    assert not np.array_equal(first, out(ported(text, seed=1), data=x))


# ---- names ---------------------------------------------------------------------------------------------------------------


def test_weights_keep_their_names_and_blobs_theirs() -> None:
    text = (
        'input: "f.blob1" input_shape { dim: 2 dim: 3 }\n' + inner("f", "f.blob1", "f.blob0x") + layer("f.blob0", "ReLU", "f.blob0x", "y")
    )
    x = values(2, 3)
    net = ported(text, {"f": [values(4, 3), values(4)]})
    np.testing.assert_allclose(out(net, **{"f.blob1": x}), np.maximum(x @ values(4, 3).T + values(4), 0), rtol=1e-5)
    names = list(net.model.graph.initializers)
    assert "f.blob0" in names
    assert "f.blob1" not in names, "the input has that name already"


def test_names_are_unique_whatever_layers_are_called() -> None:
    odd = ["", "a b", "a/b", "a", "a_2", "a", "é", "\\n"]
    text = DATA + "".join(layer(name, "ReLU", "data", f"t{i}") for i, name in enumerate(odd))
    net = ported(text)
    nodes = [n.name for n in net.model.graph]
    assert len(set(nodes)) == len(nodes)
    run(net, {"data": values(2, 3)})


# ---- opset and batch -----------------------------------------------------------------------------------------------------


def test_an_opset_that_is_too_low() -> None:
    assert "porter writes 13" in refused("G032", one_layer('type: "ReLU"', (2, 3)), opset=12)
    assert ported(one_layer('type: "ReLU"', (2, 3))).opset == 13


def test_an_open_batch_is_the_first_dimension_of_what_has_as_many_items() -> None:
    net = ported(one_layer('type: "Scale" scale_param { axis: 1 }', (2, 3, 4), factors=(3,)), dynamic_batch=True)
    assert [str(n) for n in net.model.graph.outputs[0].shape or ()] == ["N", "3", "4"]
    assert "first dimension of the input 'factors' is no batch" in net.assumed[0]
    x, f = values(5, 3, 4), values(3)
    np.testing.assert_array_equal(out(net, data=x, factors=f), x * f[:, None])


def test_what_goes_together_for_one_batch_only_is_refused() -> None:
    text = DATA + 'layer { name: "p" type: "Parameter" top: "p" parameter_param { shape { dim: 2 dim: 3 } } }\n'
    text += 'layer { name: "e" type: "Scale" bottom: "data" bottom: "p" top: "out" scale_param { axis: 0 } }'
    ported(text)
    assert "layer 'e' (Scale)" in refused("G002", text, dynamic_batch=True)


def test_the_model_is_complete(tmp_path: Path) -> None:
    net = ported(shared_text(), {"f": [values(4, 4), values(4)]})
    ir.save(net.model, str(tmp_path / "model.onnx"))
    assert ir.load(str(tmp_path / "model.onnx")).graph.outputs[0].name == "b"
