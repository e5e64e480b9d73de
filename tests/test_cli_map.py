"""`porter map` and the options that use maps, screen by screen: in a pipe, in a terminal 80 columns wide, and as JSON."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_runner import Porter, validate
from conftest import ROOT

import porter
from porter.conversion import convert
from porter.mapping import library
from porter.mapping.parser import parse
from porter.store import TensorStore
from porter.tensor import Tensor

DIGITS = ROOT / "examples" / "digits" / "digits.caffemodel"

MAP = """\
param rows : int = 2
conv.weight : o i h w <-> conv.kernel : h w i o
conv.bias <-> conv.bias
fc.weight : o (c rows) <-> fc.kernel : (rows c) o
{p}.running_var -> {p}.scale | add(1e-5) | rsqrt
*.steps -> drop
"""


def _save(path: Path, **arrays: np.ndarray) -> None:
    porter.save(TensorStore(Tensor.from_array(n.replace("__", "."), a) for n, a in arrays.items()), path)


@pytest.fixture
def net(tmp_path: Path) -> str:
    rng = np.random.default_rng(3)
    _save(
        tmp_path / "net.safetensors",
        conv__weight=rng.standard_normal((4, 3, 2, 2)).astype("f4"),
        conv__bias=rng.standard_normal(4).astype("f4"),
        fc__weight=rng.standard_normal((5, 6)).astype("f4"),
        bn__running_var=rng.uniform(1, 2, 4).astype("f4"),
        bn__steps=np.array(7, "i8"),
    )
    (tmp_path / "net.pmap").write_text(MAP)
    return "net.safetensors"


@pytest.fixture
def digits(tmp_path: Path) -> str:
    shutil.copy(DIGITS, tmp_path / "digits.caffemodel")
    return "digits.caffemodel"


def fits(text: str) -> bool:
    return all(len(line) <= 80 for line in text.splitlines())


# ---- check -------------------------------------------------------------------------------------------------------------

TABLE = """\
SOURCE          SHAPE    TARGET       SHAPE    DTYPE  HOW         RULE
conv.weight     4×3×2×2  conv.kernel  2×2×3×4  f32    rearranged  line 2
conv.bias       4        conv.bias    4        f32    kept        line 3
fc.weight       5×6      fc.kernel    6×5      f32    rearranged  line 4
bn.running_var  4        bn.scale     4        f32    computed    line 5
bn.steps        scalar                                dropped     line 6
"""


def test_check(porter_cli: Porter, net: str) -> None:
    run = porter_cli("map", "check", "net.pmap", net)
    assert (run.code, run.err) == (0, "")
    assert run.out == TABLE + "net.pmap fits: 5 tensors → 4\n"
    assert porter_cli("map", "check", "net.pmap", net, "-q").out == ""


def test_check_in_a_terminal(porter_cli: Porter, net: str) -> None:
    run = porter_cli("map", "check", "net.pmap", net, terminal=True)
    assert fits(run.out)
    assert "conv.weight" in run.out


def test_check_says_every_problem(porter_cli: Porter, net: str) -> None:
    Path("bad.pmap").write_text("conv.wieght <-> conv.kernel\nfc.weight : o i j <-> fc.kernel : i j o\n*.steps -> drop\nrest <-> keep\n")
    run = porter_cli("map", "check", "bad.pmap", net)
    assert (run.code, run.err) == (1, "")
    assert run.out.count("error[M") == 2
    assert "bad.pmap:1:1" in run.out
    assert "bad.pmap:2:13" in run.out
    assert "did you mean 'conv.weight'?" in run.out
    assert run.out.endswith("bad.pmap does not fit: 2 problems\n")
    assert porter_cli("map", "check", "bad.pmap", net, "-q").out.count("error[M") == 2


def test_check_says_once_what_goes_wrong_again_and_again(porter_cli: Porter, tmp_path: Path) -> None:
    _save(tmp_path / "x.npz", **{f"l{i}": np.ones((2, 3), "f4") for i in range(9)})
    Path("bad.pmap").write_text("l{i:int} : a b c <-> m{i} : c b a\n")
    run = porter_cli("map", "check", "bad.pmap", "x.npz")
    assert run.out.count("error[") == 1
    assert "   = and so 8 more times: l1, l2 and 6 more\n" in run.out
    assert run.out.endswith("bad.pmap does not fit: 1 problem\n")
    assert len(porter_cli("map", "check", "bad.pmap", "x.npz", "--json").json["problems"]) == 9


def test_check_through_stages(porter_cli: Porter, net: str) -> None:
    Path("stages.pmap").write_text(STAGES)
    run = porter_cli("map", "check", "stages.pmap", net)
    assert (
        run.out
        == """\
SOURCE          SHAPE    TARGET  SHAPE    DTYPE  HOW         RULE
conv.weight     4×3×2×2  second  2×2×3×4  f32    rearranged  lines 1, 4
conv.weight     4×3×2×2  again   2×2×3×4  f32    tied        lines 1, 4, 5
conv.bias       4                                left out
fc.weight       5×6                              left out
bn.running_var  4                                left out
bn.steps        scalar                           left out
stages.pmap fits: 5 tensors → 2
"""
    )
    spelt = porter_cli("map", "check", "stages.pmap", net, "-v").out.splitlines()
    assert [line for line in spelt if line.startswith("stage ")] == ["stage 1 of 2", "stage 2 of 2"]
    first = "[conv.bias, bn.running_var] | sum -> s\nbn.steps -> drop\nrest <-> keep\n"
    Path("sum.pmap").write_text(first + "then\ns <-> t\nfill(0) -> u for t\nrest <-> keep\n")
    run = porter_cli("map", "check", "sum.pmap", net)
    assert run.out.splitlines()[1:-1] == [
        "conv.weight     4×3×2×2  conv.weight  4×3×2×2  f32    kept       lines 3, 7",
        "conv.bias       4        t            4        f32    computed   lines 1, 5",
        "bn.running_var  4",
        "fc.weight       5×6      fc.weight    5×6      f32    kept       lines 3, 7",
        "bn.steps        scalar                                dropped    line 2",
        "                         u            4        f32    filled in  line 6",
    ]


def test_check_against_a_target(porter_cli: Porter, net: str) -> None:
    assert porter_cli("map", "apply", "net.pmap", net, "out.npz").code == 0
    run = porter_cli("map", "check", "net.pmap", net, "out.npz")
    assert (run.code, run.out.splitlines()[-1]) == (0, "net.pmap fits: 5 tensors → 4, as in out.npz")
    run = porter_cli("map", "check", "net.pmap", net, net)
    assert run.code == 1
    assert "error[M230]" in run.out
    assert "error[M231]" in run.out


def test_check_against_a_list(porter_cli: Porter, net: str) -> None:
    wanted = [{"name": "conv.kernel", "shape": [2, 2, 3, 4]}, {"name": "conv.bias", "dtype": "torch.float32"}, {"name": "fc.kernel"}]
    Path("wanted.json").write_text(json.dumps(wanted))
    run = porter_cli("map", "check", "net.pmap", net, "wanted.json")
    assert run.code == 1
    assert "the target has no place for a tensor that the map makes: 'bn.scale'" in run.out
    Path("wanted.json").write_text(json.dumps([*wanted, {"name": "bn.scale"}, {"name": "bn.bias"}]))
    assert "'bn.bias'" in porter_cli("map", "check", "net.pmap", net, "wanted.json").out
    Path("net.pmap").write_text(MAP + "expect targets=any\n")
    run = porter_cli("map", "check", "net.pmap", net, "wanted.json")
    assert run.code == 0
    assert run.out.endswith("not made, as 'expect targets=any' allows: bn.bias\n")


def test_check_of_lists_alone(porter_cli: Porter, net: str) -> None:
    document = porter_cli("inspect", net, "--json")
    Path("net.json").write_text(document.out)
    run = porter_cli("map", "check", "net.pmap", "net.json")
    assert (run.code, run.err) == (0, "")
    assert run.out == TABLE + "net.pmap fits: 5 tensors → 4\n"
    Path("untyped.json").write_text('{"conv.weight": [4, 3, 2, 2], "conv.bias": [4]}')
    Path("two.pmap").write_text("{p}.weight <-> {p}.w\nrest <-> keep\n")
    run = porter_cli("map", "check", "two.pmap", "untyped.json")
    assert (run.code, run.err) == (0, "note: untyped.json gives no dtype, so float32 is assumed (conv.weight, conv.bias)\n")
    for text in (
        "[",
        "[1]",
        '[{"name": 1}]',
        '[{"name": "a"}]',
        '[{"name": "a", "shape": [-1]}]',
        '{"a": [1], "a.b": 3}',
        '[{"name": "a", "shape": [1]}, {"name": "a", "shape": [1]}]',
    ):
        Path("broken.json").write_text(text)
        run = porter_cli("map", "check", "two.pmap", "broken.json")
        assert (run.code, run.out) == (2, ""), text
        assert "error[F002]" in run.err


def test_check_could_not_run(porter_cli: Porter, net: str) -> None:
    for arguments, code in (
        (("missing.pmap", net), "I001"),
        (("caffe:toch", net), "M270"),
        (("-", net), "U903"),
        ((net, net), "M002"),
        (("net.pmap", "missing.npz"), "I001"),
        (("net.pmap", net, "missing.npz"), "I001"),
        (("net.pmap", "net.pmap"), "F009"),
    ):
        run = porter_cli("map", "check", *arguments)
        assert (run.code, run.out) == (2, ""), arguments
        assert f"error[{code}]" in run.err, run.err


def test_a_map_with_a_mistake_is_not_run(porter_cli: Porter, net: str) -> None:
    Path("bad.pmap").write_text("conv.weight => conv.kernel\n")
    run = porter_cli("map", "check", "bad.pmap", net)
    assert (run.code, run.out) == (2, "")
    assert "--> bad.pmap:1:13" in run.err
    document = porter_cli("map", "check", "bad.pmap", net, "--json").json
    assert (document["error"]["code"], document["error"]["line"], document["error"]["column"]) == ("M001", 1, 13)


def test_check_as_json(porter_cli: Porter, net: str) -> None:
    document = porter_cli("map", "check", "net.pmap", net, "--json").json
    assert (document["fits"], document["problems"], document["missing"]) == (True, [], [])
    assert document["steps"][0] == {
        "stage": 1,
        "action": "layout",
        "sources": ["conv.weight"],
        "targets": [{"name": "conv.kernel", "dtype": "float32", "shape": [2, 2, 3, 4]}],
        "map": "net.pmap",
        "line": 2,
        "rule": "conv.weight : o i h w <-> conv.kernel : h w i o",
    }
    assert [s["action"] for s in document["steps"]] == ["layout", "rename", "layout", "compute", "drop"]


def test_long_tables_fold_in_a_terminal(porter_cli: Porter, tmp_path: Path) -> None:
    _save(tmp_path / "x.npz", **{f"block{i}__with_a_rather_long_name__weight": np.ones(2, "f4") for i in range(60)})
    Path("all.pmap").write_text("block{i:int}.{r} <-> the_other_name_of_block.{i}.{r}\n")
    run = porter_cli("map", "check", "all.pmap", "x.npz", terminal=True)
    assert fits(run.out)
    assert "…25 more (-v)" in run.out
    assert len(porter_cli("map", "check", "all.pmap", "x.npz", "-v", terminal=True).out.splitlines()) == 62
    assert len(porter_cli("map", "check", "all.pmap", "x.npz").out.splitlines()) == 62


# ---- apply and convert -------------------------------------------------------------------------------------------------


def test_convert_with_a_map(porter_cli: Porter, net: str) -> None:
    run = porter_cli("convert", net, "out.npz", "--map", "net.pmap")
    assert (run.code, run.err) == (0, "note: dropped, as the map says (bn.steps)\n")
    assert run.out.splitlines()[1] == ("mapped  net.pmap            4 tensors  344 B    1 kept, 2 rearranged, 1 computed, 1 dropped")
    with porter.open(net) as source, porter.open("out.npz") as made:
        a, b = ({n: t.numpy().copy() for n, t in s.items()} for s in (source, made))
    assert np.array_equal(b["conv.kernel"], a["conv.weight"].transpose(2, 3, 1, 0))
    assert np.array_equal(b["fc.kernel"], a["fc.weight"].reshape(5, 3, 2).transpose(2, 1, 0).reshape(6, 5))
    assert np.array_equal(b["bn.scale"], (1 / np.sqrt(np.float64(a["bn.running_var"]) + 1e-5)).astype("f4")), "rounded once"


def test_apply_is_convert(porter_cli: Porter, net: str) -> None:
    mapped = porter_cli("map", "apply", "net.pmap", net, "a.npz")
    converted = porter_cli("convert", net, "b.npz", "--map", "net.pmap")
    assert mapped.code == converted.code == 0
    assert mapped.out.replace("a.npz", "b.npz") == converted.out
    assert Path("a.npz").read_bytes() == Path("b.npz").read_bytes()
    document = porter_cli("map", "apply", "net.pmap", net, "a.npz", "--overwrite", "--json").json
    assert (document["map"]["name"], document["map"]["chosen"], document["map"]["text"]) == ("net.pmap", False, None)
    assert porter_cli("map", "apply", "net.pmap", net).code == 2
    assert porter_cli("map", "apply", "--help").code == 0


def test_nothing_is_written_where_the_map_does_not_fit(porter_cli: Porter, net: str) -> None:
    Path("bad.pmap").write_text("conv.wieght <-> conv.kernel\nconv.bais <-> b\nrest <-> keep\n")
    Path("out.npz").write_bytes(b"old")
    run = porter_cli("convert", net, "out.npz", "--overwrite", "--map", "bad.pmap")
    assert (run.code, run.out) == (2, "")
    assert "error[M202]" in run.err
    assert "1 more problem: 'porter map check' lists all" in run.err
    assert Path("out.npz").read_bytes() == b"old"
    assert sorted(p.name for p in Path().iterdir()) == ["bad.pmap", "net.pmap", net, "out.npz"]


def test_convert_refuses_to_overwrite_with_a_map(porter_cli: Porter, net: str) -> None:
    Path("out.npz").write_bytes(b"old")
    assert "error[I010]" in porter_cli("map", "apply", "net.pmap", net, "out.npz").err
    assert Path("out.npz").read_bytes() == b"old"


def test_dry_run_shows_the_table(porter_cli: Porter, net: str) -> None:
    run = porter_cli("convert", net, "out.npz", "--map", "net.pmap", "--dry-run")
    assert run.code == 0
    assert TABLE in run.out
    assert not Path("out.npz").exists()
    document = porter_cli("convert", net, "out.npz", "--map", "net.pmap", "-n", "--json").json
    assert len(document["map"]["steps"]) == 5
    assert fits(porter_cli("map", "apply", "net.pmap", net, "out.npz", "-n", terminal=True).out)


def test_params(porter_cli: Porter, net: str) -> None:
    good = porter_cli("map", "check", "net.pmap", net, "--param", "rows=3")
    assert good.code == 0
    for given, code, said in (
        (["--param", "w=3"], "U920", "it has rows"),
        (["--param", "rows=two"], "U921", "of type int"),
        (["--param", "rows"], "U901", "is no NAME=VALUE"),
        (["--param", "=1"], "U901", "is no NAME=VALUE"),
        (["--param", "rows=1", "--param", "rows=2"], "U901", "given twice"),
        (["--param", "rows=0"], "M", ""),
    ):
        for command in (["map", "check", "net.pmap", net], ["convert", net, "x.npz", "--map", "net.pmap"]):
            run = porter_cli(*command, *given)
            text = run.out + run.err
            assert run.code in (1, 2), given
            assert f"error[{code}" in text, text
            assert said in text
            assert "= help: " in text
    Path("net.pmap").write_text(MAP.replace(" = 2", ""))
    run = porter_cli("map", "check", "net.pmap", net)
    assert (run.code, run.out) == (2, "")
    assert "error[M251]: the parameter 'rows' has no value" in run.err
    assert "--param rows=" in run.err
    assert porter_cli("map", "check", "net.pmap", net, "--param", "rows=2").code == 0
    assert "U922" in porter_cli("convert", net, "x.npz", "--param", "rows=2").err
    assert "U922" in porter_cli("diff", net, net, "--param", "rows=2").err
    assert "U922" in porter_cli("convert", net, "x.npz", "--map", "net.pmap", "--raw").err


# ---- Caffe to PyTorch --------------------------------------------------------------------------------------------------


def test_caffe_becomes_pytorch_by_itself(porter_cli: Porter, digits: str) -> None:
    run = porter_cli("convert", digits, "digits.pth")
    assert run.code == 0
    assert run.err.startswith("note: mapped by caffe:torch, as is usual; --raw leaves names and values as they are\n")
    assert run.out.splitlines()[1].startswith("mapped  caffe:torch  13 tensors")
    assert porter_cli("convert", digits, "digits.pth", "--overwrite", "-q").err == ""
    assert fits(porter_cli("convert", digits, "digits.pth", "--overwrite", terminal=True).out)
    with porter.open("digits.pth") as store:
        assert "bn1.running_mean" in store
        assert "prelu2.weight" in store
    with porter.open("digits.pth") as a, porter.open(digits) as b:
        assert a["conv1.weight"].tobytes() == b["conv1.weight"].tobytes()
    document = porter_cli("convert", digits, "digits.pth", "--overwrite", "--json").json
    assert (document["map"]["name"], document["map"]["chosen"]) == ("caffe:torch", True)


def test_raw(porter_cli: Porter, digits: str) -> None:
    run = porter_cli("convert", digits, "raw.pth", "--raw")
    assert run.code == 0
    assert "mapped" not in run.out
    assert porter_cli("diff", digits, "raw.pth").code == 0
    assert porter_cli("convert", digits, "raw.pth", "--raw", "--overwrite", "--json").json["map"] is None


def test_other_formats_get_no_map(porter_cli: Porter, digits: str) -> None:
    for target in ("x.npz", "x.wts", "x.safetensors", "x.onnx"):
        assert porter_cli("convert", digits, target, "--json").json["map"] is None
        assert porter_cli("diff", digits, target).code == 0


def test_show_map_prints_a_map(porter_cli: Porter, digits: str) -> None:
    run = porter_cli("convert", digits, "digits.pth", "--show-map")
    assert run.code == 0
    assert run.out.startswith("# caffe:torch for digits.caffemodel\n")
    assert run.out.splitlines()[-1].startswith("# wrote")
    assert "lstm" not in run.out, "what does nothing for this file is left out"
    Path("kept.pmap").write_text(run.out)
    assert parse(run.out).stages
    assert porter_cli("convert", digits, "again.pth", "--map", "kept.pmap").code == 0
    assert porter.diff("digits.pth", "again.pth").equal
    document = porter_cli("convert", digits, "x.pth", "--show-map", "--json").json
    Path("json.pmap").write_text(document["map"]["text"])
    assert porter_cli("diff", digits, "digits.pth", "--map", "json.pmap").code == 0
    assert parse(porter_cli("convert", digits, "y.pth", "--show-map", "--dry-run").out).stages
    assert "U923" in porter_cli("convert", digits, "z.npz", "--show-map").err


def test_a_map_that_porter_chose_can_be_left(porter_cli: Porter, net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("bad.pmap").write_text("conv.wieght <-> w\nrest <-> keep\n")
    monkeypatch.setattr("porter.conversion.USUAL_MAPS", {("safetensors", "single", "npz"): "./bad.pmap"})
    run = porter_cli("convert", net, "out.npz")
    assert (run.code, run.out) == (2, "")
    assert "--raw leaves names and values as they are ('./bad.pmap' was porter's choice)" in run.err
    assert porter_cli("convert", net, "out.npz", "--raw").code == 0


def test_the_real_mtcnn(porter_cli: Porter, shared: Path) -> None:
    source, goal = shared / "real/mtcnn/caffe/det1.caffemodel", shared / "real/mtcnn/pytorch/pnet.pt"
    run = porter_cli("convert", source, "det1.pth")
    assert run.code == 0
    assert "6 kept, 7 renamed" in run.out
    run = porter_cli("map", "infer", source, goal, "-o", "pnet.pmap")
    assert (run.code, run.out.splitlines()[0]) == (0, "wrote pnet.pmap")
    run = porter_cli("diff", source, goal, "--map", "pnet.pmap")
    assert (run.code, run.out) == (0, "equal: 13 tensors, bit for bit\n")


# ---- diff --------------------------------------------------------------------------------------------------------------


def test_diff_across_names_and_layouts(porter_cli: Porter, net: str) -> None:
    assert porter_cli("convert", net, "out.h5", "--map", "net.pmap").code == 0
    assert porter_cli("diff", net, "out.h5").code == 1
    run = porter_cli("diff", net, "out.h5", "--map", "net.pmap")
    assert (run.code, run.out) == (0, "equal: 4 tensors, bit for bit\n")
    assert porter_cli("diff", net, "out.h5", "--map", "net.pmap", "--param", "rows=3").code == 1
    assert porter_cli("diff", net, "out.h5", "--map", "net.pmap", "--json").json["equal"] is True
    assert porter.diff(net, "out.h5", map="net.pmap").equal
    assert not porter.diff(net, "out.h5", map="net.pmap", params={"rows": 3}).equal


def test_what_computing_lost_is_said(porter_cli: Porter, net: str) -> None:
    Path("far.pmap").write_text("conv.bias -> conv.bias | mul(1e30) | cast(f16)\nrest <-> keep\n")
    note = "note: values beyond the range of float16 became infinite (conv.bias)\n"
    assert porter_cli("convert", net, "out.npz", "--map", "far.pmap").err == note
    assert porter_cli("diff", net, net, "--map", "far.pmap").err == note
    notices = porter_cli("convert", net, "out.npz", "--map", "far.pmap", "--overwrite", "--json").json["notices"]
    assert [n["tensor"] for n in notices if n["kind"] == "changed"] == ["conv.bias"]


def test_diff_says_nothing_of_what_it_does_not_compare(porter_cli: Porter, digits: str) -> None:
    assert porter_cli("convert", digits, "digits.pth").err.count("caffe.net is left out") == 1
    run = porter_cli("diff", digits, "digits.pth", "--map", "caffe:torch")
    assert (run.code, run.err) == (0, "")


# ---- explain -----------------------------------------------------------------------------------------------------------


def test_explain_either_way(porter_cli: Porter, net: str) -> None:
    text = """\
net.pmap:2  rearranged
  conv.weight : o i h w <-> conv.kernel : h w i o
  ← conv.weight  4×3×2×2  f32
  → conv.kernel  2×2×3×4  f32
"""
    assert porter_cli("map", "explain", "net.pmap", net, "conv.weight").out == text
    assert porter_cli("map", "explain", "net.pmap", net, "conv.kernel").out == text
    run = porter_cli("map", "explain", "net.pmap", net, "bn.steps")
    assert run.out.splitlines()[-1] == "  → nothing"
    run = porter_cli("map", "explain", "net.pmap", net, "bn.scale")
    assert "  where p = bn\n" in run.out
    assert fits(porter_cli("map", "explain", "net.pmap", net, "bn.scale", terminal=True).out)


def test_explain_with_digests(porter_cli: Porter, net: str) -> None:
    digest = porter.open(net)["conv.weight"].digest()
    run = porter_cli("map", "explain", "net.pmap", net, "conv.kernel", "--digest", terminal=True)
    assert f"      sha256 {digest}\n" in run.out
    assert fits(run.out)
    document = porter_cli("map", "explain", "net.pmap", net, "conv.kernel", "--digest", "--json").json
    assert document["steps"][0]["sha256"] == [digest]
    assert document["steps"][0]["bindings"] == {}


STAGES = """\
conv.weight <-> first
rest <-> keep
then
first : o i h w <-> second : h w i o
again = second
expect sources=any
"""


def test_explain_through_stages(porter_cli: Porter, net: str) -> None:
    Path("stages.pmap").write_text(STAGES)
    run = porter_cli("map", "explain", "stages.pmap", net, "again")
    heads = [line for line in run.out.splitlines() if line.startswith("stages.pmap")]
    assert heads == [
        "stages.pmap:1, stage 1 of 2  renamed",
        "stages.pmap:4, stage 2 of 2  rearranged",
        "stages.pmap:5, stage 2 of 2  tied",
    ]
    assert porter_cli("map", "explain", "stages.pmap", net, "conv.weight").out == run.out
    run = porter_cli("map", "explain", "stages.pmap", net, "fc.weight")
    assert run.out.endswith("fc.weight is left out: no statement mentions it, as 'expect sources=any' allows\n")
    assert porter_cli("map", "explain", "stages.pmap", net, "fc.weight", "--json").json["left_out"] == ["fc.weight"]
    assert porter_cli("map", "explain", "stages.pmap", net, "bn.steps", "--digest").code == 0


def test_explain_of_what_is_not_there(porter_cli: Porter, net: str) -> None:
    run = porter_cli("map", "explain", "net.pmap", net, "conv.kernal")
    assert (run.code, run.out) == (2, "")
    assert "error[U924]" in run.err
    assert "did you mean 'conv.kernel'?" in run.err


# ---- maps as text ------------------------------------------------------------------------------------------------------


def test_list(porter_cli: Porter) -> None:
    run = porter_cli("map", "list", terminal=True)
    assert fits(run.out)
    lines = run.out.splitlines()
    assert lines[0] == "MAPS"
    assert "caffe:torch" in lines
    assert "rsqrt" in lines
    document = porter_cli("map", "list", "--json").json
    assert [m["name"] for m in document["maps"]] == library.names()
    assert all(m["description"] for m in document["maps"])
    assert all(o["summary"] and o["takes"] and o["undone"] for o in document["operations"])
    plain = porter_cli("map", "list").out.splitlines()
    assert len(plain) < len(lines)


def test_show(porter_cli: Porter, digits: str) -> None:
    Path("one.pmap").write_text('include "two.pmap"\nrest <-> keep\n')
    Path("two.pmap").write_text("conv1.weight <-> first\n")
    run = porter_cli("map", "show", "one.pmap")
    assert run.out == "# one.pmap\n\nconv1.weight <-> first\n\nrest <-> keep\n"
    assert porter_cli("map", "show", "one.pmap", "--json").json == {"output": None, "text": run.out}
    shown = porter_cli("map", "show", "caffe:torch", digits)
    assert "table batch_norm { bn1=bn1 }" in shown.out
    assert parse(shown.out).stages
    assert "table batch_norm from caffe.batch_norm" in porter_cli("map", "show", "caffe:torch").out


def test_show_with_values_of_parameters(porter_cli: Porter, net: str) -> None:
    Path("p.pmap").write_text("param n : int\nparam m : int\nfc.weight : (a b) c <-> x : a b c where a=n\n")
    assert "param n : int = 4" in porter_cli("map", "show", "p.pmap", "--param", "n=4", "--param", "m=2").out
    assert "error[M251]" in porter_cli("map", "show", "p.pmap", "--param", "n=4").err
    assert "error[M250]" in porter_cli("map", "show", "torch:keras", "--param", "depth_multiplier=2").err
    # What an inverse does not need a value for is left open.
    assert "param n : int = 4" in porter_cli("map", "invert", "p.pmap", "--param", "n=4").out


def test_options_that_nothing_reads(porter_cli: Porter, net: str) -> None:
    Path("all.pmap").write_text("rest <-> keep\n")
    Path("list.json").write_text('[{"name": "a", "shape": [2], "dtype": "f32"}]')
    for arguments in (
        ("show", "all.pmap", "--net", "x.prototxt"),
        ("show", "all.pmap", "--from", "caffe"),
        ("check", "all.pmap", "list.json", "--select", "model"),
        ("infer", "list.json", "list.json", "--net-b", "x.prototxt"),
    ):
        run = porter_cli("map", *arguments)
        assert (run.code, run.out) == (2, ""), arguments
        assert "error[U927]" in run.err


def test_the_library_takes_paths(porter_cli: Porter, net: str) -> None:
    Path("all.pmap").write_text("rest <-> keep\n")
    with porter.open(net) as store:
        assert list(porter.apply_map(Path("all.pmap"), store)) == list(store)
        specs = [t.spec for t in store.values()]
        assert porter.infer_map(specs, Path(net)).matched == len(store)
    assert porter.diff(net, net, map=Path("all.pmap")).equal
    assert porter.convert(net, "out.npz", map=Path("all.pmap")).tensors == len(specs)


def test_invert_and_back_through_files(porter_cli: Porter, net: str) -> None:
    Path("two.pmap").write_text("conv.{r} <-> c.{r}\nfc.weight : o i <-> fc.kernel : i o\nrest <-> keep\n")
    assert porter_cli("map", "invert", "two.pmap", "-o", "back.pmap").out == "wrote back.pmap\n"
    assert porter_cli("convert", net, "there.safetensors", "--map", "two.pmap").code == 0
    assert porter_cli("convert", "there.safetensors", "back.safetensors", "--map", "back.pmap").code == 0
    assert porter.diff(net, "back.safetensors").equal
    assert porter_cli("map", "compose", "two.pmap", "back.pmap", "-o", "both.pmap").code == 0
    assert porter_cli("diff", net, net, "--map", "both.pmap").code == 0
    twice = porter_cli("map", "invert", "back.pmap").out
    assert twice.splitlines()[2:] == porter_cli("map", "show", "two.pmap").out.splitlines()[2:]


def test_invert_says_what_goes_one_way(porter_cli: Porter, net: str) -> None:
    run = porter_cli("map", "invert", "net.pmap", "-o", "back.pmap")
    assert (run.code, run.out) == (2, "")
    assert "error[M502]: this rule goes one way" in run.err
    assert "--> net.pmap:5:1" in run.err
    assert "line 6 cannot be undone either" in run.err
    assert not Path("back.pmap").exists()


def test_compose_of_parameters_that_differ(porter_cli: Porter, net: str) -> None:
    Path("other.pmap").write_text("param rows : float = 2.0\nrest <-> keep\n")
    run = porter_cli("map", "compose", "net.pmap", "other.pmap")
    assert (run.code, run.out) == (2, "")
    assert "error[M252]" in run.err
    assert porter_cli("map", "compose", "net.pmap", "net.pmap").code == 0


def test_compose_keeps_tables_apart(porter_cli: Porter, net: str) -> None:
    Path("a.pmap").write_text("table t { weight=w bias=b }\nconv.{r:t} <-> c.{r}\nrest <-> keep\n")
    Path("b.pmap").write_text("table t { w=kernel b=offset }\nc.{r:t} <-> d.{r}\nrest <-> keep\n")
    run = porter_cli("map", "compose", "a.pmap", "b.pmap", "-o", "ab.pmap")
    assert run.code == 0
    document = porter_cli("map", "check", "ab.pmap", net, "--json").json
    assert document["fits"], document["problems"]
    made = [t["name"] for s in document["steps"] if s["stage"] == 2 for t in s["targets"]]
    assert made[:2] == ["d.kernel", "d.offset"]


@pytest.mark.parametrize(
    "command",
    [("invert", "two.pmap"), ("compose", "two.pmap", "two.pmap"), ("show", "two.pmap"), ("infer", "net.safetensors", "net.safetensors")],
    ids=lambda c: c[0],
)
def test_output_files(porter_cli: Porter, net: str, command: tuple[str, ...]) -> None:
    Path("two.pmap").write_text("conv.weight <-> conv.w\nrest <-> keep\n")
    printed = porter_cli("map", *command).out
    assert parse(printed).stages
    Path("out.pmap").write_text("old")
    run = porter_cli("map", *command, "-o", "out.pmap")
    assert (run.code, run.out) == (2, "")
    assert run.err == "error[I010]: the output exists\n  --> out.pmap\n   = help: add --overwrite to replace it\n"
    assert Path("out.pmap").read_text() == "old"
    run = porter_cli("map", *command, "-o", "out.pmap", "--overwrite")
    assert (run.code, run.out.splitlines()[0]) == (0, "wrote out.pmap")
    assert Path("out.pmap").read_text() == printed
    assert porter_cli("map", *command, "-o", "out.pmap", "--overwrite", "-q").out == ""
    document = porter_cli("map", *command, "-o", "out.pmap", "--overwrite", "--json").json
    assert (document["output"], document["text"]) == ("out.pmap", printed)
    run = porter_cli("map", *command, "-o", "missing/out.pmap")
    assert "error[I001]" in run.err
    assert sorted(p.name for p in Path().iterdir()) == ["net.pmap", net, "out.pmap", "two.pmap"]


def test_the_group(porter_cli: Porter) -> None:
    run = porter_cli("map")
    assert (run.code, run.out) == (2, "")
    assert "infer" in run.err
    run = porter_cli("map", "chekc")
    assert run.code == 2
    assert "did you mean 'check'?" in run.err
    for name in ("check", "apply", "invert", "compose", "explain", "infer", "list", "show"):
        text = porter_cli("map", name, "--help", terminal=True).out
        assert fits(text)
        assert text.startswith(f"Usage: porter map {name} ")


def test_every_option_says_what_it_is_for() -> None:
    import click

    from porter.cli.map import COMMANDS, command

    context = click.Context(command)
    for name, summary in COMMANDS.items():
        found = command.get_command(context, name)
        assert found is not None
        assert (found.name, found.short_help) == (name, summary)
        for parameter in found.params:
            if isinstance(parameter, click.Option):
                assert parameter.help
                assert parameter.help.endswith("."), f"{name} {parameter.opts}"


# ---- infer -------------------------------------------------------------------------------------------------------------


def test_infer(porter_cli: Porter, net: str) -> None:
    with porter.open(net) as store:
        arrays = {n: t.numpy().copy() for n, t in store.items()}
    _save(
        Path("goal.npz"),
        stem__kernel=np.ascontiguousarray(arrays["conv.weight"].transpose(2, 3, 1, 0)),
        stem__bias=arrays["conv.bias"],
        head__kernel=np.ascontiguousarray(arrays["fc.weight"].T),
        bn__var=arrays["bn.running_var"],
        bn__steps=arrays["bn.steps"],
    )
    run = porter_cli("map", "infer", net, "goal.npz", "-o", "found.pmap")
    assert (run.code, run.err) == (0, "")
    assert run.out.startswith("wrote found.pmap\n5 of 5 tensors of B matched, by ")
    assert porter_cli("diff", net, "goal.npz", "--map", "found.pmap").out == "equal: 5 tensors, bit for bit\n"
    document = porter_cli("map", "infer", net, "goal.npz", "--json").json
    assert (document["sources"], document["targets"], document["matched"]) == (5, 5, 5)
    assert document["unmatched_sources"] == document["unmatched_targets"] == []
    assert all(0 < r["confidence"] <= 1 and r["reason"] for r in document["rules"])
    assert porter.infer_map(net, "goal.npz").text() == document["text"]


def test_infer_with_something_left_over(porter_cli: Porter, net: str) -> None:
    with porter.open(net) as store:
        arrays = {n.replace(".", "__"): t.numpy().copy() for n, t in store.items()}
    _save(Path("goal.npz"), conv__weight=arrays["conv__weight"], fc__weight=arrays["fc__weight"], extra=np.full((3, 7), 1.5, "f4"))
    run = porter_cli("map", "infer", net, "goal.npz", "-o", "found.pmap")
    assert run.code == 1
    assert "not made, of B: extra\n" in run.out or "extra" in run.out
    assert "dropped, of A: " in run.out
    assert Path("found.pmap").exists()
    assert porter_cli("map", "infer", net, "goal.npz").code == 1
    assert parse(Path("found.pmap").read_text()).stages


def test_infer_from_names_and_shapes(porter_cli: Porter, net: str) -> None:
    Path("goal.json").write_text(
        json.dumps(
            [{"name": "conv.kernel", "shape": [2, 2, 3, 4]}, {"name": "conv.bias", "shape": [4]}, {"name": "fc.kernel", "shape": [6, 5]}]
        )
    )
    run = porter_cli("map", "infer", net, "goal.json")
    assert run.code == 1, "the statistics are left over"
    assert run.err == "note: goal.json gives no dtype, so float32 is assumed (conv.kernel, conv.bias, fc.kernel)\n"
    Path("found.pmap").write_text(run.out)
    assert porter_cli("map", "check", "found.pmap", net, "goal.json").code == 0
    Path("goal.json").write_text('[{"name": "a"}]')
    run = porter_cli("map", "infer", net, "goal.json")
    assert (run.code, run.out) == (2, "")
    assert "this tensor has no shape" in run.err


def test_infer_of_other_networks(porter_cli: Porter, net: str, digits: str) -> None:
    _save(Path("far.npz"), x=np.arange(77, dtype="f4"))
    run = porter_cli("map", "infer", net, "far.npz", "-o", "found.pmap")
    assert (run.code, run.out) == (2, "")
    assert "error[M601]" in run.err
    assert not Path("found.pmap").exists()


# ---- provenance --------------------------------------------------------------------------------------------------------


def test_provenance(porter_cli: Porter, net: str) -> None:
    run = porter_cli("convert", net, "out.npz", "--map", "net.pmap", "--provenance", "out.json")
    assert run.code == 0
    assert run.out.endswith("saved  provenance → out.json\n")
    document = json.loads(Path("out.json").read_text())
    validate(document, "provenance")
    assert document["source"] == {"path": net, "format": "safetensors", "dialect": "single"}
    assert document["target"] == {"path": "out.npz", "format": "npz"}
    with porter.open(net) as source, porter.open("out.npz") as made:
        digests = {n: t.digest() for n, t in source.items()}
        assert [(t["name"], t["shape"]) for t in document["tensors"]] == [(n, list(t.shape)) for n, t in made.items()]
    kernel = document["tensors"][0]
    assert kernel["steps"] == [
        {
            "stage": 1,
            "makes": "conv.kernel",
            "action": "layout",
            "map": "net.pmap",
            "line": 2,
            "rule": "conv.weight : o i h w <-> conv.kernel : h w i o",
            "inputs": [{"name": "conv.weight", "dtype": "float32", "shape": [4, 3, 2, 2], "sha256": digests["conv.weight"]}],
        }
    ]
    listed = porter_cli("map", "apply", "net.pmap", net, "b.npz", "--provenance", "b.json", "--json").json["files"]
    assert [f["path"] for f in listed] == ["b.npz", "b.json"]


def test_provenance_through_stages(porter_cli: Porter, net: str) -> None:
    Path("stages.pmap").write_text(STAGES + "fill(1, shape=[2], dtype=f32) -> extra\n")
    assert porter_cli("convert", net, "out.npz", "--map", "stages.pmap", "--provenance", "out.json").code == 0
    document = json.loads(Path("out.json").read_text())
    validate(document, "provenance")
    steps = {t["name"]: t["steps"] for t in document["tensors"]}
    assert [(s["stage"], s["makes"], s["action"]) for s in steps["again"]] == [
        (2, "again", "tie"),
        (2, "second", "layout"),
        (1, "first", "rename"),
    ]
    assert [s["inputs"][0]["name"] for s in steps["again"]] == ["second", "first", "conv.weight"]
    with porter.open(net) as source, porter.open("out.npz") as made:
        assert steps["again"][2]["inputs"][0]["sha256"] == source["conv.weight"].digest()
        assert steps["again"][0]["inputs"][0]["sha256"] == made["second"].digest()
    assert [s["action"] for s in steps["extra"]] == ["fill"]
    assert steps["extra"][0]["inputs"] == []


def test_provenance_is_refused(porter_cli: Porter, net: str) -> None:
    Path("old.json").write_text("old")
    with_map = ("convert", net, "out.npz", "--map", "net.pmap", "--provenance")
    for arguments, code in (
        ((*with_map, "old.json"), "I010"),
        ((*with_map, net), "U926"),
        ((*with_map, "out.npz"), "U926"),
        ((*with_map, "missing/x.json"), "I001"),
        (("convert", net, "out.npz", "--provenance", "x.json"), "U925"),
    ):
        run = porter_cli(*arguments)
        assert run.code == 2, arguments
        assert f"error[{code}]" in run.err
        assert sorted(p.name for p in Path().iterdir()) == ["net.pmap", net, "old.json"]
    assert Path("old.json").read_text() == "old"


def test_provenance_appears_with_the_weights_or_not_at_all(porter_cli: Porter, net: str, tmp_path: Path) -> None:
    _save(tmp_path / "c.npz", a=np.ones(2, "c8"))
    Path("all.pmap").write_text("a <-> b\n")
    run = porter_cli("convert", "c.npz", "out.wts", "--map", "all.pmap", "--provenance", "out.json")
    assert run.code == 2
    assert not Path("out.json").exists()
    assert porter_cli("convert", net, "out.npz", "--map", "net.pmap", "--provenance", "out.json", "-n").code == 0
    assert not Path("out.json").exists()


# ---- as a library ------------------------------------------------------------------------------------------------------


def test_library(net: str, digits: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    report = porter.convert(digits, "digits.pth")
    assert (report.format, report.tensors) == ("pytorch", 13)
    assert porter.diff(digits, "digits.pth", map="caffe:torch").equal
    porter.convert(digits, "raw.pth", raw=True)
    assert porter.diff(digits, "raw.pth").equal
    found = porter.load_map("net.pmap")
    with porter.open(net) as store, porter.apply_map(found, store, {"rows": 3}) as mapped:
        assert list(mapped) == ["conv.kernel", "conv.bias", "fc.kernel", "bn.scale"]
        porter.save(mapped, "out.npz")
    assert porter.diff(net, "out.npz", map=found, params={"rows": "3"}).equal
    with pytest.raises(porter.PorterError, match="no map"):
        porter.load_map("caffe:toch")
    with pytest.raises(porter.PorterError, match="no tensor"), porter.open(digits) as store:
        porter.apply_map("net.pmap", store)
    store, _ = convert(net, "again.npz", map="net.pmap", params={"rows": 3})
    assert porter.diff(store, "out.npz").equal
