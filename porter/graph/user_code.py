"""A user's own Python file: it is run, and so are the functions and classes in it. `running` is around each of these calls."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from porter.errors import PorterError, Terminated, access_error

Refuse = Callable[..., PorterError]
"""Makes the error for a message, a path and a line."""


class _Aside:
    """stderr, for what believes it to be stdout; it stays open."""

    def close(self) -> None:
        return None

    def __getattr__(self, name: str) -> Any:
        import sys

        return getattr(sys.stderr, name)


@contextmanager
def running(path: str, what: str, refuse: Refuse, *passed: type[Exception]) -> Iterator[None]:
    """Around what runs code out of the file at `path`, a module's forward() as much as the file itself.

    What it prints goes to stderr: stdout is for results alone. Whatever it raises becomes an error: so `sys.exit(0)`, which would end
    porter as if all were well. what: "the file fails". passed: exceptions that are the caller's own.

    Raises:
        PorterError: as `refuse` makes it, of `what` and of what was raised.
    """
    try:
        with redirect_stdout(_Aside()):
            yield
    except BaseException as error:
        if isinstance(error, (PorterError, KeyboardInterrupt, Terminated, *passed)):
            raise
        line = error.lineno if isinstance(error, SyntaxError) else line_of(error, path)
        raise refuse(f"{what}: {said(error)}" if what else said(error), path=path, line=line) from error


def said(error: BaseException) -> str:
    """The error's kind and text, in one line."""
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}{f': {text}' if text else ''}"


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
        with running(path, "the file fails", refuse):
            spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    found = getattr(module, name, None)
    if not callable(found):
        what = f"'{name}' is no function or class: it is of type {type(found).__name__}"
        message = what if hasattr(module, name) else f"the file has no function or class '{name}'"
        raise refuse(message, path=path, hint="name another: my_net.py:my_function")
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
