"""Importers of a user's own: a Python file that defines `LAYERS`, a dictionary of functions by type of layer.

    from porter.graph.caffe.layer import Layer

    def square(layer: Layer) -> None:
        x, = layer.bottoms
        layer.put(layer.builder.binary("Mul", x, x))

    LAYERS = {"Square": square}

A `Python` layer is found by the name of its class, "Python:MyLayer". See `Layer` for what a function is given, and `GraphBuilder` for
what nodes are made with.
"""

from __future__ import annotations

import os
from functools import partial
from types import ModuleType

from porter.errors import GraphError, PorterError, access_error
from porter.graph.builder import Named, OpsetTooLow
from porter.graph.caffe.layer import Importer, Layer
from porter.graph.user_code import running


def load(path: str) -> dict[str, Importer]:
    """The importers that the file at `path` defines. Runs the file.

    Raises:
        GraphError: it is no Python, it fails, or it defines no LAYERS of functions.
        FileAccessError: it cannot be read.
    """
    layers = getattr(_run(path), "LAYERS", None)
    example = "it needs LAYERS = {'MyType': my_function}"
    if not isinstance(layers, dict):
        raise GraphError("G051", "the file defines no dictionary LAYERS", path=path, hint=example)
    for name, function in layers.items():
        if not isinstance(name, str) or not callable(function):
            raise GraphError("G051", f"LAYERS[{name!r}] is no function for a type of layer", path=path, hint=example)
    return {name: _guarded(function, path) for name, function in layers.items()}


def _run(path: str) -> ModuleType:
    import importlib.util
    import sys

    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise access_error(error, path, "reading the custom layers") from error
    name = f"porter_custom_{os.path.splitext(os.path.basename(path))[0]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise GraphError("G051", "the file of custom layers has no name that ends with '.py'", path=path, hint="rename it")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with running(path, "the file of custom layers fails", partial(GraphError, "G051"), SyntaxError):
            spec.loader.exec_module(module)
    except SyntaxError as error:
        raise GraphError(
            "G051",
            f"the file of custom layers is no Python: {error.msg}",
            path=error.filename or path,
            line=error.lineno,
            column=error.offset,
            excerpt=error.text.rstrip("\n") if error.text else None,
        ) from error
    finally:
        del sys.modules[name]
    return module


def _guarded(function: Importer, path: str) -> Importer:
    """`function`, whose mistakes are said with the layer that it was to take over."""

    def importer(layer: Layer) -> None:
        def refuse(message: str, *, line: int | None, **_: object) -> PorterError:
            where = f"{os.path.basename(path)}{f':{line}' if line else ''}"
            return layer.error("G052", f"its importer fails, {where}: {message}")

        with running(path, "", refuse, OpsetTooLow):
            function(layer)
        if not all(isinstance(value, Named) for value, _ in layer.tops):
            raise layer.error(
                "G052", "its importer puts something that the builder did not make", hint="'put' takes what 'builder.op' gives"
            )

    return importer
