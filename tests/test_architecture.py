"""The floors of the house hold: who imports whom, and what is loaded when."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

import porter
from porter.store import TensorStore
from porter.tensor import Tensor

PACKAGE = ROOT / "porter"
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in sorted(PACKAGE.rglob("*.py"))}

FLOORS = (
    # The longest prefix counts. A module imports from its own floor and from lower ones.
    ("porter.dataclass", 0),
    ("porter.errors", 0),
    ("porter.dtypes", 0),
    ("porter.tensor", 1),
    ("porter.store", 1),
    ("porter.manifest", 1),
    ("porter.io", 2),
    ("porter.formats", 3),
    ("porter.mapping", 4),
    ("porter.graph", 5),
    ("porter.check", 5),
    ("porter.conversion", 5),
    ("porter.quantisation", 5),
    ("porter.tensorrt", 6),
    ("porter.parity", 6),
    ("porter.report", 6),
    ("porter.api", 6),
    ("porter.cli", 7),
    ("porter.__main__", 7),
    ("porter", 7),
)

HEAVY = {
    *("torch", "onnx", "onnx_ir", "onnxruntime", "h5py", "tensorrt", "tensorrt_rtx"),
    *("numpy", "ml_dtypes", "google", "lark", "rich", "cv2"),
}
"""Imported where they are used: the command line must not wait for what the file at hand does not need."""

SHARED_BETWEEN_ADAPTERS = {
    # Caffe's HDF5 layout holds the same layers as its binary one.
    "hdf5": ("porter.formats.caffe.",),
}


def floor(module: str) -> int:
    return max((len(prefix), level) for prefix, level in FLOORS if module == prefix or module.startswith(prefix + "."))[1]


def imports(module: str) -> Iterator[tuple[str, bool, int]]:
    """What a module imports: the name, whether at the top level at run time, and the line."""
    tree = ast.parse(MODULES[module].read_text())

    def walk(node: ast.AST, top: bool) -> Iterator[tuple[str, bool, int]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield alias.name, top, child.lineno
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{module}:{child.lineno}: relative import"
                assert child.module is not None
                for alias in child.names:
                    inner = f"{child.module}.{alias.name}"
                    yield (inner if inner in MODULES else child.module), top, child.lineno
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                for part in child.body:
                    yield from walk(ast.Module([part], []), False)
                for part in child.orelse:
                    yield from walk(ast.Module([part], []), top)
            else:
                inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from walk(child, top and not inside)

    yield from walk(tree, True)


def test_every_module_has_a_floor() -> None:
    for module in MODULES:
        assert module == "porter" or floor(module) < 7 or module.startswith(("porter.cli", "porter.__main__")), module


@pytest.mark.parametrize("module", MODULES)
def test_imports_come_from_lower_floors(module: str) -> None:
    for name, _, line in imports(module):
        if name.split(".")[0] == "porter" and name != "porter":
            assert floor(name) <= floor(module), f"{module}:{line} imports {name}, from a higher floor"


def test_no_two_modules_import_each_other() -> None:
    """Nor three in a ring, imports inside functions included: what depends on what can be read from the bottom up."""
    waiting = {module: {name for name, top, _ in imports(module) if name in MODULES and name != module} for module in MODULES}
    while free := [module for module, needs in waiting.items() if not needs & waiting.keys()]:
        for module in free:
            del waiting[module]
    assert not waiting, f"these import each other: {sorted(waiting)}"


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("porter.formats.")])
def test_no_adapter_knows_another(module: str) -> None:
    own = module.split(".")[2]
    common = {"base", "registry"}
    for name, _, line in imports(module):
        parts = name.split(".")
        if parts[:2] == ["porter", "formats"] and len(parts) > 2 and own not in common:
            allowed = name.startswith(SHARED_BETWEEN_ADAPTERS.get(own, ("-",)))
            assert parts[2] in {own, *common} or allowed, f"{module}:{line} imports {name}"


def entry_modules() -> list[str]:
    """Where every command and every adapter starts."""
    from porter.formats.registry import formats

    return [m for m in MODULES if m.startswith("porter.cli.")] + [
        "porter.api",
        "porter.conversion",
        *(e.module for e in formats().values()),
    ]


@pytest.mark.parametrize("entry", entry_modules())
def test_heavy_libraries_are_imported_where_they_are_used(entry: str) -> None:
    """What an entry module imports at the top level, and what that imports, and so on, is light."""
    todo, seen = [entry], {entry}
    while todo:
        module = todo.pop()
        for name, top, line in imports(module):
            if top:
                assert name.split(".")[0] not in HEAVY, f"{entry} loads {module}, which imports {name} in line {line}"
                if name in MODULES and name not in seen:
                    seen.add(name)
                    todo.append(name)


def test_packages_are_empty() -> None:
    for module, path in MODULES.items():
        if path.name == "__init__.py" and module != "porter":
            assert path.read_text() == "", f"{module}/__init__.py: import order must never matter"


def test_public_names() -> None:
    assert sorted(porter.__all__) == sorted(n for n in dir(porter) if n in porter.__all__)
    for name in porter.__all__:
        assert getattr(porter, name) is getattr(porter, name)
    with pytest.raises(AttributeError, match="nothing_here"):
        _ = porter.nothing_here


def loaded_by(code: str, tmp_path: Path) -> set[str]:
    """Top-level modules that are loaded after `code` has run in a fresh interpreter."""
    script = f"{code}\nimport sys, json\nprint('\\n' + json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def small(tmp_path: Path) -> None:
    store = TensorStore([Tensor.from_array("conv.weight", np.ones((2, 3), "<f4"))])
    porter.save(store, tmp_path / "a.safetensors")


def run_main(*arguments: str) -> str:
    return f"from porter.cli.main import main\nassert main({list(arguments)!r}) == 0"


@pytest.mark.parametrize(
    "code",
    [
        "import porter\nporter.open, porter.save, porter.diff, porter.Tensor, porter.TensorStore",
        run_main("inspect", "a.safetensors"),
        run_main("inspect", "a.safetensors", "--json", "--digest"),
        run_main("convert", "a.safetensors", "b.safetensors"),
        run_main("diff", "a.safetensors", "a.safetensors"),
        run_main("formats"),
        run_main("explain", "F001"),
    ],
    ids=["import", "inspect", "inspect-digest", "convert", "diff", "formats", "explain"],
)
def test_light_start(code: str, tmp_path: Path) -> None:
    small(tmp_path)
    assert not loaded_by(code, tmp_path) & HEAVY


def test_version_loads_no_format(tmp_path: Path) -> None:
    script = run_main("--version") + "\nimport sys\nassert not [m for m in sys.modules if m.startswith('porter.formats')]"
    assert "click" in loaded_by(script, tmp_path)
