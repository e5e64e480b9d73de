"""The weights of a file put into a PyTorch module: every one of them, under the module's own names."""

from __future__ import annotations

from typing import Any

from porter.errors import GraphError
from porter.formats.registry import open_store

_COUNTER = "num_batches_tracked"
"""Buffers that count training steps, which nothing computes with."""


def load(module: Any, path: str) -> list[str]:
    """Read the file at `path` tensor by tensor into `module`. Gives what a reader has to know, a line each.

    Raises:
        GraphError: names or shapes are not the module's.
        PorterError: the file is broken.
    """
    import torch

    state = module.state_dict()
    with open_store(path) as store:
        missing = [n for n in state if n not in store and not n.endswith(_COUNTER)]
        extra = [n for n in store if n not in state and not n.endswith(_COUNTER)]
        if missing or extra:
            said = [
                f"{len(names)} tensors that the {what} ({_few(names)})"
                for names, what in ((missing, "file lacks"), (extra, "module lacks"))
                if names
            ]
            raise GraphError("G094", f"the weights are not the module's: {', and '.join(said)}", path=path)
        cast = []
        for name, tensor in store.items():
            if name not in state:
                continue
            if tuple(state[name].shape) != tensor.shape:
                message = f"its shape is {list(tensor.shape)}, and the module's {list(state[name].shape)}"
                raise GraphError("G094", message, path=path, tensor=name)
            array = tensor.numpy()
            if array.dtype.kind not in "fiub":
                array = array.astype("float32")
            with torch.no_grad():
                state[name].copy_(torch.from_numpy(array.copy()))
            cast += [name] if f"torch.{tensor.dtype.name}" != str(state[name].dtype) else []
    return [f"{len(cast)} tensors of '{path}' have another type than the module's and were cast ({_few(cast)})"] if cast else []


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
