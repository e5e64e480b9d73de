"""`porter.dataclass` means what the standard library's `dataclasses` means."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from functools import cached_property
from typing import Any

import pytest

from porter import dataclass as ours


def frozen(kit: Any) -> Any:
    @kit.dataclass(frozen=True, slots=True)
    class Point:
        """A point."""

        x: int
        y: int = 2
        names: list[str] = kit.field(default_factory=list, compare=False)
        line: int = kit.field(default=0, compare=False)

        @property
        def sum(self) -> int:
            return self.x + self.y

        @classmethod
        def origin(cls) -> Any:
            return cls(0, 0)

    return Point


def mutable(kit: Any) -> Any:
    @kit.dataclass(slots=True)
    class Count:
        n: int = 0

        def __post_init__(self) -> None:
            if self.n < 0:
                raise ValueError("negative")

    return Count


def by_identity(kit: Any) -> Any:
    @kit.dataclass(slots=True, eq=False)
    class Node:
        children: list[Any]

    return Node


def roomy(kit: Any) -> Any:
    @kit.dataclass(frozen=True)
    class Record:
        data: bytes

        @cached_property
        def size(self) -> int:
            return len(self.data)

    return Record


class Hot:
    """`porter.dataclass` with classes that are made with an `__init__` of their own."""

    field, replace = staticmethod(ours.field), staticmethod(ours.replace)

    @staticmethod
    def dataclass(**options: bool) -> Callable[[Any], Any]:
        def decorate(kind: Any) -> Any:
            made = ours.dataclass(**options)(kind)
            made.__init__ = ours._own_init(made)
            return made

        return decorate


both = pytest.mark.parametrize("kit", [dataclasses, ours, Hot], ids=["standard", "porter", "hot"])


@both
def test_values(kit: Any) -> None:
    point = frozen(kit)(1)
    assert (point.x, point.y, point.names, point.line, point.sum) == (1, 2, [], 0, 3)
    assert point == frozen_twin(kit, point)
    assert point != type(point)(1, 3)
    assert point == type(point)(1, 2, ["else"], 9)
    assert hash(point) == hash(type(point)(1, 2, line=3))
    assert point != (1, 2)
    assert repr(point).endswith("Point(x=1, y=2, names=[], line=0)")
    assert type(point).origin() == type(point)(y=0, x=0)
    assert type(point).__doc__ == "A point."
    assert type(point)(1).names is not point.names
    assert type(point).__match_args__ == ("x", "y", "names", "line")


def frozen_twin(kit: Any, point: Any) -> Any:
    return kit.replace(point, line=5)


@both
def test_replace(kit: Any) -> None:
    kind = frozen(kit)
    changed = kit.replace(kind(1, 2, ["a"]), y=5)
    assert (changed.x, changed.y, changed.names) == (1, 5, ["a"])
    with pytest.raises(TypeError):
        kit.replace(changed, z=1)
    with pytest.raises(ValueError, match="negative"):
        kit.replace(mutable(kit)(1), n=-1)


@both
@pytest.mark.parametrize(
    "change",
    [lambda p: setattr(p, "x", 2), lambda p: setattr(p, "z", 2), lambda p: delattr(p, "x")],
    ids=["assign", "new", "delete"],
)
def test_frozen(kit: Any, change: Callable[[Any], None]) -> None:
    point = frozen(kit)(1)
    with pytest.raises((AttributeError, TypeError)):  # the standard library has a bug with slots: TypeError for names it does not know
        change(point)
    assert point.x == 1


@both
def test_slots(kit: Any) -> None:
    count = mutable(kit)()
    count.n = 7
    assert count == mutable_of(count, 7)
    assert not hasattr(count, "__dict__")
    with pytest.raises(AttributeError):
        count.m = 1
    with pytest.raises(TypeError):
        hash(count)
    assert roomy(kit)(b"abc").size == 3


def mutable_of(count: Any, n: int) -> Any:
    return type(count)(n)


@both
def test_identity(kit: Any) -> None:
    node = by_identity(kit)([])
    assert node != type(node)([])
    assert node == node
    assert hash(node) == object.__hash__(node)


@both
@pytest.mark.parametrize(("args", "named"), [((), {}), ((1, 2, [], 0, 9), {}), ((1,), {"x": 1}), ((1,), {"z": 1}), ((), {"y": 1})], ids=str)
def test_wrong_arguments(kit: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        frozen(kit)(*args, **named)


@both
def test_post_init(kit: Any) -> None:
    with pytest.raises(ValueError, match="negative"):
        mutable(kit)(-1)


@both
def test_nan_is_equal_to_itself(kit: Any) -> None:
    kind, nan = frozen(kit), float("nan")
    assert kind(nan) == kind(nan)


@ours.dataclass(frozen=True, slots=True)
class Sample:
    name: str
    sizes: tuple[int, ...] = ()


def test_copies() -> None:
    sample = Sample("a", (1, 2))
    assert pickle.loads(pickle.dumps(sample)) == copy.deepcopy(sample) == copy.copy(sample) == sample


def test_signature() -> None:
    assert str(inspect.signature(Sample)) == "(name: 'str', sizes: 'tuple[int, ...]' = ()) -> None"
    assert list(inspect.signature(frozen(ours)).parameters) == list(inspect.signature(frozen(dataclasses)).parameters)
    assert ours.field_names(Sample) == ("name", "sizes")


def test_many_instances() -> None:
    kind = frozen(ours)
    first = kind.__init__
    made = [kind(i, names=[str(i)]) for i in range(300)]
    assert kind.__init__ is not first
    assert [p.x for p in made] == list(range(300))
    assert [p.names for p in made] == [[str(i)] for i in range(300)]
    assert made[0].y == made[299].y == 2
    assert made[7] == kind(7)
    assert kind(7).names is not kind(7).names
