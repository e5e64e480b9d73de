"""Live networks of TensorRT: every layer is built and read back by the real builder, which needs no GPU."""

from __future__ import annotations

import gc
import platform
import sys
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorrt_nets import EXAMPLES, constant, network, plain, weights

import porter
from porter.dataclass import replace
from porter.dtypes import DTYPES
from porter.errors import TensorRTError
from porter.store import TensorStore
from porter.tensor import BytesPayload, Tensor, TensorSpec
from porter.tensorrt import layers as l
from porter.tensorrt.layers import Input, Layer, Network, Weights, weights_of
from porter.tensorrt.live.live import build
from porter.tensorrt.package import dims, find
from porter.tensorrt.walk.walk import read, unique

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="TensorRT's package has no wheel for this platform"
)

NO_KERNEL = ("nms", "non-zero", "quantize channels")
"""TensorRT for RTX builds these layers, and has no kernels for them in this form."""

X = {"x": (2, 6, 9, 8)}


@pytest.fixture(scope="module")
def trt() -> Any:
    return find().module


def changed(made: Network, **changes: Any) -> Network:
    return replace(made, **changes)


def failed(made: Network, **options: Any) -> TensorRTError:
    with pytest.raises(TensorRTError) as caught:
        build(made, find(), **options)
    return caught.value


def test_every_operation_has_an_example() -> None:
    found = {type(layer.operation) for example in EXAMPLES.values() for layer in example.layers}
    assert set(typing.get_args(l.Operation)) - found == {l.Unknown}


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_was_built_is_read_back(name: str) -> None:
    live = build(EXAMPLES[name], find())
    found = read(live.network, find())
    assert plain(found) == plain(EXAMPLES[name])
    assert found.notices == ()
    for layer in found.layers:
        assert [w.tensor.name for w in weights_of(layer.operation).values()] == [
            f"{layer.name}.{role}" for role in weights_of(layer.operation)
        ]


@pytest.mark.parametrize("name", ["convolution", "scale with a power", "bfloat16", "top k", "slice to an input", "group norm", "cast"])
def test_engines(name: str) -> None:
    assert build(EXAMPLES[name], find()).engine(optimization_level=0).nbytes > 1000


@pytest.mark.parametrize("name", NO_KERNEL)
def test_an_engine_that_cannot_be_built_fails_in_the_words_of_tensorrt(name: str) -> None:
    if find().name != "tensorrt_rtx":
        pytest.skip("the whole TensorRT has kernels for these")
    with pytest.raises(TensorRTError, match=r"cannot build the engine: .*Error Code") as caught:
        build(EXAMPLES[name], find()).engine()
    assert caught.value.code == "T106"


# ---- weights ---------------------------------------------------------------------------------------------------------


def held(made: Network, layer: int = -1) -> dict[str, Tensor]:
    return {role: w.tensor for role, w in weights_of(made.layers[layer].operation).items()}


def test_warnings_of_an_earlier_network_are_not_told_of_the_next() -> None:
    package = find()
    package.log.add(2, "a warning of another network")
    build(EXAMPLES["convolution"], package)
    assert package.log.warnings() == []


def test_weights_live_as_long_as_the_network() -> None:
    def make() -> Any:
        kernel = weights("k", 64, 6, 3, 3)
        made = network(l.Convolution(kernel, None, (1, 1), (1, 1), (0, 0), (0, 0)), X)
        return build(made, find()), kernel.tensor.tobytes()

    live, data = make()
    gc.collect()
    _ = [np.full(64 * 6 * 9, i, np.float32) for i in range(50)]
    assert held(read(live.network, find()))["kernel"].tobytes() == data


def test_weights_of_a_file_are_mapped(tmp_path: Path) -> None:
    """TensorRT is given the pages of the file; no copy is made."""
    path = tmp_path / "big.safetensors"
    porter.save(TensorStore([weights("k", 256, 6, 16, 16).tensor]), path)
    with porter.open(path) as store:
        live = build(network(l.Constant(Weights(store["k"])), {}, inputs=()), find())
        given = np.frombuffer(store["k"].buffer(), np.uint8)
        assert live.network.get_layer(0).type.name == "CONSTANT"
        assert live.memory[0].ctypes.data == given.ctypes.data
        view = held(read(live.network, find(), copy=False))["weights"]
        assert np.frombuffer(view.buffer(), np.uint8).ctypes.data == given.ctypes.data
        assert view.digest() == store["k"].digest()


def test_values_that_lie_askew_are_copied() -> None:
    data = bytearray(4 * 6 * 9 * 2 + 1)
    data[1:] = weights("k", 2, 6, 3, 3).tensor.tobytes() * 2
    askew = memoryview(data)[1 : 1 + 2 * 6 * 9 * 4]
    tensor = Tensor(TensorSpec("k", DTYPES["float32"], (2, 6, 3, 3)), BytesPayload(askew))
    live = build(network(l.Convolution(Weights(tensor), None, (1, 1), (1, 1), (0, 0), (0, 0)), X), find())
    assert live.memory[0].ctypes.data % 4 == 0
    assert held(read(live.network, find()))["kernel"].tobytes() == bytes(askew)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_every_bit_of_weights_is_kept(dtype: str) -> None:
    """NaNs of every payload, both zeros, what is subnormal: all of 16 bits, and as many of 32."""
    codes = np.arange(1 << 16, dtype=np.uint32)
    data = (codes << 16 | codes).astype("<u4").tobytes() if dtype == "float32" else codes.astype("<u2").tobytes()
    tensor = Tensor(TensorSpec("k", DTYPES[dtype], (1 << 16,)), BytesPayload.of(data))
    live = build(network(l.Constant(Weights(tensor)), {}, inputs=()), find())
    found = held(read(live.network, find()))["weights"]
    assert (found.dtype.name, found.tobytes()) == (dtype, data)


@pytest.mark.parametrize(("dtype", "size"), [("float8_e4m3fn", 1), ("int8", 1), ("int64", 8), ("int32", 4), ("bool", 1)])
def test_types_of_constants(dtype: str, size: int) -> None:
    data = bytes(i & 1 for i in range(24 * size))
    tensor = Tensor(TensorSpec("c", DTYPES[dtype], (2, 3, 4)), BytesPayload.of(data))
    found = held(read(build(network(l.Constant(Weights(tensor)), {}, inputs=()), find()).network, find()))["weights"]
    assert (found.dtype.name, found.shape, found.tobytes()) == (dtype, (2, 3, 4), data)


def test_packed_values() -> None:
    data = bytes(range(12))
    tensor = Tensor(TensorSpec("c", DTYPES["int4"], (4, 6)), BytesPayload.of(data))
    found = held(read(build(network(l.Constant(Weights(tensor)), {}, inputs=()), find()).network, find()))["weights"]
    assert (found.dtype.name, found.shape, found.tobytes()) == ("int4", (4, 6), data)


# ---- what does not fit -----------------------------------------------------------------------------------------------


def test_another_shape() -> None:
    made = EXAMPLES["max pooling"]
    error = failed(changed(made, shapes={"out0": (2, 6, 9, 9)}))
    assert error.code == "T103"
    assert "'layer' (Pooling) makes 'out0' of shape [2, 6, 5, 9] in TensorRT, and of [2, 6, 9, 9] in the network" in error.message


@pytest.mark.parametrize("shape", [(2, 6, 5, 9), (-1, 6, 5, 9), (2, -1, -1, -1)])
def test_open_sizes_fit_all(shape: Sequence[int]) -> None:
    build(changed(EXAMPLES["max pooling"], shapes={"out0": tuple(shape)}), find())


def test_another_type() -> None:
    error = failed(changed(EXAMPLES["top k"], dtypes={"out1": "int64"}))
    assert (error.code, "of type int32 in TensorRT, and of int64" in error.message) == ("T104", True)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (network(l.Pooling("MAX", (20, 20), (1, 1), (0, 0), (0, 0)), X), "negative length"),
        (network(l.Unary("NOT"), X), "must have type Bool"),
        (network(l.Convolution(weights("k", 4, 5, 3, 3), None, (1, 1), (1, 1), (0, 0), (0, 0)), X), "count"),
        (network(l.Concatenation(1), {"x": (2, 3), "y": (3, 3)}), "dimensions"),
        (network(l.Softmax(7), X), "axis(7) cannot be larger"),
        (network(l.Convolution(weights("k", 4, 6, 3, 3), None, (0, 1), (1, 1), (0, 0), (0, 0)), X), "stride"),
    ],
    ids=["too large a window", "type", "count of weights", "shapes", "axis", "stride"],
)
def test_what_tensorrt_refuses_is_told_in_its_words(made: Network, words: str) -> None:
    error = failed(made)
    assert error.code == "T102"
    assert "'layer'" in error.message
    assert words.lower() in error.message.lower()
    assert "CUDA driver" not in error.message


def test_a_refusal_leaves_no_trace_in_the_next_network() -> None:
    failed(network(l.Unary("NOT"), X))
    build(EXAMPLES["softmax"], find())


def test_layers_that_cannot_be_built() -> None:
    unknown = Network((Input("x", "float32", (2,)),), (Layer("a", l.Unknown("LOOP"), ("x",), ("y",)),), ("y",))
    assert failed(unknown).message == "the layer 'a' (Unknown) is none that porter can build: LOOP"
    backwards = Network((Input("x", "float32", (2,)),), (Layer("a", l.Identity(), ("z",), ("y",)),), ("y",))
    assert failed(backwards).message == "the layer 'a' (Identity) reads 'z', which nothing before it makes"


def test_what_this_version_does_not_have() -> None:
    assert failed(network(l.Activation("SWISH"), X)).code == "T101"
    error = failed(network(l.Cast("float64"), X))
    assert (error.code, error.message) == ("T101", "the layer 'layer' (Cast): TensorRT has no type for float64")


# ---- open sizes ------------------------------------------------------------------------------------------------------

OPEN = EXAMPLES["open batch"]


def test_an_engine_with_open_sizes() -> None:
    live = build(OPEN, find(), profiles={"x": ((1, 6), (4, 6), (9, 6))})
    assert dims(live.network.get_output(0), "shape") == (-1, 6)
    assert live.engine(optimization_level=0).nbytes


def test_open_sizes_need_a_profile() -> None:
    with pytest.raises(TensorRTError) as caught:
        build(OPEN, find()).engine()
    assert caught.value.code == "T105"
    assert caught.value.hint is not None
    assert "--profile x=1x6,8x6,32x6" in caught.value.hint


@pytest.mark.parametrize(
    ("profiles", "words"),
    [
        ({"y": ((1, 6), (2, 6), (3, 6))}, "'y', which is no input"),
        ({"x": ((1,), (2,), (3,))}, "needs 2 sizes a shape"),
        ({"x": ((1, 5), (2, 5), (3, 5))}, "does not fit its shape ?x6"),
        ({"x": ((4, 6), (2, 6), (8, 6))}, "does not grow"),
    ],
)
def test_profiles_that_do_not_fit(profiles: Any, words: str) -> None:
    error = failed(OPEN, profiles=profiles)
    assert (error.code, words in error.message) == ("T105", True), error.message


# ---- networks that people built --------------------------------------------------------------------------------------


class Hand:
    """A network as people write it against TensorRT's API."""

    def __init__(self) -> None:
        package = find()
        self.builder = package.module.Builder(package.logger)
        self.network = self.builder.create_network(package.creation_flags)
        self.x = self.network.add_input("x", package.module.float32, (2, 6, 9, 8))
        self.kept: list[Any] = []

    def values(self, *shape: int, dtype: Any = np.float32) -> Any:
        self.kept.append(np.ones(shape, dtype))
        return find().module.Weights(self.kept[-1])

    def constant(self, values: Any) -> Any:
        self.kept.append(np.ascontiguousarray(values))
        return self.network.add_constant(self.kept[-1].shape, find().module.Weights(self.kept[-1])).get_output(0)


@pytest.mark.parametrize("mode", ["EXPLICIT_ROUND_DOWN", "EXPLICIT_ROUND_UP", "SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("stride", [(2, 3), (3, 2), (1, 1)])
def test_padding_that_tensorrt_works_out_is_said(trt: Any, mode: str, stride: tuple[int, int]) -> None:
    """Built again from the records, with padding said and results rounded down, all shapes are the same."""
    hand = Hand()
    made = [
        hand.network.add_pooling_nd(hand.x, trt.PoolingType.MAX, (3, 2)),
        hand.network.add_convolution_nd(hand.x, 4, (3, 2), hand.values(4, 6, 3, 2)),
        hand.network.add_deconvolution_nd(hand.x, 4, (3, 4), hand.values(6, 4, 3, 4)),
    ]
    made[1].dilation_nd = (2, 1)
    for layer in made:
        layer.stride_nd, layer.pre_padding, layer.post_padding = stride, (1, 0), (0, 1)
        layer.padding_mode = getattr(trt.PaddingMode, mode)
    found = read(hand.network, find())
    again = build(found, find())
    shapes = [dims(layer.get_output(0), "shape") for layer in made]
    assert [dims(again.network.get_layer(i).get_output(0), "shape") for i in range(3)] == shapes
    assert None not in shapes


def test_averages_that_need_another_rule_are_not_read(trt: Any) -> None:
    hand = Hand()
    layer = hand.network.add_pooling_nd(hand.x, trt.PoolingType.AVERAGE, (3, 3))
    layer.stride_nd, layer.padding_mode, layer.average_count_excludes_padding = (2, 2), trt.PaddingMode.EXPLICIT_ROUND_UP, False
    (found,) = read(hand.network, find()).layers
    assert isinstance(found.operation, l.Unknown)
    assert "rule of rounding" in found.operation.kind


def test_layers_that_are_read_as_others(trt: Any) -> None:
    hand = Hand()
    net = hand.network
    longer = net.add_unsqueeze(hand.x, hand.constant(np.array([0], np.int64)))
    net.add_squeeze(longer.get_output(0), hand.constant(np.array([0], np.int64)))
    net.add_padding_nd(hand.x, (1, -2), (0, 3))
    found = [layer.operation for layer in read(net, find()).layers if not isinstance(layer.operation, l.Constant)]
    assert found == [
        l.Shuffle(shape=(1, 2, 6, 9, 8)),
        l.Shuffle(shape=(2, 6, 9, 8)),
        l.Slice((0, 0, -1, 2), (2, 6, 10, 9), (1, 1, 1, 1), "FILL"),
    ]


def test_layers_whose_inputs_came_later(trt: Any) -> None:
    hand = Hand()
    first = hand.network.add_slice(hand.x, (0, 0, 0, 0), (0, 0, 0, 0), (1, 1, 1, 1))
    second = hand.network.add_identity(hand.x)
    first.set_input(2, hand.constant(np.array([1, 2, 3, 4], np.int64)))
    first.name = first.get_output(0).name = ""
    hand.network.mark_output(second.get_output(0))
    found = read(hand.network, find())
    assert [type(layer.operation).__name__ for layer in found.layers] == ["Constant", "Slice", "Identity"]
    assert (found.layers[1].name, found.layers[1].outputs, found.shapes["unnamed"]) == ("unnamed", ("unnamed",), (1, 2, 3, 4))
    assert found.notices == (
        "a layer is called 'unnamed' here, since its name is empty",
        "a tensor is called 'unnamed' here, since its name is empty",
    )


def test_names_become_unique() -> None:
    assert unique(["a", "b", "a", "a#2", "", ""]) == ["a", "b", "a#2", "a#2#2", "unnamed", "unnamed#2"]


def test_layers_that_cannot_be_read_are_named(trt: Any) -> None:
    hand = Hand()
    net = hand.network
    bias = net.add_convolution_nd(hand.x, 4, (3, 3), hand.values(4, 6, 3, 3))
    bias.set_input(2, hand.constant(np.ones(4, np.float32)))
    net.add_fill((2, 3), trt.FillOperation.LINSPACE, trt.float32)
    k = net.add_topk(hand.x, trt.TopKOperation.MAX, 1, 2)
    k.set_input(1, hand.constant(np.array(2, np.int32)))
    several = net.add_slice(hand.x, (1,), (3,), (1,))
    several.axes = (1,)
    kinds = [layer.operation.kind for layer in read(net, find()).layers if isinstance(layer.operation, l.Unknown)]
    assert kinds == ["CONVOLUTION: its bias is an input", "FILL", "TOPK: k is an input", "SLICE: it names axes"]
    assert len(read(net, find()).notices) == 4


def test_what_is_not_given_is_empty(trt: Any) -> None:
    hand = Hand()
    hand.network.add_scale(hand.x, trt.ScaleMode.CHANNEL, None, hand.values(6))
    (found,) = read(hand.network, find()).layers
    assert isinstance(found.operation, l.Scale)
    assert (found.operation.shift, found.operation.power) == (None, None)
    assert found.operation.scale is not None
    assert found.operation.scale.tensor.shape == (6,)


def test_names_reach_tensorrt() -> None:
    steps = (constant("slopes", np.ones((1, 6, 1, 1))), Layer("a/ü b", l.ParametricRelu(), ("x", "slopes"), ("value é",)))
    made = Network((Input("x", "float32", (2, 6, 9, 8)),), steps, ("value é",))
    live = build(made, find())
    assert [live.network.get_layer(i).name for i in range(2)] == ["slopes", "a/ü b"]
    assert live.network.get_output(0).name == "value é"


def test_names_that_are_taken_are_refused() -> None:
    made = (Layer("a", l.Identity(), ("x",), ("y",)), Layer("a", l.Identity(), ("y",), ("z",)))
    error = failed(Network((Input("x", "float32", (2,)),), made, ("z",)))
    assert (error.code, "already in use" in error.message) == ("T102", True)
