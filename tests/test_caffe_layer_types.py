"""What Caffe's layers are called and what their blobs are, held against the networks that the real Caffe ran."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from porter.formats.caffe.layer_types import BlobRole, blob_roles, numbered_roles, upgrade_type
from porter.formats.caffe.net import net_from_prototxt
from porter.io.protobuf_messages import message_classes


def roles(layer_type: str, *shapes: tuple[int, ...], **options: Any) -> list[tuple[str, tuple[int, ...], str | None]]:
    found = blob_roles(layer_type, shapes, **options)
    assert found is not None
    return [(r.role, r.shape, r.axes) for r in found]


def old(layer_type: str, *shapes: tuple[int, ...], **options: Any) -> list[tuple[str, tuple[int, ...], str | None]]:
    return roles(layer_type, *shapes, legacy=[True] * len(shapes), **options)


# Types of three generations


def test_v1_types_are_those_of_the_enum(shared: Path) -> None:
    with (shared / "facts" / "caffe_enums.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["enum"] == "V1LayerParameter.LayerType"]
    assert len(rows) == 40
    for row in rows:
        by_name, by_number = upgrade_type(row["value"]), upgrade_type(int(row["number"]))
        assert by_name == by_number
        assert by_name is not None
        # The names differ in case and underscores only, with these exceptions.
        expected = {"NONE": "", "SOFTMAX_LOSS": "SoftmaxWithLoss"}.get(row["value"], row["value"].replace("_", "").lower())
        assert by_name == expected or by_name.lower() == expected


@pytest.mark.parametrize(
    ("written", "v2"),
    [
        ("conv", "Convolution"),
        ("innerproduct", "InnerProduct"),
        ("pool", "Pooling"),
        ("images", "ImageData"),
        ("softmax_loss", "SoftmaxWithLoss"),
        (4, "Convolution"),
        (39, "Deconvolution"),
        ("RELU", "ReLU"),
        ("PRELU", "PReLU"),
        ("Convolution", "Convolution"),
        ("SomebodysLayer", "SomebodysLayer"),
        (0, ""),
    ],
)
def test_a_type_of_any_generation(written: int | str, v2: str) -> None:
    assert upgrade_type(written) == v2


def test_an_unknown_number_says_nothing() -> None:
    assert upgrade_type(41) is None
    assert upgrade_type(-1) is None


# Natural shapes


def test_legacy_shapes_lose_their_padding() -> None:
    assert old("InnerProduct", (1, 1, 10, 500), (1, 1, 1, 10)) == [("weight", (10, 500), "OI"), ("bias", (10,), "O")]
    assert old("Convolution", (20, 1, 5, 5), (1, 1, 1, 20)) == [("weight", (20, 1, 5, 5), "OIHW"), ("bias", (20,), "O")]
    assert old("PReLU", (1, 1, 1, 7)) == [("slope", (7,), "C")]
    assert old("BN", (1, 6, 1, 1), (1, 6, 1, 1)) == [("weight", (6,), "C"), ("bias", (6,), "C")]
    assert old("BatchNorm", (1, 1, 1, 3), (1, 1, 1, 3), (1, 1, 1, 1))[2] == ("scale_factor", (1,), None)
    assert old("LSTM", (1, 1, 8, 5), (1, 1, 1, 8), (1, 1, 8, 2))[2] == ("W_hc", (8, 2), "OI")


def test_a_matrix_of_one_row_or_column_keeps_both_dimensions() -> None:
    assert old("InnerProduct", (1, 1, 1, 9), (1, 1, 1, 1)) == [("weight", (1, 9), "OI"), ("bias", (1,), "O")]
    assert old("InnerProduct", (1, 1, 9, 1), (1, 1, 1, 9)) == [("weight", (9, 1), "OI"), ("bias", (9,), "O")]


@pytest.mark.parametrize("shape", [(10, 500, 1, 1), (2, 3, 4, 5), (1, 10, 500, 1)])
def test_a_legacy_shape_that_does_not_fit_stays_with_a_notice(shape: tuple[int, ...]) -> None:
    found = blob_roles("InnerProduct", [shape], legacy=[True])
    assert found is not None
    assert found[0].shape == shape
    assert found[0].axes is None
    assert "does not fit a weight of 2 dimensions" in (found[0].notice or "")


def test_a_stated_shape_is_never_changed() -> None:
    assert roles("InnerProduct", (1, 1, 10, 500)) == [("weight", (1, 1, 10, 500), None)]
    assert roles("BN", (1, 6, 1, 1), (1, 6, 1, 1)) == [("weight", (1, 6, 1, 1), "NCHW"), ("bias", (1, 6, 1, 1), "NCHW")]


# Axes


@pytest.mark.parametrize(
    ("layer_type", "shape", "axes"),
    [
        ("Convolution", (8, 3, 5, 5), "OIHW"),
        ("Convolution", (8, 3, 5), "OIW"),
        ("Convolution", (8, 3, 2, 5, 5), "OIDHW"),
        ("Convolution", (8, 3, 2, 2, 5, 5), None),
        ("Deconvolution", (8, 3, 5, 5), "IOHW"),
        ("Deconvolution", (8, 3, 2, 5, 5), "IODHW"),
        ("DepthwiseConvolution", (8, 1, 3, 3), "OIHW"),
        ("DeformableConvolution", (8, 4, 3, 3), "OIHW"),
        ("InnerProduct", (8, 3), "OI"),
        ("Embed", (100, 16), "IO"),
    ],
)
def test_axes_of_weights(layer_type: str, shape: tuple[int, ...], axes: str | None) -> None:
    assert roles(layer_type, shape) == [("weight", shape, axes)]


def test_a_transposed_inner_product_has_its_inputs_first() -> None:
    assert roles("InnerProduct", (3, 8), parameter={"inner_product_param.transpose": True}.get) == [("weight", (3, 8), "IO")]
    assert roles("InnerProduct", (8, 3), parameter={"inner_product_param.transpose": False}.get) == [("weight", (8, 3), "OI")]


@pytest.mark.parametrize(
    ("shape", "parameters", "axes"),
    [
        ((4,), {}, "C"),
        ((4, 5), {"scale_param.num_axes": 2}, "CH"),
        ((2, 4, 5, 5), {"scale_param.axis": 0, "scale_param.num_axes": -1}, "NCHW"),
        ((5,), {"scale_param.axis": 2}, "H"),
        ((), {"scale_param.num_axes": 0}, ""),
        ((5,), {"scale_param.axis": -1}, None),
    ],
)
def test_axes_of_a_scale_are_those_of_its_bottom(shape: tuple[int, ...], parameters: dict[str, Any], axes: str | None) -> None:
    assert roles("Scale", shape, parameter=parameters.get) == [("weight", shape, axes)]


def test_a_scale_with_two_bottoms_has_only_a_bias() -> None:
    assert roles("Scale", (4,), bottoms=2) == [("bias", (4,), "C")]
    assert roles("Scale", (4,), bottoms=1) == [("weight", (4,), "C")]
    assert [r[0] for r in roles("Scale", (4,), (4,))] == ["weight", "bias"]


def test_one_value_for_all_channels_has_no_dimension() -> None:
    shared = {"prelu_param.channel_shared": True, "norm_param.channel_shared": True}.get
    assert roles("PReLU", (), parameter=shared) == [("slope", (), "")]
    assert old("PReLU", (1, 1, 1, 1), parameter=shared) == [("slope", (), "")]
    assert roles("Normalize", (), parameter=shared) == [("weight", (), "")]
    assert old("PReLU", (1, 1, 1, 1)) == [("slope", (1,), "C")]


# Layers whose blobs depend on the fork


def test_batch_norm_of_every_fork() -> None:
    names = [r[0] for r in roles("BatchNorm", (4,), (4,), (1,))]
    assert names == ["mean", "variance", "scale_factor"]
    names = [r[0] for r in roles("BatchNorm", (4,), (4,), (1,), (4,), (4,))]
    assert names == ["mean", "variance", "scale_factor", "weight", "bias"]
    assert [r[0] for r in roles("BatchNorm", (4,), (4,), (1,), (4,))] == names[:4]
    assert [r[0] for r in roles("BatchNorm", (4,), (4,), (4,), (4,), (1,))] == ["weight", "bias", "mean", "variance", "scale_factor"]


def test_batch_norm_of_one_channel_says_what_it_assumed() -> None:
    found = blob_roles("BatchNorm", [(1,)] * 5)
    assert found is not None
    assert [r.role for r in found] == ["mean", "variance", "scale_factor", "weight", "bias"]
    assert "one channel" in (found[3].notice or "")


def test_bn_has_two_or_four_blobs() -> None:
    assert [r[0] for r in roles("BN", (1, 4), (1, 4))] == ["weight", "bias"]
    assert [r[0] for r in roles("BN", (1, 4), (1, 4), (1, 4), (1, 4))] == ["weight", "bias", "mean", "variance"]
    assert blob_roles("BN", [(4,)] * 3) is None


def test_recurrent_layers_of_other_forks_are_unknown() -> None:
    assert [r[0] for r in roles("LSTM", (8, 5), (8,), (8, 2))] == ["W_xc", "b_c", "W_hc"]
    assert [r[0] for r in roles("LSTM", (8, 5), (8,), (8, 3), (8, 2))] == ["W_xc", "b_c", "W_xc_static", "W_hc"]
    # junhyukoh/caffe-lstm: input weights, hidden weights, bias.
    assert blob_roles("LSTM", [(8, 5), (8, 2), (8,)]) is None
    assert blob_roles("LSTM", [(8, 5)]) is None
    assert blob_roles("RNN", [(3, 5), (3,), (3, 3), (3, 3)]) is None


def test_unknown_types_and_blobs() -> None:
    assert blob_roles("SomebodysLayer", [(3,)]) is None
    assert numbered_roles([(3,), (4, 5)]) == (BlobRole("blob0", (3,)), BlobRole("blob1", (4, 5)))
    found = blob_roles("Convolution", [(8, 3, 1, 1), (8,), (8,)])
    assert found is not None
    assert found[2].role == "blob2"
    assert "3 blobs" in (found[2].notice or "")
    assert blob_roles("Convolution", []) == ()


# The reference: each role, used as its name says, gives what Caffe computed.


def weights(folder: Path) -> dict[str, np.ndarray]:
    """The blobs of the only layer with weights, by the role that porter gives them, read with plain protobuf."""
    net = message_classes("caffe.binpb")["caffe.NetParameter"].FromString((folder / "model.caffemodel").read_bytes())
    (layer,) = (m for m in net.layer if m.blobs)  # type: ignore[attr-defined]
    shapes = [tuple(b.shape.dim) for b in layer.blobs]
    text = net_from_prototxt(str(folder / "deploy.prototxt")).by_name()[layer.name]
    found = blob_roles(layer.type, shapes, parameter=text.parameter, bottoms=len(layer.bottom))
    assert found is not None
    return {role.role: np.array(b.data, np.float32).reshape(role.shape) for role, b in zip(found, layer.blobs, strict=True)}


def golden(folder: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    data = np.load(folder / "golden.npz")
    inputs = {k.removeprefix("input/"): data[k] for k in data.files if k.startswith("input/")}
    (output,) = (data[k] for k in data.files if k.startswith("output/"))
    return inputs, output


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("case", ["LSTM_basic", "LSTM_cont_ones", "LSTM_reset_mid", "LSTM_static"])
def test_lstm_roles_compute_what_caffe_computed(shared: Path, case: str) -> None:
    folder = shared / "oracle" / "zoo" / case
    w, (inputs, output) = weights(folder), golden(folder)
    x, cont = inputs["x"], inputs["cont"]
    hidden = w["W_hc"].shape[1]
    h = c = np.zeros((x.shape[1], hidden))
    steps = []
    for t in range(len(x)):
        gates = x[t] @ w["W_xc"].T + w["b_c"] + (cont[t][:, None] * h) @ w["W_hc"].T
        if "W_xc_static" in w:
            gates = gates + inputs["static"] @ w["W_xc_static"].T
        i, f, o, g = (gates[:, k * hidden : (k + 1) * hidden] for k in range(4))
        c = cont[t][:, None] * sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        steps.append(h)
    np.testing.assert_allclose(np.stack(steps), output, atol=1e-5)


@pytest.mark.parametrize("case", ["RNN_basic", "RNN_reset_mid"])
def test_rnn_roles_compute_what_caffe_computed(shared: Path, case: str) -> None:
    folder = shared / "oracle" / "zoo" / case
    w, (inputs, output) = weights(folder), golden(folder)
    h = np.zeros((inputs["x"].shape[1], len(w["b_h"])))
    steps = []
    for x, cont in zip(inputs["x"], inputs["cont"], strict=True):
        h = np.tanh(x @ w["W_xh"].T + w["b_h"] + (cont[:, None] * h) @ w["W_hh"].T)
        steps.append(np.tanh(h @ w["W_ho"].T + w["b_o"]))
    np.testing.assert_allclose(np.stack(steps), output, atol=1e-5)


@pytest.mark.parametrize(("case", "eps"), [("BN_pspnet_default", 1e-5), ("BN_pspnet_eps", 0.3)])
def test_bn_roles_compute_what_caffe_computed(shared: Path, case: str, eps: float) -> None:
    folder = shared / "oracle" / "zoo" / case
    w, (inputs, output) = weights(folder), golden(folder)
    normal = (inputs["data"] - w["mean"]) / np.sqrt(w["variance"] + eps)
    np.testing.assert_allclose(normal * w["weight"] + w["bias"], output, rtol=1e-4, atol=1e-5)


def test_bn_of_segnet_is_scale_then_shift(shared: Path) -> None:
    folder = shared / "oracle" / "zoo" / "BN_segnet_inference"
    w, (inputs, output) = weights(folder), golden(folder)
    np.testing.assert_allclose(inputs["data"] * w["weight"] + w["bias"], output, rtol=1e-5)


def test_a_scale_with_two_bottoms_computes_what_caffe_computed(shared: Path) -> None:
    folder = shared / "oracle" / "zoo" / "Scale_two_bottoms_bias"
    w, (inputs, output) = weights(folder), golden(folder)
    assert list(w) == ["bias"]
    np.testing.assert_allclose((inputs["data"] * inputs["data2"][..., None]) + w["bias"][..., None], output, rtol=1e-5)


@pytest.mark.parametrize("case", ["InnerProduct_transpose", "InnerProduct_basic"])
def test_an_inner_product_is_as_its_axes_say(shared: Path, case: str) -> None:
    folder = shared / "oracle" / "zoo" / case
    w, (inputs, output) = weights(folder), golden(folder)
    matrix = w["weight"] if case.endswith("transpose") else w["weight"].T
    np.testing.assert_allclose(inputs["data"].reshape(len(output), -1) @ matrix + w["bias"], output, rtol=1e-4, atol=1e-5)
