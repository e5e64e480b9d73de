"""Checked maps carried out: the bytes, when they are read, what they cost, and what is said of where they come from."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

import porter
from porter.dtypes import DTYPES
from porter.errors import MapError, UsageError
from porter.mapping.composition import compose
from porter.mapping.execution import MappedStore, apply
from porter.mapping.ops.rounding import rounded
from porter.mapping.parser import parse
from porter.mapping.plan import plan
from porter.mapping.render import dumps
from porter.mapping.settled import pruned
from porter.store import TensorStore
from porter.tensor import BytesPayload, Tensor, TensorSpec

Arrays = dict[str, NDArray[Any]]


class Counting:
    """A payload that counts how often it is read."""

    def __init__(self, data: bytes) -> None:
        self.base = BytesPayload.of(data)
        self.nbytes = self.base.nbytes
        self.location = None
        self.reads = 0

    def chunks(self, limit: int) -> Iterator[memoryview]:
        self.reads += 1
        return self.base.chunks(limit)

    def buffer(self) -> memoryview:
        self.reads += 1
        return self.base.buffer()


def store_of(arrays: Arrays) -> TensorStore:
    return TensorStore([Tensor.from_array(name, array) for name, array in arrays.items()])


def counted(arrays: Arrays) -> tuple[TensorStore, dict[str, Counting]]:
    payloads = {name: Counting(array.tobytes()) for name, array in arrays.items()}
    specs = [t.spec for t in store_of(arrays).values()]
    return TensorStore([Tensor(spec, payloads[spec.name]) for spec in specs]), payloads


def applied(text: str, arrays: Arrays, **options: Any) -> MappedStore:
    return apply(parse(text), store_of(arrays), **options)


def same(made: Tensor, expected: NDArray[Any]) -> None:
    assert made.shape == expected.shape
    assert made.numpy().dtype == expected.dtype
    assert made.tobytes() == np.ascontiguousarray(expected).tobytes()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


class TestBytes:
    def test_renames_layouts_and_lists(self, rng: np.random.Generator) -> None:
        kernel = rng.normal(size=(2, 3, 4, 5)).astype("<f4")
        q, k = rng.normal(size=(2, 4, 6)).astype("<f2")
        experts = rng.normal(size=(3, 2, 2))
        text = """
            conv.w : o i h w <-> conv.kernel : h w i o
            {p}.bias <-> {p}.b
            [{p}.q, {p}.k] : o i <-> {p}.qk : i (2 o)
            e{e:int} <-> experts[e]
        """
        arrays = {"conv.w": kernel, "x.bias": q[0], "l.k": k, "l.q": q, **{f"e{i}": e for i, e in enumerate(experts)}}
        made = applied(text, arrays)
        same(made["conv.kernel"], kernel.transpose(2, 3, 1, 0))
        same(made["x.b"], q[0])
        same(made["l.qk"], np.concatenate([q, k]).T)
        same(made["experts"], experts)

    def test_arithmetic_is_rounded_once(self) -> None:
        x = np.arange(1, 4000, dtype="<f4") / 7
        exact = 1 / np.sqrt(x.astype(np.float64) + 1e-5)
        same(applied("x -> y | add(1e-5) | rsqrt", {"x": x})["y"], exact.astype("<f4"))
        same(applied("x | add(1e-5) -> y | rsqrt", {"x": x})["y"], exact.astype("<f4"))
        same(applied("x : n -> y : n | add(1e-5) | rsqrt", {"x": x})["y"], exact.astype("<f4"))
        stepwise = (1 / np.sqrt((x.astype(np.float64) + 1e-5).astype("<f4").astype(np.float64))).astype("<f4")
        assert (exact.astype("<f4") != stepwise).any(), "the example tells them apart"
        same(applied("x -> y | add(1e-5)\nthen\ny -> z | rsqrt", {"x": x})["z"], stepwise)

    def test_one_rounding_across_the_arrow_and_a_layout(self) -> None:
        x = np.linspace(1, 2, 6000).reshape(2, 3000).astype("<f4")
        once = rounded(x.astype(np.float64) * 1.1 + 0.3, DTYPES["bfloat16"])[0].T
        made = applied("x : a b | mul(1.1) -> y : b a | add(0.3) | cast(bf16)", {"x": x})["y"]
        same(made, once)

    def test_one_rounding_of_several_outputs(self, rng: np.random.Generator) -> None:
        w, m, v = rng.normal(size=(8, 9)).astype("<f4"), rng.normal(size=8).astype("<f4"), rng.random(8).astype("<f4") + 0.5
        g, b = rng.normal(size=(2, 8)).astype("<f4")
        arrays = {"w": w, "m": m, "v": v, "g": g, "b": b}
        fold = "[weight=w, mean=m, variance=v, gamma=g, beta=b] | fold_bn(eps=0)"
        made = applied(f"{fold} -> [bias=y, weight=x] | cast(f16)", arrays)
        wide = {n: a.astype(np.float64) for n, a in arrays.items()}
        factor = wide["g"] / np.sqrt(wide["v"])
        assert (abs(made["x"].numpy().astype(np.float64) - wide["w"] * factor[:, None]) <= np.spacing(made["x"].numpy()) * 0.51).all()
        same(made["x"], applied(f"{fold} | cast(f16) -> [weight=x, bias=y]", arrays)["x"].numpy())
        same(made["y"], applied(f"{fold} | cast(f16) -> [weight=x, bias=y]", arrays)["y"].numpy())

    def test_bits_between_arithmetic_are_those_of_the_type(self) -> None:
        x = np.array([0.1, -0.0, np.inf], "<f2")
        expected = (-(x.astype(np.float64) * 3).astype("<f2")).astype(np.float64) * 3
        same(applied("x -> y | mul(3) | neg | mul(3)", {"x": x})["y"], expected.astype("<f2"))

    def test_nan_payloads_survive(self) -> None:
        bits = np.array([0x7F800001, 0xFFC12345, 0x7FC00000, 0x80000000], "<u4")
        x = bits.view("<f4").reshape(2, 2)
        made = applied("x : a b | neg -> y : b a", {"x": x})["y"]
        assert made.numpy().view("<u4").tolist() == (bits.reshape(2, 2).T ^ 0x80000000).tolist()
        wide = applied("x -> y | cast(f64)\nthen\ny -> z | cast(f32)", {"x": x})["z"]
        assert wide.numpy().view("<u4").tolist() == bits.reshape(2, 2).tolist()

    def test_packed_types(self) -> None:
        values = np.array([[1, -2, 3], [-4, 5, -6]], ml_dtypes.int4)
        made = applied("x : a b <-> y : b a", {"x": values})["y"]
        assert made.numpy().astype(int).tolist() == [[1, -4], [-2, 5], [3, -6]]
        assert applied("x -> y | cast(f32) | neg", {"x": values})["y"].numpy().tolist() == [[-1, 2, -3], [4, -5, 6]]

    def test_copies_and_operations_on_each(self) -> None:
        x = np.arange(4, dtype="<f4")
        made = applied("x | copy(2) -> [a, b] | neg\n[p, q] : n | neg -> r : (2 n)", {"x": x, "p": x, "q": x + 1})
        same(made["a"], -x)
        same(made["b"], -x)
        same(made["r"], -np.concatenate([x, x + 1]))

    def test_empty_and_scalar_tensors(self) -> None:
        empty, scalar = np.zeros((0, 3), "<f4"), np.array(2.5, "<f4")
        made = applied("e : a b -> f : b a | add(1)\ns -> t | mul(2)", {"e": empty, "s": scalar})
        same(made["f"], empty.T)
        same(made["t"], np.array(5, "<f4"))

    def test_chunks_of_any_size(self) -> None:
        x = np.arange(700_001, dtype="<f4")
        made = applied("x -> y | add(0.5) | cast(f64)", {"x": x})["y"]
        for limit in (7, 1 << 12, 1 << 30):
            assert b"".join(bytes(c) for c in made.chunks(limit)) == (x.astype(np.float64) + 0.5).tobytes()


class TestFills:
    @pytest.mark.parametrize("name", sorted(n for n in DTYPES if n not in ("complex32",)))
    @pytest.mark.parametrize("size", [0, 1, 3, 70_001])
    def test_every_type_and_size(self, name: str, size: int) -> None:
        dtype = DTYPES[name]
        made = applied(f"rest -> drop\nfill(1, shape=[{size}], dtype={dtype.short}) -> y", {})["y"]
        assert made.nbytes == dtype.nbytes(size)
        data = made.tobytes()
        assert data == b"".join(bytes(c) for c in made.chunks(100))
        assert len(data) == made.nbytes
        if size and dtype.kind != "complex":
            assert (made.numpy().astype(np.float64) == 1).all()

    def test_large_ones_are_made_in_chunks(self) -> None:
        made = applied(f"rest -> drop\nfill(0, shape=[{1 << 35}], dtype=f32) -> y", {})["y"]
        assert made.nbytes == 1 << 37
        assert len(next(made.chunks())) <= 1 << 20

    def test_where_absent(self) -> None:
        arrays = {"a.mean": np.ones(3, "<f4"), "b.mean": np.ones(2, "<f4"), "b.n": np.array(7)}
        made = applied("rest <-> keep\nfill(0, dtype=i64, shape=[]) -> {p}.n if absent for {p}.mean", arrays)
        assert (int(made["a.n"].numpy()), int(made["b.n"].numpy())) == (0, 7)


class TestDrops:
    def test_equal_ones(self) -> None:
        x = np.array([np.nan, -0.0], "<f4")
        made = applied("b -> drop if = a\nc -> drop if = fill(0)\na <-> keep", {"a": x, "b": x.copy(), "c": np.zeros(9, "<f2")})
        assert list(made) == ["a"]
        assert [(n.kind, n.tensor) for n in made.notices] == [("skipped", "b"), ("skipped", "c")]
        assert len({n.message for n in made.notices}) == 2

    def test_equal_is_bit_equal(self) -> None:
        for one, other in ((0.0, -0.0), (1.0, np.nextafter(np.float32(1), np.float32(2)))):
            with pytest.raises(MapError) as raised:
                applied("b -> drop if = a\na <-> keep", {"a": np.array([one], "<f4"), "b": np.array([other], "<f4")})
            assert (raised.value.code, raised.value.where.tensor) == ("M240", "b")
        with pytest.raises(MapError, match="not equal"):
            applied("b -> drop if = fill(0)", {"b": np.array([0, 0, -0.0], "<f4")})

    def test_large_ones_that_differ_at_their_end(self) -> None:
        a = np.zeros(1 << 20, "<f4")
        b = a.copy()
        b[-1] = 1
        with pytest.raises(MapError):
            applied("b -> drop if = a\na <-> keep", {"a": a, "b": b})

    def test_tied_ones_are_not_read(self) -> None:
        store, payloads = counted({"a": np.ones(3)})
        store.tie(Tensor(TensorSpec("b", DTYPES["float64"], (3,)), payloads["a"]), "a")
        assert list(apply(parse("b -> drop if = a\na <-> keep"), store)) == ["a"]
        assert payloads["a"].reads == 0


class TestTies:
    def tied(self) -> TensorStore:
        store = store_of({"a": np.ones(3), "x": np.ones(1)})
        for name in ("b", "c"):
            store.tie(store["a"].with_spec(name=name), "a")
        return store

    def test_kept_through_names(self) -> None:
        assert apply(parse("{k:a|b|c} <-> new.{k}\nx <-> keep"), self.tied()).ties == {"new.b": "new.a", "new.c": "new.a"}
        assert apply(parse("rest <-> keep\nthen\nrest <-> keep"), self.tied()).ties == {"b": "a", "c": "a"}

    def test_kept_among_those_that_are_left(self) -> None:
        made = apply(parse("a -> drop\nrest <-> keep"), self.tied())
        assert made.ties == {"c": "b"}

    def test_ended_by_a_change(self) -> None:
        assert apply(parse("b <-> b | neg\nrest <-> keep"), self.tied()).ties == {"c": "a"}

    def test_made(self) -> None:
        made = applied("w | neg <-> embed\nhead = embed\nthird = head", {"w": np.ones(2)})
        assert made.ties == {"head": "embed", "third": "embed"}
        assert made["head"].payload is made["embed"].payload
        chained = applied("a <-> b\nc = b\nthen\nb <-> d\nc <-> e", {"a": np.ones(2)})
        assert chained.ties == {"e": "d"}


class TestLaziness:
    def test_nothing_is_read_before_it_is_asked_for(self) -> None:
        store, payloads = counted({"a.w": np.ones((2, 3)), "a.q": np.ones(4), "a.k": np.ones(4)})
        made = apply(parse("{p}.w : a b <-> {p}.v : b a\n[{p}.q, {p}.k] | sum -> {p}.s | mul(2)"), store)
        assert all(p.reads == 0 for p in payloads.values())
        made["a.v"].tobytes()
        assert (payloads["a.w"].reads, payloads["a.q"].reads) == (1, 0)
        assert made["a.s"].numpy().tolist() == [4] * 4
        assert (payloads["a.q"].reads, payloads["a.k"].reads) == (1, 1)

    def test_the_outputs_of_a_rule_are_computed_once(self) -> None:
        arrays = {"w": np.ones((2, 2)), "m": np.ones(2), "v": np.ones(2), "g": np.ones(2), "b": np.ones(2)}
        store, payloads = counted(arrays)
        made = apply(parse("[weight=w, mean=m, variance=v, gamma=g, beta=b] | fold_bn -> [weight=x, bias=y]"), store)
        first = [t.tobytes() for t in made.values()]
        assert {p.reads for p in payloads.values()} == {1}
        assert [t.tobytes() for t in made.values()] == first
        assert {p.reads for p in payloads.values()} == {2}

    def test_slices_of_what_is_computed_are_computed_once(self) -> None:
        store, payloads = counted({"w": np.arange(12.0).reshape(3, 4)})
        made = apply(parse("w[e] | neg <-> {e:int}.w"), store)
        assert [t.numpy().tolist() for t in made.values()] == (-np.arange(12.0).reshape(3, 4)).tolist()
        assert payloads["w"].reads == 1

    def test_a_rename_has_the_payload_and_the_place_of_its_source(self, tmp_path: Path) -> None:
        path = tmp_path / "m.safetensors"
        porter.save(store_of({"a.w": np.ones(3, "<f4")}), path)
        with porter.open(path) as store:
            made = apply(parse("{p}.w <-> {p}.v\nthen\nrest <-> keep"), store)
            assert made["a.v"].payload is store["a.w"].payload
            assert made["a.v"].location == store["a.w"].location is not None

    def test_closing_the_result_closes_the_source(self) -> None:
        class Resource:
            closed = False

            def close(self) -> None:
                self.closed = True

        store, resource = store_of({"a": np.ones(1)}), Resource()
        store.manage(resource)
        with apply(parse("rest <-> keep"), store):
            assert not resource.closed
        assert resource.closed

    def test_memory_of_a_large_tensor(self, tmp_path: Path) -> None:
        """An operation on 200 MB streams: what comes in is mapped or read in chunks, and what goes out leaves."""
        path = tmp_path / "m.safetensors"
        porter.save(store_of({"a": np.ones(50_000_000, "<f4")}), path)
        code = f"""
import resource, porter
from porter.mapping.execution import apply
from porter.mapping.ops.rounding import rounded
from porter.mapping.parser import parse
import numpy
store = porter.open({str(path)!r})
made = apply(parse("a -> b | add(1) | cast(f64) | neg"), store)
def anonymous():
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("RssAnon"))
chunks = made["b"].chunks()
next(chunks)
before = most = anonymous()
for number, chunk in enumerate(chunks):
    if number % 50 == 0:
        most = max(most, anonymous())
print(most - before)
"""
        if not Path("/proc/self/status").exists():
            pytest.skip("memory is read from /proc")
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
        assert int(done.stdout) < 30_000, "kB"


class TestWhatIsSaid:
    def test_rounding_that_loses_values_is_said_once(self) -> None:
        made = applied("{p} -> {p} | cast(f16)", {"a": np.array([1e9, 1e-30], "<f4"), "b": np.array([1e9], "<f4")})
        for tensor in (*made.values(), *made.values()):
            tensor.tobytes()
        assert [(n.kind, n.message, n.tensor) for n in made.notices] == [
            ("changed", "values beyond the range of float16 became infinite", "a"),
            ("changed", "values too small for float16 became 0", "a"),
            ("changed", "values beyond the range of float16 became infinite", "b"),
        ]

    @pytest.mark.parametrize(("name", "became"), [("float8_e4m3fn", "NaN"), ("float4_e2m1fn", "its largest"), ("bfloat16", "infinite")])
    def test_what_becomes_of_large_values(self, name: str, became: str) -> None:
        made = applied(f"a -> b | cast({DTYPES[name].short})", {"a": np.array([1e300, 1])})
        made["b"].tobytes()
        assert [n.message.rsplit(" became ", 1)[1] for n in made.notices] == [became]

    def test_each_output_of_a_rule_is_named(self) -> None:
        big = np.array([6e4, 6e4], "<f2")
        arrays = {"w": np.ones((2, 1), "<f2"), "v": np.ones(2, "<f2"), "m": -big, "g": big / 6e4, "b": big}
        made = applied("[weight=w, mean=m, variance=v, gamma=g, beta=b] | fold_bn(eps=0) -> [bias=x, weight=y]", arrays)
        assert np.isinf(made["x"].numpy()).all()
        assert {n.tensor for n in made.notices} == {"x"}

    def test_refused_values_name_the_tensor_and_the_operation(self) -> None:
        made = applied("a -> b | rsqrt", {"a": np.array([-1.0])})
        with pytest.raises(MapError) as raised:
            made["b"].tobytes()
        assert (raised.value.code, raised.value.where.line, raised.value.where.column) == ("M413", 1, 10)

    def test_sources_left_by_expect_any(self) -> None:
        made = applied("a <-> b\nexpect sources=any", {"a": np.ones(1), "x": np.ones(1), "y": np.ones(1)})
        assert {n.message for n in made.notices} == {"left out, as 'expect sources=any' in the map allows"}
        assert [n.tensor for n in made.notices] == ["x", "y"]

    def test_metadata_and_attachments(self) -> None:
        store = store_of({"a": np.ones((2, 3))})
        store.metadata["k"], store.attachments["net"] = "v", b"net"
        kept = apply(parse("a | neg <-> a"), store)
        assert (kept.metadata, kept.attachments, kept.notices) == ({"k": "v"}, {"net": b"net"}, [])
        for text in ("a <-> b", "a : x y <-> a : y x"):
            made = apply(parse(text), store)
            assert made.attachments == {}
            assert len(made.notices) == 1
            assert "net" in made.notices[0].message

    def test_attributes_of_the_file_do_not_survive_a_new_name(self) -> None:
        spec = TensorSpec("a", DTYPES["float32"], (1,), "O", "bias", {"caffe.layer": "x", "own": 1})
        store = TensorStore([Tensor(spec, BytesPayload.of(bytes(4)))])
        made = apply(parse("a <-> b"), store)["b"].spec
        assert (made.attributes, made.axes, made.role) == ({"own": 1}, "O", "bias")
        assert apply(parse("a <-> keep"), store)["a"].spec == spec


class TestOrigins:
    def test_the_path_through_stages(self) -> None:
        text = "[q, k] : n -> qk : (2 n)\nthen\nqk | neg <-> w\nhead = w"
        store = store_of({"q": np.ones(2), "k": np.zeros(2)})
        made = apply(parse(text), store)
        path = made.path("head")
        assert [(stage, name, o.step.action) for stage, name, o in path] == [(1, "head", "tie"), (1, "w", "compute"), (0, "qk", "layout")]
        assert [t.name for t in path[-1][2].inputs] == ["q", "k"]
        document = path[-1][2].to_json(Tensor.digest)
        assert [i["sha256"] for i in document["inputs"]] == [store["q"].digest(), store["k"].digest()]
        assert (document["line"], document["action"]) == (1, "layout")
        assert document["rule"] == "[q, k] : n -> qk : (2 n)"
        with pytest.raises(UsageError):
            made.path("nothing")

    def test_every_result_has_an_origin(self) -> None:
        made = applied("rest <-> keep\nfill(0, shape=[1], dtype=f32) -> f\nt = f", {"a": np.ones(1)})
        assert {name: o.step.action for name, o in made.origins[-1].items()} == {"a": "keep", "f": "fill", "t": "tie"}


class TestCompose:
    ARRAYS = {f"res{i}.{k}.w": np.full((2, 3), i + len(k), "<f4") for i in (1, 2) for k in ("a", "bb")}  # noqa: RUF012

    @pytest.mark.parametrize(
        ("first", "second", "stages"),
        [
            ("res{s:int}.{p}.w <-> layer{s-1}.{p}.v", "layer{i:int}.{z}.v <-> n.{i:03}.{z}", 2),
            ("res{s:int}.{p}.w <-> layer{s-1}.{p}.v", "layer{i-1}.{z}.v <-> n.{i:03}.{z}", 1),
            ("res{s:int}.{p}.w <-> layer{s}.{p}.v", "layer{i:int}.{p}.v : o i | neg <-> n.{i:03}.{p} : i o", 1),
            ("res{s:int}.{p}.w : o i <-> {p}.layer{s} : i o", "{n}.layer{m:int} <-> {m}.{n}", 1),
            ("res{s:1..2}.{p}.w <-> {p}.layer{s}", "{n}.layer{m:1..2} <-> {m}.{n}", 1),
            ("res{s:1..2}.{p}.w <-> {p}.layer{s}", "{n}.layer{m:1..3} <-> {m}.{n}", 2),
            ("res{s:int}.{p}.w <-> {p}.layer{s:02}", "{n}.layer{m:02} <-> {m}.{n}", 1),
            ("res{s:int}.{p}.w <-> {p}.{s}.w\nexpect sources=4", "{p}.{e:int}.w : o i <-> {p}.{e}.x : i o", 1),
            ("res{s:int}.{p}.w <-> {p}.{s}.w", "rest <-> keep", 2),
            ("rest <-> keep", "res{s:int}.{p}.w <-> {p}.{s}.w", 2),
            ("res{s:int}.{p}.w -> {p}.{s}.w", "{p}.{s:int}.w -> {s}.{p}", 1),
            ("res{s:int}.{p}.w | neg <-> {p}.{s}.w", "{p}.{s:int}.w | neg <-> {s}.{p}", 2),
            ("table t { a=x bb=y }\nres{s:int}.{k:t}.w <-> {k}.{s}", "table t { x=1 y=2 }\n{k:t}.{s:int} <-> {k}.{s}.w", 2),
            ("param o : int = 2\nres{s:int}.{p}.w : o i <-> {p}.{s} : i o", "{p}.{s:int} : a b <-> {s}.{p} : b a", 2),
            ("res{s:int}.{p}.w : a b <-> {p}.{s} : b a", "param a : int = 3\n{p}.{s:int} : a n <-> {s}.{p} : n a", 2),
            ("res{s:int}.{p}.w <-> {p}.{s}", "param p : int = 7\n{q}.{s:int} <-> {s}.{q}.{p}", 1),
        ],
    )
    def test_the_same_as_one_after_the_other(self, first: str, second: str, stages: int) -> None:
        one, two = parse(first), parse(second)
        store = store_of(self.ARRAYS)
        expected = apply(two, apply(one, store))
        joined = compose(one, two)
        assert len(joined.stages) == stages
        for map in (joined, parse(dumps(joined))):
            made = apply(map, store)
            assert {n: (t.spec.shape, t.tobytes()) for n, t in made.items()} == {n: (t.shape, t.tobytes()) for n, t in expected.items()}

    def test_parameters_that_differ_are_refused(self) -> None:
        with pytest.raises(MapError) as raised:
            compose(parse("param n : int = 1\na <-> b"), parse("param n : int = 2\nb <-> c"))
        assert raised.value.code == "M252"

    def test_optional_rules(self) -> None:
        joined = compose(parse("optional a <-> b"), parse("b <-> c"))
        with pytest.raises(MapError):
            plan(joined, [])
        assert not apply(compose(parse("optional a <-> b"), parse("optional b <-> c")), TensorStore())


class TestPruned:
    def test_the_text_replays_the_conversion(self, shared: Path) -> None:
        from porter.mapping import library
        from porter.mapping.providers import provider_of

        path = shared / "real" / "caffe_mtcnn_det1" / "det1.caffemodel"
        found = sorted((shared / "real").rglob("det1.caffemodel"))
        with porter.open(path if path.exists() else found[0]) as store:
            made = apply(library.load("caffe:torch"), store, provider=provider_of(store))
            text = dumps(pruned(made.plan))
            replayed = apply(parse(text), store)
            assert made.digest() == replayed.digest()
        assert "rnn" not in text
        assert "lstm" not in text
        assert len(text.splitlines()) < 15
