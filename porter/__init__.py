"""porter moves neural-network weights between frameworks, exactly.

import porter

store = porter.open("det1.caffemodel")      # reads the index; values stay in the file
store["conv1.weight"].numpy()               # mapped from the file
porter.save(store, "det1.safetensors")      # streams; returns a report of what was lost
porter.diff("det1.caffemodel", "det1.safetensors").equal
"""

from porter.api import diff, save
from porter.api import open_ as open
from porter.errors import PorterError
from porter.store import TensorStore
from porter.tensor import Tensor, TensorSpec

__version__ = "0.1.0"

__all__ = ["PorterError", "Tensor", "TensorSpec", "TensorStore", "__version__", "diff", "open", "save"]
