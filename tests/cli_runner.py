"""Runs the command line inside the test's process, as a pipe or as a terminal 80 columns wide; validates every JSON it prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from porter.cli.main import main

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Run:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Porter = Callable[..., Run]


def validate(document: Any, name: str) -> None:
    schema = json.loads((ROOT / "schemas" / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(document)


@pytest.fixture
def porter_cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Porter:
    """`porter_cli("inspect", path)`: runs in `tmp_path`. `terminal=True` pretends that both streams are one, without colour."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, terminal: bool = False, columns: int = 80) -> Run:
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setenv("COLUMNS", str(columns))
            patch.setenv("TERM", "xterm")
            patch.setenv("NO_COLOR", "1")
            if terminal:
                patch.setattr(sys.stdout, "isatty", lambda: True)
                patch.setattr(sys.stderr, "isatty", lambda: True)
            code = main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        if "--json" in arguments:
            document = json.loads(out)
            name = f"{arguments[0]}_{arguments[1]}" if arguments[0] in ("map", "tensorrt") else str(arguments[0])
            validate(document, "error" if "error" in document else name)
            assert out.isascii()
        return Run(code, out, err)

    return run


def spawn(*arguments: object, cwd: Path, env: dict[str, str] | None = None, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """`porter` as a process of its own."""
    command = [sys.executable, "-m", "porter", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, check=False, **options)
