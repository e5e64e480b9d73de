"""A PyTorch module as a side of a comparison. Its source is the user's own code, which is run.

Modules that `torch.fx` can trace are run node by node, each value seen and dropped after its last use. Of others, the outputs of the
innermost modules are seen, by hooks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from porter.errors import GraphError, MissingDependencyError, PorterError
from porter.graph.feeds import Given, Shape
from porter.graph.user_code import line_of
from porter.parity.side import Observed, Step
from porter.parity.sides.torch_graph import Traced, settings_of_module, trace
from porter.parity.sides.torch_state import load
from porter.tensor import Tensor

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray


class TorchSide:
    """A module. traced: its graph, None where it cannot be traced."""

    kind = "torch"
    runner = "torch"
    shapes: Mapping[str, Shape] = {}

    def __init__(self, label: str, path: str, module: Any, notices: Sequence[str]) -> None:
        self.label = label
        self._path = path
        self._module = module
        try:
            self._traced: Traced | None = trace(module, path)
            self.notices = tuple(notices)
        except Exception as error:
            self._traced = None
            said = " ".join(str(error).split())[:150]
            self.notices = (*notices, f"torch.fx cannot trace it, so that only its innermost modules are compared: {said}")

    @cached_property
    def inputs(self) -> Mapping[str, Given]:
        import inspect

        names = getattr(self._module, "input_names", None)
        if not names:
            parameters = inspect.signature(self._module.forward).parameters.values()
            names = [p.name for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        return {str(name): Given(None) for name in names}

    @property
    def outputs(self) -> tuple[str, ...]:
        return self._traced.outputs if self._traced is not None else ()

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        return self._traced.steps if self._traced is not None else tuple(_modules(self._module))

    @cached_property
    def aliases(self) -> Mapping[str, tuple[str, ...]]:
        if self._traced is None:
            return {}
        names = getattr(self._module, "output_names", ())
        known = dict(zip(self.outputs, names, strict=False)) if len(names) == len(self.outputs) else {}
        return {v: (*([known[v]] if known.get(v, v) != v else []), *some) for v, some in self._traced.aliases.items()}

    def recorded_inputs(self) -> Mapping[str, NDArray[Any]]:
        return {}

    def run(self, inputs: Mapping[str, NDArray[Any]], wanted: Sequence[str]) -> Iterator[Observed]:
        given = [_tensor(array) for array in inputs.values()]
        try:
            for name, value in self._traced.run(given, set(wanted)) if self._traced is not None else self._hooked(given, set(wanted)):
                array = _array(value)
                yield Observed(name, array, array.shape)
        except PorterError:
            raise
        except Exception as error:
            raise self._failed(error) from error

    def _hooked(self, given: Sequence[Any], wanted: set[str]) -> list[tuple[str, Any]]:
        import torch

        found: dict[str, Any] = {}

        def keep(name: str, module: Any, given: Any, made: Any) -> None:
            if isinstance(made, torch.Tensor):
                # What comes after may work in place.
                found.setdefault(name, made.clone())

        hooks = [m.register_forward_hook(partial(keep, name)) for name, m in self._module.named_modules() if name in wanted]
        try:
            with torch.no_grad():
                self._module(*given)
        finally:
            for hook in hooks:
                hook.remove()
        return list(found.items())

    def replay(self, step: Step, given: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]] | None:
        if self._traced is None:
            return None
        try:
            made = self._traced.alone(step, {name: _tensor(array) for name, array in given.items()})
        except Exception as error:
            raise self._failed(error) from error
        return None if made is None else {name: _array(value) for name, value in made.items()}

    def _failed(self, error: Exception) -> PorterError:
        said = " ".join(str(error).split())[:300]
        return GraphError("G094", f"the module fails: {type(error).__name__}: {said}", path=self._path, line=line_of(error, self._path))

    def fragment(self, step: Step) -> ir.Model | None:
        return None

    def weight(self, name: str) -> Tensor | None:
        held = {**dict(self._module.named_parameters()), **dict(self._module.named_buffers())}
        return Tensor.from_array(name, _array(held[name])) if name in held else None

    def __enter__(self) -> TorchSide:
        return self

    def __exit__(self, *exception: object) -> None:
        return None


def open_side(label: str, function: Callable[..., Any], path: str, weights: str | None) -> TorchSide:
    """The module that `function`, a class or a function out of the file at `path`, makes, with the weights in the file `weights`.

    Raises:
        MissingDependencyError: PyTorch is not there.
        PorterError: it makes no module, or the weights are not its own.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingDependencyError("D003", f"PyTorch is needed to run a module: {error}", hint="pip install torch") from error
    torch.manual_seed(0)
    try:
        module = function()
    except Exception as error:
        said = f"'{getattr(function, '__name__', 'it')}()' fails: {type(error).__name__}: {error}"
        raise GraphError("G094", said, path=path, line=line_of(error, path)) from error
    if not isinstance(module, torch.nn.Module):
        raise GraphError("G094", f"what it makes is no torch.nn.Module, it is a {type(module).__name__}", path=path)
    notices = [f"'{path}' was run: it is the user's own code"]
    if weights is None:
        notices.append(f"'{label}' has no weights: it has those that it makes up itself, and computes nothing of use")
    else:
        notices += load(module, weights)
    return TorchSide(label, path, module.eval(), notices)


def _modules(module: Any) -> Iterator[Step]:
    """The innermost modules, in the order in which they were registered; what they read is not known."""
    for name, inner in module.named_modules():
        if name and not any(True for _ in inner.children()):
            weights = tuple([f"{name}.{n}" for n in inner.state_dict()])
            yield Step(name, type(inner).__name__, (), (name,), settings_of_module(inner), weights)


def _tensor(array: NDArray[Any]) -> Any:
    import numpy as np
    import torch

    # In-place layers must not write into what the other side is fed.
    return torch.from_numpy(np.array(array))


def _array(value: Any) -> NDArray[Any]:
    import torch

    value = value.detach()
    array: NDArray[Any] = (value.float() if value.dtype == torch.bfloat16 else value).cpu().numpy()
    return array
