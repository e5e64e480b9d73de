"""The Python package of TensorRT, whichever is there, and what differs between its versions.

Versions 8.6 to 11 of `tensorrt` and 1 of `tensorrt_rtx` have one API; what only some of them have is asked for by name and refused by
name. Source: NVIDIA/TensorRT, python/src, tags v8.6.1, v9.3.0, v10.0.1 and v11.1; tensorrt_rtx 1.7.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from porter.dataclass import dataclass
from porter.errors import MissingDependencyError, TensorRTError
from porter.tensorrt.layers import DTYPES

PACKAGES = ("tensorrt", "tensorrt_rtx")
"""In the order in which they are looked for."""

_NO_GPU = ("CUDA driver version is insufficient", "no CUDA-capable device", "CUDA driver is a stub library")
"""What TensorRT logs as errors where there is no GPU, and gets over while it builds. Source: CUDA, cudaError 35, 100 and 34."""


class Log:
    """What TensorRT has logged as errors and as warnings since it was last asked.

    TensorRT takes the first logger of a process for everything that follows, so there is one for each package.
    """

    def __init__(self) -> None:
        self._errors: list[str] = []
        self._warnings: list[str] = []

    def add(self, severity: int, text: str) -> None:
        """A line; severity: 0 and 1 are errors, 2 warnings, the others talk. Source: NvInferRuntimeBase.h, ILogger::Severity."""
        line = " ".join(text.split())
        if severity > 2 or any(words in line for words in _NO_GPU):
            return
        lines = self._errors if severity < 2 else self._warnings
        if line not in lines:
            lines.append(line)

    def clear(self) -> None:
        """Forget all: what was logged of an earlier network is not this one's."""
        self._errors, self._warnings = [], []

    def errors(self) -> list[str]:
        """The errors, which are forgotten then."""
        lines, self._errors = self._errors, []
        return lines

    def warnings(self) -> list[str]:
        """The warnings, which are forgotten then."""
        lines, self._warnings = self._warnings, []
        return lines


@dataclass(frozen=True, slots=True)
class Package:
    """A package that was imported. logger: the `ILogger` that fills `log`."""

    name: str
    version: str
    module: Any
    log: Log
    logger: Any

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def is_strongly_typed(self) -> bool:
        """Whether a network can be built whose tensors alone say what types it computes in. Source: NvInfer.h, v10.0.1."""
        return hasattr(self.module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED") and not self._needs_explicit_batch

    @property
    def _needs_explicit_batch(self) -> bool:
        return self.name == "tensorrt" and int(self.version.split(".")[0]) < 10

    @property
    def creation_flags(self) -> int:
        """What `create_network` takes: strong types where there are any, and before TensorRT 10 an explicit batch."""
        flags = self.module.NetworkDefinitionCreationFlag
        wanted = flags.EXPLICIT_BATCH if self._needs_explicit_batch else flags.STRONGLY_TYPED
        return 1 << int(wanted)

    def member(self, enumeration: str, name: str) -> Any:
        """A member of one of TensorRT's enumerations.

        Raises:
            TensorRTError: this version has none of that name.
        """
        found = getattr(getattr(self.module, enumeration, None), name, None)
        if found is None:
            raise TensorRTError("T101", f"{self} has no {enumeration} {name}", hint="a later version of TensorRT may have it")
        return found

    def dtype(self, name: str) -> Any:
        """TensorRT's type for porter's name of it.

        Raises:
            TensorRTError: this version has none.
        """
        if name not in DTYPES:
            raise TensorRTError("T101", f"TensorRT has no type for {name}", hint=f"it has {', '.join(DTYPES)}")
        return self.member("DataType", DTYPES[name])

    def dtype_name(self, dtype: Any) -> str:
        """porter's name of one of TensorRT's types, or TensorRT's own where porter has none."""
        return next((name for name, member in DTYPES.items() if member == dtype.name), str(dtype.name))


def find() -> Package:
    """The first of `PACKAGES` that is installed.

    Raises:
        MissingDependencyError: none is, or none can be loaded here.
    """
    reasons = []
    for name in PACKAGES:
        try:
            return _package(name)
        except ImportError as error:
            if error.name != name:
                reasons.append(" ".join(str(error).split()))
        except OSError as error:
            reasons.append(" ".join(str(error).split()))
    why = f": {reasons[0]}" if reasons else ""
    hint = "pip install tensorrt-rtx (Linux x86-64 and Windows; no GPU is needed to build), or pip install tensorrt"
    raise MissingDependencyError("D001", f"TensorRT's Python package is needed for this, 'tensorrt' or 'tensorrt_rtx'{why}", hint=hint)


@cache
def _package(name: str) -> Package:
    import importlib

    module = importlib.import_module(name)
    log = Log()

    class Logger(module.ILogger):  # type: ignore[name-defined,misc]
        """Puts what TensorRT logs, from whatever thread, into `log`."""

        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            log.add(int(severity), message)

    return Package(name, str(module.__version__), module, log, Logger())


def dims(holder: Any, attribute: str) -> tuple[int, ...] | None:
    """A shape, or other sizes that a tensor or a layer has, -1 for one that is open; None where TensorRT has none."""
    try:
        # What is not valid is None, cannot be iterated, or raises: versions differ.
        return tuple([int(size) for size in getattr(holder, attribute)])
    except (RuntimeError, TypeError, ValueError):
        return None
