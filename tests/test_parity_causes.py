"""Every known cause is planted in real networks, in the middle of each, and named at the right layer; the table is printed with `-s`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from parity_faults import FAULTS, Case, Outcome, diverged, enlarged, outcomes, recorded

from porter.parity.causes.table import TABLE
from porter.parity.divergence import Divergence
from porter.parity.opening import open_side

SMALL = ("lenet_v2", "mtcnn_det1", "mtcnn_det2")
"""Trained networks that run in an instant; every fault that they can have is planted in them."""

BATCH_NORM = ("batch-norm-eps", "batch-norm-factor", "batch-norm-order")

MORE = {
    "cifar10_full_v1": ("average-divisor", "ceil-pooling", "lrn-region"),
    "cifar10_quick_h5": ("average-divisor", "ceil-pooling"),
    "hyperlpr_finemapping": ("flatten-order",),
    "rand_bvlc_alexnet": ("lrn-region", "lrn-alpha", "lrn-constant", "groups", "linear-transposed"),
    "rand_legacy_caffenet_v1": ("lrn-region", "lrn-alpha", "lrn-constant", "groups"),
    "rand_squeezenet_v1.1": ("concat-order", "weights-swapped", "dilation"),
    "rand_mobilenet_v1": BATCH_NORM,
    "rand_ResNet-50": BATCH_NORM,
    "rand_soeaver_inception-v3": ("average-divisor", *BATCH_NORM),
}
"""What the small ones do not have, so that every fault is planted in three."""


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parity")


def shown(found: list[Outcome]) -> str:
    rows = [f"{o.net:26} {o.fault:18} {'named' if o.right else 'NOT NAMED'} at {o.guilty or '-':20} {', '.join(o.causes)}" for o in found]
    return "\n".join(rows)


def planted(shared: Path, scratch: Path, name: str, only: tuple[str, ...] | None = None) -> list[Outcome]:
    faults = tuple([f for f in FAULTS if only is None or f.cause in only])
    return list(outcomes(recorded(shared / "oracle" / name, scratch), scratch, faults))


@pytest.mark.parametrize("name", SMALL)
def test_planted_faults_are_named(shared: Path, scratch: Path, name: str) -> None:
    found = planted(shared, scratch, name)
    print(shown(found))
    assert len(found) > 10
    assert not [o for o in found if not o.right], shown(found)


@pytest.mark.parametrize("name", MORE)
def test_faults_of_larger_networks_are_named(shared: Path, scratch: Path, name: str) -> None:
    found = planted(shared, scratch, name, MORE[name])
    print(shown(found))
    assert {o.fault for o in found} == {*MORE[name]}
    assert not [o for o in found if not o.right], shown(found)


@pytest.mark.parametrize(("name", "blob"), [("lenet_v2", "pool1"), ("mtcnn_det1", "pool1"), ("cifar10_full_v1", "norm2")])
def test_faults_of_layers_that_enlarge_are_named(shared: Path, scratch: Path, name: str, blob: str) -> None:
    case = enlarged(shared / "oracle" / name, scratch, blob)
    found = list(outcomes(case, scratch, tuple([f for f in FAULTS if f.cause in ("align-corners", "resize-mode")])))
    assert [(o.fault, o.guilty, o.causes[:1], o.right) for o in found] == [
        (cause, "larger", (cause,), True) for cause in ("align-corners", "resize-mode")
    ]


# Every cause in a network of one layer: as A has it, as B has it. `x` is 1 x 3 x 9 x 9.

HEAD = '<ir_version: 8, opset_import: ["" : 18]> g '

PAIRS = {
    "rgb-bgr": ("y = Conv (x, w_a)", "t = Gather <axis = 1> (x, order) y = Conv (t, w_a)"),
    "ceil-pooling": ("y = MaxPool <kernel_shape = [2, 2], strides = [2, 2], pads = [0, 0, 1, 1]> (x)",
                     "y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)"),
    "average-divisor": ("y = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1> (x)",
                        "y = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x)"),
    "pooling-kind": ("y = MaxPool <kernel_shape = [3, 3]> (x)", "y = AveragePool <kernel_shape = [3, 3]> (x)"),
    "lrn-region": ("y = LRN <size = 3, alpha = 0.5> (x)",
                   "s = Mul (x, x) m = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1> (s)"
                   " a = Mul (m, half) b = Add (a, one) p = Pow (b, beta) y = Div (x, p)"),
    "lrn-alpha": ("y = LRN <size = 3, alpha = 0.3> (x)", "y = LRN <size = 3, alpha = 0.9> (x)"),
    "lrn-constant": ("y = LRN <size = 3, alpha = 0.3> (x)", "y = LRN <size = 3, alpha = 0.3, bias = 2.0> (x)"),
    "batch-norm-eps": ("y = BatchNormalization <epsilon = 0.002> (x, c_a, c_b, c_c, c_d)",
                       "y = BatchNormalization <epsilon = 0.001> (x, c_a, c_b, c_c, c_d)"),
    "batch-norm-factor": ("m = Div (c_c, steps) v = Div (c_d, steps) y = BatchNormalization (x, c_a, c_b, m, v)",
                          "y = BatchNormalization (x, c_a, c_b, c_c, c_d)"),
    "batch-norm-order": ("y = BatchNormalization (x, c_a, c_b, c_c, c_d)", "y = BatchNormalization (x, c_b, c_a, c_c, c_d)"),
    "batch-norm-batch": ("m = ReduceMean <keepdims = 0> (x, axes) c = ReduceMean (x, axes) d = Sub (x, c) s = Mul (d, d)"
                         " v = ReduceMean <keepdims = 0> (s, axes) y = BatchNormalization (x, c_a, c_b, m, v)",
                         "y = BatchNormalization (x, c_a, c_b, c_c, c_d)"),
    "kernel-flipped": ("y = Conv (x, w_a)", "y = Conv (x, flipped)"),
    "kernel-transposed": ("y = Conv (x, w_a)", "y = Conv (x, hwio)"),
    "padding-side": ("y = Conv <strides = [2, 2], pads = [0, 0, 1, 1]> (x, w_a)",
                     "y = Conv <strides = [2, 2], pads = [1, 1, 0, 0]> (x, w_a)"),
    "dilation": ("y = Conv <dilations = [2, 2], pads = [2, 2, 2, 2]> (x, w_a)", "y = Conv <pads = [1, 1, 1, 1]> (x, w_a)"),
    "stride": ("y = Conv <strides = [2, 2]> (x, w_a)", "y = Conv (x, w_a)"),
    "groups": ("y = Conv <group = 3> (x, depthwise)", "t = Conv <group = 3> (x, depthwise) y = Gather <axis = 1> (t, shuffled)"),
    "flatten-order": ("f = Flatten (x) y = Gemm (f, w_matrix)",
                      "t = Transpose <perm = [0, 2, 3, 1]> (x) f = Flatten (t) y = Gemm (f, w_matrix)"),
    "linear-transposed": ("y = MatMul (x, w_square)", "y = MatMul (x, turned)"),
    "activation-slope": ("y = LeakyRelu <alpha = 0.3> (x)", "y = LeakyRelu (x)"),
    "activation": ("y = Elu (x)", "y = Tanh (x)"),
    "softmax-axis": ("y = Softmax <axis = 1> (x)", "y = Softmax <axis = 3> (x)"),
    "align-corners": ("y = Resize <mode = \"linear\", coordinate_transformation_mode = \"align_corners\"> (x, , , sizes)",
                      "y = Resize <mode = \"linear\"> (x, , , sizes)"),
    "resize-mode": ("y = Resize <mode = \"linear\"> (x, , , sizes)", "y = Resize <mode = \"nearest\"> (x, , , sizes)"),
    "input-scale": ("y = Conv (x, w_a)", "t = Mul (x, small) y = Conv (t, w_a)"),
    "mean": ("t = Sub (x, means) y = Conv <pads = [1, 1, 1, 1]> (t, w_a)", "y = Conv <pads = [1, 1, 1, 1]> (x, w_a)"),
    "mean-and-scale": ("t = Sub (x, means) u = Mul (t, small) y = Conv <pads = [1, 1, 1, 1]> (u, w_a)",
                       "y = Conv <pads = [1, 1, 1, 1]> (x, w_a)"),
    "weights-swapped": ("y = Conv (x, w_a) z = Conv (x, w_b)", "y = Conv (x, w_b) z = Conv (x, w_a)"),
    "weights-rounded": ("y = Conv (x, w_a)", "y = Conv (x, half_a)"),
    "concat-order": ("a = Relu (x) b = Neg (x) y = Concat <axis = 1> (a, b)", "a = Relu (x) b = Neg (x) y = Concat <axis = 1> (b, a)"),
    "operation": ("a = Relu (x) b = Neg (x) y = Add (a, b)", "a = Relu (x) b = Neg (x) y = Max (a, b)"),
    "factor": ("y = Conv (x, w_a, bias)", "t = Conv (x, w_a, bias) y = Mul (t, two)"),
    "weights": ("y = Conv (x, w_a, bias)", "y = Conv (x, louder, bias)"),
    "bias": ("y = Conv (x, w_a, bias)", "y = Conv (x, w_a)"),
}  # fmt: skip
"""A's nodes and B's, by the cause."""


def constants() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    w_a, w_b = (rng.standard_normal((5, 3, 3, 3)).astype(np.float32) for _ in range(2))
    square = rng.standard_normal((9, 9)).astype(np.float32)
    scalars = {"half": 0.5, "one": 1, "beta": 0.75, "steps": 999.982, "small": 1 / 255, "two": 2}
    floats = {name: np.array(value, np.float32) for name, value in scalars.items()}
    channels = {f"c_{n}": rng.uniform(0.01, 1, 3).astype(np.float32) for n in "abcd"}
    return floats | channels | {
        "w_a": w_a,
        "w_b": w_b,
        "half_a": w_a.astype(np.float16).astype(np.float32),
        "louder": w_a * np.float32(1.01),
        "flipped": np.ascontiguousarray(w_a[:, :, ::-1, ::-1]),
        "hwio": np.ascontiguousarray(w_a.transpose(2, 3, 1, 0)).reshape(w_a.shape),
        "depthwise": rng.standard_normal((6, 1, 3, 3)).astype(np.float32),
        "shuffled": np.array([0, 3, 1, 4, 2, 5]),
        "order": np.array([2, 1, 0]),
        "axes": np.array([0, 2, 3]),
        "sizes": np.array([1, 3, 18, 18]),
        "means": np.array([0.4, -0.3, 0.7], np.float32).reshape(1, 3, 1, 1),
        "w_matrix": rng.standard_normal((243, 4)).astype(np.float32),
        "w_square": square,
        "turned": np.ascontiguousarray(square.T),
        "bias": rng.standard_normal(5).astype(np.float32),
    }  # fmt: skip


def saved(folder: Path, name: str, body: str) -> str:
    outputs = "float[?] y, float[?] z" if " z = " in body else "float[?] y"
    model = onnx.parser.parse_model(HEAD + f"(float[1,3,9,9] x) => ({outputs}) {{ {body} }}")
    read = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in constants().items() if n in read)
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    onnx.save(model, folder / name)
    return str(folder / name)


def named(folder: Path, a: str, b: str, tolerance: float = 1e-4) -> Divergence:
    fed = {"x": np.random.default_rng(2).standard_normal((1, 3, 9, 9)).astype(np.float32)}
    case = Case("pair", saved(folder, "a.onnx", a), folder, fed)
    with open_side(case.a) as left, open_side(saved(folder, "b.onnx", b)) as right:
        return diverged(left, right, case, tolerance=tolerance)[1]


def test_every_cause_is_tested() -> None:
    assert [cause.id for cause in TABLE] == sorted(PAIRS, key=[cause.id for cause in TABLE].index)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("cause", PAIRS)
def test_causes_are_named_from_either_side(tmp_path: Path, cause: str, backwards: bool) -> None:
    a, b = PAIRS[cause][:: -1 if backwards else 1]
    found = named(tmp_path, a, b, 1e-5)
    assert found.guilty is not None
    # The volume is flattened before it is multiplied, and that is seen.
    assert found.guilty.examined.pair.b == ("f" if cause == "flatten-order" else "y")
    assert [c.cause.id for c in found.guilty.causes][:1] == [cause]
    best = found.guilty.causes[0]
    assert best.after <= 1e-5 < best.before
    assert best.a != best.b


@pytest.mark.parametrize(("cause", "all_of_them"), [
    ("ceil-pooling", ("ceil-pooling", "padding-side")),
    ("mean", ("mean",)),
    ("input-scale", ("input-scale", "factor")),
    ("activation-slope", ("activation-slope",)),
])  # fmt: skip
def test_what_explains_a_fault_as_well_stands_behind(tmp_path: Path, cause: str, all_of_them: tuple[str, ...]) -> None:
    found = named(tmp_path, *PAIRS[cause])
    assert found.guilty is not None
    assert tuple(c.cause.id for c in found.guilty.causes) == all_of_them


@pytest.mark.parametrize("body", [
    "y = Conv (x, w_a)",
    "y = LRN <size = 3, alpha = 0.3> (x)",
    "a = Relu (x) b = Neg (x) y = Concat <axis = 1> (a, b)",
])  # fmt: skip
def test_the_same_is_no_fault(tmp_path: Path, body: str) -> None:
    assert named(tmp_path, body, body).verdict == "same"


def test_no_cause_is_made_up(tmp_path: Path) -> None:
    """Other weights altogether: the layer is found, and nothing but that explains it."""
    found = named(tmp_path, "y = Conv (x, w_a)", "y = Conv (x, w_b)")
    assert found.guilty is not None
    assert [(c.cause.id, c.a, c.b) for c in found.guilty.causes] == [("weights", "'w_a', max |Δ| 4.3", "'w_b'")]
    assert found.guilty.weights[0][:2] == ("w_a", "w_b")
    assert found.guilty.weights[0][2].startswith("different")
