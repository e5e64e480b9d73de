"""porter moves neural-network weights between frameworks, exactly.

import porter

store = porter.open("det1.caffemodel")      # reads the index; values stay in the file
store["conv1.weight"].numpy()               # mapped from the file
porter.save(store, "det1.safetensors")      # streams; returns a report of what was lost
porter.diff("det1.caffemodel", "det1.safetensors").equal

porter.convert("det1.caffemodel", "det1.pth")           # Caffe's names and layouts become torch's
porter.apply_map("pnet.pmap", store)                    # by a map of one's own
print(porter.infer_map("det1.caffemodel", "pnet.pt").text())
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from porter.api import apply_map, convert, diff, infer_map, load_map, save
    from porter.api import open_ as open
    from porter.errors import PorterError
    from porter.store import TensorStore
    from porter.tensor import Tensor, TensorSpec

__version__ = "0.1.0"

__all__ = [
    "PorterError",
    "Tensor",
    "TensorSpec",
    "TensorStore",
    "__version__",
    "apply_map",
    "convert",
    "diff",
    "infer_map",
    "load_map",
    "open",
    "save",
]

_HOMES = {
    "PorterError": ("porter.errors", "PorterError"),
    "Tensor": ("porter.tensor", "Tensor"),
    "TensorSpec": ("porter.tensor", "TensorSpec"),
    "TensorStore": ("porter.store", "TensorStore"),
    "apply_map": ("porter.api", "apply_map"),
    "convert": ("porter.api", "convert"),
    "diff": ("porter.api", "diff"),
    "infer_map": ("porter.api", "infer_map"),
    "load_map": ("porter.api", "load_map"),
    "open": ("porter.api", "open_"),
    "save": ("porter.api", "save"),
}


def __getattr__(name: str) -> Any:
    # The command line passes through here on its way to the few modules that a command needs; it must not pay for all.
    if name not in _HOMES:
        raise AttributeError(f"module 'porter' has no attribute {name!r}")
    import importlib

    module, attribute = _HOMES[name]
    value = globals()[name] = getattr(importlib.import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
