"""Whatever a map says and whatever the tensors are: an answer or a clear error, soon."""

from __future__ import annotations

import math
from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from map_strategies import maps

from porter.dtypes import DTYPES
from porter.errors import PorterError
from porter.mapping.composition import compose
from porter.mapping.execution import execute
from porter.mapping.inverse import invert
from porter.mapping.parser import parse
from porter.mapping.plan import examine
from porter.mapping.references import patterns_of
from porter.mapping.render import dumps
from porter.mapping.settled import pruned
from porter.mapping.syntax import Capture, Map, Param, Stage
from porter.store import TensorStore
from porter.tensor import BytesPayload, Tensor, TensorSpec

quick = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

PARAMS = {"int": 2, "float": 0.5, "bool": True, "str": "x"}


def names_for(map: Map, draw: Callable[[st.SearchStrategy[str]], str]) -> list[str]:
    """Names that the map's patterns may match."""
    fillings = st.sampled_from(["0", "1", "7", "a", "q.b", "002"])
    found = []
    for stage in map.stages:
        for statement in stage.statements:
            for pattern in patterns_of(statement):
                parts = [draw(fillings) if isinstance(part, Capture) else part for part in pattern.parts]
                found.append("".join(parts))
    return found


@st.composite
def situations(draw: st.DrawFn) -> tuple[Map, TensorStore]:
    map = draw(maps())
    names = dict.fromkeys([n for n in names_for(map, draw) if draw(st.booleans())] + draw(st.lists(st.text(max_size=4), max_size=2)))
    store = TensorStore()
    for name in names:
        dtype = DTYPES[draw(st.sampled_from(["float32", "float16", "int64", "int4", "bool"]))]
        spec = TensorSpec(name, dtype, tuple(draw(st.lists(st.integers(0, 4), max_size=4))))
        store.add(Tensor(spec, BytesPayload.of(bytes(spec.nbytes))))
    return map, store


@quick
@given(situations())
def test_any_map_on_any_tensors(situation: tuple[Map, TensorStore]) -> None:
    map, store = situation
    params = {s.name: PARAMS[s.type] for stage in map.stages for s in stage.statements if isinstance(s, Param)}
    try:
        planned = examine(map, store.values(), params=params, provider=lambda table: (("a", "b"),))
        for problem in planned.problems:
            assert problem.code.startswith("M")
            assert str(problem)
        if not planned.problems:
            assert examine(pruned(planned), store.values()).result == planned.result
            for tensor in execute(planned, store).values():
                if tensor.nbytes < 1 << 20:
                    tensor.tobytes()
    except PorterError as error:
        assert str(error)


@quick
@given(maps(), maps())
def test_any_map_turned_around_and_put_together(first: Map, second: Map) -> None:
    for made in (lambda: invert(first), lambda: compose(first, second)):
        try:
            assert dumps(made()) is not None
        except PorterError as error:
            assert str(error)


def test_maps_that_grow_at_every_stage() -> None:
    """Sizes that double fifty times are refused or lazily there, never tried."""
    tensor = Tensor(TensorSpec("a", DTYPES["float32"], (1,)), BytesPayload.of(bytes(4)))
    stages = parse("a <-> a\nb = a\nthen\n[a, b] : n -> a : (2 n)").stages
    planned = examine(Map(stages * 50), [tensor])
    assert planned.problems == ()
    assert math.prod(planned.result["a"].shape) == 1 << 50
    made = execute(planned, TensorStore([tensor]))["a"]
    assert made.nbytes == 1 << 52


def test_doubled_names_are_not_read_twice_as_often_at_every_stage() -> None:
    tensor = Tensor(TensorSpec("a", DTYPES["float64"], (1,)), BytesPayload.of(bytes(8)))
    stages = parse("a <-> a\nb = a\nthen\n[a, b] | sum -> a").stages
    assert execute(examine(Map(stages * 20), [tensor]), TensorStore([tensor]))["a"].numpy().tolist() == [0]


def test_a_stage_without_statements() -> None:
    assert [p.code for p in examine(Map((Stage(()),)), [TensorSpec("a", DTYPES["float32"], (1,))]).problems] == ["M204"]
