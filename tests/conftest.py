"""Fixtures that every test may use."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import hypothesis
import pytest
from cli_runner import Porter, porter_cli
from onnx_cases import onnx_cases

__all__ = ["onnx_cases", "porter_cli"]  # fixtures, which tests find here

# Shells start what runs in the background with Ctrl-C ignored, and porter's processes would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Workers share the processors, and threads of OpenMP that wait for their turn do so in a loop. Before anything imports NumPy.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# How long an example takes says how busy the machine is; tests that mean time measure it.
hypothesis.settings.register_profile("porter", deadline=None)
hypothesis.settings.load_profile("porter")

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("PORTER_SHARED", ROOT.parent / "shared"))


def shared_folder() -> Path | None:
    """The folder of real files that lies beside a developer's checkout, or None where there is none."""
    return SHARED if (SHARED / "real" / "INDEX.md").is_file() else None


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = shared_folder()
    if folder is None:
        message = f"the real weight files are not at {SHARED}; set PORTER_SHARED to where they are"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(scope="session")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one network in every form of `parity_nets.FORMS`; to be read only."""
    from parity_nets import make

    return make(tmp_path_factory.mktemp("nets"))


@pytest.fixture
def own_nets(nets: Path, tmp_path: Path, porter_cli: Porter) -> Path:
    """The same to be changed, in the folder in which the command runs."""
    shutil.copytree(nets, tmp_path, dirs_exist_ok=True)
    return tmp_path
