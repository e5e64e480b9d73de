"""`porter verify` and networks that would make it say "same" without having shown it, or fail in a way that looks like an answer."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_runner import Porter
from parity_nets import FORMS, model

from porter.check.measures import measured

CAFFE, ONNX, TORCH, _, GOLDEN = FORMS
HEAD = '<ir_version: 8, opset_import: ["" : 17, "my" : 1]> g '


def rewritten(own_nets: Path, forward: str) -> str:
    """The module with a forward() that torch.fx cannot trace: `self.whole(*a)` is what it was."""
    text = (own_nets / "model.py").read_text()
    (own_nets / "other.py").write_text(text.replace("def forward(self", f"def forward(self, *a):\n        {forward}\n\n    def whole(self"))
    return "other.py:Net,model.pth"


# ---- modules that cannot be traced, and what is the user's own code ----------------------------------------------------


@pytest.mark.parametrize("forward", [
    "return self.whole(*a)",
    "return {'prob': self.whole(*a)}",
    "return [self.whole(*a)]",
    "return {'inner': (None, {'deeper': self.whole(*a)})}",
    "import collections; return collections.namedtuple('Made', 'prob')(self.whole(*a))",
])  # fmt: skip
def test_a_faithful_module_that_cannot_be_traced(own_nets: Path, porter_cli: Porter, forward: str) -> None:
    found = porter_cli("verify", CAFFE, rewritten(own_nets, forward), "--json")
    assert found.code == porter_cli("verify", GOLDEN, "other.py:Net,model.pth").code == 0, found.out
    pairs = {c["a"]: c["b"] for c in found.json["compared"]}
    assert "prob" in pairs
    # Of PyTorch's batch normalisation, which scales as well, what Caffe's Scale makes is the same.
    assert pairs["scale1"] == "bn1"
    assert "bn1" not in pairs
    (said,) = [text for text in found.json["notices"] if "cannot trace" in text]
    assert said.endswith("its outputs alone are compared: Proxy object cannot be iterated")


@pytest.mark.parametrize(("forward", "verdict"), [
    ("return self.whole(*a) * float('nan')", "'prob' is wrong by itself: 5 numbers are NaN or infinite in one alone"),
    ("return [self.whole(*a) * 0.9]", "'prob' is wrong by itself: off by"),
    ("return {'other': self.whole(*a).flip(1)}", "'prob' is wrong by itself: off by"),
    ("return self.whole(*a), a[0]", "compared with no output of the other network: 'prob' of A, 'output0' of B, 'output1' of B"),
])  # fmt: skip
def test_what_a_module_that_cannot_be_traced_gives_back_is_compared(own_nets: Path, porter_cli: Porter, forward: str, verdict: str) -> None:
    found = porter_cli("verify", CAFFE, rewritten(own_nets, forward))
    assert found.code == 1
    assert verdict in " ".join(found.out.split())


@pytest.mark.parametrize(("forward", "said"), [
    ("return None", "forward() gives no tensor back: NoneType"),
    ("return 'x'", "forward() gives no tensor back: str"),
    ("import sys; sys.exit(0)", "the module fails: SystemExit: 0"),
    ("raise BaseException('no')", "the module fails: BaseException: no"),
    ("return self.missing", "the module fails: AttributeError"),
])  # fmt: skip
def test_a_module_that_cannot_be_run_is_no_answer(own_nets: Path, porter_cli: Porter, forward: str, said: str) -> None:
    found = porter_cli("verify", CAFFE, rewritten(own_nets, forward))
    assert (found.code, found.out) == (2, "")
    assert f"error[G094]: {said}" in found.err
    assert "other.py" in found.err


def test_what_users_print_is_not_the_result(own_nets: Path, porter_cli: Porter) -> None:
    source = rewritten(own_nets, "import sys; print('in forward'); sys.stdout.close(); return self.whole(*a)")
    text = (own_nets / "other.py").read_text().replace("super().__init__()", "super().__init__()\n        print('in init')")
    (own_nets / "other.py").write_text(f"print('in the file')\n{text}")
    found = porter_cli("verify", CAFFE, source, "--json")
    assert found.json["same"] is True
    assert {"in the file", "in init", "in forward"} <= {*found.err.splitlines()}


def test_a_module_in_double_precision_is_fed_that(own_nets: Path, porter_cli: Porter) -> None:
    text = (own_nets / "model.py").read_text()
    (own_nets / "double.py").write_text(f"{text}\n\ndef make():\n    return Net().double()\n\n\nclass Sized(Net):\n"
                                    "    def __init__(self, size):\n        super().__init__()\n\n\nnumber = 5\n")  # fmt: skip
    assert porter_cli("verify", CAFFE, "double.py:make,model.pth").code == 0
    for name, said in (("Sized", "the class 'Sized' takes arguments"), ("number", "is no function or class: it is of type int")):
        found = porter_cli("verify", CAFFE, f"double.py:{name},model.pth")
        assert (found.code, said in found.err) == (2, True)


# ---- outputs -----------------------------------------------------------------------------------------------------------

OUTPUTS = {
    "a layer more": ("=> (float[2,3] y) { a = Exp(x) y = Relu(a) }",
                     "=> (float[2,3] z) { a = Exp(x) y = Relu(a) z = Neg(y) }", ["y"], ["z"]),
    "a layer less": ("=> (float[2,3] y) { a = Exp(x) y = Relu(a) }",
                     "=> (float[2,3] a) { a = Exp(x) }", ["y"], ["a"]),
    "one more": ("=> (float[2,3] y) { y = Exp(x) }",
                 "=> (float[2,3] y, float[2,3] z) { y = Exp(x) z = Neg(y) }", [], ["z"]),
    "the same inside": ("=> (float[2,3] y) { y = Exp(x) z = Neg(y) }",
                        "=> (float[2,3] z) { y = Exp(x) z = Neg(y) }", ["y"], ["z"]),
}  # fmt: skip


@pytest.mark.parametrize("case", OUTPUTS)
def test_networks_are_not_the_same_where_an_output_was_not_compared(porter_cli: Porter, tmp_path: Path, case: str) -> None:
    a, b, of_a, of_b = OUTPUTS[case]
    for name, text in (("a.onnx", a), ("b.onnx", b)):
        model(tmp_path, name, f"{HEAD} (float[2,3] x) {text}")
    for first, second, lost in (("a.onnx", "b.onnx", {"a": of_a, "b": of_b}), ("b.onnx", "a.onnx", {"a": of_b, "b": of_a})):
        found = porter_cli("verify", first, second, "--json")
        assert (found.code, found.json["same"], found.json["uncompared"]) == (1, False, lost)
        assert all(c["same"] for c in found.json["compared"])
        assert "compared with no output of the other network" in " ".join(porter_cli("verify", first, second).out.split())


def test_outputs_of_other_names_are_compared_by_their_place_and_that_is_said(porter_cli: Porter, tmp_path: Path) -> None:
    model(tmp_path, "a.onnx", HEAD + "(float[2,3] x) => (float[2,3] y, float[3] z) { y = Exp(x) z = ReduceSum <keepdims = 0> (x, axes) }"
          .replace("axes", "x0").replace("z = ", "x0 = Constant <value_ints = [0]> () z = "))  # fmt: skip
    text = (tmp_path / "a.onnx").read_bytes().replace(b"\x01y", b"\x01p").replace(b"\x01z", b"\x01q")
    (tmp_path / "b.onnx").write_bytes(text)
    found = porter_cli("verify", "a.onnx", "b.onnx", "--json")
    assert (found.code, found.json["matched"]["ways"]["output"]) == (0, 2)
    assert "outputs are taken for each other by their place: 'p' of B as 'y', 'q' of B as 'z'" in found.json["notices"]


def test_shapes_that_differ_in_ones_are_said(porter_cli: Porter, tmp_path: Path) -> None:
    model(tmp_path, "a.onnx", HEAD + "(float[1,3] x) => (float[1,3] y) { y = Exp(x) }")
    model(tmp_path, "b.onnx", HEAD + "(float[1,3] x) => (float[3,1] y) { t = Transpose(x) y = Exp(t) }")
    found = porter_cli("verify", "a.onnx", "b.onnx", "--json")
    assert found.code == 0
    assert "written in other shapes, and compared as they lie: 'y' [1, 3] and [3, 1]" in found.json["notices"]


def test_text_is_equal_or_not(porter_cli: Porter, tmp_path: Path) -> None:
    for name, words in (("a.onnx", '"cat", "dog"'), ("b.onnx", '"cat", "god"')):
        text = f"(float[2] x) => (float[2] y, string[2] s) {{ y = Exp(x) s = Constant <value_strings = [{words}]> () }}"
        model(tmp_path, name, HEAD + text)
    assert porter_cli("verify", "a.onnx", "a.onnx").code == 0
    found = porter_cli("verify", "a.onnx", "b.onnx", "--json")
    assert (found.code, [c["problem"] for c in found.json["compared"] if c["a"] == "s"]) == (1, ["1 of 2 values differ"])


def test_what_b_cannot_run_is_no_difference(porter_cli: Porter, tmp_path: Path) -> None:
    model(tmp_path, "a.onnx", HEAD + "(float[4] x) => (float[4] y) { a = Relu(x) y = Exp(a) }")
    model(tmp_path, "b.onnx", HEAD + "(float[4] x) => (float[4] y) { a = Relu(x) y = my.Exp(a) }")
    for order in (("a.onnx", "b.onnx"), ("b.onnx", "a.onnx")):
        found = porter_cli("verify", *order, "--json")
        assert (found.code, found.json["error"]["code"]) == (2, "G090")


# ---- what is fed -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("arrays", "code", "said"), [
    ({"data": np.full((1, 3, 14, 14), np.nan, np.float32)}, "G093", "no finite number comes out of either network, in 'prob'"),
    ({"data": np.full((1, 3, 14, 14), 1e300)}, "U953", "588 of the 588 numbers for 'data' are too large for float32"),
    ({}, "G091", "the archive is empty"),
])  # fmt: skip
def test_inputs_that_show_nothing(own_nets: Path, porter_cli: Porter, arrays: dict[str, np.ndarray], code: str, said: str) -> None:
    np.savez(own_nets / "x.npz", **arrays)  # type: ignore[arg-type]
    found = porter_cli("verify", CAFFE, ONNX, "--input", "x.npz")
    assert found.code == 2
    assert f"error[{code}]" in found.err
    assert said in found.err


def test_an_output_without_elements_shows_nothing(porter_cli: Porter, tmp_path: Path) -> None:
    model(tmp_path, "a.onnx", HEAD + "(float[0,4] x) => (float[0,4] y) { y = Relu(x) }")
    assert "error[G093]" in porter_cli("verify", "a.onnx", "a.onnx").err


def test_arrays_and_options_that_do_nothing_are_said(own_nets: Path, porter_cli: Porter) -> None:
    x = np.ones((1, 3, 14, 14), np.float32)
    np.savez(own_nets / "named.npz", wrong=x)
    np.savez(own_nets / "more.npz", data=x, label=x)
    assert "note: the array 'wrong' is taken for the input 'data'" in porter_cli("verify", CAFFE, ONNX, "--input", "named.npz").err
    assert "note: no input takes 'label' of the arrays that are fed" in porter_cli("verify", CAFFE, ONNX, "--input", "more.npz").err
    for options in (("--seed", "3"), ("--fill", "normal"), ("--input", "more.npz")):
        found = porter_cli("verify", GOLDEN, CAFFE, *options)
        assert (found.code, f"{options[0]} would change nothing" in found.err) == (2, True)
    assert "error[U942]" in porter_cli("verify", CAFFE, ONNX, "--input", "more.npz", "--seed", "0").err
    np.savez(own_nets / "weights.npz", x=x)
    assert "has no weights of a Caffe net: it is npz" in porter_cli("verify", CAFFE, "net.prototxt,weights.npz").err
    (own_nets / "l.json").write_text("{}")
    assert "it has no list 'layers'" in porter_cli("verify", CAFFE, ONNX, "--layers", "l.json").err


@pytest.mark.parametrize(("image", "said"), [
    (b"P5 14 14 65535\n" + bytes(392), "the image's numbers are uint16"),
    (b"P5 99999999 99999999 255\n", "no image that OpenCV reads"),
    (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "no image that OpenCV reads"),
    (b"", "no image that OpenCV reads"),
], ids=["sixteen-bits", "endless", "cut", "empty"])  # fmt: skip
def test_images_that_cannot_be_fed(own_nets: Path, porter_cli: Porter, image: bytes, said: str) -> None:
    (own_nets / "x.img").write_bytes(image)
    kept = os.dup(2)
    with open(own_nets / "log", "wb") as log:
        os.dup2(log.fileno(), 2)
        try:
            found = porter_cli("verify", CAFFE, ONNX, "--image", "x.img")
        finally:
            os.dup2(kept, 2)
            os.close(kept)
    assert found.code == 2
    assert "error[U954]: " in found.err
    assert said in found.err
    assert (own_nets / "log").read_bytes() == b""  # of the libraries that read images


def test_preprocessing_that_is_nothing_or_too_much(own_nets: Path, porter_cli: Porter) -> None:
    (own_nets / "x.pgm").write_bytes(b"P5 14 14 255\n" + bytes(196))
    assert "error[U954]: after the preprocessing" in porter_cli("verify", CAFFE, ONNX, "--image", "x.pgm", "--preprocess", "mean=1e39").err
    assert "'--preprocess' says nothing" in porter_cli("verify", CAFFE, ONNX, "--image", "x.pgm", "--preprocess", "").err


# ---- measures and recordings -------------------------------------------------------------------------------------------


def test_the_noise_of_large_numbers_is_not_lost() -> None:
    a = np.array([1e300, 1.0])
    found = measured(a, np.array([1e300, 1.0 + 1e-7]), 1e-4)
    assert found.snr == pytest.approx(20 * math.log10(1e300 / 1e-7), rel=1e-6)
    small = np.array([1e-200, 3e-200])
    assert measured(small, small * 2, 1e-4).snr == pytest.approx(0.0, abs=1e-9)


def test_a_recorded_scale_cannot_hide_a_difference(own_nets: Path, porter_cli: Porter) -> None:
    record = dict(np.load(own_nets / "golden.npz"))
    conv = next(key for key in map(str, record["layer_keys"]) if f"{key}@idx" in record)
    record[conv] = record[conv] * np.float32(1.5)
    record[f"{conv}@absmax"] = np.float32(1e30)
    np.savez(own_nets / "golden.npz", **record)
    found = porter_cli("verify", "golden.npz", CAFFE, "--json")
    assert (found.code, [c["a"] for c in found.json["compared"] if not c["same"]]) == (1, ["conv1/conv1"])
    whole = next(key for key in map(str, record["layer_keys"]) if f"{key}@idx" not in record)
    np.savez(own_nets / "golden.npz", **record | {f"{whole}@absmax": np.float32(1e30)})
    assert "which is whole" in porter_cli("verify", "golden.npz", CAFFE).err


def test_weights_that_differ_are_named_before_anything_is_fitted(own_nets: Path, porter_cli: Porter) -> None:
    proto = onnx.load(own_nets / ONNX)
    kernel = next(i for i in proto.graph.initializer if i.name == "right/1x1.weight")
    kernel.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(kernel) * np.float32(1.01), kernel.name))
    onnx.save(proto, own_nets / "louder.onnx")
    for a in (CAFFE, ONNX, TORCH):
        found = porter_cli("verify", a, "louder.onnx", "--json")
        assert [c["id"] for c in found.json["divergence"]["guilty"]["causes"]] == ["weights"]
        assert found.json["divergence"]["guilty"]["causes"][0]["after"] < 1e-6
