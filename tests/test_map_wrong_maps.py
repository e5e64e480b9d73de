"""Maps that are wrong, and exactly what porter says of each: examples of errors as they should be.

The first line of each map in `tests/wrong_maps` is the command that is run there; the text beside the map is what it prints.
`python tests/test_map_wrong_maps.py` writes the texts anew: read what changed as somebody would who wrote such a map.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
from pathlib import Path

import pytest

from porter.cli.main import main

FOLDER = Path(__file__).resolve().parent / "wrong_maps"
MAPS = sorted(FOLDER.glob("*.pmap"))


def printed(path: Path) -> tuple[int, str]:
    """The exit code of a map's command, and what it prints on stdout and stderr."""
    program, *arguments = shlex.split(path.read_text().splitlines()[0].removeprefix("# "))
    assert program == "porter"
    text = io.StringIO()
    with contextlib.chdir(FOLDER), contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        code = main(arguments)
    return code, text.getvalue()


def test_there_are_enough() -> None:
    assert len(MAPS) >= 50


@pytest.mark.parametrize("path", MAPS, ids=lambda p: p.stem)
def test_what_porter_says(path: Path) -> None:
    code, text = printed(path)
    assert code in (1, 2)
    assert text == path.with_suffix(".txt").read_text()
    assert "U999" not in text
    assert all(len(line) <= 200 for line in text.splitlines())


@pytest.mark.parametrize("path", MAPS, ids=lambda p: p.stem)
def test_every_error_has_a_place_and_a_way_out(path: Path) -> None:
    text = path.with_suffix(".txt").read_text()
    errors = text.split("error[")[1:]
    assert errors
    for error in errors:
        # What is wrong on the command line stands in no file.
        assert "--> " in error or error.startswith("U9")
        assert "= help: " in error


def test_every_text_is_of_a_map() -> None:
    assert {p.stem for p in FOLDER.glob("*.txt")} == {p.stem for p in MAPS}


if __name__ == "__main__":
    os.environ["NO_COLOR"] = "1"
    for old in FOLDER.glob("*.txt"):
        old.unlink()
    for path in MAPS:
        path.with_suffix(".txt").write_text(printed(path)[1])
