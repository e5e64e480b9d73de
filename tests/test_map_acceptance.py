"""The map language as a whole, from the command line: what a user who does not trust it would try."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cli_runner import Porter

import porter
from porter.errors import MapError
from porter.mapping.execution import apply
from porter.mapping.inference.infer import infer
from porter.mapping.inverse import invert
from porter.mapping.parser import parse
from porter.mapping.plan import examine
from porter.store import TensorStore
from porter.tensor import Tensor


class TestBuiltInMaps:
    def test_keras_to_torch_and_back_into_the_model(self, porter_cli: Porter, shared: Path, tmp_path: Path) -> None:
        model = shared / "real/keras_faceclass/tiny_XCEPTION_KDEF.hdf5"
        assert porter_cli("convert", model, "there.pth", "--map", "keras:torch").code == 0
        back = porter_cli("convert", "there.pth", "back.h5", "--map", "torch:keras", "--into", model)
        assert back.code == 0, back.err
        assert (tmp_path / "back.h5").read_bytes() == model.read_bytes()

    def test_what_tables_find_out_is_said(self, porter_cli: Porter, shared: Path) -> None:
        model = shared / "oracle/zoo/BatchNorm_eps0p01_globalstats/model.caffemodel"
        assert "BatchNorm with eps=0.01" in porter_cli("convert", model, "out.pth").err

    def test_a_scale_without_bias_gets_none_back(self, porter_cli: Porter, shared: Path) -> None:
        folder = shared / "oracle/zoo/BatchNorm_scale_nobias"
        assert porter_cli("convert", folder / "model.caffemodel", "there.pth").code == 0
        back = porter_cli("convert", "there.pth", "back.caffemodel", "--map", "torch:caffe", "--net", folder / "deploy.prototxt")
        assert back.code == 0, back.err
        names = [tensor["name"] for tensor in porter_cli("inspect", "back.caffemodel", "--json").json["tensors"]]
        assert sorted(names) == ["bn.mean", "bn.scale_factor", "bn.variance", "scale.weight"]


class TestMemory:
    def test_what_was_moved_leaves_the_memory(self, tmp_path: Path) -> None:
        """A layout change of many tensors takes the memory of one of them, not that of the file, which is mapped."""
        block = np.arange(1 << 20, dtype=np.float32).reshape(1024, 1024)
        porter.save(TensorStore([Tensor.from_array(f"layer{i}", block) for i in range(48)]), tmp_path / "in.safetensors")
        (tmp_path / "turn.pmap").write_text("layer{i:int} : a b <-> turned{i} : b a\n")
        code = (
            # Not `ru_maxrss`, which a process inherits from the one that started it.
            "import sys; from porter.cli.main import main; code = main(sys.argv[1:]);"
            "peak = [line for line in open('/proc/self/status') if line.startswith('VmHWM')];"
            "print(code, int(peak[0].split()[1]) >> 10)"
        )
        command = [sys.executable, "-c", code, "convert", "in.safetensors", "out.safetensors", "--map", "turn.pmap", "-q"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        status, mebibytes = map(int, done.stdout.split())
        assert status == 0
        assert mebibytes < 120, "192 MiB of tensors of 4 MiB each"


def contents(store: TensorStore) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {name: (t.dtype.name, t.shape, t.tobytes()) for name, t in store.items()}


class TestTurnedAround:
    def test_what_is_filled_in_is_told_from_what_was_there(self) -> None:
        """`cx` has the value and nearly the name of what is filled in, and stays."""
        store = TensorStore([Tensor.from_array(name, np.ones(2, np.float32)) for name in ("cx", "bb")])
        both = parse("fill(1) -> {k}x for {k:a|b}b\nrest <-> keep\n")
        filled = apply(both, store)
        assert list(filled) == ["cx", "bb", "bx"]
        assert contents(apply(invert(both), filled)) == contents(store)

    def test_a_parameter_that_is_given(self, porter_cli: Porter, tmp_path: Path) -> None:
        (tmp_path / "number.pmap").write_text("param n : int = 2\n{p} <-> {p}.{n}\n")
        assert "param n : int = 5\n" in porter_cli("map", "invert", "number.pmap", "--param", "n=5").out

    @pytest.mark.parametrize("line", ["fill(1) -> x{i+1} for b{i:0..2}", "table t { a=b }\nfill(1) -> {k}x for {k:t}b"])
    def test_a_fill_whose_captures_are_limited_elsewhere(self, line: str) -> None:
        with pytest.raises(MapError, match="which tensors were filled in") as caught:
            invert(parse(line))
        assert caught.value.code == "M504"


class TestTies:
    @staticmethod
    def tied() -> TensorStore:
        store = TensorStore([Tensor.from_array("embed", np.arange(6, dtype=np.float32).reshape(2, 3))])
        store.tie(Tensor.from_array("head", store["embed"].numpy()), "embed")
        return store

    @pytest.mark.parametrize("rule", ["{p} <-> x.{p}", "{p} : a b <-> x.{p} : b a"])
    def test_tensors_that_go_the_same_way_stay_tied(self, rule: str) -> None:
        result = apply(parse(rule), self.tied())
        assert result.ties == {"x.head": "x.embed"}
        assert not result.notices
        assert result["x.head"].tobytes() == result["x.embed"].tobytes()

    @pytest.mark.parametrize(
        "rule", ["{p} -> {p} | neg", "embed : a b <-> embed : b a\nhead <-> keep", "[embed, head] : a b <-> both : (2 a) b"]
    )
    def test_a_tie_that_ends_is_reported(self, rule: str) -> None:
        result = apply(parse(rule), self.tied())
        assert result.ties == {}
        assert [(n.tensor, n.message[:25]) for n in result.notices] == [("head", "no longer tied to 'embed'")]


class TestInference:
    def test_a_network_that_was_not_trained(self) -> None:
        """All its batch normalisations hold ones and zeros, which say nothing; layers and names do."""
        rng = np.random.default_rng(0)
        one, other = TensorStore(), TensorStore()
        for i in range(6):
            values = {"conv.weight": rng.normal(size=(8, 8, 3, 3)), "bn.weight": np.ones(8), "bn.bias": np.zeros(8)}
            for name, array in (values | {"bn.running_mean": np.zeros(8), "bn.running_var": np.ones(8)}).items():
                one.add(Tensor.from_array(f"{i}.{name}", array.astype(np.float32)))
                other.add(Tensor.from_array(f"body.{i}.{name.replace('bn', 'norm')}", array.astype(np.float32)))
        for a, b in ((one, other), (other, one)):
            found = infer(a, b)
            result = apply(found.map, a)
            assert contents(result) == contents(b)
            for name in result:
                (_, _, origin), *_ = result.path(name)
                assert name.split(".")[-3:][0].removeprefix("body") in origin.inputs[0].name
                assert name.split(".")[-1] == origin.inputs[0].name.split(".")[-1]


class TestCheck:
    def test_a_name_that_a_json_object_has_twice(self, porter_cli: Porter, tmp_path: Path) -> None:
        (tmp_path / "names.json").write_text('{"a": [2], "b": [2], "a": [3]}')
        (tmp_path / "all.pmap").write_text("rest <-> keep\n")
        run = porter_cli("map", "check", "all.pmap", "names.json")
        assert run.code == 2
        assert "'a' stands twice" in run.err

    def test_a_rule_that_is_wrong_is_the_only_problem(self) -> None:
        """What it would have taken is not reported as forgotten."""
        plan = examine(parse("{p} <-> {p}.{q}\n"), [Tensor.from_array("a", np.zeros(2, np.float32))])
        assert [p.code for p in plan.problems] == ["M210"]

    def test_many_problems_take_no_longer_than_many_rules(self) -> None:
        """Each shows its line of the text, which is not cut into lines again for each."""
        text = "".join(f"from{i} -> to{i}\n" for i in range(20_000))
        start = time.process_time()
        plan = examine(parse(text), [Tensor.from_array("other", np.zeros(2, np.float32))])
        assert len(plan.problems) == 20_001
        assert time.process_time() - start < 12
