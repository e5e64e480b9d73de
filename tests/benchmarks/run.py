"""Whole-process times of porter against the usual way and against `cp`, side by side. Run by hand, never in CI.

    python tests/benchmarks/run.py [--network resnet50|vgg16] [--runs 5] [--folder DIR] [JOB ...]

Each job runs its commands in turn, A B C A B C …, once uncounted, so that drift of the machine hits all alike. Printed
are the median wall time, the smallest, the peak resident memory, and the ratio of medians against porter. Every output
file is deleted before the run that writes it, outside the timing. Needs torch, safetensors and, for the loader, g++.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from networks import NETWORKS, write_caffemodel, write_pth

HERE = Path(__file__).resolve().parent
PORTER = [shutil.which("porter") or str(Path(sys.executable).parent / "porter")]


@dataclass
class Command:
    """One command of a job: what it is called, its arguments, the files it writes, and what was measured."""

    title: str
    argv: list[str]
    outputs: list[Path] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    peak_kib: int = 0

    def run(self, counted: bool) -> None:
        for path in self.outputs:
            path.unlink(missing_ok=True)
        start = time.perf_counter()
        process = subprocess.Popen(self.argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert process.stderr is not None
        complaint = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        elapsed = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{' '.join(self.argv)} exited with {process.returncode}: {complaint.decode(errors='replace')}")
        if counted:
            self.times.append(elapsed)
            self.peak_kib = max(self.peak_kib, usage.ru_maxrss)


class Files:
    """The inputs, made once a folder."""

    def __init__(self, folder: Path, network: str) -> None:
        self.folder, self.network = folder, network

    def __call__(self, ending: str) -> Path:
        path = self.folder / f"{self.network}{ending}"
        if not path.exists():
            self._make(path, ending)
        return path

    def out(self, name: str) -> Path:
        return self.folder / f"out-{name}"

    def _make(self, path: Path, ending: str) -> None:
        print(f"making {path.name}", file=sys.stderr)
        if ending == ".pth":
            write_pth(self.network, path)
        elif ending == ".caffemodel":
            write_caffemodel(self.network, path)
        else:
            subprocess.run([*PORTER, "convert", "-q", str(self(".pth")), str(path), "--overwrite"], check=True)


def _porter(files: Files, source: Path, ending: str) -> Command:
    out = files.out(f"porter{ending}")
    sidecar = out.with_name(out.name + ".json")
    return Command("porter", [*PORTER, "convert", "-q", str(source), str(out)], [out, sidecar])


def _cp(files: Files, source: Path) -> Command:
    out = files.out("cp" + source.suffix)
    return Command(f"cp of {source.name}", ["cp", str(source), str(out)], [out])


def pth_to_wts(files: Files) -> list[Command]:
    """Against the per-float script, and `cp` of the text."""
    source, out = files(".pth"), files.out("usual.wts")
    usual = Command("usual script", [sys.executable, str(HERE / "usual_wts_script.py"), str(source), str(out)], [out])
    return [_porter(files, source, ".wts"), _cp(files, files(".wts")), usual]


def pth_to_safetensors(files: Files) -> list[Command]:
    """Against torch with safetensors, and `cp`."""
    source, out = files(".pth"), files.out("torch.safetensors")
    usual = Command("torch", [sys.executable, str(HERE / "torch_to_safetensors.py"), str(source), str(out)], [out])
    return [_porter(files, source, ".safetensors"), _cp(files, source), usual]


def wts_to_safetensors(files: Files) -> list[Command]:
    """Against the usual C++ loader that only reads, compiled with -O2."""
    loader = files.folder / "usual_loader"
    if not loader.exists():
        subprocess.run(["g++", "-O2", "-std=c++17", "-o", str(loader), str(HERE / "usual_loader.cpp")], check=True)
    source = files(".wts")
    return [_porter(files, source, ".safetensors"), Command("usual loader, reading", [str(loader), str(source)])]


def caffemodel_to_safetensors(files: Files) -> list[Command]:
    """Against `cp`."""
    source = files(".caffemodel")
    return [_porter(files, source, ".safetensors"), _cp(files, source)]


def inspect(files: Files) -> list[Command]:
    """Listing each format; the first line is what Python takes to start at all."""
    endings = (".pth", ".safetensors", ".caffemodel", ".onnx", ".wts", ".npz", ".h5")
    commands = [Command("python -c pass", [sys.executable, "-c", "pass"])]
    return commands + [Command(f"inspect {e}", [*PORTER, "inspect", str(files(e))]) for e in endings]


JOBS: dict[str, Callable[[Files], list[Command]]] = {
    "pth-wts": pth_to_wts,
    "pth-safetensors": pth_to_safetensors,
    "wts-safetensors": wts_to_safetensors,
    "caffemodel-safetensors": caffemodel_to_safetensors,
    "inspect": inspect,
}


def measure(job: str, commands: list[Command], runs: int) -> None:
    """Run the commands in turn and print a line each."""
    for counted in [False] + [True] * runs:
        for command in commands:
            command.run(counted)
    base = statistics.median(commands[0].times)
    print(f"\n{job}: {JOBS[job].__doc__}")
    print(f"  {'':28} {'median s':>9} {'min s':>8} {'peak MiB':>9} {'× first':>8}")
    for command in commands:
        median = statistics.median(command.times)
        print(f"  {command.title:28} {median:9.3f} {min(command.times):8.3f} {command.peak_kib / 1024:9.0f} {median / base:8.2f}")


def main() -> None:
    """Parse, make the inputs, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="*", metavar="JOB", help=f"of {', '.join(JOBS)} (default: all)")
    parser.add_argument("--network", choices=list(NETWORKS), default="resnet50")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where inputs are kept and outputs go (default: a temporary folder)")
    args = parser.parse_args()
    unknown = set(args.jobs) - set(JOBS)
    if unknown:
        parser.error(f"no such job: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        files = Files(folder, args.network)
        for job in args.jobs or JOBS:
            measure(job, JOBS[job](files), args.runs)


if __name__ == "__main__":
    main()
