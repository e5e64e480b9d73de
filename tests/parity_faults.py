"""Faults as people make them when they port a network, planted in ONNX models by protobuf alone; and the search for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from caffe_runs import golden, weights_of
from onnx import NodeProto, helper, numpy_helper

from porter.errors import GraphError
from porter.graph.porting import PortOptions, port
from porter.parity.comparison import Comparison, compare
from porter.parity.divergence import Divergence, find
from porter.parity.matching import match, read_layers
from porter.parity.opening import open_side
from porter.parity.side import Side

Plant = Callable[["Net", NodeProto], bool]
"""Changes a node or its weights; whether that could be done."""


@dataclass
class Net:
    """A model to be spoilt. shapes: of its values."""

    model: onnx.ModelProto
    shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def read(cls, path: Path) -> Net:
        model = onnx.load(str(path))
        inferred = onnx.shape_inference.infer_shapes(model).graph
        known = [*inferred.input, *inferred.value_info, *inferred.output]
        return cls(model, {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in known})

    def array(self, name: str) -> np.ndarray | None:
        return next((numpy_helper.to_array(i) for i in self.model.graph.initializer if i.name == name), None)

    def put(self, name: str, array: np.ndarray) -> None:
        """Other values for an initialiser."""
        for i in self.model.graph.initializer:
            if i.name == name:
                i.CopyFrom(numpy_helper.from_array(np.asarray(array, order="C"), name))

    def add(self, array: np.ndarray) -> str:
        name = f"planted/{len(self.model.graph.initializer)}"
        self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def instead(self, node: NodeProto, nodes: list[NodeProto]) -> bool:
        """Put nodes in the place of one; the last makes what it made."""
        place = list(self.model.graph.node).index(node)
        del self.model.graph.node[place]
        for i, new in enumerate(nodes):
            self.model.graph.node.insert(place + i, new)
        return True

    def before(self, node: NodeProto, kind: str, array: np.ndarray) -> bool:
        """An operation with a constant on what the node reads first."""
        place = list(self.model.graph.node).index(node)
        made = f"planted/value{place}"
        self.model.graph.node.insert(place, helper.make_node(kind, [node.input[0], self.add(array)], [made], name=made))
        self.model.graph.node[place + 1].input[0] = made
        return True

    def after(self, node: NodeProto, kind: str, array: np.ndarray, **attributes: object) -> bool:
        """An operation with a constant on what the node makes, under its name."""
        place, made = list(self.model.graph.node).index(node), node.output[0]
        inner = f"planted/value{place}"
        self.model.graph.node[place].output[0] = inner
        self.model.graph.node.insert(place + 1, helper.make_node(kind, [inner, self.add(array)], [made], name=inner, **attributes))
        return True


def get(node: NodeProto, name: str, default: object = None) -> object:
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def set_(node: NodeProto, **attributes: object) -> bool:
    kept = [a for a in node.attribute if a.name not in attributes]
    del node.attribute[:]
    node.attribute.extend([*kept, *(helper.make_attribute(n, v) for n, v in attributes.items() if v is not None)])
    return True


@dataclass(frozen=True)
class Fault:
    """cause: what has to be named; also: what is as true. kinds: of nodes that may have it. plant: makes it. tolerance: that shows it."""

    cause: str
    kinds: tuple[str, ...]
    plant: Plant
    also: tuple[str, ...] = ()
    tolerance: float = 1e-4


def _ceil(net: Net, node: NodeProto) -> bool:
    pads = list(get(node, "pads", [0] * 4))
    return pads[2:] != pads[:2] and not node.input[0].endswith("pad") and set_(node, pads=pads[:2] * 2)


def _divisor(net: Net, node: NodeProto) -> bool:
    return any(get(node, "pads", [0] * 4)) and set_(node, count_include_pad=1 - get(node, "count_include_pad", 0))


def _kind(net: Net, node: NodeProto) -> bool:
    node.op_type = {"MaxPool": "AveragePool", "AveragePool": "MaxPool"}[node.op_type]
    return len(node.output) == 1 and set_(node, count_include_pad=None)


def _within(net: Net, node: NodeProto) -> bool:
    x, size, made = node.input[0], int(get(node, "size")), node.output[0]
    names = [f"{made}/{n}" for n in range(4)]
    number = [net.add(np.array(get(node, a, d), np.float32)) for a, d in (("alpha", 1e-4), ("bias", 1.0), ("beta", 0.75))]
    window = {"kernel_shape": [size] * 2, "pads": [size // 2] * 4, "count_include_pad": 1}
    return net.instead(
        node,
        [
            helper.make_node("Mul", [x, x], names[:1]),
            helper.make_node("AveragePool", names[:1], names[1:2], **window),
            helper.make_node("Mul", [names[1], number[0]], names[2:3]),
            helper.make_node("Add", [names[2], number[1]], names[3:4]),
            helper.make_node("Pow", [names[3], number[2]], [f"{made}/power"]),
            helper.make_node("Div", [x, f"{made}/power"], [made]),
        ],
    )


def _across(net: Net, node: NodeProto) -> bool:
    """The last node of LRN within channels, as porter writes it."""
    if not node.input[1].endswith("/norm"):
        return False
    x, made = node.input[0], node.output[0]
    return net.instead(node, [helper.make_node("LRN", [x], [made], size=3, alpha=5e-5, beta=0.75, bias=1.0)])


def _statistics(factor: float, *positions: int) -> Plant:
    def plant(net: Net, node: NodeProto) -> bool:
        for p in positions:
            array = net.array(node.input[p])
            if array is None:
                return False
            net.put(node.input[p], array * np.float32(factor))
        return True

    return plant


def _swapped_statistics(net: Net, node: NodeProto) -> bool:
    node.input[3], node.input[4] = node.input[4], node.input[3]
    return True


def _weight(change: Callable[[np.ndarray], np.ndarray | None], position: int = 1) -> Plant:
    def plant(net: Net, node: NodeProto) -> bool:
        array = net.array(node.input[position]) if len(node.input) > position else None
        made = None if array is None else change(array)
        if made is None or np.array_equal(made.reshape(array.shape), array):
            return False
        node.input[position] = net.add(made.reshape(array.shape))
        return True

    return plant


def _first(plant: Plant) -> Plant:
    """At the node that reads an image."""

    def only(net: Net, node: NodeProto) -> bool:
        image = net.shapes.get(node.input[0], ())
        return node.input[0] in {i.name for i in net.model.graph.input} and len(image) == 4 and image[1] <= 4 and plant(net, node)

    return only


def _colours(weight: np.ndarray) -> np.ndarray | None:
    return weight[:, ::-1] if weight.ndim == 4 and weight.shape[1] == 3 else None


def _mean(net: Net, node: NodeProto) -> bool:
    channels = net.shapes[node.input[0]][1]
    return net.before(node, "Sub", np.array([104, 117, 123, 90][:channels], np.float32).reshape(1, -1, 1, 1) / 128)


def _scale(net: Net, node: NodeProto) -> bool:
    return net.before(node, "Mul", np.array(1 / 255, np.float32))


def _mean_and_scale(net: Net, node: NodeProto) -> bool:
    return _mean(net, node) and net.before(node, "Mul", np.array(0.017, np.float32))


def _flatten(net: Net, node: NodeProto) -> bool:
    flat = next((n for n in net.model.graph.node if node.input[0] in n.output), None)
    shape = net.shapes.get(flat.input[0], ()) if flat is not None and flat.op_type in ("Flatten", "Reshape") else ()
    weight = net.array(node.input[1])
    if len(shape) != 4 or shape[2] * shape[3] < 2 or weight is None:
        return False
    return _weight(lambda w: w.reshape(-1, *shape[1:]).transpose(0, 2, 3, 1).reshape(w.shape))(net, node)


def _other(array: np.ndarray) -> np.ndarray | None:
    """Read as if rows were columns."""
    if array.ndim != 2 or 1 in array.shape:
        return None
    return array.T if array.shape[0] == array.shape[1] else array.T.reshape(array.shape)


def _leaky(net: Net, node: NodeProto) -> bool:
    node.op_type = "LeakyRelu"
    return set_(node, alpha=0.1)


def _shared(net: Net, node: NodeProto) -> bool:
    array = net.array(node.input[1])
    net.put(node.input[1], np.full_like(array, 0.25))
    return True


def _relu6(net: Net, node: NodeProto) -> bool:
    node.op_type = "Sigmoid"
    del node.input[1:]
    return True


def _same_side(net: Net, node: NodeProto) -> bool:
    """TensorFlow's SAME: with a stride, the odd padding behind."""
    pads, strides = list(get(node, "pads", [0] * 4)), list(get(node, "strides", [1, 1]))
    sizes = net.shapes.get(node.input[0], ())[2:]
    if len(sizes) != 2 or len(set(pads)) != 1 or pads[0] == 0:
        return False
    if strides == [2, 2] and all(n % 2 == 0 for n in sizes) and get(node, "kernel_shape", [3, 3]) == [3, 3]:
        return set_(node, pads=[0, 0, 1, 1])
    return strides == [1, 1] and set_(node, pads=[p + 1 for p in pads[:2]] + [p - 1 for p in pads[2:]])


def _dilation(net: Net, node: NodeProto) -> bool:
    kernel, now = list(get(node, "kernel_shape", [1, 1])), list(get(node, "dilations", [1, 1]))
    pads = list(get(node, "pads", [0] * 4))
    if kernel != [3, 3] or not all(pads) or get(node, "strides", [1, 1]) != [1, 1]:
        return False
    new = 1 if now != [1, 1] else 2
    return set_(node, dilations=[new] * 2, pads=[p + new - now[0] for p in pads])


def _shuffled(net: Net, node: NodeProto) -> bool:
    shape, group = net.shapes.get(node.output[0], ()), int(get(node, "group", 1))
    if group < 2 or len(shape) != 4 or any(n.op_type == "BatchNormalization" and n.input[0] in node.output for n in net.model.graph.node):
        return False
    count = 2 if shape[1] % 4 == 0 else group
    order = np.arange(shape[1]).reshape(count, -1).T.reshape(-1)
    return not (order == np.arange(shape[1])).all() and net.after(node, "Gather", order, axis=1)


def _no_bias(net: Net, node: NodeProto) -> bool:
    array = net.array(node.input[2]) if len(node.input) > 2 else None
    if array is None or not array.any():
        return False
    del node.input[2]
    return True


def _softmax(net: Net, node: NodeProto) -> bool:
    rank, now = len(net.shapes.get(node.output[0], ())), int(get(node, "axis", -1))
    return rank > 1 and set_(node, axis=rank - 1 if now % rank != rank - 1 else rank - 2)


def _swap(net: Net, node: NodeProto) -> bool:
    shapes = [w.shape for name in node.input[1:] if (w := net.array(name)) is not None]
    nodes = list(net.model.graph.node)
    for other in nodes[nodes.index(node) + 1 :]:
        theirs = [w.shape for name in other.input[1:] if (w := net.array(name)) is not None]
        if other.op_type == node.op_type and other.name != node.name and shapes and theirs == shapes and len(shapes[0]) > 1:
            mine = list(node.input[1:])
            node.input[1:] = list(other.input[1:])
            other.input[1:] = mine
            return True
    return False


def _round(dtype: object) -> Callable[[np.ndarray], np.ndarray]:
    return lambda array: array.astype(dtype).astype(np.float32)


def _concat(net: Net, node: NodeProto) -> bool:
    shapes = [net.shapes.get(name, (i,)) for i, name in enumerate(node.input)]
    axis = int(get(node, "axis")) % max(1, len(shapes[0]))
    order = list(node.input)[::-1]
    node.input[:] = order
    return len(order) > 1 and all(s[:axis] + s[axis + 1 :] == shapes[0][:axis] + shapes[0][axis + 1 :] for s in shapes)


def _operation(net: Net, node: NodeProto) -> bool:
    node.op_type = "Max"
    return all(net.array(name) is None for name in node.input)


def _factor(net: Net, node: NodeProto) -> bool:
    return net.after(node, "Mul", np.array(2, np.float32))


def _positions(net: Net, node: NodeProto) -> bool:
    now = (get(node, "coordinate_transformation_mode", b"half_pixel")).decode()
    linear = (get(node, "mode", b"nearest")).decode() == "linear"
    set_(node, nearest_mode="floor" if not linear else None)
    return set_(node, coordinate_transformation_mode="half_pixel" if now == "align_corners" else "align_corners")


def _mode(net: Net, node: NodeProto) -> bool:
    now = get(node, "mode", b"nearest").decode()
    return set_(node, mode="nearest" if now == "linear" else "linear", coordinate_transformation_mode="half_pixel")


def _stride(net: Net, node: NodeProto) -> bool:
    return list(get(node, "strides", [1, 1])) == [2, 2] and set_(node, strides=[1, 1])


def _batch(net: Net, node: NodeProto) -> bool:
    """The statistics of what comes in, as in training."""
    x, axes, planes = node.input[0], {"axes": [0, 2, 3]}, net.shapes.get(node.input[0], ())
    if len(planes) != 4 or planes[2] * planes[3] < 4:
        return False
    names = [f"{node.output[0]}/{n}" for n in range(5)]
    statistics = [
        helper.make_node("ReduceMean", [x], names[:1], keepdims=0, **axes),
        helper.make_node("ReduceMean", [x], names[1:2], **axes),
        helper.make_node("Sub", [x, names[1]], names[2:3]),
        helper.make_node("Mul", [names[2]] * 2, names[3:4]),
        helper.make_node("ReduceMean", [names[3]], names[4:], keepdims=0, **axes),
    ]
    norm = NodeProto()
    norm.CopyFrom(node)
    norm.input[3:] = [names[0], names[4]]
    return net.instead(node, [*statistics, norm])


CONV = ("Conv", "ConvTranspose")
WEIGHED = (*CONV, "Gemm")

FAULTS = (
    Fault("ceil-pooling", ("MaxPool", "AveragePool"), _ceil),
    Fault("average-divisor", ("AveragePool",), _divisor),
    Fault("pooling-kind", ("MaxPool",), _kind),
    Fault("lrn-region", ("LRN",), _within),
    Fault("lrn-region", ("Div",), _across),
    Fault("lrn-alpha", ("LRN",), lambda net, node: set_(node, alpha=get(node, "alpha") * get(node, "size"))),
    Fault("lrn-constant", ("LRN",), lambda net, node: set_(node, bias=2.0)),
    Fault("batch-norm-eps", ("BatchNormalization",), lambda net, node: set_(node, epsilon=1e-2), tolerance=1e-5),
    Fault("batch-norm-factor", ("BatchNormalization",), _statistics(999.982, 3, 4)),
    Fault("batch-norm-order", ("BatchNormalization",), _swapped_statistics),
    Fault("batch-norm-batch", ("BatchNormalization",), _batch),
    Fault("kernel-flipped", CONV, _weight(lambda w: w[..., ::-1, ::-1] if w.ndim == 4 and w.shape[-1] > 1 else None)),
    Fault("kernel-transposed", CONV, _weight(lambda w: w.swapaxes(-1, -2) if w.ndim == 4 and w.shape[-1] > 1 else None)),
    Fault("kernel-transposed", CONV, _weight(lambda w: w.transpose(2, 3, 1, 0) if w.ndim == 4 and w.shape[-1] > 1 else None)),
    Fault("kernel-transposed", CONV, _weight(lambda w: w.swapaxes(0, 1) if w.ndim == 4 and w.shape[0] == w.shape[1] else None)),
    Fault("rgb-bgr", CONV, _first(_weight(_colours))),
    Fault("mean", CONV, _first(_mean)),
    Fault("input-scale", CONV, _first(_scale)),
    Fault("mean-and-scale", CONV, _first(_mean_and_scale)),
    Fault("padding-side", CONV, _same_side),
    Fault("dilation", ("Conv",), _dilation),
    Fault("stride", ("Conv",), _stride),
    Fault("groups", CONV, _shuffled),
    Fault(
        "groups",
        ("Conv",),
        _weight(lambda w: w[np.arange(len(w)).reshape(2, -1).T.reshape(-1)] if w.ndim == 4 and len(w) % 2 == 0 else None),
    ),
    Fault("flatten-order", ("Gemm",), _flatten),
    Fault("linear-transposed", ("Gemm",), _weight(_other), ("flatten-order",)),
    Fault("activation-slope", ("Relu",), _leaky),
    Fault("activation-slope", ("PRelu",), _shared),
    Fault("activation", ("Relu", "PRelu"), _relu6),
    Fault("softmax-axis", ("Softmax",), _softmax),
    Fault("align-corners", ("Resize",), _positions),
    Fault("resize-mode", ("Resize",), _mode),
    Fault("weights-swapped", WEIGHED, _swap),
    Fault("weights-rounded", WEIGHED, _weight(_round(ml_dtypes.bfloat16)), tolerance=1e-5),
    Fault("weights-rounded", WEIGHED, _weight(_round(np.float16)), tolerance=1e-5),
    Fault("concat-order", ("Concat",), _concat),
    Fault("operation", ("Add", "Sum"), _operation),
    Fault("factor", ("Relu", "Gemm", "PRelu"), _factor, ("groups",)),
    Fault("bias", WEIGHED, _no_bias, tolerance=1e-5),
)


@dataclass(frozen=True)
class Case:
    """A network and its faithful port. a: the original, as `porter verify` takes it. path: of the model to be spoilt."""

    name: str
    a: str
    path: Path
    fed: Mapping[str, np.ndarray]


def recorded(folder: Path, scratch: Path) -> Case:
    """A recorded network, its ONNX model written by `porter port`."""
    weights = weights_of(folder)
    source = str(folder / "deploy.prototxt")
    out = scratch / folder.name
    if not (out / "model.onnx").exists():
        port(source, str(weights) if weights is not None else None, str(out), PortOptions())
    record = golden(folder)
    fed = {name.removeprefix("input/"): array for name, array in record.items() if name.startswith("input/")}
    return Case(folder.name, f"{source},{weights}" if weights is not None else source, out / "model.onnx", fed)


def enlarged(folder: Path, scratch: Path, blob: str) -> Case:
    """A recorded network with another head, which enlarges one of its values: none of them has a layer that does."""
    weights = weights_of(folder)
    out = scratch / f"{folder.name}.enlarged"
    out.mkdir()
    head = f'layer {{ name: "larger" type: "Interp" bottom: "{blob}" top: "larger" interp_param {{ zoom_factor: 3 }} }}'
    (out / "deploy.prototxt").write_text(f"{(folder / 'deploy.prototxt').read_text()}\n{head}\n")
    port(str(out / "deploy.prototxt"), str(weights), str(out), PortOptions())
    plain = recorded(folder, scratch)
    return Case(plain.name, f"{out / 'deploy.prototxt'},{weights}", out / "model.onnx", plain.fed)


def spoilt(case: Case, fault: Fault, scratch: Path) -> tuple[Path, str] | None:
    """The model with the fault in one layer, of all those that can have it the middle one; the path, and what that layer makes."""
    places = [n.name for n in onnx.load(str(case.path)).graph.node if n.op_type in fault.kinds]
    for name in sorted(places, key=lambda n: abs(places.index(n) - len(places) // 2)):
        net = Net.read(case.path)
        node = next(n for n in net.model.graph.node if n.name == name)
        made = node.output[0]
        if fault.plant(net, node):
            del net.model.graph.value_info[:]
            path = scratch / f"{case.name}.spoilt.onnx"
            onnx.save(net.model, str(path))
            return path, made
    return None


def diverged(a: Side, b: Side, case: Case, *, tolerance: float = 1e-4, everything: bool = False) -> tuple[Comparison, Divergence]:
    fed = tuple({name: case.fed[name] for name in side.inputs} for side in (a, b))
    matching = match(a, b, read_layers(str(layers)) if (layers := case.path.with_name("layers.json")).exists() else None)
    try:
        comparison = compare(a, b, fed, matching, tolerance=tolerance)
    except GraphError:
        comparison = Comparison(matching, (), matching.pairs, tolerance)
    return comparison, find(a, b, fed, comparison, everything=everything)


@dataclass(frozen=True)
class Outcome:
    """What was said of a planted fault."""

    net: str
    fault: str
    planted: str
    verdict: str
    guilty: str
    causes: tuple[str, ...]
    right: bool


def outcomes(case: Case, scratch: Path, faults: tuple[Fault, ...] = FAULTS) -> Iterator[Outcome]:
    """Each fault that the network can have, planted and searched for."""
    with open_side(case.a) as a:
        for fault in faults:
            made = spoilt(case, fault, scratch)
            if made is None:
                continue
            path, planted = made
            with open_side(str(path)) as b:
                comparison, found = diverged(a, b, case, tolerance=fault.tolerance)
            if comparison.same:
                # So small a part of what this network computes that it does not show.
                continue
            guilty = found.guilty.examined.pair.b if found.guilty is not None else ""
            causes = tuple([c.cause.id for c in found.guilty.causes]) if found.guilty is not None else ()
            named = bool(causes) and causes[0] in (fault.cause, *fault.also)
            # What is inside a layer of A is seen at its end.
            there = guilty != "" and (planted == guilty or planted.startswith(f"{guilty}/"))
            yield Outcome(case.name, fault.cause, planted, found.verdict, guilty, causes, named and there)
