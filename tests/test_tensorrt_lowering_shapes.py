"""Operators that move, cut, resize, select and search, as layers of TensorRT: the real builder agrees with every shape, and the
layers, said as ONNX again, compute what onnxruntime and onnx's own cases say of the operator."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper
from onnx_cases import as_array

from porter.errors import TensorRTError
from porter.graph.runtime import Runnable
from porter.tensorrt import layers
from porter.tensorrt.expression.express import express
from porter.tensorrt.layers import Network
from porter.tensorrt.live.live import Live, build
from porter.tensorrt.lowering.lower import lower
from porter.tensorrt.lowering.mixed import mixed
from porter.tensorrt.package import find
from porter.tensorrt.walk.walk import read

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="TensorRT has no wheel here")

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(5)
node = helper.make_node


def floats(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, tuple[Any, Sequence[int | str]]],
    constants: Mapping[str, Any] | None = None,
    outputs: Sequence[str] = ("y",),
    opset: int = 17,
) -> onnx.ModelProto:
    """A model; inputs by element type and shape, names for sizes that are open."""
    given = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(np.dtype(t)), s) for n, (t, s) in inputs.items()]
    held = [onnx.numpy_helper.from_array(np.asarray(v), n) for n, v in (constants or {}).items()]
    made = [onnx.ValueInfoProto(name=n) for n in outputs]
    graph = helper.make_graph(nodes, "g", given, made, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def live(network: Network) -> Live:
    """Built by TensorRT, which refuses shapes and types other than those that the records state."""
    sizes = {i.name: tuple([2 if n < 0 else n for n in i.shape]) for i in network.inputs if -1 in i.shape}
    return build(network, find(), profiles={name: (shape, shape, shape) for name, shape in sizes.items()})


def ran(network: Network, feeds: Mapping[str, Array]) -> list[Array]:
    values = Runnable(express(network), "the layers").run({i.name: feeds[i.name] for i in network.inputs}, list(network.outputs))
    return [values[name] for name in network.outputs]


def checked(proto: onnx.ModelProto, feeds: Mapping[str, Array], *, engine: bool = True, tolerance: float = 0) -> Network:
    """Lowered, built, and as onnxruntime has it: bit for bit without a tolerance."""
    network = lower(ir.from_proto(proto))
    made = live(network)
    if engine:
        assert made.engine(optimization_level=0).nbytes > 0
    original = Runnable(ir.from_proto(proto), "the model").run(feeds, [o.name for o in proto.graph.output])
    for ours, theirs in zip(ran(network, feeds), original.values(), strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        if tolerance:
            np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)
        else:
            assert ours.tobytes() == theirs.tobytes()
    return network


def kinds(network: Network) -> list[str]:
    return [type(layer.operation).__name__ for layer in network.layers]


def refused(proto: onnx.ModelProto) -> str:
    with pytest.raises(TensorRTError) as caught:
        lower(ir.from_proto(proto))
    assert caught.value.code == "T001"
    return caught.value.message


# ---- what onnx says of its operators -----------------------------------------------------------------------------------------

OPERATORS = (
    "argmax argmin compress concat depthtospace dequantizelinear expand flatten gather gatherelements gathernd gridsample identity "
    "nonmaxsuppression nonzero onehot pad quantizelinear reshape resize scatter scatterelements scatternd shape size slice spacetodepth "
    "split squeeze tile topk transpose unsqueeze upsample where"
)
STATED = "Reshape Expand Tile Squeeze Unsqueeze Slice Split Pad Resize Upsample TopK OneHot NonMaxSuppression"
"""Operators whose inputs after the first are known in a network; of the others they are values like the first."""
ELSEWHERE = {
    "test_identity_opt": "its input is an optional value, which lowering takes for the value",
    "test_gridsample_bicubic": "its numbers are stated with four digits",
}
REASONS = (
    "TensorRT has no",
    "TensorRT quantises to",
    "TensorRT's Scatter puts values",
    "it reflects at the edges",
    "takes 4 axes",
    "its corners do not lie",
    "it cuts a region out",
    "does not smooth",
    "its shape is not known",
)


@pytest.mark.filterwarnings("ignore")
def test_cases_of_the_onnx_project(onnx_cases: list[Any]) -> None:
    done, reasons = 0, []
    for case in onnx_cases:
        if len(case.model.graph.node) != 1 or case.model.graph.node[0].op_type.lower() not in OPERATORS.split():
            continue
        proto = onnx.ModelProto()
        proto.CopyFrom(case.model)
        (what,) = proto.graph.node
        inputs, outputs = ([as_array(a) for a in side] for side in case.data_sets[0])
        feeds = dict(zip([i.name for i in proto.graph.input], inputs, strict=True))
        after = what.input[2:] if what.op_type == "NonMaxSuppression" else what.input[1:]
        known = set(after) & set(feeds) if what.op_type in STATED.split() or what.op_type.endswith("Linear") else set()
        proto.graph.initializer.extend([onnx.numpy_helper.from_array(feeds[n], n) for n in known])
        for value in [i for i in proto.graph.input if i.name in known]:
            proto.graph.input.remove(value)
        try:
            network = lower(ir.from_proto(proto))
        except TensorRTError as error:
            assert error.code == "T001", case.name
            assert any(reason in error.message for reason in REASONS), (case.name, error.message)
            reasons.append(case.name)
            continue
        live(network)
        if case.name in ELSEWHERE or any(i.dtype.startswith("float8") for i in network.inputs):
            continue
        for ours, theirs in zip(ran(network, feeds), outputs, strict=True):
            # The layers' values are shown as float32, and eight-bit floats as their bits.
            wanted = (
                theirs.view(np.uint8)
                if "float8" in str(theirs.dtype)
                else theirs.astype(np.float32 if theirs.dtype.kind == "V" else theirs.dtype)
            )
            assert ours.shape == wanted.shape, case.name
            np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-6, err_msg=case.name)
        done += 1
    assert done >= 220
    assert len(reasons) <= 56


# ---- shapes --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "given", "sizes", "made"),
    [
        pytest.param((2, 3, 4), (2, 3, 4), [2, -1], (2, 12), id="static"),
        pytest.param(("N", 3, 4), (2, 3, 4), [-1, 12], (0, 12), id="batch"),
        pytest.param(("N", 3, 4), (2, 3, 4), [0, -1], (0, 12), id="copied"),
        pytest.param((2, 0, 4), (2, 0, 4), [4, 0, -1], None, id="nothing in it"),
    ],
)
def test_reshape(shape: Any, given: Any, sizes: list[int], made: tuple[int, ...] | None) -> None:
    constants = {"s": np.asarray(sizes)}
    proto = model([node("Reshape", ["x", "s"], ["y"], "r", allowzero=int(made is None))], {"x": (np.float32, shape)}, constants)
    if made is None:
        proto.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.asarray([4, 0, 2]), "s"))
    network = checked(proto, {"x": floats(*given)}, engine=made is not None)
    (layer,) = network.layers
    assert layer.name == "r"
    assert isinstance(layer.operation, layers.Shuffle)
    assert layer.operation.shape == (made or (4, 0, 2))
    assert layer.operation.zero_copies == (made is not None)


def test_sizes_that_are_computed_while_it_runs() -> None:
    # As PyTorch exports x.view(x.size(0), -1, x.size(3) * 2): Shape, Gather, Mul, Concat.
    nodes = [
        node("Shape", ["x"], ["shape"], "shape"),
        node("Gather", ["shape", "zero"], ["n"], "n"),
        node("Gather", ["shape", "three"], ["w"], "w"),
        node("Mul", ["w", "two"], ["w2"], "w2"),
        node("Concat", ["n", "minus", "w2"], ["sizes"], "sizes", axis=0),
        node("Reshape", ["x", "sizes"], ["y"], "view"),
        node("Mul", ["n", "two"], ["n2"], "n2"),
        node("Concat", ["n2", "one", "two"], ["more"], "more", axis=0),
        node("Expand", ["e", "more"], ["z"], "expand"),
    ]
    constants = {
        "zero": np.asarray([0]),
        "three": np.asarray([3]),
        "two": np.asarray([2]),
        "minus": np.asarray([-1]),
        "one": np.asarray([1]),
    }
    inputs = {"x": (np.float32, ("N", 3, 4, "W")), "e": (np.float32, (1, 5, 1))}
    proto = model(nodes, inputs, constants, ["y", "z"])
    network = checked(proto, {"x": floats(2, 3, 4, 2), "e": floats(1, 5, 1)})
    assert kinds(network).count("Shape") == 1
    expand = next(layer for layer in network.layers if layer.name == "expand")
    assert isinstance(expand.operation, layers.Slice)
    assert (expand.operation.start, expand.operation.size, expand.operation.stride) == ((0, 0, 0), None, (0, 1, 0))


def test_what_changes_nothing_is_no_layer() -> None:
    nodes = [
        node("Identity", ["x"], ["a"], "a"),
        node("Reshape", ["a", "s"], ["b"], "b"),
        node("Transpose", ["b"], ["c"], "c", perm=[0, 1, 2]),
        node("Slice", ["c", "zero", "end", "one"], ["d"], "d"),
        node("Concat", ["d"], ["e"], "e", axis=1),
        node("Flatten", ["e"], ["y"], "y"),
    ]
    constants = {"s": np.asarray([0, 3, 4]), "zero": np.asarray([0]), "end": np.asarray([1 << 40]), "one": np.asarray([1])}
    network = checked(model(nodes, {"x": (np.float32, ("N", 3, 4))}, constants), {"x": floats(2, 3, 4)})
    assert [layer.name for layer in network.layers] == ["y"]
    assert all(network.values[name] == "x" for name in "abcde")


@pytest.mark.parametrize("batch", ["N", 2])
def test_flatten_squeeze_and_unsqueeze(batch: int | str) -> None:
    nodes = [
        node("Unsqueeze", ["x", "first"], ["a"], "a"),
        node("Transpose", ["a"], ["b"], "b", perm=[1, 0, 3, 2]),
        node("Squeeze", ["b", "second"], ["c"], "c"),
        node("Flatten", ["c"], ["d"], "d", axis=2),
        node("Flatten", ["c"], ["e"], "e", axis=0),
    ]
    constants = {"first": np.asarray([0]), "second": np.asarray([-3])}
    checked(model(nodes, {"x": (np.float32, (batch, 3, 4))}, constants, ["a", "c", "d", "e"]), {"x": floats(2, 3, 4)})


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_and_space(mode: str) -> None:
    nodes = [node("DepthToSpace", ["x"], ["y"], "d", blocksize=2, mode=mode), node("SpaceToDepth", ["y"], ["z"], "s", blocksize=2)]
    network = checked(model(nodes, {"x": (np.float32, ("N", 8, 3, 2))}, outputs=["y", "z"]), {"x": floats(2, 8, 3, 2)})
    assert kinds(network) == ["Shuffle"] * 4


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space_of_any_size(mode: str) -> None:
    proto = model([node("DepthToSpace", ["x"], ["y"], "d", blocksize=2, mode=mode)], {"x": (np.float32, ("N", 8, "H", "W"))})
    network = checked(proto, {"x": floats(2, 8, 2, 2)})
    assert network.shapes["y"] == (-1, 2, -1, -1)


def test_one_number_in_a_shape_that_is_computed() -> None:
    value = helper.make_tensor("v", TensorProto.INT64, [1], [7])
    nodes = [node("Shape", ["x"], ["shape"], "shape"), node("ConstantOfShape", ["shape"], ["y"], "full", value=value)]
    network = checked(model(nodes, {"x": (np.float32, ("N", 3))}), {"x": floats(2, 3)})
    assert network.shapes["y"] == (-1, 3)


def test_repeating_and_broadcasting() -> None:
    nodes = [node("Tile", ["x", "times"], ["y"], "t"), node("Expand", ["c", "shape"], ["z"], "e")]
    constants = {"times": np.asarray([1, 2, 3]), "shape": np.asarray([4, 1, 3])}
    proto = model(nodes, {"x": (np.float32, ("N", 3, 2)), "c": (np.float32, (2, 1))}, constants, ["y", "z"])
    network = checked(proto, {"x": floats(2, 3, 2), "c": floats(2, 1)})
    tile = next(layer.operation for layer in network.layers if layer.name == "t")
    assert isinstance(tile, layers.Slice)
    assert tile.mode == "WRAP"


def test_shape_and_size_as_values() -> None:
    nodes = [node("Shape", ["x"], ["y"], "s", start=-2), node("Size", ["x"], ["n"], "n"), node("Shape", ["x"], ["all"], "a")]
    checked(model(nodes, {"x": (np.float32, ("N", 3, "W"))}, outputs=["y", "n", "all"]), {"x": floats(2, 3, 2)})


# ---- parts of tensors ----------------------------------------------------------------------------------------------------------

SLICES = {
    "parts": ([1, 0], [3, 2], [1, 2], [1, 1]),
    "from the end": ([-3], [-1], [2], [1]),
    "beyond": ([-100, 2], [100, 1 << 62], [2, 1], [1, 1]),
    "steps": ([0, 1], [100, 100], [1, 2], [2, 3]),
    "backwards": ([-1, 100], [-100, 0], [2, 1], [-1, -2]),
    "nothing": ([3], [1], [1], [1]),
}


@pytest.mark.parametrize("batch", ["N", 2])
@pytest.mark.parametrize("name", SLICES)
def test_slice(name: str, batch: int | str) -> None:
    constants = {n: np.asarray(v) for n, v in zip(("s", "e", "a", "t"), SLICES[name], strict=True)}
    proto = model([node("Slice", ["x", "s", "e", "a", "t"], ["y"], "cut")], {"x": (np.float32, (batch, 4, 5))}, constants)
    checked(proto, {"x": floats(2, 4, 5)}, engine=name != "nothing")


def test_slice_along_an_open_axis() -> None:
    nodes = [
        node("Slice", ["x", "one", "end", "zero"], ["a"], "all but the first"),
        node("Slice", ["x", "minus", "end", "zero"], ["b"], "last"),
        node("Slice", ["x", "zero", "one", "zero"], ["c"], "first"),
        node("Slice", ["x", "zero", "end", "zero", "two"], ["d"], "every second"),
        node("Slice", ["x", "one", "minus", "zero", "two"], ["e"], "every second between"),
    ]
    constants = {name: np.asarray([n]) for name, n in (("zero", 0), ("one", 1), ("two", 2), ("minus", -1), ("end", 1 << 40))}
    proto = model(nodes, {"x": (np.float32, ("N", 3))}, constants, list("abcde"))
    network = checked(proto, {"x": floats(2, 3)})
    assert [network.shapes[n] for n in network.outputs] == [(-1, 3), (1, 3), (1, 3), (-1, 3), (-1, 3)]
    for count in (3, 4, 5):
        x = floats(count, 3)
        for ours, theirs in zip(ran(network, {"x": x}), (x[1:], x[-1:], x[:1], x[::2], x[1:-1:2]), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    backwards = model([node("Slice", ["x", "minus", "zero", "zero", "minus"], ["y"], "s")], {"x": (np.float32, ("N", 3))}, constants)
    assert "it goes backwards along axis 0" in refused(backwards)
    assert any("has to have 1 positions or more" in n for n in network.notices)


@pytest.mark.parametrize("batch", ["N", 2])
def test_split_makes_the_parts_that_are_read(batch: int | str) -> None:
    nodes = [
        node("Split", ["x", "parts"], ["a", "b", "c"], "split", axis=-1),
        node("Relu", ["a"], ["d"], "d"),
        node("Relu", ["c"], ["e"], "e"),
    ]
    proto = model(nodes, {"x": (np.float32, (batch, 2, 6))}, {"parts": np.asarray([1, 2, 3])}, ["d", "e"])
    network = checked(proto, {"x": floats(2, 2, 6)})
    assert kinds(network).count("Slice") == (2 if batch == 2 else 3)
    assert {"split", "split/c"} <= {layer.name for layer in network.layers}


@pytest.mark.parametrize("batch", ["N", 2])
@pytest.mark.parametrize(
    ("mode", "pads"),
    [
        ("constant", [0, 1, 2, 0, 0, 3]),
        ("constant", [0, -1, 2, 0, 0, -1]),
        ("reflect", [0, 1, 2, 0, 0, 3]),
        ("reflect", [0, 1, -1, 0, 0, 2]),
        ("edge", [0, 2, 2, 0, 1, 3]),
        ("edge", [0, -1, 0, 0, 0, -2]),
    ],
)
def test_pad(mode: str, pads: list[int], batch: int | str) -> None:
    constants = {"p": np.asarray(pads), "v": np.float32(-1.5)}
    inputs = ["x", "p", "v"] if mode == "constant" else ["x", "p"]
    checked(model([node("Pad", inputs, ["y"], "pad", mode=mode)], {"x": (np.float32, (batch, 4, 5))}, constants), {"x": floats(2, 4, 5)})


# ---- other sizes ---------------------------------------------------------------------------------------------------------------


def resized(batch: int | str, out: Sequence[int] | None, scales: Sequence[float] | None, opset: int = 13, **how: Any) -> onnx.ModelProto:
    constants = {"n": np.asarray(out)} if out is not None else {"n": np.asarray(scales, np.float32)}
    inputs = ["x", "", "", "n"] if out is not None else ["x", "", "n"]
    return model([node("Resize", inputs, ["y"], "resize", **how)], {"x": (np.float32, (batch, 2, 4, 5))}, constants, opset=opset)


@pytest.mark.parametrize("rounding", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
@pytest.mark.parametrize("places", ["asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel", "tf_half_pixel_for_nn"])
def test_nearest(places: str, rounding: str) -> None:
    opset = 11 if places == "tf_half_pixel_for_nn" else 13
    proto = resized(2, [2, 2, 8, 7], None, opset, mode="nearest", coordinate_transformation_mode=places, nearest_mode=rounding)
    if opset == 11:
        proto.graph.node[0].input[1:] = ["roi", "none", "n"]
        proto.graph.initializer.extend([onnx.numpy_helper.from_array(np.zeros(0, np.float32), n) for n in ("roi", "none")])
    network = checked(proto, {"x": floats(2, 2, 4, 5)})
    assert ("Resize" in kinds(network)) == (opset == 13)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("places", ["asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel"])
def test_interpolation(places: str, mode: str) -> None:
    proto = resized("N", None, [1, 1, 2, 1.4], mode=mode, coordinate_transformation_mode=places, cubic_coeff_a=-0.5)
    network = checked(proto, {"x": floats(2, 2, 4, 5)}, tolerance=1e-6)
    (operation,) = [layer.operation for layer in network.layers if isinstance(layer.operation, layers.Resize)]
    assert operation.coordinates == places.replace("pytorch_", "").upper()
    assert operation.size is None


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_axes_of_any_size(mode: str) -> None:
    shape = {"x": (np.float32, ("N", 2, "H", "W")), "like": (np.float32, ("N", 2, "H2", "W2"))}
    nodes = [
        node("Resize", ["x", "", "twice"], ["a"], "by scales", mode=mode, coordinate_transformation_mode="asymmetric"),
        node("Shape", ["like"], ["shape"], "shape"),
        node("Resize", ["x", "", "", "shape"], ["b"], "by sizes", mode=mode, coordinate_transformation_mode="half_pixel"),
    ]
    proto = model(nodes, shape, {"twice": np.asarray([1, 1, 2, 3], np.float32)}, ["a", "b"])
    checked(proto, {"x": floats(2, 2, 2, 2), "like": floats(2, 2, 2, 2)}, tolerance=1e-6)
    scaled = model(nodes[:1], {"x": shape["x"]}, {"twice": np.asarray([1, 1, 2, 3], np.float32)}, ["a"])
    checked(scaled, {"x": floats(2, 2, 2, 2)}, tolerance=1e-6)
    half = model(nodes[:1], {"x": shape["x"]}, {"twice": np.asarray([1, 1, 0.5, 1], np.float32)}, ["a"])
    assert "0.5 times it may be no whole number" in refused(half)


def test_sizes_that_no_scale_gives_are_a_tensor() -> None:
    # 7 * (31 / 7) in float32 is less than 31.
    nodes = [
        node("Shape", ["x"], ["shape"], "shape"),
        node("Slice", ["shape", "zero", "two", "zero"], ["lead"], "lead"),
        node("Concat", ["lead", "hw"], ["sizes"], "sizes", axis=0),
        node("Resize", ["x", "", "", "sizes"], ["y"], "resize", mode="linear", coordinate_transformation_mode="half_pixel"),
    ]
    constants = {"zero": np.asarray([0]), "two": np.asarray([2]), "hw": np.asarray([31, 7])}
    network = checked(model(nodes, {"x": (np.float32, ("N", 2, 7, 7))}, constants), {"x": floats(2, 2, 7, 7)}, tolerance=1e-5)
    (layer,) = [n for n in network.layers if n.name == "resize"]
    assert len(layer.inputs) == 2


def test_scales_that_are_not_those_of_the_sizes_are_products() -> None:
    network = checked(resized(2, None, [1, 1, 0.6, 1.5], mode="linear"), {"x": floats(2, 2, 4, 5)}, tolerance=1e-6)
    assert kinds(network) == ["Constant", "MatrixMultiply"] * 2
    assert "it cuts a region out" in refused(
        resized(2, None, [1, 1, 2, 2], mode="linear", coordinate_transformation_mode="tf_crop_and_resize")
    )


def test_a_single_pixel() -> None:
    how: dict[str, Any] = {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}
    network = checked(resized(2, [2, 2, 1, 1], None, **how), {"x": floats(2, 2, 4, 5)}, tolerance=1e-6)
    (operation,) = [layer.operation for layer in network.layers]
    assert isinstance(operation, layers.Resize)
    assert operation.selector == "UPPER"
    # A row of pixels is no single pixel.
    network = checked(resized(2, [2, 2, 1, 3], None, **how), {"x": floats(2, 2, 4, 5)}, tolerance=1e-6)
    assert "Resize" not in kinds(network)


def test_upsample_of_old_opsets() -> None:
    proto = model([node("Upsample", ["x", "s"], ["y"], "up", mode="nearest")], {"x": (np.float32, (1, 2, 3, 3))}, opset=9)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray([1, 1, 2, 2], np.float32), "s"))
    network = lower(ir.from_proto(proto))
    live(network)
    x = floats(1, 2, 3, 3)
    np.testing.assert_array_equal(ran(network, {"x": x})[0], x.repeat(2, 2).repeat(2, 3))


# ---- places --------------------------------------------------------------------------------------------------------------------


def test_known_places_are_counted_from_the_front() -> None:
    nodes = [
        node("Gather", ["x", "i"], ["a"], "a", axis=1),
        node("GatherElements", ["x", "j"], ["b"], "b", axis=1),
        node("GatherND", ["x", "k"], ["c"], "c"),
        node("ScatterElements", ["x", "j", "u"], ["d"], "d", axis=1),
        node("ScatterND", ["x", "k", "v"], ["e"], "e"),
        node("Gather", ["x", "last"], ["f"], "f", axis=1),
    ]
    constants = {
        "i": np.asarray([[-1, 0], [2, -2]]),
        "j": np.asarray([[0, -1], [-3, 1]]),
        "k": np.asarray([[-1, 0], [0, -3]]),
        "u": floats(2, 2),
        "v": floats(2),
        "last": np.asarray(-1),
    }
    network = checked(model(nodes, {"x": (np.float32, (2, 4))}, constants, list("abcdef")), {"x": floats(2, 4)})
    held = [layer.operation.weights.tensor.numpy() for layer in network.layers if isinstance(layer.operation, layers.Constant)]
    assert min(int(a.min()) for a in held if a.dtype == np.int64) == 0


def test_places_from_the_end_of_an_open_axis() -> None:
    proto = model([node("Gather", ["x", "i"], ["y"], "g", axis=0)], {"x": (np.float32, ("N", 4))}, {"i": np.asarray([-1])})
    assert "counts from the end of an axis whose size is known only when the network runs" in refused(proto)


def test_where_broadcasts() -> None:
    inputs = {"c": (bool, (3, 1)), "x": (np.float32, ("N", 3, 4))}
    proto = model([node("Where", ["c", "x", "v"], ["y"], "w")], inputs, {"v": np.float32(-2)})
    checked(proto, {"c": np.asarray([[True], [False], [True]]), "x": floats(2, 3, 4)})


@pytest.mark.parametrize("shape", [(7,), (3, 7), ("N", 3, 7)])
@pytest.mark.parametrize("largest", [0, 1])
def test_top_k(shape: Any, largest: int) -> None:
    given = [2 if n == "N" else n for n in shape]
    proto = model(
        [node("TopK", ["x", "k"], ["v", "i"], "t", largest=largest)], {"x": (np.float32, shape)}, {"k": np.asarray([3])}, ["v", "i"]
    )
    network = checked(proto, {"x": floats(*given)})
    assert network.dtypes["i"] == "int64"
    assert any("of equal values" in n for n in network.notices)


def test_top_k_has_a_limit() -> None:
    proto = model([node("TopK", ["x", "k"], ["v", "i"], "t")], {"x": (np.float32, (1, 9000))}, {"k": np.asarray([3841])}, ["v", "i"])
    assert "3841 elements, and TensorRT's TopK 3840 at most" in refused(proto)


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("op_type", ["ArgMax", "ArgMin"])
def test_arg_extremum(op_type: str, keep: int) -> None:
    inputs = {"x": (np.float32, ("N", 4, 5))}
    checked(model([node(op_type, ["x"], ["y"], "a", axis=1, keepdims=keep)], inputs), {"x": floats(2, 4, 5)})
    # Of equal ones the last, without TopK.
    last = model([node(op_type, ["x"], ["y"], "a", axis=1, keepdims=keep, select_last_index=1)], inputs)
    network = checked(last, {"x": RNG.integers(0, 3, (2, 4, 5)).astype(np.float32)})
    assert "TopK" not in kinds(network)


def test_compress_and_non_zero() -> None:
    nodes = [
        node("Compress", ["x", "c"], ["a"], "a", axis=1),
        node("Compress", ["x", "known"], ["b"], "b"),
        node("NonZero", ["x"], ["d"], "d"),
    ]
    inputs = {"x": (np.float32, (2, 3)), "c": (bool, (3,))}
    proto = model(nodes, inputs, {"known": np.asarray([True, False, True, True])}, ["a", "b", "d"])
    x = np.asarray([[0, 1, 2], [3, 0, 0]], np.float32)
    network = checked(proto, {"x": x, "c": np.asarray([True, False, True])}, engine=False)
    assert [network.shapes[n] for n in network.outputs] == [(2, -1), (3,), (2, -1)]
    assert sum("depends on the values" in n for n in network.notices) == 2


# ---- boxes ---------------------------------------------------------------------------------------------------------------------


def boxes(count: int) -> tuple[Array, Array]:
    corner = RNG.random((2, count, 2)) * 2
    return np.concatenate([corner, corner + 0.5 + RNG.random((2, count, 2))], 2).astype(np.float32), RNG.random((2, 3, count), np.float32)


@pytest.mark.parametrize("batch", ["N", 2])
@pytest.mark.parametrize("centred", [0, 1])
def test_box_searches_keep_the_order_of_onnx(centred: int, batch: int | str) -> None:
    constants = {"most": np.asarray([4]), "overlap": np.asarray([0.3], np.float32), "least": np.asarray([0.2], np.float32)}
    what = node("NonMaxSuppression", ["b", "s", *constants], ["y"], "nms", center_point_box=centred)
    proto = model([what], {"b": (np.float32, (batch, 12, 4)), "s": (np.float32, (batch, 3, 12))}, constants)
    given, scores = boxes(12)
    network = checked(proto, {"b": given, "s": scores}, engine=False)
    assert ran(network, {"b": given, "s": scores})[0].shape[0] > 6
    assert len(network.notices) == 2


def test_a_box_search_over_an_open_number_of_boxes() -> None:
    constants = {"most": np.asarray([1 << 40]), "overlap": np.asarray([0.3], np.float32)}
    what = node("NonMaxSuppression", ["b", "s", *constants], ["y"], "nms")
    proto = model([what], {"b": (np.float32, (1, "M", 4)), "s": (np.float32, (1, 3, "M"))}, constants)
    given, scores = boxes(9)
    network = checked(proto, {"b": given[:1], "s": scores[:1]}, engine=False)
    assert any("of more than 5000 boxes" in n for n in network.notices)


def test_what_has_no_layer_is_refused_by_name() -> None:
    inputs = {"x": (np.float32, (1, 2, 8, 8)), "r": (np.float32, (3, 5))}
    proto = model([node("MaxRoiPool", ["x", "r"], ["y"], "roi", pooled_shape=[2, 2])], inputs)
    assert "MaxRoiPool 'roi': no layer of TensorRT; a plugin ROIPooling" in refused(proto)
    add = model([node("ScatterND", ["x", "i", "u"], ["y"], "s", reduction="add")], {"x": (np.float32, (4,))}, {"i": [[1]], "u": floats(1)})
    assert "ScatterND 's': TensorRT's Scatter puts values in place of others" in refused(add)


def test_grid_sample() -> None:
    inputs = {"x": (np.float32, ("N", 2, 4, 5)), "g": (np.float32, ("N", 3, 3, 2))}
    feeds = {"x": floats(2, 2, 4, 5), "g": RNG.random((2, 3, 3, 2), np.float32) * 2.5 - 1.25}
    for padding, corners in (("zeros", 0), ("border", 1), ("reflection", 1)):
        what = node("GridSample", ["x", "g"], ["y"], "grid", padding_mode=padding, align_corners=corners)
        checked(model([what], inputs), feeds, tolerance=1e-6)
    assert "it reflects at the edges" in refused(model([node("GridSample", ["x", "g"], ["y"], "grid", padding_mode="reflection")], inputs))


# ---- quantised values ----------------------------------------------------------------------------------------------------------


def quantised(zero: Any, scale: Any) -> onnx.ModelProto:
    nodes = [node("QuantizeLinear", ["x", "s", "z"], ["q"], "q"), node("DequantizeLinear", ["q", "s", "z"], ["y"], "dq")]
    return model(nodes, {"x": (np.float32, ("N", 3, 4))}, {"s": scale, "z": zero}, opset=19)


def test_quantised_values() -> None:
    network = checked(quantised(np.int8(0), np.float32(0.05)), {"x": floats(2, 3, 4) * 5})
    assert kinds(network) == ["Constant", "Quantize", "Dequantize"]
    assert network.dtypes["q"] == "int8"
    import ml_dtypes

    network = checked(quantised(np.zeros((), ml_dtypes.float8_e4m3fn), np.float32(0.05)), {"x": floats(2, 3, 4)})
    assert network.dtypes["q"] == "float8_e4m3fn"


@pytest.mark.parametrize(
    ("zero", "scale", "why"),
    [
        (np.int8(3), np.float32(1), "its zero point is not 0"),
        (np.uint8(128), np.float32(1), "and this is uint8"),
        (np.int8(0), np.float32(0), "not all above 0"),
        (np.zeros(3, np.int8), np.ones(3, np.float32), "scales for each channel of weights only"),
    ],
)
def test_other_quantised_values_are_refused(zero: Any, scale: Any, why: str) -> None:
    assert why in refused(quantised(zero, scale))


@pytest.mark.parametrize("opset", [13, 19])
def test_quantised_weights_go_in_as_they_are(opset: int) -> None:
    nodes = [
        node("QuantizeLinear", ["x", "t", "u"], ["xq"], "xq"),
        node("DequantizeLinear", ["xq", "t", "u"], ["xd"], "xd"),
        node("DequantizeLinear", ["w", "s", "z"], ["k"], "dq", axis=0),
        node("Conv", ["xd", "k", "c"], ["conv"], "conv"),
        node("QuantizeLinear", ["v", "s", "z"], ["q"], "q", axis=1),
        node("DequantizeLinear", ["q", "s", "z"], ["m"], "dq2", axis=1),
        node("ConvTranspose", ["conv", "m"], ["up"], "up", strides=[2, 2]),
        node("Flatten", ["up"], ["flat"], "flat"),
        node("DequantizeLinear", ["g", "one", "u"], ["gd"], "dq3"),
        node("Gemm", ["flat", "gd", "b"], ["gemm"], "gemm", transB=1),
        node("DequantizeLinear", ["h", "s", "z"], ["hd"], "dq4", axis=0),
        node("Transpose", ["hd"], ["ht"], "ht", perm=[1, 0]),
        node("MatMul", ["gemm", "ht"], ["y"], "y"),
    ]
    constants = {
        "w": codes(4, 3, 3, 3),
        "v": floats(4, 4, 2, 2) * 30,
        "g": codes(5, 64),
        "h": codes(4, 5),
        "s": np.asarray([0.1, 0.2, 0.3, 0.4], np.float32),
        "z": np.zeros(4, np.int8),
        "t": np.float32(0.02),
        "one": np.asarray([0.25], np.float32),
        "u": np.int8(0),
        "b": floats(5),
        "c": floats(4),
    }
    proto = model(nodes, {"x": (np.float32, (2, 3, 4, 4))}, constants, opset=opset)
    network = checked(proto, {"x": floats(2, 3, 4, 4)}, tolerance=1e-5)
    assert network.notices == ()
    made = {o: layer for layer in network.layers for o in layer.outputs}
    assert [made[name].operation for name in ("k", "m", "gd", "hd")] == [layers.Dequantize(axis) for axis in (0, 1, None, 0)]
    assert [made[name].inputs[1] for name in ("conv", "up", "gemm/product", "y")] == ["k", "m", "gd", "ht"]
    held = {w.tensor.name: w for w in layers.stored(network).values()}
    assert all((held[n].sources, held[n].formula, held[n].tensor.dtype.name) == ((n,), None, "int8") for n in "wgh")
    assert all(held[n].tensor.numpy().tobytes() == constants[n].tobytes() for n in "wghs")
    back = read(live(network).network, find())
    assert not any(isinstance(layer.operation, layers.Unknown) for layer in back.layers)
    assert {layer.name: layer.inputs for layer in back.layers} == {layer.name: layer.inputs for layer in network.layers}
    for ours, theirs in zip(ran(back, feed := {"x": floats(2, 3, 4, 4)}), ran(network, feed), strict=True):
        assert ours.tobytes() == theirs.tobytes()


def test_quantised_weights_in_half_precision() -> None:
    """They stay what they are; what they stand for has the type that the layer computes in."""
    nodes = [node("DequantizeLinear", ["w", "s"], ["k"], "dq", axis=0), node("Conv", ["x", "k", "c"], ["y"], "conv")]
    constants = {"w": codes(4, 3, 3, 3), "s": np.asarray([0.5, 0.25, 2, 1], np.float32), "c": floats(4)}
    proto = model(nodes, {"x": (np.float32, (1, 3, 4, 4))}, constants, opset=19)
    feed = {"x": floats(1, 3, 4, 4)}
    exact = ran(lower(ir.from_proto(proto)), feed)
    for network in (lower(ir.from_proto(proto), precision="float16"), mixed(lower(ir.from_proto(proto)), {"c": "float16"})):
        held = {w.sources[0]: w.tensor for w in layers.stored(network).values()}
        assert (held["w"].dtype.name, held["w"].tobytes(), held["c"].dtype.name) == ("int8", constants["w"].tobytes(), "float16")
        assert live(network).engine(optimization_level=0).nbytes > 0
        np.testing.assert_allclose(ran(network, feed)[0], exact[0], rtol=1e-2, atol=0.5)
    written = lower(ir.from_proto(proto), codes=False)
    assert (kinds(written), ran(written, feed)[0].tobytes()) == (["Convolution"], exact[0].tobytes())
    assert written.notices[0].endswith("the file of the weights holds no int8")


def codes(*shape: int) -> Array:
    return RNG.integers(-128, 128, shape).astype(np.int8)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"w": np.full((4, 3, 1), 9, np.uint8), "z": np.full(4, 128, np.uint8)}, "they are uint8"),
        ({"z": np.asarray([0, 1, 0, 0], np.int8)}, "its zero point is not 0"),
        ({"s": np.asarray([1, 0, 1, 1], np.float32)}, "its scales are not all above 0"),
        ({}, "as the weights of convolutions and products of matrices alone"),
    ],
)
def test_other_quantised_weights_become_what_they_stand_for(changes: Mapping[str, Any], why: str) -> None:
    nodes = [node("DequantizeLinear", ["w", "s", "z"], ["k"], "dq", axis=0), node("Conv", ["x", "k"], ["y"], "conv")]
    if not changes:
        nodes.append(node("Relu", ["k"], ["n"], "relu"))
    constants = {"w": codes(4, 3, 1), "s": np.asarray([0.1, 0.2, 0.3, 0.4], np.float32), "z": np.zeros(4, np.int8), **changes}
    outputs = ["y"] if changes else ["y", "n"]
    network = checked(
        model(nodes, {"x": (np.float32, (1, 3, 4))}, constants, outputs), {"x": floats(1, 3, 4)}, engine=False, tolerance=1e-6
    )
    assert "Dequantize" not in kinds(network)
    assert why in network.notices[0]


def test_quantised_weights_along_one_axis() -> None:
    """TensorRT takes them with another axis, which a layer adds; their one scale may be an array, whatever the axis is."""
    nodes = [
        node("DequantizeLinear", ["w", "t"], ["k"], "dq"),
        node("DequantizeLinear", ["b", "t"], ["c"], "dq2"),
        node("Conv", ["x", "k", "c"], ["y"], "conv"),
    ]
    constants = {"w": codes(4, 3, 2), "t": np.asarray([0.25], np.float32), "b": np.asarray([70000, -3, 0, 5], np.int32)}
    network = checked(model(nodes, {"x": (np.float32, (2, 3, 5))}, constants), {"x": floats(2, 3, 5)}, tolerance=1e-5)
    assert kinds(network) == ["Constant", "Constant", "Dequantize", "Shuffle", "Shuffle", "Convolution", "Shuffle"]
    assert network.notices[0].endswith("they are int32")


def test_scales_that_do_not_fit_are_refused() -> None:
    nodes = [node("DequantizeLinear", ["w", "s"], ["k"], "dq", axis=1), node("Conv", ["x", "k"], ["y"], "conv")]
    constants = {"w": codes(4, 3, 2), "s": np.ones(4, np.float32)}
    blocks = node("DequantizeLinear", ["w", "s"], ["k"], "dq", axis=0, block_size=2)
    network = lower(ir.from_proto(model([blocks, nodes[1]], {"x": (np.float32, (2, 3, 5))}, {**constants, "s": floats(2, 3, 2)}, opset=21)))
    assert kinds(network) == ["Shuffle", "Convolution", "Shuffle"]
    assert "its scales are [4], and its values have 3 along axis 1" in refused(model(nodes, {"x": (np.float32, (2, 3, 5))}, constants))
