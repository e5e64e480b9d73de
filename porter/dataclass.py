"""`dataclass`, `field` and `replace` as in the standard library's `dataclasses`, in a fortieth of the time.

`dataclasses` writes the source of each class's methods and compiles it: half a millisecond a class. One conversion needs
forty classes, and the time of a short run is the time of its imports. Here all classes share their methods; one whose
instances are made by the hundred gets an `__init__` of its own then. Only what porter uses is here, and means the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast, dataclass_transform

C = TypeVar("C", bound=type)
T = TypeVar("T")

_REQUIRED: Any = object()

_MANY = 100
"""Instances after which writing an `__init__` for their class pays."""


class _Field:
    """What `field` was told about one."""

    __slots__ = ("compare", "default", "make")

    def __init__(self, default: Any, make: Callable[[], Any] | None, compare: bool) -> None:
        self.default = default
        self.make = make
        self.compare = compare

    def value(self) -> Any:
        return self.default if self.make is None else self.make()


def field(*, default: T = _REQUIRED, default_factory: Callable[[], T] | None = None, compare: bool = True) -> T:
    """A field whose default is made anew for each instance, or that comparison by value passes over."""
    return cast(T, _Field(default, default_factory, compare))


@dataclass_transform(field_specifiers=(field,))
def dataclass(*, frozen: bool = False, slots: bool = False, eq: bool = True) -> Callable[[C], C]:
    """Make a class whose annotations are its fields: `__init__`, `__repr__`, comparison by value, `__post_init__` called if there is one.

    Bases add no fields. Without `slots`, instances have a `__dict__` besides their fields, for `cached_property`.
    """
    return lambda kind: _made(kind, frozen, slots, eq)


def field_names(record: Any) -> tuple[str, ...]:
    """The names of the fields of a dataclass or of an instance, in order."""
    names: tuple[str, ...] = record.__match_args__
    return names


def replace(record: T, /, **changes: Any) -> T:
    """An instance like this one but for some fields."""
    return type(record)(**{name: getattr(record, name) for name in field_names(record)} | changes)


def _made(kind: C, frozen: bool, slots: bool, eq: bool) -> C:
    """`kind` made again, with slots, which a class cannot be given later."""
    body = {key: value for key, value in vars(kind).items() if key not in ("__dict__", "__weakref__")}
    names = tuple(body.get("__annotations__", ()))
    stated = [body.pop(name, _REQUIRED) for name in names]
    defaults = [d.default if type(d) is _Field and d.make is None else d for d in stated]
    body["__slots__"] = names if slots else (*names, "__dict__")
    body["__match_args__"] = names
    body["__init__"] = _init
    body.setdefault("__repr__", _repr)
    body["__reduce__"] = _reduce
    body["__signature__"] = _SIGNATURE
    if eq:
        body.setdefault("__eq__", _eq)
        body["__hash__"] = _hash if frozen else None
    if frozen:
        body.update(__setattr__=_refuse_set, __delattr__=_refuse_delete)
    body["_defaults"] = tuple(defaults)
    body["_needed"] = max([i for i, d in enumerate(defaults, 1) if d is _REQUIRED or type(d) is _Field], default=0)
    body["_checked"] = "__post_init__" in body
    body["_countdown"] = [None] * _MANY
    body["_compared"] = tuple([n for n, d in zip(names, stated, strict=True) if type(d) is not _Field or d.compare])
    made: Any = type(kind)(kind.__name__, kind.__bases__, body)
    made._setters = tuple([getattr(made, name).__set__ for name in names])
    return cast(C, made)


def _init(self: Any, *args: Any, **named: Any) -> None:
    kind = type(self)
    try:
        kind._countdown.pop()
    except IndexError:
        kind.__init__ = _own_init(kind)
    setters = kind._setters
    if named or not kind._needed <= len(args) <= len(setters):
        args = _bound(kind, args, named)
    elif len(args) < len(setters):
        args += kind._defaults[len(args) :]
    for put, value in zip(setters, args, strict=True):
        put(self, value)
    if kind._checked:
        self.__post_init__()


def _own_init(kind: Any) -> Callable[..., None]:
    """The `__init__` that `dataclasses` would have written."""
    parameters, lines, scope = ["self"], [], dict[str, Any]()
    for name, default, put in zip(field_names(kind), kind._defaults, kind._setters, strict=True):
        value = name
        scope["put_" + name] = put
        if type(default) is _Field:
            scope["make_" + name], scope["default_" + name] = default.make, _REQUIRED
            value = f"make_{name}() if {name} is default_{name} else {name}"
        elif default is not _REQUIRED:
            scope["default_" + name] = default
        parameters.append(name + (f"=default_{name}" if "default_" + name in scope else ""))
        lines.append(f" put_{name}(self, {value})\n")
    if kind._checked:
        lines.append(" self.__post_init__()\n")
    exec(f"def __init__({', '.join(parameters)}):\n{''.join(lines) or ' pass'}", scope)
    own: Callable[..., None] = scope["__init__"]
    own.__qualname__ = f"{kind.__qualname__}.__init__"
    return own


def _bound(kind: Any, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
    """A value for every field."""
    names = field_names(kind)
    if len(args) > len(names):
        raise TypeError(f"{kind.__name__} has {len(names)} fields, {len(args)} values are given")
    values = [*args, *kind._defaults[len(args) :]]
    for name, value in named.items():
        if name not in names[len(args) :]:
            raise TypeError(f"{kind.__name__} has no field {name!r}, or it is given twice")
        values[names.index(name)] = value
    for i in range(len(args), len(values)):
        if type(values[i]) is _Field:
            values[i] = values[i].value()
        if values[i] is _REQUIRED:
            raise TypeError(f"{kind.__name__} needs a value for {names[i]!r}")
    return tuple(values)


def _eq(self: Any, other: Any) -> Any:
    if self.__class__ is not other.__class__:
        return NotImplemented
    # A list takes what is the same object for equal, as `dataclasses` does: NaN.
    mine, theirs = ([getattr(x, name) for name in self._compared] for x in (self, other))
    return mine == theirs


def _hash(self: Any) -> int:
    return hash(tuple([getattr(self, name) for name in self._compared]))


def _repr(self: Any) -> str:
    shown = ", ".join([f"{name}={getattr(self, name)!r}" for name in field_names(self)])
    return f"{type(self).__qualname__}({shown})"


def _reduce(self: Any) -> tuple[Any, ...]:
    return type(self), tuple([getattr(self, name) for name in field_names(self)])


def _refuse_set(self: Any, name: str, value: Any) -> None:
    raise AttributeError(f"cannot assign to field {name!r}")


def _refuse_delete(self: Any, name: str) -> None:
    raise AttributeError(f"cannot delete field {name!r}")


class _Signature:
    """The signature that `help` and `inspect.signature` show, put together when they ask."""

    def __get__(self, instance: Any, kind: Any) -> Any:
        from inspect import Parameter, Signature

        parameters = []
        for name, default in zip(field_names(kind), kind._defaults, strict=True):
            shown = default.value() if type(default) is _Field else default
            shown = Parameter.empty if shown is _REQUIRED else shown
            parameters.append(Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=shown, annotation=kind.__annotations__[name]))
        return Signature(parameters, return_annotation=None)


_SIGNATURE = _Signature()
