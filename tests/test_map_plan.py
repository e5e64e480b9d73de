"""Maps checked against names, shapes and dtypes: what would come out, and everything that is wrong, before a byte is read."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from porter.dtypes import DTYPES
from porter.errors import MapError, UsageError
from porter.mapping import ledger
from porter.mapping.parser import parse
from porter.mapping.plan import STAGES, examine, plan
from porter.mapping.settled import pruned
from porter.mapping.steps import Described, Plan
from porter.mapping.syntax import Map, Param, Stage, Table
from porter.tensor import TensorSpec

Given = dict[str, Any]


def spec(name: str, given: Any) -> TensorSpec:
    """A shape alone is float32."""
    dtype, shape = given if given and isinstance(given[0], str) else ("float32", given)
    return TensorSpec(name, DTYPES[dtype], tuple(shape))


def examined(text: str, tensors: Given, **options: Any) -> Plan:
    return examine(parse(text), [spec(name, given) for name, given in tensors.items()], **options)


def result(text: str, tensors: Given, **options: Any) -> dict[str, list[int]]:
    found = examined(text, tensors, **options)
    assert found.problems == (), found.problems[0]
    return {name: list(made.shape) for name, made in found.result.items()}


def problems(text: str, tensors: Given, **options: Any) -> list[MapError]:
    found = list(examined(text, tensors, **options).problems)
    for problem in found:
        assert "\n" not in problem.message
        assert not problem.message.endswith(".")
    return found


def problem(text: str, tensors: Given, code: str, **options: Any) -> MapError:
    (found,) = problems(text, tensors, **options)
    assert found.code == code, found
    return found


class TestCoverage:
    def test_every_source_goes_somewhere(self) -> None:
        text = "{p}.w <-> {p}.weight\n{p}.nbt -> drop\nrest <-> keep"
        assert result(text, {"a.w": [2], "a.nbt": [], "x": [3], "b.w": [1]}) == {"a.weight": [2], "x": [3], "b.weight": [1]}

    def test_results_stand_in_the_order_of_their_first_sources(self) -> None:
        text = "[{p}.b, {p}.a] : n -> {p}.ab : (2 n)\nx -> y"
        assert list(result(text, {"2.a": [1], "x": [1], "1.a": [1], "1.b": [1], "2.b": [1]})) == ["2.ab", "y", "1.ab"]

    def test_m204_lists_the_uncovered_with_the_nearest_pattern(self) -> None:
        found = problem("conv{i:int}.weight <-> c{i}.w", {"conv1.weight": [1], "conv1.wieght": [1], "z": [1]}, "M204")
        assert found.message == "nothing is said of 2 tensors: 'conv1.wieght' [1], 'z' [1]"
        assert found.hint is not None
        assert "conv{i:int}.weight" in found.hint
        assert found.where.tensor == "conv1.wieght"

    def test_m204_counts_after_the_first_five(self) -> None:
        found = problem("a <-> b", {"a": [1]} | {f"x{i}": [1] for i in range(9)}, "M204")
        assert found.message == "nothing is said of 9 tensors: 'x0' [1], 'x1' [1], 'x2' [1], 'x3' [1], 'x4' [1] and 4 more"

    def test_m204_of_an_empty_map(self) -> None:
        assert problem("", {"a": [1]}, "M204").message == "nothing is said of a tensor: 'a' [1]"
        assert examine(Map((Stage(()),)), []).problems == ()

    def test_m201_groups_the_tensors_of_two_statements(self) -> None:
        tensors = {"a.w": [1], "b.w": [1], "c": [1]}
        found = problem("{p}.w <-> {p}.weight\n{q}.{k:w|v} <-> {q}.{k}.x\nc <-> c", tensors, "M201")
        assert found.message == "2 tensors ('a.w', 'b.w') are taken here and on line 1 already"
        assert (found.where.line, found.where.column) == (2, 1)
        one = problem("{p}.w <-> {p}.weight\na.w -> drop\nc <-> c\n", tensors, "M201")
        assert one.message == "'a.w' is taken here and on line 1 already"

    def test_m202_names_the_nearest(self) -> None:
        first, second = problems("a <-> b\nconv1.weihgt <-> c", {"a": [1], "conv1.weight": [1]})
        assert (first.code, second.code) == ("M202", "M204")
        assert first.hint is not None
        assert "'conv1.weight'" in first.hint
        assert "'optional'" in first.hint

    def test_m202_is_not_raised_of_members_that_match(self) -> None:
        assert result("optional x -> drop\n[a, b?] : n -> c : (1 n)", {"a": [2]}) == {"c": [2]}

    @pytest.mark.parametrize("statement", ["{p}.x <-> {p}.y", "x -> drop", "x -> drop if = fill(0)", "x <-> keep", "y = x"])
    def test_optional_statements_may_match_nothing(self, statement: str) -> None:
        assert result(f"optional {statement}\na <-> b", {"a": [1]}) == {"b": [1]}
        assert problems(f"{statement}\na <-> b", {"a": [1]})[0].code in ("M202", "M206")

    def test_a_wildcard_is_any_text(self) -> None:
        tensors = {"a.nbt": [1], "b.c.nbt": [1], "nbt": [2]}
        assert result("*.nbt -> drop\nnbt <-> keep", tensors) == {"nbt": [2]}
        assert result("*.nbt -> drop\nrest -> drop", tensors) == {}

    def test_expect_any_sources_are_left(self) -> None:
        found = examined("a <-> b\nexpect sources=any", {"a": [1], "x": [1], "y": [1]})
        assert found.stages[0].left == ("x", "y")
        assert list(found.result) == ["b"]

    def test_m207_counts(self) -> None:
        assert result("rest <-> keep\nexpect sources=2 targets=2", {"a": [1], "b": [1]})
        found = problems("rest <-> keep\nexpect sources=3 targets=1", {"a": [1], "b": [1]})
        assert [p.message for p in found] == ["3 sources are expected, and there are 2"]
        assert problem("rest <-> keep\nexpect targets=1", {"a": [1], "b": [1]}, "M207").message == "1 targets are expected, and 2 are made"

    def test_all_problems_are_listed(self) -> None:
        text = "{p}.w : o i <-> {p}.w2 : i o\nnothing <-> here\n{p}.b | rsqrt <-> {p}.b2\n{p}.w -> drop"
        found = problems(text, {"a.w": [1, 2], "b.b": [3], "left": [1]})
        assert [p.code for p in found] == ["M201", "M202", "M215", "M204"]
        with pytest.raises(MapError) as raised:
            plan(parse(text), [spec("a.w", [1, 2]), spec("b.b", [3]), spec("left", [1])])
        assert raised.value.code == "M201"
        assert raised.value.hint is not None
        assert "3 more problems" in raised.value.hint

    def test_a_name_that_matches_in_two_ways_is_said_with_the_others(self) -> None:
        found = problems("{p}.{q} <-> {q}.{p}\nz <-> y", {"a.b.c": [1], "z": [1], "w": [1]})
        assert {p.code for p in found} >= {"M204"}
        assert any(p.where.tensor == "a.b.c" for p in found)


class TestRules:
    def test_m205_two_tensors_of_one_name(self) -> None:
        found = problem("*.w -> w", {"a.w": [1], "b.w": [1]}, "M205")
        assert found.message.startswith("'w' is made of 'a.w'")
        many = problem("*.{k} -> {k}", {f"{i}.{k}": [1] for i in range(2) for k in "xy"}, "M205")
        assert many.message.startswith("2 tensors ('x', 'y') are made of '0.x'")

    def test_m205_within_one_use(self) -> None:
        found = problem("a : (2 n) -> [b, b] : n", {"a": [4]}, "M205")
        assert found.where.tensor == "b"

    def test_m205_by_two_statements(self) -> None:
        assert problem("a <-> c\nb <-> c", {"a": [1], "b": [1]}, "M205").where.line == 2

    def test_m210_a_capture_of_one_side(self) -> None:
        assert problems("{p}.{q}.w -> {p}.w", {"a.b.w": [1]})[0].code == "M210"
        found = problems("w -> {e:int}.w", {"w": [1]})[0]
        assert found.code == "M210"
        assert "the left does not say" in found.message

    def test_m211_members_that_do_not_belong_together(self) -> None:
        found = problems("[{p}.q, k] : n -> {p}.qk : (2 n)", {"a.q": [1], "k": [1]})[0]
        assert found.code == "M211"
        assert (found.where.line, found.where.column) == (1, 9)

    def test_m212_a_negative_size(self) -> None:
        found = problems("param n : int = 2\na : (x y) -> a : y x where x=n-3", {"a": [4]})[0]
        assert (found.code, found.message) == ("M212", "the size of 'x' would be -1")

    def test_m213_a_stack_of_words(self) -> None:
        found = problems("{e}.w -> w[e]", {"a.w": [1], "b.w": [1]})
        assert found[0].code == "M213"
        assert found[0].hint == "write '{e:int}', or a range such as '{e:0..7}'"
        assert problems("w[e] -> {e:a|b}.w", {"w": [2, 1]})[0].code == "M213"

    def test_m214_a_missing_member(self) -> None:
        found = problem("[{p}.q, {p}.k] : n -> {p}.qk : (2 n)", {"a.q": [1], "a.k": [1], "b.k": [1]}, "M214")
        assert found.message == "'b.q' is missing, which goes together with 'b.k'"

    def test_optional_members(self) -> None:
        text = "[{p}.x, {p}.y?] | sum -> {p}.z"
        assert problems(text, {"a.x": [2]})[0].code.startswith("M4")
        assert result(text, {"a.x": [2], "a.y": [2]}) == {"a.z": [2]}

    def test_m215_an_operation_without_inverse(self) -> None:
        found = problem("a | add(1) <-> b", {"a": [1]}, "M215")
        assert found.where.column == 5
        assert "'->' instead of '<->'" in (found.hint or "")
        assert problem("a <-> b | add(1)", {"a": [1]}, "M215")
        assert result("a | add(1) -> b", {"a": [1]}) == {"b": [1]}

    def test_m216_several_tensors_after_the_arrow(self) -> None:
        assert problem("a -> b | copy(2)", {"a": [1]}, "M216").where.column == 10

    def test_m217_m218_m223_how_many_slices(self) -> None:
        assert result("w[e] <-> {e:int}.w", {"w": [2, 3]}) == {"0.w": [3], "1.w": [3]}
        assert problem("w : (e n) -> {e:int}.w : n", {"w": [6]}, "M217").where.tensor == "w"
        assert result("w : (e n) -> {e:int}.w : n where e=3", {"w": [6]}) == {f"{i}.w": [2] for i in range(3)}
        assert problem("w[e] <-> {e:int}.w", {"w": [0, 3]}, "M223").where.tensor == "w"
        huge = problem("w[e] <-> {e:int}.w", {"w": [10**9, 0]}, "M218")
        assert huge.message == "'w' would become 1,000,000,000 tensors; 10,000 is the most"
        assert problem("w : a b n <-> {a:int}.{b:int} : n", {"w": [10**5, 10**5, 0]}, "M218")

    def test_m218_of_all_tensors_together(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ledger, "MOST", 100)
        tensors = {f"{i}.w": [30, 0] for i in range(9)}
        assert problem("{p}.w[e] <-> {p}.{e:int}.x", tensors, "M218").message == "the map would make more than 100 tensors"

    def test_m219_a_layout_before_operations_that_join(self) -> None:
        assert problem("[a : n, b : n] | sum -> c : n", {"a": [1], "b": [1]}, "M219")

    def test_m220_two_dtypes_in_one(self) -> None:
        found = problem("[a, b] : n -> c : (2 n)", {"a": [1], "b": ("float16", [1])}, "M220")
        assert found.message == "'a' is float32 and 'b' is float16; one tensor cannot hold both"

    def test_m221_m222_outputs(self) -> None:
        tensors = {"w": [1, 1], "v": [1], "m": [1], "b": [1], "g": [1]}
        fold = "[weight=w, mean=m, variance=v, beta=b, gamma=g] | fold_bn ->"
        assert result(f"{fold} [bias=x, weight=y]", tensors) == {"x": [1], "y": [1, 1]}
        assert problem(f"{fold} [bias=x, wieght=y]", tensors, "M221").message == "there is no output 'wieght'"
        assert problem(f"{fold} [bias=x, y]", tensors, "M221").message == "this name has no label, and others have"
        assert problem(f"{fold} [bias=x]", tensors, "M222")
        assert problem("[a, b] | neg -> c", {"a": [1], "b": [1]}, "M222")

    def test_m224_two_tensors_in_one_place(self) -> None:
        assert problem("[*.a, *.b] | sum -> c", {"1.a": [1], "1.b": [1], "2.a": [1], "2.b": [1]}, "M224")
        assert problem("*.a | neg -> c", {"1.a": [1], "2.a": [1]}, "M224")

    def test_m225_kept_tensors_that_would_be_mistaken(self) -> None:
        tensors = {"conv1.w": [1], "c9.weight": [1]}
        found = problem("conv{i:int}.w <-> c{i}.weight\nrest <-> keep", tensors, "M225")
        assert found.where.tensor == "c9.weight"
        assert found.where.column == 19
        assert result("conv{i:int}.w -> c{i}.weight\nrest <-> keep", tensors) == {"c1.weight": [1], "c9.weight": [1]}
        assert problem("{p}.weight = {p}.w\nrest <-> keep", tensors, "M225")
        assert {p.code for p in problems("fill(0) -> {p}.weight for {p}.w\nrest <-> keep", tensors)} == {"M225"}
        assert result("fill(0) -> {p}.weight if absent for {p}.w\nrest <-> keep", tensors)

    def test_m226_sizes_that_are_unknown_backwards(self) -> None:
        packed = "[q : (g r d) i, k : (g d) i] {} qk : (g (r d + d)) i where d=2"
        assert problem(packed.format("<->"), {"q": [12, 5], "k": [6, 5]}, "M226")
        assert result(packed.format("->"), {"q": [12, 5], "k": [6, 5]}) == {"qk": [18, 5]}
        assert result(packed.format("<->") + " g=3", {"q": [12, 5], "k": [6, 5]}) == {"qk": [18, 5]}
        found = problem("a : h d <-> a : (h d)", {"a": [2, 3]}, "M226")
        assert found.hint == "say the sizes after 'where', or write '->' for a rule that goes one way"
        assert result("a : h d <-> a : (h d) where d=3", {"a": [2, 3]}) == {"a": [6]}
        assert result("a : h d -> a : (h d)", {"a": [2, 3]}) == {"a": [6]}
        assert problem("{e:int}.w : n <-> w : (e n)", {"0.w": [2], "1.w": [2]}, "M226")

    def test_uneven_parts_from_params(self) -> None:
        text = "param d : int\n[{p}.q : q i, {p}.k : k i] <-> {p}.qk : (q + k) i where q=4*d k=2*d"
        tensors = {"a.q": [8, 5], "a.k": [4, 5]}
        assert result(text, tensors, params={"d": "2"}) == {"a.qk": [12, 5]}
        assert problems(text, tensors, params={"d": 3})[0].code.startswith("M3")

    def test_copies(self) -> None:
        assert result("a | copy(3) -> [x, y, z]", {"a": [2]}) == {"x": [2], "y": [2], "z": [2]}


class TestDrops:
    TENSORS: ClassVar[Given] = {"a": [2], "b": [2], "c": [3], "d": ("int64", [2])}

    @pytest.mark.parametrize(
        ("drop", "message"),
        [
            ("a -> drop if = z", "there is no tensor 'z' that 'a' could be equal to"),
            ("a -> drop if = c", "'a' is float32 [2], and 'c' is float32 [3]: they cannot be equal"),
            ("a -> drop if = d", "'a' is float32 [2], and 'd' is int64 [2]: they cannot be equal"),
            ("a -> drop if = a", "'a' is to be dropped for being equal to itself"),
            ("a -> drop if = fill(0, shape=[3])", "'a' is float32 [2], and is to be dropped if it is float32 [3]"),
        ],
    )
    def test_m203(self, drop: str, message: str) -> None:
        assert problem(f"{drop}\nrest <-> keep", self.TENSORS, "M203").message == message

    def test_m203_rings(self) -> None:
        found = problem("a -> drop if = b\nb -> drop if = a\nrest -> drop", self.TENSORS, "M203")
        assert found.message == "'a', 'b' are to be dropped for being equal to each other, so that none would be left"
        chain = {name: [1] for name in "abc"}
        assert result("a -> drop if = b\nb -> drop if = c\nc <-> keep", chain) == {"c": [1]}

    def test_m227_every_original_has_its_copy(self) -> None:
        text = "{p}.copy -> drop if = {p}.w\n{p}.w <-> keep"
        tensors = {"a.copy": [2], "a.w": [2], "b.w": [2], "c.w": [2]}
        found = problem(text, tensors, "M227")
        assert found.message == "'b.w' has no copy 'b.copy' to be dropped, as others have, and so for 1 more"
        assert list(result(f"optional {text}", tensors)) == ["a.w", "b.w", "c.w"]

    def test_captures_name_the_other(self) -> None:
        text = "{p}.copy -> drop if = {p}.w\n{p}.w <-> keep"
        assert result(text, {"a.copy": [2], "a.w": [2]}) == {"a.w": [2]}
        assert problem(text, {"a.copy": [2], "b.w": [2]}, "M203")


def test_a_map_without_stages_covers_nothing() -> None:
    specs = [TensorSpec("a", DTYPES["float32"], (2,))]
    assert [p.code for p in examine(Map(()), specs).problems] == ["M204"]
    assert [p.code for p in examine(Map(()), [], targets=specs).problems] == ["M230"]
    assert not examine(Map(()), []).problems


class TestAdditions:
    def test_fills(self) -> None:
        text = "rest <-> keep\nfill(0, dtype=i64, shape=[]) -> {p}.n if absent for {p}.mean"
        found = examined(text, {"a.mean": [3], "b.mean": [3], "b.n": ("int64", [])})
        assert list(found.result) == ["a.mean", "b.mean", "b.n", "a.n"]
        assert (found.result["a.n"].dtype.name, found.result["a.n"].shape) == ("int64", ())

    def test_a_fill_takes_shape_and_type_of_its_partner(self) -> None:
        found = examined("rest <-> keep\nfill(1) -> {p}.b for {p}.w", {"a.w": ("float16", [3])})
        assert (found.result["a.b"].dtype.name, found.result["a.b"].shape) == ("float16", (3,))

    def test_if_absent_makes_each_name_once(self) -> None:
        text = "rest <-> keep\nfill(0) -> {p}.n if absent for {p}.{k:a|b}"
        assert list(result(text, {"x.a": [1], "x.b": [1]})) == ["x.a", "x.b", "x.n"]
        assert problem(text.replace(" if absent", ""), {"x.a": [1], "x.b": [1]}, "M205").message == "'x.n' is made twice"

    def test_m205_a_fill_of_what_is_there(self) -> None:
        found = problems("rest <-> keep\nfill(0, shape=[1], dtype=f32) -> a", {"a": [1]})
        assert "M205" in [p.code for p in found]
        assert problem("a -> a\nfill(0, shape=[1], dtype=f32) -> a", {"a": [1]}, "M205")

    def test_m206_m208(self) -> None:
        tensors = {"embed.weight": [1]}
        found = problem("rest <-> keep\nhead.weight = embd.weight", tensors, "M206")
        assert found.hint == "did you mean 'embed.weight'?"
        assert problem("rest <-> keep\nfill(0) -> {p}.b for {p}.w", tensors, "M206")
        assert problem("rest -> drop\nfill(0, shape=[1], dtype=f32) -> {p}.b", tensors, "M208")
        assert problem("rest -> drop\n{p}.b = embed.weight", tensors, "M208")

    def test_ties_of_ties(self) -> None:
        assert list(result("a <-> a\nb = a\nc = b", {"a": [1]})) == ["a", "b", "c"]

    def test_a_huge_fill_is_refused(self) -> None:
        assert problem(f"rest <-> keep\nfill(0, shape=[{10**9}, {10**9}], dtype=f32) -> b", {"a": [1]}, "M406")
        assert problem(f"a | pad(0, after={10**17}) -> b", {"a": [1]}, "M406")


class TestTargets:
    def test_missing_and_extra_name_each_other(self) -> None:
        found = problems("{p}.w <-> {p}.weight", {"a.w": [1], "b.w": [1]}, targets=[spec("a.weight", [1]), spec("b.wieght", [1])])
        assert [p.code for p in found] == ["M230", "M231"]
        assert found[0].message == "nothing makes a tensor of the target: 'b.wieght' float32 [1]"
        assert found[0].hint == "the map makes 'b.weight'; is that it?"
        assert found[1].hint == "the target has 'b.wieght', which nothing makes"

    def test_any_targets_may_be_missing(self) -> None:
        found = examined("a <-> b\nexpect targets=any", {"a": [1]}, targets=[Described("b"), Described("c")])
        assert (found.problems, found.missing) == ((), ("c",))

    def test_m232_shapes_with_a_way(self) -> None:
        found = problem("a <-> b", {"a": [4, 3, 2]}, "M232", targets=[Described("b", (2, 3, 4))])
        assert found.message == "'b' would have the shape [4, 3, 2], and the target's is [2, 3, 4]"
        assert found.hint is not None
        assert "': a b c' on the left and ': c b a' on the right" in found.hint
        merged = problem("a <-> b", {"a": [4, 3]}, "M232", targets=[Described("b", (12,))])
        assert merged.hint is not None
        assert "the elements are as many" in merged.hint
        assert problem("a <-> b", {"a": [4, 3]}, "M232", targets=[Described("b", (5,))])

    def test_m233_types(self) -> None:
        found = problem("a <-> b", {"a": [4]}, "M233", targets=[Described("b", (4,), DTYPES["float16"])])
        assert found.hint == "'| cast(f16)' at the end of the rule casts it"
        assert problem("a <-> b", {"a": [4]}, "M233", targets=[Described("b", None, DTYPES["float16"])])
        assert result("a -> b | cast(f16)", {"a": [4]}, targets=[Described("b", (4,), DTYPES["float16"])])

    def test_shapes_of_targets_help(self) -> None:
        text = "a : (h d) i <-> b : h d i"
        assert problems(text, {"a": [6, 2]})[0].code.startswith("M3")
        assert result(text, {"a": [6, 2]}, targets=[Described("b", (2, 3, 2))]) == {"b": [2, 3, 2]}

    def test_targets_are_those_of_the_last_stage(self) -> None:
        assert result("a <-> b\nthen\nb <-> c", {"a": [1]}, targets=[Described("c", (1,))]) == {"c": [1]}


class TestStages:
    def test_each_stage_has_its_own_names(self) -> None:
        assert result("a <-> b\nb <-> a\nthen\na <-> c\nb -> drop", {"a": [1], "b": [2]}) == {"c": [2]}

    def test_problems_of_one_stage_end_the_search(self) -> None:
        found = examined("a <-> b\nthen\nz <-> y", {"x": [1]})
        assert {p.code for p in found.problems} == {"M202", "M204"}
        assert len(found.stages) == 1

    def test_tables_and_params_are_seen_later(self) -> None:
        text = "param n : int\ntable t { a=0 b=1 }\nrest <-> keep\nthen\n{k:t}.w : (h d) <-> {k}.w : h d where h=n"
        assert result(text, {"a.w": [6], "b.w": [4]}, params={"n": "2"}) == {"0.w": [2, 3], "1.w": [2, 2]}

    def test_m253_many_stages(self) -> None:
        text = "\nthen\n".join(["rest <-> keep"] * 1000)
        with pytest.raises(MapError) as raised:
            plan(parse(text), [spec("a", [1])])
        assert raised.value.code == "M253"
        assert result("\nthen\n".join(["a | neg <-> a"] * STAGES), {"a": [1]}) == {"a": [1]}


class TestParams:
    MAP = 'param n : int\nparam f : float = 1\nparam b : bool = false\nparam s : str = "x"\na | mul(f) -> {s}.{n}'

    def test_values(self) -> None:
        assert list(result(self.MAP, {"a": [1]}, params={"n": "7"})) == ["x.7"]
        assert list(result(self.MAP, {"a": [1]}, params={"n": 7, "s": "q", "f": "1e3", "b": "true"})) == ["q.7"]

    def test_m251_without_a_value(self) -> None:
        with pytest.raises(MapError) as raised:
            plan(parse(self.MAP), [])
        assert (raised.value.code, raised.value.hint) == ("M251", "say '--param n=…'")

    def test_u920_unknown(self) -> None:
        with pytest.raises(UsageError) as raised:
            plan(parse("param heads : int"), [], params={"head": 1})
        assert (raised.value.code, raised.value.hint) == ("U920", "did you mean 'heads'?")

    @pytest.mark.parametrize("given", [{"n": "x"}, {"n": "1.5"}, {"n": True}, {"n": "1_0"}, {"n": 1, "b": "maybe"}, {"n": 1, "f": "one"}])
    def test_u921_of_another_type(self, given: dict[str, Any]) -> None:
        with pytest.raises(UsageError) as raised:
            plan(parse(self.MAP), [], params=given)
        assert raised.value.code == "U921"

    def test_m252_declared_in_two_ways(self) -> None:
        twice = Map((Stage((Param("n", "int", 1),)), Stage((Param("n", "int", 2),))))
        with pytest.raises(MapError) as raised:
            plan(twice, [])
        assert raised.value.code == "M252"

    def test_m250_tables_from_a_file(self) -> None:
        with pytest.raises(MapError) as raised:
            plan(parse("table t from caffe.layers"), [])
        assert raised.value.code == "M250"
        rows = examine(parse("table t from x.y\n{k:t}.w <-> {k}.w"), [spec("a.w", [1])], provider=lambda table: (("a", "b"),))
        assert list(rows.result) == ["b.w"]


class TestPruned:
    def test_what_did_nothing_is_left_out(self) -> None:
        text = """
            param n : int = 2
            param idle : int = 3
            table used { a=x }
            table idle_table { b=y }
            optional {k:used}.w : (h d) <-> {k}.w : h d where h=n
            optional {k:idle_table}.w <-> {k}.v
            optional gone -> drop
            optional p = q
            fill(0) -> {p}.w if absent for {p}.w
            rest <-> keep
        """
        from porter.mapping.render import dumps

        planned = plan(parse(text), [spec("a.w", [4])], params={"n": 4})
        kept = pruned(planned)
        assert [line for line in dumps(kept).split("\n") if line] == [
            "param n : int = 4",
            "table used { a=x }",
            "optional {k:used}.w : (h d) <-> {k}.w : h d  where h=n",
        ]
        again = plan(parse(dumps(kept)), [spec("a.w", [4])])
        assert again.result == planned.result

    def test_names_of_sizes_keep_their_parameter(self) -> None:
        planned = plan(parse("param h : int = 2\na : (h d) <-> a : h d"), [spec("a", [4])])
        assert next(type(s) for s in pruned(planned).stages[0].statements) is Param

    def test_computed_tables_are_written_out(self) -> None:
        planned = examine(parse("table t from x.y\n{k:t}.w <-> {k}.w"), [spec("a.w", [1])], provider=lambda table: (("a", "b"),))
        assert pruned(planned).stages[0].statements[0] == Table("t", (("a", "b"),))


def test_ten_thousand_tensors_and_a_hundred_rules_are_quick() -> None:
    import time

    rules, tensors = [], []
    for r in range(100):
        rules.append(f"block{r}.layer{{i:int}}.{{k:w|b}} : o i <-> b{r}.{{i+1}}.{{k}} : i o")
        tensors += [spec(f"block{r}.layer{i}.w", [4, 8]) for i in range(100)]
    read = parse("\n".join(rules))
    start = time.process_time()
    planned = plan(read, tensors)
    assert len(planned.result) == 10_000
    assert time.process_time() - start < 2  # a quarter of a second on an idle machine


def test_a_map_for_another_file_ends_soon() -> None:
    import time

    rules = "\n".join(f"block{r}.layer{{i:int}}.weight <-> b{r}.{{i}}" for r in range(100))
    start = time.process_time()
    found = examine(parse(rules), [spec(f"model.{i}.kernel", [1]) for i in range(10_000)])
    assert len(found.problems) == 101
    assert time.process_time() - start < 10
