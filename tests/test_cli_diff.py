"""`porter diff`, screen by screen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_runner import Porter

import porter
from porter.cli.diff import _rounded_up
from porter.cli.quantities import cosine_text
from porter.store import TensorStore
from porter.tensor import Tensor


def store(**arrays: np.ndarray) -> TensorStore:
    return TensorStore(Tensor.from_array(name, array) for name, array in arrays.items())


def f4(*values: float) -> np.ndarray:
    return np.array(values, "<f4")


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    """Two files with one tensor of every verdict."""
    half = np.array([[1.0, -2.0], [0.5, 0.25]], "<f4")
    a = store(
        same=f4(1, 2, 3),
        close=f4(1, 2, 4),
        shape=f4(*range(6)).reshape(2, 3),
        dtype=half,
        nan=f4(1, 2),
        gone=f4(7),
        old_name=f4(8, 9),
    )
    b = store(
        same=f4(1, 2, 3),
        close=np.nextafter(f4(1, 2, 4), f4(9, 9, 4)),
        shape=f4(*range(6)).reshape(3, 2),
        dtype=half.astype("<f2"),
        nan=f4(1, np.nan),
        new=f4(1, 2, 3, 4),
        new_name=f4(8, 9),
    )
    porter.save(a, tmp_path / "a.safetensors")
    porter.save(b, tmp_path / "b.safetensors")
    return "a.safetensors", "b.safetensors"


def test_equal(porter_cli: Porter, pair: tuple[str, str]) -> None:
    run = porter_cli("diff", pair[0], pair[0])
    assert (run.code, run.out, run.err) == (0, "equal: 7 tensors, bit for bit\n", "")


def test_piped(porter_cli: Porter, pair: tuple[str, str]) -> None:
    run = porter_cli("diff", *pair)
    assert run.code == 1
    assert (
        run.out
        == """\
TENSOR  SHAPE   MAX|Δ|  ULP  COSINE   NEEDS                            VERDICT
close   3      2.4e-07    1  1-1e-15  atol≥2.4e-07 rtol≥1.2e-07 ulp≥1  DIFFERS 2 of 3 elements, first at [0] 1.0→1.0000001
shape   2×3                                                            SHAPE 2×3→3×2
dtype   2×2                                                            DTYPE f32→f16
nan     2            0    0  1        –                                DIFFERS at [1] 2.0→nan
…1 equal (--all)
same number of elements, equal in flat order (shape)
values are equal after widening float16 to float32 (dtype)
1 element: NaN on one side only (nan)
same bytes, other name: old_name → new_name
only in a: gone, old_name
only in b: new, new_name
DIFFERS: 4 of 5 tensors, 4 unpaired
"""
    )


def test_terminal(porter_cli: Porter, pair: tuple[str, str]) -> None:
    run = porter_cli("diff", *pair, terminal=True)
    assert all(len(line) <= 80 for line in run.out.splitlines())
    assert (
        run.out
        == """\
TENSOR  SHAPE   MAX|Δ|  ULP  COSINE   NEEDS         VERDICT
close   3      2.4e-07    1  1-1e-15  atol≥2.4e-07  DIFFERS
  2 of 3 elements, first at [0] 1.0→1.0000001
shape   2×3                                         SHAPE
  2×3→3×2
dtype   2×2                                         DTYPE f32→f16
nan     2            0    0  1        –             DIFFERS
  at [1] 2.0→nan
…1 equal (--all)
same number of elements, equal in flat order (shape)
values are equal after widening float16 to float32 (dtype)
1 element: NaN on one side only (nan)
same bytes, other name: old_name → new_name
only in a: gone, old_name
only in b: new, new_name
DIFFERS: 4 of 5 tensors, 4 unpaired
"""
    )


def test_all_shows_equal_tensors_too(porter_cli: Porter, pair: tuple[str, str]) -> None:
    out = porter_cli("diff", *pair, "--all").out
    assert "same" in [line.split()[0] for line in out.splitlines()]
    assert "(--all)" not in out


def test_tolerance(porter_cli: Porter, tmp_path: Path) -> None:
    porter.save(store(w=f4(1, 2), v=f4(3)), tmp_path / "a.safetensors")
    porter.save(store(w=f4(1, 2.001), v=f4(3)), tmp_path / "b.safetensors")
    files = ("a.safetensors", "b.safetensors")
    assert porter_cli("diff", *files).code == 1
    assert porter_cli("diff", *files, "--atol", "1e-4").code == 1
    for allowed in (["--atol", "1e-2"], ["--rtol", "1e-3"], ["--ulp", "5000"]):
        run = porter_cli("diff", *files, *allowed)
        assert run.code == 0
        assert run.out.splitlines()[-1] == "equal within tolerance: 2 tensors, 1 of them not bit for bit"
    run = porter_cli("diff", *files, "--atol", "1e-4")
    assert run.out.splitlines()[-1] == "DIFFERS: 1 of 2 tensors beyond tolerance"


def test_the_tolerance_it_names_passes(porter_cli: Porter, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    for trial in range(20):
        w = rng.standard_normal(50).astype("<f4")
        porter.save(store(w=w), tmp_path / "a.safetensors", overwrite=True)
        porter.save(
            store(w=w + rng.standard_normal(50).astype("<f4") * np.float32(10.0**-trial)), tmp_path / "b.safetensors", overwrite=True
        )
        run = porter_cli("diff", "a.safetensors", "b.safetensors")
        if run.code == 0:
            continue
        needs = [part for part in run.out.splitlines()[1].split() if "≥" in part]
        assert len(needs) == 3
        for need in needs:
            option, _, value = need.partition("≥")
            assert porter_cli("diff", "a.safetensors", "b.safetensors", f"--{option}", value).code == 0, need


def test_exit_zero(porter_cli: Porter, pair: tuple[str, str]) -> None:
    assert porter_cli("diff", *pair, "--exit-zero").code == 0


def test_quiet_leaves_the_exit_code(porter_cli: Porter, pair: tuple[str, str]) -> None:
    run = porter_cli("diff", "-q", *pair)
    assert (run.code, run.out, run.err) == (1, "", "")


def test_json(porter_cli: Porter, pair: tuple[str, str]) -> None:
    run = porter_cli("diff", *pair, "--json", "--digest")
    assert run.code == 1
    document = run.json
    assert document["equal"] is False
    assert document["counts"] == {"compared": 5, "equal": 1, "within_tolerance": 0, "differing": 4, "only_a": 2, "only_b": 2}
    assert document["a"]["digest"] == porter.open(pair[0]).digest()
    assert document["same_bytes"] == [{"a": "old_name", "b": "new_name"}]
    assert porter_cli("diff", pair[0], pair[0], "--json").json["equal"] is True


def test_infinite_differences_are_valid_json(porter_cli: Porter, tmp_path: Path) -> None:
    porter.save(store(w=np.array([1.7e308, np.inf, np.nan])), tmp_path / "a.safetensors")
    porter.save(store(w=np.array([-1.7e308, 1.0, 2.0])), tmp_path / "b.safetensors")
    run = porter_cli("diff", "a.safetensors", "b.safetensors", "--json")
    assert run.code == 1
    text = porter_cli("diff", "a.safetensors", "b.safetensors").out
    assert "NaN on one side only" in text


def test_digest(porter_cli: Porter, pair: tuple[str, str]) -> None:
    lines = porter_cli("diff", *pair, "--digest").out.splitlines()
    assert f"digest of a     {porter.open(pair[0]).digest()}" in lines
    assert f"digest of b     {porter.open(pair[1]).digest()}" in lines


def test_many_differences_are_cut_in_a_terminal_only(porter_cli: Porter, tmp_path: Path) -> None:
    porter.save(store(**{f"w{i}": f4(i) for i in range(60)}), tmp_path / "a.safetensors")
    porter.save(store(**{f"w{i}": f4(i + 1) for i in range(60)}), tmp_path / "b.safetensors")
    files = ("a.safetensors", "b.safetensors")
    assert "…25 more (--all)" in porter_cli("diff", *files, terminal=True).out
    assert len(porter_cli("diff", *files).out.splitlines()) == 62
    assert "more (--all)" not in porter_cli("diff", *files, "--all", terminal=True).out


def test_hostile_names(porter_cli: Porter, tmp_path: Path) -> None:
    evil = "w\x1b[2J\n\u202e[/bold]"
    porter.save(store(**{evil: f4(1), "a" + evil: f4(1)}), tmp_path / "a.safetensors")
    porter.save(store(**{evil: f4(2), "b" + evil: f4(3)}), tmp_path / "b.safetensors")
    for terminal in (False, True):
        out = porter_cli("diff", "a.safetensors", "b.safetensors", terminal=terminal).out
        assert "\x1b" not in out
        assert "\u202e" not in out


@pytest.mark.parametrize("columns", [20, 50, 200])
def test_any_width(porter_cli: Porter, pair: tuple[str, str], columns: int) -> None:
    assert porter_cli("diff", *pair, terminal=True, columns=columns).code == 1


def test_a_tolerance_that_is_none(porter_cli: Porter, pair: tuple[str, str]) -> None:
    run = porter_cli("diff", *pair, "--atol", "-1")
    assert run.code == 2
    assert "error[U801]" in run.err


def test_other_options(porter_cli: Porter, pair: tuple[str, str]) -> None:
    assert porter_cli("diff", *pair, "--from-a", "safetensors", "--from-b", "safetensors:single").code == 1
    run = porter_cli("diff", *pair, "--select-a", "model")
    assert run.code == 2
    assert "error[U005]: --select means nothing to safetensors" in run.err


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (3.14e-4, "3.2e-04"), (3.1e-4, "3.1e-04"), (9.96e-4, "1.0e-03"), (9.9001, "1.0e+01"), (5e-324, "4.9e-324")],
)
def test_rounding_up(value: float, text: str) -> None:
    assert float(_rounded_up(value)) >= value
    if value > 1e-300:
        assert _rounded_up(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1"), (1 - 2**-53, "1-1e-16"), (0.9999995, "1-5e-07"), (0.99999, "0.999990"), (-1.0, "-1.000000"), (0.0, "0.000000")],
)
def testcosine_text(value: float, text: str) -> None:
    assert cosine_text(value) == text
