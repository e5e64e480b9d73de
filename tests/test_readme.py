"""The commands and the Python that the READMEs show, run as they stand."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

READMES = [ROOT / "README.md", *sorted((ROOT / "examples").glob("*/README.md"))]
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
_INSTALL = re.compile(r"^python3 -m pip install \S+( && )?")


def fences(readme: Path, *languages: str) -> list[str]:
    return [body for language, body in _FENCE.findall(readme.read_text()) if language in languages]


def sandbox(folder: Path) -> tuple[Path, dict[str, str]]:
    """A copy of the examples, and an environment in which `porter` and `python3` are the ones under test."""
    shutil.copytree(ROOT / "examples", folder / "examples")
    tools = folder / "bin"
    tools.mkdir()
    # Scripts: an interpreter that is started by a link does not find its virtual environment.
    for name, command in (("python3", sys.executable), ("porter", f"{sys.executable} -m porter")):
        (tools / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (tools / name).chmod(0o755)
    return folder, {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "COLUMNS": "80", "NO_COLOR": "1"}


def test_install_command(tmp_path: Path) -> None:
    """Everything behind the installation itself."""
    marked = re.search(r"<!-- install -->\n```sh\n(.*?)```\n<!-- /install -->", (ROOT / "README.md").read_text(), re.S)
    assert marked, "the README lost its install command"
    command, installs = _INSTALL.subn("", marked[1].strip())
    assert installs == 1
    folder, env = sandbox(tmp_path)
    subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=folder, env=env, check=True)
    assert (folder / "digits.wts").stat().st_size > 1000


@pytest.mark.parametrize("readme", READMES, ids=lambda p: str(p.relative_to(ROOT)))
def test_console_sessions(readme: Path, tmp_path: Path) -> None:
    """Each `console` fence that starts with `$ cd`: its commands run, and print what stands below them."""
    folder, env = sandbox(tmp_path)
    ran = 0
    for body in fences(readme, "console"):
        if not body.startswith("$ cd ") or ("porter tensorrt" in body and not _has_tensorrt()):
            continue
        cwd = folder
        for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", body, re.M):
            ran += 1
            if command.startswith("cd "):
                cwd = folder / command[3:]
                continue
            done = subprocess.run(["bash", "-c", command], cwd=cwd, env=env, capture_output=True, text=True, check=False)
            printed = done.stdout + done.stderr
            assert _normal(printed) == _normal(expected), f"$ {command}\n{printed}"
    assert ran, f"{readme.name} shows no session that can be run"


def _has_tensorrt() -> bool:
    """TensorRT's package is not there for every platform."""
    return any(importlib.util.find_spec(name) for name in ("tensorrt", "tensorrt_rtx"))


def _normal(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines()).strip()


def test_python_of_the_first_lines(tmp_path: Path) -> None:
    """The Python at the top, with the example's file for the one it names."""
    top = "".join((ROOT / "README.md").read_text().splitlines(keepends=True)[:20])
    assert "porter convert" in top
    (source,) = fences(ROOT / "README.md", "python")[:1]
    assert "porter.open" in source
    assert source.rstrip().splitlines()[0] in top
    folder, env = sandbox(tmp_path)
    shutil.copy(folder / "examples/digits/digits.caffemodel", folder / "det1.caffemodel")
    subprocess.run([sys.executable, "-c", source], cwd=folder, env=env, check=True)
