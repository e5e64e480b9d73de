"""A PyTorch module as a side of a comparison. Its source is the user's own code, which is run.

Modules that `torch.fx` can trace are run node by node, each value seen and dropped after its last use. Of others, what the innermost
modules make and what the whole gives back are seen, when they run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from porter.errors import GraphError, MissingDependencyError, PorterError
from porter.graph.feeds import Given, Shape
from porter.graph.user_code import running
from porter.parity.side import Observed, Step
from porter.parity.sides.torch_graph import Traced, leaves, trace
from porter.parity.sides.torch_hooks import Hooked
from porter.parity.sides.torch_state import load
from porter.tensor import Tensor

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray


class TorchSide:
    """A module: its graph, or, where it cannot be traced, what is seen of it when it runs."""

    kind = "torch"
    runner = "torch"

    def __init__(self, label: str, path: str, module: Any, notices: Sequence[str]) -> None:
        self.label = label
        self.notices = tuple(notices)
        self._path = path
        self._module = module
        self._seen: Traced | Hooked
        try:
            with self._running():
                self._seen = trace(module, path)
        except PorterError as error:
            with self._running():
                self._seen = Hooked(module)
            why = _sentence(error.__cause__ or error)
            self.notices += (f"torch.fx cannot trace it, so that its innermost modules and its outputs alone are compared: {why}",)
        if str(self._dtype) == "torch.bfloat16":
            self.notices += (f"'{label}' computes in bfloat16, and what it is fed is rounded to that",)
        if isinstance(self._seen, Traced):
            self._refuse_nothing(self._seen.outputs, self._seen.given_back)

    def _running(self) -> AbstractContextManager[None]:
        return running(self._path, "the module fails", partial(GraphError, "G094"))

    def _refuse_nothing(self, outputs: Sequence[str], given_back: Any) -> None:
        if not outputs:
            kinds = ", ".join(dict.fromkeys(type(leaf).__name__ for _, leaf in leaves(given_back))) or "nothing"
            hint = "forward() has to give tensors back: one, or several in a tuple, a list or a dictionary"
            raise GraphError("G094", f"forward() gives no tensor back: {kinds}", path=self._path, hint=hint)

    @cached_property
    def inputs(self) -> Mapping[str, Given]:
        import inspect

        with self._running():
            names = getattr(self._module, "input_names", None)
            parameters = inspect.signature(self._module.forward).parameters.values()
        if not names:
            names = [p.name for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
            if not names and any(p.kind == p.VAR_POSITIONAL for p in parameters):
                hint = "state them in the class: input_names = ('data',)"
                raise GraphError("G094", "forward(*…) does not say what its inputs are", path=self._path, hint=hint)
        # numpy has no bfloat16.
        dtype = str(self._dtype).removeprefix("torch.").replace("bfloat16", "float32")
        return {str(name): Given(None, dtype, only=False) for name in names}

    @cached_property
    def _dtype(self) -> Any:
        """The type of floating point that the module computes in."""
        import torch

        return next((p.dtype for p in self._module.parameters() if p.dtype.is_floating_point), torch.float32)

    @property
    def outputs(self) -> tuple[str, ...]:
        return self._seen.outputs

    @property
    def steps(self) -> tuple[Step, ...]:
        return self._seen.steps

    @property
    def aliases(self) -> Mapping[str, tuple[str, ...]]:
        return self._seen.aliases

    @property
    def shapes(self) -> Mapping[str, Shape]:
        return self._seen.shapes

    def recorded_inputs(self) -> Mapping[str, NDArray[Any]]:
        return {}

    def prepare(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        if isinstance(self._seen, Hooked):
            with self._running():
                made = self._seen.watch(list(inputs), self._tensors(inputs.values()))
            self._refuse_nothing(self._seen.outputs, made)

    def run(self, inputs: Mapping[str, NDArray[Any]], wanted: Sequence[str]) -> Iterator[Observed]:
        made = self._seen.run(self._tensors(inputs.values()), set(wanted))
        while True:
            # Not around the yield: what is done with a value is none of the module's.
            with self._running():
                found = next(made, None)
                array = _array(found[1]) if found is not None else None
            if found is None or array is None:
                return
            yield Observed(found[0], array, array.shape)

    def replay(self, step: Step, given: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]] | None:
        with self._running():
            made = self._seen.alone(step, dict(zip(given, self._tensors(given.values()), strict=True)))
            return None if made is None else {name: _array(value) for name, value in made.items()}

    def _tensors(self, arrays: Iterable[NDArray[Any]]) -> list[Any]:
        """The arrays, those of floating point in the type that the module computes in."""
        import numpy as np
        import torch

        # In-place layers must not write into what the other side is fed.
        found = [torch.from_numpy(np.array(array)) for array in arrays]
        return [t.to(self._dtype) if t.dtype.is_floating_point else t for t in found]

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
    refuse = partial(GraphError, "G094")
    with running(path, f"'{getattr(function, '__name__', 'it')}()' fails", refuse):
        module = function()
    if not isinstance(module, torch.nn.Module):
        raise GraphError("G094", f"what it makes is no torch.nn.Module, it is a {type(module).__name__}", path=path)
    notices = [f"'{path}' was run: it is the user's own code"]
    with running(path, "the module fails", refuse):
        if weights is None:
            notices.append(f"'{label}' has no weights: it has those that it makes up itself, and computes nothing of use")
        else:
            notices += load(module, weights)
        module.eval()
    return TorchSide(label, path, module, notices)


def _sentence(error: BaseException) -> str:
    """What the error says first."""
    text = " ".join(str(error).split()) or type(error).__name__
    first = re.split(r"(?<=[.!?])\s", text, maxsplit=1)[0].removesuffix(".")
    return first if len(first) <= 200 else f"{first[:199]}…"


def _array(value: Any) -> NDArray[Any]:
    import torch

    value = value.detach()
    array: NDArray[Any] = (value.float() if value.dtype == torch.bfloat16 else value).cpu().numpy()
    return array
