"""Functions and classes out of a user's own Python file, which is run for that."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

from porter.errors import PorterError, access_error

Refuse = Callable[..., PorterError]
"""Makes the error for a message, a path and a line."""


def named(path: str, name: str, refuse: Refuse) -> Any:
    """What the file at `path` calls `name`: something that can be called. Runs the file.

    Raises:
        FileAccessError: it cannot be read.
        PorterError: as `refuse` makes it: the file is no Python, fails, or has nothing of that name.
    """
    import importlib.util
    import sys

    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise access_error(error, path, "reading the network's source") from error
    module_name = f"porter_network_{os.path.splitext(os.path.basename(path))[0]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise refuse("the file has no name that ends with '.py'", path=path, hint="rename it")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    # As where Python runs the file itself: what lies beside it can be imported.
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    try:
        # What it prints is not the result: that goes to stdout alone.
        with redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        line = error.lineno if isinstance(error, SyntaxError) else line_of(error, path)
        raise refuse(f"the file fails: {type(error).__name__}: {error}", path=path, line=line) from error
    finally:
        sys.path.pop(0)
    found = getattr(module, name, None)
    if not callable(found):
        raise refuse(f"the file has no function '{name}'", path=path, hint="name another: my_net.py:my_function")
    return found


def line_of(error: BaseException, path: str) -> int | None:
    """The last line of the user's file that was reached."""
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if os.path.realpath(frame.filename) == os.path.realpath(path)]
    return lines[-1] if lines else None


def required(function: Callable[..., Any]) -> int:
    """How many arguments it has to be given; 0 where that is not known."""
    import inspect

    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 0
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return len([p for p in parameters if p.kind in kinds and p.default is inspect.Parameter.empty])
