"""`porter audit`, screen by screen, and the plan that `porter convert` takes from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from cli_runner import Porter, validate

import porter
from porter.store import TensorStore
from porter.tensor import Tensor


@pytest.fixture
def weights(tmp_path: Path) -> str:
    rng = np.random.default_rng(0)
    conv = rng.uniform(-1, 1, (4, 3, 3, 3)).astype("<f4")
    uneven = (rng.uniform(-1, 1, (4, 50)) * np.array([[1], [1], [1], [500]])).astype("<f4")
    arrays = {
        "conv.weight": conv,
        "bn.weight": np.ones(4, "<f4"),
        "bn.bias": np.zeros(4, "<f4"),
        "bn.running_mean": np.array([0.5, -1, 2, 1e5], "<f4"),
        "bn.running_var": np.array([1e-9, 1, 2, 3], "<f4"),
        "bn.num_batches_tracked": np.array(7),
        "fc.weight": uneven,
        "tiny.weight": np.full((2, 3), 1e-10, "<f4"),
    }
    porter.save(TensorStore([Tensor.from_array(n, a) for n, a in arrays.items()]), tmp_path / "w.safetensors")
    return "w.safetensors"


def test_piped(porter_cli: Porter, weights: str) -> None:
    run = porter_cli("audit", weights)
    assert (run.code, run.err) == (0, "")
    lines = run.out.splitlines()
    assert [line.split()[0] for line in lines[:8]] == [
        "TENSOR",
        *("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var", "fc.weight", "tiny.weight"),
    ]
    assert lines[4].endswith("f16: 1 of 4 numbers overflows")
    assert lines[5].endswith("f16: 1 of 4 numbers becomes zero, and a variance is watched")
    assert "per-channel" in lines[6]
    assert lines[7].endswith("f16: 6 of 6 numbers become zero")
    assert lines[8] == "1 tensor of integers left as they are (bn.num_batches_tracked)"
    assert lines[10].split() == ["TYPE", "OVERFLOW", "ZERO", "SUBNORMAL", "SNR", "OK", "PER-CHANNEL", "KEEP", "F32", "BYTES"]
    assert lines[11].split()[:3] == ["f16", "1", "7"]
    becomes = "becomes 1.00136e-05, subnormal in f16: add it in float32"
    assert lines[-1] == f"an epsilon of 1e-05 (assumed; --eps states it, --fold reads an ONNX graph's) {becomes}"


def test_terminal(porter_cli: Porter, weights: str) -> None:
    run = porter_cli("audit", weights, "--to", "f16,bf16,tf32,f8_e4m3,i8,i4", "--fold", "--equalise", "--details", terminal=True)
    assert all(len(line) <= 80 for line in run.out.splitlines())
    assert "  f16: 1 of 4 numbers overflows" in run.out
    assert "a guess: " in run.out


def test_json(porter_cli: Porter, weights: str) -> None:
    types = "f16,bf16,tf32,f8_e4m3,f8_e5m2,i8,i4,nf4,f4_e2m1,pow2,log"
    document = porter_cli("audit", weights, "--to", types, "--schemes", "--fold", "--equalise", "--json").json
    assert document["targets"] == types.split(",")
    assert len(document["tensors"]) == 7
    folded, bias = document["folded"]
    assert (folded["name"], bias["name"], bias["before"]) == ("conv.weight", "conv.bias", None)
    assert document["order_of_layers"] == "order"
    assert folded["with"] == ["bn.running_mean", "bn.running_var", "bn.weight", "bn.bias"]
    watched = {t["name"]: t["watch"] for t in document["tensors"] if t["watch"]}
    assert watched == {"bn.running_var": "variance"}
    schemes = {c["scheme"] for v in document["tensors"][0]["verdicts"] if v["to"] == "i8" for c in v["costs"]}
    assert {"tensor", "channel", "group 32", "group 128 affine", "tensor kl", "tensor mse", "tensor percentile"} <= schemes
    plain = porter_cli("audit", weights, "--json").json
    assert (plain["folded"], plain["equalisation"], plain["order_of_layers"]) == (None, None, None)


def test_odd_numbers_are_said_in_words(porter_cli: Porter, tmp_path: Path) -> None:
    """No warnings of numpy, and JSON that the schemas allow; the command line of a test says both."""
    arrays = {
        "inf.weight": np.array([[np.inf, -np.inf, 1, 2]], "<f4"),
        "nan.weight": np.full((3, 4), np.nan, "<f4"),
        "empty.weight": np.zeros((0, 3), "<f4"),
        "wide.weight": np.array([[-1.7e308, 1.7e308], [1e-320, 1]]),
        "c": np.array([1 + 2j], "<c8"),
        "mask": np.array([True]),
    }
    porter.save(TensorStore([Tensor.from_array(n, a) for n, a in arrays.items()]), tmp_path / "odd.npz")
    for command in (["audit"], ["audit", "--schemes", "--to", "i8,i4,nf4,pow2,log,f8_e4m3"], ["stats", "--quantiles"], ["report"]):
        document = porter_cli(command[0], "odd.npz", *command[1:], "--json")
        assert (document.code, "Warning" in document.err) == (0, False), command
        validate(document.json, command[0])
    audited = porter_cli("audit", "odd.npz").out
    assert "i8: 2 infinite, which i8 lacks" in audited
    assert "1 tensor of complex numbers left as they are (c)" in audited
    assert "1 tensor of booleans left as they are (mask)" in audited
    assert "note: real and imaginary parts are numbers on their own here (c)" in porter_cli("stats", "odd.npz").err


def test_folding_what_cannot_be_held_is_noted(porter_cli: Porter, tmp_path: Path) -> None:
    arrays = {
        "c.weight": np.full((2, 3, 1, 1), 100, "<f4"),
        "bn.weight": np.array([3e38, 1], "<f4"),
        "bn.bias": np.zeros(2, "<f4"),
        "bn.running_mean": np.zeros(2, "<f4"),
        "bn.running_var": np.array([1, np.nan], "<f4"),
    }
    porter.save(TensorStore([Tensor.from_array(n, a) for n, a in arrays.items()]), tmp_path / "f.npz")
    run = porter_cli("audit", "f.npz", "--fold", "--json", "--eps", "0")
    assert [n["message"] for n in run.json["notices"]] == [
        "with its normalisation folded in, 6 of 6 numbers are NaN or infinite",
        "with its normalisation folded in, 1 of 2 numbers are NaN or infinite",
    ]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--to", "fp16"], "U806"),
        (["--snr", "nan"], "U808"),
        (["--eps", "-1"], "U808"),
        (["--eps", "1e300"], "U808"),
        (["x*"], "U802"),
        (["--plan", "there"], "I010"),
    ],
)
def test_refusals(porter_cli: Porter, weights: str, tmp_path: Path, arguments: list[str], code: str) -> None:
    (tmp_path / "there").write_bytes(b"")
    run = porter_cli("audit", weights, *arguments)
    assert run.code == 2
    assert f"error[{code}]" in run.err


def plan(porter_cli: Porter, weights: str, tmp_path: Path, types: str = "f16,bf16") -> dict[str, Any]:
    run = porter_cli("audit", weights, "--to", types, "--plan", "plan.json", "--overwrite")
    assert "saved: plan" in run.err
    document = json.loads((tmp_path / "plan.json").read_text())
    validate(document, "dtype_plan")
    return document


def test_the_plan_is_carried_out(porter_cli: Porter, weights: str, tmp_path: Path) -> None:
    document = plan(porter_cli, weights, tmp_path)
    wanted = {t["name"]: t["dtype"] for t in document["tensors"]}
    assert wanted["conv.weight"] == wanted["fc.weight"] == "float16"
    assert wanted["bn.running_mean"] == wanted["bn.running_var"] == wanted["tiny.weight"] == "bfloat16"
    foreseen = porter_cli("convert", weights, "half.safetensors", "--dtype-plan", "plan.json", "--dry-run")
    assert foreseen.code == 0
    assert "plan plan.json 8 tensors" in " ".join(foreseen.out.split())
    run = porter_cli("convert", weights, "half.safetensors", "--dtype-plan", "plan.json", "--json")
    assert run.code == 0
    validate(run.json, "convert")
    changes = {c["tensor"]: c for c in run.json["changes"]}
    assert changes.keys() == {n for n, t in wanted.items() if t != "float32"}
    with porter.open(tmp_path / weights) as before, porter.open(tmp_path / "half.safetensors") as after:
        assert list(before) == list(after)
        for name, tensor in before.items():
            kind = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}.get(wanted.get(name, ""))
            expected = tensor.numpy().astype(kind) if kind is not None else tensor.numpy()
            assert after[name].numpy().tobytes() == expected.tobytes()
            if kind is not None:
                back, values = expected.astype("<f4"), tensor.numpy()
                said = (changes[name]["rounded"], changes[name]["zeroed"], changes[name]["action"])
                assert said == (int((back != values).sum()), int(((back == 0) & (values != 0)).sum()), "rounded")
            assert after[name].dtype.name == wanted.get(name, tensor.dtype.name)


def test_with_a_map_names_are_those_that_are_written(porter_cli: Porter, weights: str, tmp_path: Path) -> None:
    (tmp_path / "m.pmap").write_text("conv.weight -> a\nrest -> drop\n")
    (tmp_path / "p.json").write_text('{"porter": 1, "kind": "dtype-plan", "tensors": [{"name": "a", "dtype": "bfloat16"}]}')
    run = porter_cli("convert", weights, "a.safetensors", "--map", "m.pmap", "--dtype-plan", "p.json")
    assert run.code == 0, run.err
    with porter.open(tmp_path / "a.safetensors") as after:
        assert after["a"].dtype.name == "bfloat16"
    assert "bfloat16" in porter_cli("convert", weights, "b.wts", "--map", "m.pmap", "--dtype-plan", "p.json", "-n").out


def test_overflow_is_refused(porter_cli: Porter, weights: str, tmp_path: Path) -> None:
    entries = [{"name": n, "dtype": "float16"} for n in ("bn.running_mean", "tiny.weight")]
    (tmp_path / "p.json").write_text(json.dumps({"porter": 1, "kind": "dtype-plan", "tensors": entries}))
    run = porter_cli("convert", weights, "half.safetensors", "--dtype-plan", "p.json")
    assert run.code == 2
    assert "error[L801]: 1 values or more overflow as float16" in run.err
    assert not (tmp_path / "half.safetensors").exists()
    entries.pop(0)
    (tmp_path / "p.json").write_text(json.dumps({"porter": 1, "kind": "dtype-plan", "tensors": entries}))
    run = porter_cli("convert", weights, "half.npz", "--dtype-plan", "p.json", "--json")
    (notice,) = run.json["notices"]
    assert (notice["tensor"], notice["message"]) == ("tiny.weight", "as float16, 6 became zero")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "F801"),
        ("[]", "F801"),
        ('{"kind": "dtype-plan", "tensors": []}', "F801"),
        ('{"porter": 2, "kind": "dtype-plan", "tensors": []}', "F801"),
        ('{"porter": true, "kind": "dtype-plan", "tensors": []}', "F801"),
        ('{"porter": 1.0, "kind": "dtype-plan", "tensors": []}', "F801"),
        ('{"porter": 1, "kind": "dtype-plan", "tensors": [{"name": "conv.weight", "from": 1, "dtype": "float16"}]}', "F801"),
        ('{"porter": 1, "kind": "dtype-plan", "tensors": [{"name": "conv.weight", "from": "float64", "dtype": "float16"}]}', "U809"),
        ('{"porter": 1, "kind": "dtype-plan", "tensors": [1]}', "F801"),
        ('{"porter": 1, "kind": "dtype-plan", "tensors": [{"name": "conv.weight", "dtype": "int8"}]}', "F801"),
        ('{"porter": 1, "kind": "dtype-plan", "tensors": [{"name": "conv.weight", "dtype": "f16"}]}', "F801"),
        ('{"porter": 1, "kind": "dtype-plan", "tensors": [{"name": "a", "dtype": "float16"}, {"name": "a", "dtype": "float32"}]}', "F801"),
        ('{"porter": 1, "kind": "dtype-plan", "tensors": [{"name": "a", "dtype": "float16"}]}', "U807"),
        ('{"porter": 1, "kind": "dtype-plan", "tensors": [{"name": "bn.num_batches_tracked", "dtype": "float16"}]}', "U809"),
    ],
)
def test_wrong_plans(porter_cli: Porter, weights: str, tmp_path: Path, text: str, code: str) -> None:
    (tmp_path / "p.json").write_text(text)
    run = porter_cli("convert", weights, "o.npz", "--dtype-plan", "p.json")
    assert run.code == 2
    assert f"error[{code}]" in run.err
    assert not (tmp_path / "o.npz").exists()


def test_what_a_plan_changes_is_said(porter_cli: Porter, tmp_path: Path) -> None:
    porter.save(TensorStore([Tensor.from_array("a", np.array([1, 0.1, 1e-10], "<f4")), Tensor.from_array("b", np.ones(2, "<f2"))]), "w.npz")
    entries = [{"name": "a", "from": "float32", "dtype": "float16"}, {"name": "b", "dtype": "float32"}]
    Path("p.json").write_text(json.dumps({"porter": 1, "kind": "dtype-plan", "tensors": entries}))
    run = porter_cli("convert", "w.npz", "o.npz", "--dtype-plan", "p.json")
    (line,) = [x for x in run.out.splitlines() if x.startswith("plan")]
    assert " ".join(line.split()) == "plan p.json 2 tensors 14 B 2 become float16, float32; 2 values rounded; 1 of them to zero"
    dry = porter_cli("convert", "w.npz", "p.npz", "--dtype-plan", "p.json", "-n", "--json").json
    validate(dry, "convert")
    assert [(c["tensor"], c["action"], c["to"], c["rounded"]) for c in dry["changes"]] == [
        ("a", "rounded", "float16", None),
        ("b", "widened", "float32", None),
    ]


def test_a_name_that_is_not_there_has_a_hint(porter_cli: Porter, weights: str, tmp_path: Path) -> None:
    for names, said in ((["conv.wieght"], "a tensor that is not there"), (["x", "y"], "2 tensors that are not there")):
        entries = [{"name": n, "dtype": "float16"} for n in names]
        (tmp_path / "p.json").write_text(json.dumps({"porter": 1, "kind": "dtype-plan", "tensors": entries}))
        run = porter_cli("convert", weights, "o.npz", "--dtype-plan", "p.json")
        assert said in run.err
        assert ("conv.weight" if len(names) == 1 else "after the map") in run.err


def test_a_plan_is_a_regular_file(porter_cli: Porter, weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "error[I004]" in porter_cli("convert", weights, "o.npz", "--dtype-plan", "/dev/zero").err
    monkeypatch.setattr("porter.check.precision.plan.LARGEST", 10)
    (tmp_path / "p.json").write_text(json.dumps({"porter": 1, "kind": "dtype-plan", "tensors": []}))
    assert "bytes are too many for a plan" in porter_cli("convert", weights, "o.npz", "--dtype-plan", "p.json").err


def test_no_plan_at_all(porter_cli: Porter, weights: str) -> None:
    assert "error[I001]" in porter_cli("convert", weights, "o.npz", "--dtype-plan", "gone.json").err


def test_ties_stay(porter_cli: Porter, tmp_path: Path) -> None:
    store = TensorStore([Tensor.from_array("a.weight", np.arange(6, dtype="<f4").reshape(2, 3))])
    store.tie(store["a.weight"].with_spec(name="b.weight"), "a.weight")
    porter.save(store, tmp_path / "t.pth")
    entries = [{"name": n, "dtype": "float16"} for n in ("a.weight", "b.weight")]
    (tmp_path / "p.json").write_text(json.dumps({"porter": 1, "kind": "dtype-plan", "tensors": entries}))
    assert porter_cli("convert", "t.pth", "h.pth", "--dtype-plan", "p.json").code == 0
    with porter.open(tmp_path / "h.pth") as after:
        assert after.ties == {"b.weight": "a.weight"}
        assert after["b.weight"].dtype.name == "float16"
    (tmp_path / "p.json").write_text(json.dumps({"porter": 1, "kind": "dtype-plan", "tensors": entries[:1]}))
    assert "error[U809]" in porter_cli("convert", "t.pth", "i.pth", "--dtype-plan", "p.json").err


@pytest.mark.parametrize("dtype", ["float4_e2m1fn", "float6_e3m2fn", "float8_e4m3fn", "float64"])
def test_types_of_every_width(porter_cli: Porter, tmp_path: Path, dtype: str) -> None:
    values = np.linspace(-1, 1, 12345).astype("<f4")
    porter.save(TensorStore([Tensor.from_array("a.weight", values)]), tmp_path / "a.npz")
    (tmp_path / "p.json").write_text(json.dumps({"porter": 1, "kind": "dtype-plan", "tensors": [{"name": "a.weight", "dtype": dtype}]}))
    assert porter_cli("convert", "a.npz", "b.h5", "--dtype-plan", "p.json").code == 0
    with porter.open(tmp_path / "b.h5") as after:
        kind = np.dtype(getattr(ml_dtypes, dtype, "<f8"))
        assert after["a.weight"].numpy().tobytes() == values.astype(kind).tobytes()


def test_a_real_file(porter_cli: Porter, shared: Path) -> None:
    path = shared / "real/mtcnn/caffe/det1.caffemodel"
    document = porter_cli("audit", path, "--json").json
    assert {t["name"]: t["watch"] for t in document["tensors"] if t["watch"]} == dict.fromkeys(
        ("PReLU1.slope", "PReLU2.slope", "PReLU3.slope"), "slope"
    )
