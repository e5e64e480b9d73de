"""A PyTorch module that `torch.fx` cannot trace, seen at work: by hooks on its innermost modules, and by what it gives back.

What a module reads is known where it is given, unchanged, the very tensor that another one made. Values are called as the modules that
make them (`conv1`; of a module's second call `conv1#2`), outputs as their keys or places.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from porter.graph.feeds import Shape
from porter.parity.side import Step
from porter.parity.sides.torch_graph import leaves, names_of, settings_of_module


class Hooked:
    """A module by its innermost modules. steps, outputs: once it was watched, those that ran and what came out; before, as registered."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._inner = {name: m for name, m in module.named_modules() if name and not any(True for _ in m.children())}
        self._own: dict[str, str] = {}
        self.steps = tuple([self._step(name, name, ()) for name in self._inner])
        self.outputs: tuple[str, ...] = ()
        self.aliases: Mapping[str, tuple[str, ...]] = {}
        self.shapes: Mapping[str, Shape] = {}

    def _step(self, name: str, value: str, inputs: Sequence[str]) -> Step:
        inner = self._inner[name]
        weights = tuple([f"{name}.{n}" for n in inner.state_dict()])
        return Step(value, type(inner).__name__, tuple(inputs), (value,), settings_of_module(inner), weights)

    def watch(self, names: Sequence[str], given: Sequence[Any]) -> Any:
        """Run it once on what the inputs of those names are given, and learn what it does. Gives back what it gives back."""
        import torch

        seen = _Seen()
        steps: list[Step] = []
        shapes: dict[str, Shape] = {}
        reads: list[tuple[str, ...]] = []
        for name, tensor in zip(names, given, strict=False):
            seen.add(name, tensor)

        def before(module: Any, given: Any, keywords: Any) -> None:
            known = [seen.name(v) for v in given] if not keywords else []
            whole = None not in known and len({*known}) == len(known)
            reads.append(tuple([n for n in known if n is not None]) if whole else ())

        def after(value: str, name: str, made: Any) -> None:
            inputs = reads.pop()
            if isinstance(made, torch.Tensor):
                seen.add(value, made)
                shapes[value] = tuple(made.shape)
                steps.append(self._step(name, value, inputs))

        with self._hooks(after, before):
            made = self._module(*given)
        self.steps, self.shapes = tuple(steps), shapes
        self._name_outputs(made, seen)
        return made

    def _name_outputs(self, made: Any, seen: _Seen) -> None:
        import torch

        found: dict[str, tuple[str, ...]] = {}
        for key, tensor in names_of(self._module, [(k, v) for k, v in leaves(made) if isinstance(v, torch.Tensor)]):
            value = seen.name(tensor)
            if value is not None and value in self.shapes:
                found[value] = (*found.get(value, ()), key)
            else:
                # A module may be called so, and make another value.
                value = key if key not in self.shapes else f"{key}#output"
                self._own[value] = key
                self.shapes = {**self.shapes, value: tuple(tensor.shape)}
                found[value] = (key,)
        self.outputs = tuple(found)
        self.aliases = {value: tuple([k for k in keys if k != value]) for value, keys in found.items()}

    def run(self, given: Sequence[Any], wanted: set[str]) -> Iterator[tuple[str, Any]]:
        """Yield the tensors of those names, copied: what comes after may work in place."""
        import torch

        found: dict[str, Any] = {}

        def after(value: str, name: str, made: Any) -> None:
            if value in wanted and isinstance(made, torch.Tensor):
                found[value] = made.clone()

        with self._hooks(after):
            made = self._module(*given)
        tensors = dict(names_of(self._module, [(k, v) for k, v in leaves(made) if isinstance(v, torch.Tensor)]))
        found |= {value: tensors[key] for value, key in self._own.items() if value in wanted and key in tensors}
        yield from found.items()

    @contextmanager
    def _hooks(self, after: Any, before: Any = None) -> Iterator[None]:
        """Have `after` called with the value, the name and the result of each innermost module that ran."""
        import torch

        calls: Counter[str] = Counter()

        def call(name: str, module: Any, given: Any, made: Any) -> None:
            calls[name] += 1
            after(name if calls[name] == 1 else f"{name}#{calls[name]}", name, made)

        hooks = [m.register_forward_hook(partial(call, name)) for name, m in self._inner.items()]
        if before is not None:
            hooks += [m.register_forward_pre_hook(before, with_kwargs=True) for m in self._inner.values()]
        try:
            with torch.no_grad():
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def alone(self, step: Step, given: Mapping[str, Any]) -> dict[str, Any] | None:
        """What the module of `step` makes of these values; None where it reads another."""
        import torch

        if not step.inputs or any(name not in given for name in step.inputs):
            return None
        with torch.no_grad():
            made = self._inner[step.name.partition("#")[0]](*[given[name].clone() for name in step.inputs])
        return {step.outputs[0]: made} if isinstance(made, torch.Tensor) else None


class _Seen:
    """Tensors that were made, by what they are called, while they are as they were. Keeps none of them alive."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, str, int]] = {}

    def add(self, name: str, tensor: Any) -> None:
        self._known[id(tensor)] = (weakref.ref(tensor), name, tensor._version)

    def name(self, value: Any) -> str | None:
        """What `value` is called; None for what is no tensor, is not known, or was written into."""
        entry = self._known.get(id(value))
        return entry[1] if entry is not None and entry[0]() is value and entry[2] == value._version else None
