"""The source of a network while it is being written: layers made in `__init__`, statements of `forward`, what the state holds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from porter.graph.analysis.values import Constant, Element, Network, Size, Value
from porter.graph.python_layout import assignment, float_literal, statement, text_literal, tuple_literal
from porter.graph.state_map import Stored
from porter.graph.torch_source.helpers import HELPERS
from porter.graph.torch_source.identifiers import attribute_names, variable_names

if TYPE_CHECKING:
    pass

SMALL = 16
"""Elements of the largest constant that is written out in the source; others are in the state."""

_ROLES = frozenset(
    [
        *("weight", "bias", "slope", "gamma", "beta", "scale", "param"),
        *("W_xc", "b_c", "W_hc", "W_xc_static", "W_xh", "b_h", "W_hh", "W_ho", "b_o", "W_xh_static"),
    ]
)
"""What weights are called at the end of their names; these become parameters, other constants buffers."""

_SUFFIX = re.compile(r"([._/])(weight|kernel|filter|w|W|gamma|scale|slope|running_mean|moving_mean|mean|rm)(_0|:0)?$")
_WORD = re.compile(r"(?<![0-9A-Za-z_.])[A-Za-z_][0-9A-Za-z_]*")
_FLOATS = {"float32": 32, "float64": 64, "float16": 16, "bfloat16": 16}


class Source:
    """Collects the lines of one module."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.values: dict[str, Value] = dict(network.values)
        self.attributes = attribute_names()
        self.names = variable_names()
        self.layers: list[str] = []
        self.tensors: list[str] = []
        self.body: list[tuple[str, int]] = []
        self.helpers: dict[str, str] = {}
        self.expressions: dict[str, str] = {}
        self.parameters: dict[str, Stored] = {}
        self.buffers: dict[str, Stored] = {}
        self.modules: dict[str, Stored] = {}
        self.depth = 2
        self._kept: list[Constant] = []
        self._held: dict[tuple[object, ...], str] = {}
        self._made: dict[tuple[object, ...], str] = {}
        self._owners: dict[tuple[object, ...], str] = {}

    # ---- statements ------------------------------------------------------------------------------------------------------

    def line(self, text: str) -> None:
        """A statement of `forward`."""
        self.body.append((text, self.depth))

    def lines(self, result: str) -> list[str]:
        """The statements of `forward` that `result` depends on, laid out."""
        used = set(_WORD.findall(result))
        kept: list[list[str]] = []
        for text, depth in reversed(self.body):
            targets, value = assignment(text)
            names = _WORD.findall(targets) if value else []
            # What a loop changes may be read in its next round.
            if names and depth == 2 and used.isdisjoint(names) and " = " in targets:
                continue
            used.update(_WORD.findall(value or text))
            kept.append(statement(text, depth))
        return [line for lines in reversed(kept) for line in lines] + statement(result, 2)

    def variable(self, value: str) -> str:
        """A new variable for a value of the graph."""
        name = self.names.take(value)
        self.expressions[value] = name
        return name

    def helper(self, name: str) -> str:
        """A function of `HELPERS` that the source then has, and those that it calls."""
        text, needs = HELPERS[name]
        for other in needs:
            self.helper(other)
        self.helpers.setdefault(name, text)
        return name

    def expression(self, name: str) -> str:
        """The value `name` as an expression."""
        if name in self.expressions:
            return self.expressions[name]
        value = self.values[name]
        if value.elements is not None:
            sizes = ", ".join(self.size(e) for e in value.elements)
            return f"torch.tensor([{sizes}])" if value.shape else f"torch.tensor({sizes})"
        if value.constant is None:
            raise KeyError(name)
        return self.tensor(value.constant, name)

    def size(self, element: Element) -> str:
        """An integer, or the expression that is one when the network runs."""
        if isinstance(element, int):
            return str(element)
        if not element.op:
            return f"{self.expression(element.value)}.shape[{element.axis}]"
        sides = [self.size(side) for side in (element.left, element.right)]
        sides = [f"({s})" if isinstance(e, Size) and e.op else s for s, e in zip(sides, (element.left, element.right), strict=True)]
        return f"{sides[0]} {element.op} {sides[1]}"

    # ---- what the network holds --------------------------------------------------------------------------------------------

    def tensor(self, constant: Constant, name: str) -> str:
        """`self.…` for a constant: a parameter, a buffer, or a buffer whose values stand in the source."""
        key = _key(constant)
        if key not in self._held:
            self._held[key] = self._hold(constant, constant.source or name)
            # What a key is made of must not go away, or something else could take its address.
            self._kept.append(constant)
        return self._held[key]

    def _hold(self, constant: Constant, name: str) -> str:
        attribute = self.attributes.take(name)
        weight = constant.source is not None and re.split(r"[./]", constant.source)[-1] in _ROLES and constant.dtype in _FLOATS
        dims = ", ".join(map(str, constant.shape)) if constant.shape else "()"
        if weight:
            self.tensors += statement(f"self.{attribute} = nn.Parameter(torch.empty({dims}{_dtype_argument(constant.dtype)}))", 2)
            self.parameters[attribute] = Stored(constant)
        elif 0 < constant.size <= SMALL or constant.fill is not None:
            text = f"self.register_buffer({text_literal(attribute)}, {constant_text(constant)}, persistent=False)"
            self.tensors += statement(text, 2)
        else:
            given = f"torch.empty({dims}{_dtype_argument(constant.dtype)})"
            self.tensors += statement(f"self.register_buffer({text_literal(attribute)}, {given})", 2)
            self.buffers[attribute] = Stored(constant)
        return f"self.{attribute}"

    def module(self, made: str, state: Mapping[str, Constant], name: str, node: str) -> str | None:
        """`self.…` for a layer made by `made`. None if its weight is another's, so that it cannot be a layer of its own."""
        keys = {role: _key(c) for role, c in state.items()}
        known = (made, *keys.items())
        if known in self._made:
            return self._made[known]
        first = next(iter(keys.values()), None)
        shared = first is not None and next(iter(state.values())).source is not None
        if shared and (first in self._owners or first in self._held):
            return None
        attribute = self.attributes.take(name)
        self.layers += statement(f"self.{attribute} = {made}", 2)
        for role, constant in state.items():
            self.modules[f"{attribute}.{role}"] = Stored(constant, node, role)
            if constant.source is not None:
                self._owners[keys[role]] = f"self.{attribute}.{role}"
                self._held.setdefault(keys[role], f"self.{attribute}.{role}")
        self._made[known] = f"self.{attribute}"
        return f"self.{attribute}"


def layer_name(weight: Constant | None, node: str, op_type: str) -> str:
    """What a layer is called: as its weight is, where that says more than the node does."""
    source = weight.source if weight is not None else None
    suffix = _SUFFIX.search(source) if source is not None else None
    if source is not None and suffix is not None and (suffix[1] == "." or not node):
        return source[: suffix.start()]
    return node or source or op_type.lower()


def constant_text(constant: Constant) -> str:
    """`torch.tensor(…)` for a small constant, `torch.full(…)` for one that is the same everywhere."""
    dtype = _dtype_argument(constant.dtype, ("float32", "int64", "bool"))
    if constant.fill is not None and constant.size > 1:
        number = scalar_text(constant.fill, constant.dtype)
        return f"torch.full({tuple_literal(constant.shape)}, {number}{_dtype_argument(constant.dtype, ('float32', 'int64', 'bool'))})"
    return f"torch.tensor({_nested(constant.array().tolist(), constant.dtype)}{dtype})"


def _nested(items: Any, dtype: str) -> str:
    return f"[{', '.join(_nested(item, dtype) for item in items)}]" if isinstance(items, list) else scalar_text(items, dtype)


def scalar_text(number: Any, dtype: str) -> str:
    """A number as Python writes it."""
    if dtype in _FLOATS:
        return float_literal(float(number), 64 if dtype != "float32" else 32)
    return str(bool(number)) if dtype == "bool" else str(int(number))


def _dtype_argument(dtype: str, plain: Sequence[str] = ("float32",)) -> str:
    return "" if dtype in plain else f", dtype=torch.{dtype}"


def _key(constant: Constant) -> tuple[object, ...]:
    if constant.source is None:
        return (id(constant.load), constant.shape)
    return (constant.source, constant.perm, constant.shape)
