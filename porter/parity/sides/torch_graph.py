"""A PyTorch module traced by `torch.fx`, and run node by node. Values are called as the variables that hold them, if these are unique."""

from __future__ import annotations

import ast
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from porter.graph.feeds import Shape
from porter.parity.side import Step
from porter.tensor import Json

_FRAME = re.compile(r'File "(.+?)", line ([0-9]+)')
_CONSTRUCTORS = ("tensor", "as_tensor", "arange", "zeros", "ones", "full", "empty")
_MADE = ("call_module", "call_function", "call_method")


class Traced:
    """The graph of a module. steps: its nodes that compute something. outputs: names of what it gives back, which is `given_back`."""

    shapes: Mapping[str, Shape] = {}

    def __init__(self, module: Any, graph: Any, names: Mapping[Any, str], aliases: Mapping[str, tuple[str, ...]]) -> None:
        from torch import fx

        self._graph = graph
        self._names = names
        self._interpreter = fx.Interpreter(fx.GraphModule(module, graph), garbage_collect_values=False)
        self._modules = dict(module.named_modules())
        self._state = set(module.state_dict())
        self.steps = tuple([self._step(node) for node in graph.nodes if node.op in _MADE])
        self._nodes = {names[node]: node for node in graph.nodes if node in names}
        given_back = next(node for node in graph.nodes if node.op == "output")
        self.given_back = given_back.args[0]
        found: dict[str, tuple[str, ...]] = {}
        for key, node in names_of(module, [(key, node) for key, node in leaves(self.given_back) if node in names]):
            found[names[node]] = (*found.get(names[node], ()), key)
        self.outputs = tuple(found)
        keys = {value: [k for k in some if k != value] for value, some in found.items()}
        self.aliases = {v: tuple(dict.fromkeys([*keys.get(v, ()), *some])) for v, some in aliases.items()}
        self._last_reader = {read: node for node in graph.nodes for read in node.all_input_nodes}

    def _step(self, node: Any) -> Step:
        inputs = tuple(dict.fromkeys(self._names[n] for n in node.all_input_nodes if n.op != "get_attr"))
        constants = tuple([str(n.target) for n in node.all_input_nodes if n.op == "get_attr"])
        if node.op == "call_module":
            inner = self._modules[node.target]
            weights = tuple([f"{node.target}.{name}" for name in inner.state_dict()])
            return Step(node.target, type(inner).__name__, inputs, (self._names[node],), settings_of_module(inner), weights)
        kind = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        weights = tuple([name for name in constants if name in self._state])
        return Step(self._names[node], kind.strip("_"), inputs, (self._names[node],), _settings(node), weights)

    def run(self, given: Sequence[Any], wanted: set[str]) -> Iterator[tuple[str, Any]]:
        """Yield the tensors of those names as they are computed; what is not read any more is dropped."""
        import torch

        env: dict[Any, Any] = {}
        fed = iter(given)
        left = set(wanted)
        for node in self._graph.nodes:
            if not left or node.op == "output":
                return
            if node.op == "placeholder":
                env[node] = next(fed, *node.args[:1])
            else:
                self._interpreter.env = env
                with torch.no_grad():
                    env[node] = self._interpreter.run_node(node)
            name = self._names.get(node)
            if name in left:
                left.discard(name)
                if isinstance(env[node], torch.Tensor):
                    yield name, env[node]
            for read in (*node.all_input_nodes, node):
                if self._last_reader.get(read) in (node, None):
                    env.pop(read, None)

    def alone(self, step: Step, given: Mapping[str, Any]) -> dict[str, Any] | None:
        """What the node of `step` makes of these values; None where it reads another."""
        import torch

        node = self._nodes[step.outputs[0]]
        env: dict[Any, Any] = {}
        self._interpreter.env = env
        with torch.no_grad():
            for read in node.all_input_nodes:
                if read.op == "get_attr":
                    env[read] = self._interpreter.run_node(read)
                elif self._names[read] in given:
                    env[read] = given[self._names[read]]
                else:
                    return None
            made = self._interpreter.run_node(node)
        return {step.outputs[0]: made} if isinstance(made, torch.Tensor) else None


def trace(module: Any, path: str) -> Traced:
    """The graph of `module`, whose source is at `path`. Raises whatever `torch.fx` does where it cannot trace it."""
    from torch import fx

    class Tracer(fx.Tracer):
        """Keeps where in the source each node comes from."""

        record_stack_traces = True

    with _constructors_traced():
        graph = Tracer().trace(module)
    variables = _variables(graph, path)
    counts = Counter(variables.values())
    names: dict[Any, str] = {}
    aliases: dict[str, tuple[str, ...]] = {}
    for node in graph.nodes:
        if node.op == "placeholder":
            names[node] = str(node.target)
        elif node.op in _MADE:
            variable = variables.get(node)
            own = variable if variable is not None and counts[variable] == 1 else None
            target = str(node.target) if node.op == "call_module" else node.name
            names[node] = own or target
            found = [target, node.name] if node.op == "call_module" else []
            aliases[names[node]] = tuple(dict.fromkeys(n for n in found if n != names[node]))
    return Traced(module, graph, _unique(names), aliases)


@contextmanager
def _constructors_traced() -> Iterator[None]:
    """Functions that make a tensor of numbers are traced as others are, where a number is only known when the network runs."""
    import torch
    from torch import fx

    def traced(function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            found = next((a for a in (*args, *kwargs.values()) if isinstance(a, fx.Proxy)), None)
            return function(*args, **kwargs) if found is None else found.tracer.create_proxy("call_function", function, args, kwargs)

        return call

    before = {name: getattr(torch, name) for name in _CONSTRUCTORS}
    for name, function in before.items():
        setattr(torch, name, traced(function))
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(torch, name, function)


def _unique(names: Mapping[Any, str]) -> dict[Any, str]:
    counts: Counter[str] = Counter()
    found = {}
    for node, name in names.items():
        counts[name] += 1
        found[node] = name if counts[name] == 1 else f"{name}#{counts[name]}"
    return found


def _variables(graph: Any, path: str) -> dict[Any, str]:
    """The variable that each node's value is assigned to, where a statement of the source does just that."""
    try:
        with open(path, encoding="utf-8") as file:
            tree = ast.parse(file.read())
    except (OSError, ValueError, SyntaxError):
        return {}
    lines: dict[int, str] = {}
    for statement in ast.walk(tree):
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1 and isinstance(statement.targets[0], ast.Name):
            lines |= dict.fromkeys(range(statement.lineno, (statement.end_lineno or statement.lineno) + 1), statement.targets[0].id)
    last: dict[Any, str] = {}
    before: tuple[str, Any] | None = None
    for node in graph.nodes:
        if node.op not in _MADE:
            continue
        frames = [(f, int(n)) for f, n in _FRAME.findall(node.stack_trace or "")]
        here = next((lines.get(n) for f, n in reversed(frames) if os.path.realpath(f) == os.path.realpath(path)), None)
        if here is None:
            before = None
            continue
        if before is not None and before[0] == here:
            # Of the nodes of one statement the last one makes what is assigned.
            last.pop(before[1], None)
        last[node] = here
        before = (here, node)
    return last


def leaves(value: Any, name: str = "output") -> Iterator[tuple[str, Any]]:
    """What a function gives back, one by one, called by keys, fields or places: `output` for what is alone, `output1`, `boxes.0`."""
    inner = "" if name == "output" else f"{name}."
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, f"{inner}{key}")
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        yield from leaves(dict(zip(value._fields, value, strict=True)), name)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from leaves(item, f"{inner}{number}" if inner else f"output{number}")
    else:
        yield name, value


def names_of(module: Any, outputs: Sequence[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Outputs by the names that the module states for as many."""
    names = getattr(module, "output_names", None) or ()
    return [(str(n), v) for n, (_, v) in zip(names, outputs, strict=True)] if len(names) == len(outputs) else list(outputs)


def settings_of_module(module: Any) -> dict[str, Json]:
    """What a module was made with, by its attributes."""
    found = {name: _json(value) for name, value in vars(module).items() if not name.startswith("_") and name != "training"}
    return {name: value for name, value in found.items() if value is not None}


def _settings(node: Any) -> dict[str, Json]:
    """Arguments of a call that are no values."""
    named = {f"argument {i}": _json(value) for i, value in enumerate(node.args)} | {k: _json(v) for k, v in node.kwargs.items()}
    return {name: value for name, value in named.items() if value is not None}


def _json(value: object) -> Json:
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(v, bool | int | float | str) for v in value):
        return list(value)
    return None
