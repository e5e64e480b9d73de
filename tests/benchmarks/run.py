"""Whole-process times of porter against the usual way and against `cp`, side by side. Run by hand, never in CI.

    python tests/benchmarks/run.py [--network resnet50|vgg16] [--runs 5] [--folder DIR] [--markdown] [JOB ...]

Each job runs its commands in turn, A B C A B C …, once uncounted, so that drift of the machine hits all alike, and divides
what ran next to each other: a ratio is the median of the rounds' ratios. Printed besides are the median and the smallest
wall time, the smallest processor time (of user and system together), and the peak resident memory. Every output is
deleted, outside the timing, before the run that writes it and after it, so that no run waits for the disk to take in what
the one before it wrote.

porter runs as pip installs it: a copy of the package, compiled, and a console script. Needs torch, safetensors and, for
the loader, g++.
"""

from __future__ import annotations

import argparse
import compileall
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

HERE = Path(__file__).resolve().parent
NETWORKS = ("resnet50", "vgg16")
PACKAGE = HERE.parent.parent / "porter"
CPP = HERE.parent.parent / "cpp"
# What developers set, and users do not: the first has Python compile every module anew, each time.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PYTHONPATH")}


@dataclass(frozen=True)
class Target:
    """What porter has to reach against a command: to be `faster` times as fast, or to take at most `within` times as long."""

    faster: float | None = None
    within: float | None = None

    def verdict(self, ratio: float) -> str:
        """`ratio` is the command's time divided by porter's."""
        if self.faster is not None:
            return f"{ratio:.1f} × as fast (at least {self.faster:g})" + self._missed(ratio < self.faster)
        assert self.within is not None
        return f"{1 / ratio:.2f} × as long (at most {self.within:g})" + self._missed(1 / ratio > self.within)

    @staticmethod
    def _missed(missed: bool) -> str:
        return " MISSED" if missed else ""


@dataclass
class Command:
    """One command of a job: what it is called, its arguments, the files it writes, what it has to reach, and what was measured.

    `target` is what porter, the job's first command, has to reach against this one; `seconds` and `mebibytes` are this one's
    own limits.
    """

    title: str
    argv: list[str]
    outputs: list[Path] = field(default_factory=list)
    target: Target | None = None
    seconds: float | None = None
    mebibytes: int | None = None
    times: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    peak_kib: int = 0

    def run(self, counted: bool) -> None:
        self._delete()
        start = time.perf_counter()
        process = subprocess.Popen(self.argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT)
        assert process.stderr is not None
        complaint = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        elapsed = time.perf_counter() - start
        process.stderr.close()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{' '.join(self.argv)} exited with {process.returncode}: {complaint.decode(errors='replace')}")
        self._delete()
        if counted:
            self.times.append(elapsed)
            self.processor.append(usage.ru_utime + usage.ru_stime)
            self.peak_kib = max(self.peak_kib, usage.ru_maxrss)

    def _delete(self) -> None:
        for path in self.outputs:
            path.unlink(missing_ok=True)

    def against(self, first: Command) -> float:
        """The median of this command's times, each divided by the time of `first` in the same round."""
        return statistics.median(mine / theirs for mine, theirs in zip(self.times, first.times, strict=True))

    def verdict(self, first: Command) -> str:
        """What was to be reached, and whether it was."""
        said = [self.target.verdict(self.against(first))] if self.target is not None else []
        if self.seconds is not None:
            missed = statistics.median(self.times) > self.seconds
            said.append(f"under {self.seconds:g} s" + (" MISSED" if missed else ""))
        if self.mebibytes is not None:
            said.append(f"under {self.mebibytes} MiB" + (" MISSED" if self.peak_kib > self.mebibytes << 10 else ""))
        return ", ".join(said)


class Files:
    """The inputs, made once a folder, and porter as it is installed there."""

    def __init__(self, folder: Path, network: str) -> None:
        self.folder, self.network = folder, network
        self.porter = [str(_installed(folder / "site"))]

    def __call__(self, ending: str) -> Path:
        path = self.folder / f"{self.network}{ending}"
        if not path.exists():
            self._make(path, ending)
        return path

    def out(self, name: str) -> Path:
        return self.folder / f"out-{name}"

    def compiled(self, source: Path) -> Path:
        """The program that `source` is, as a build for release makes it; made anew each time, since headers change."""
        program = self.folder / source.stem
        subprocess.run(["g++", "-O2", "-std=c++17", "-pthread", f"-I{CPP}/include", "-o", str(program), str(source)], check=True)
        return program

    def of_maps(self, name: str) -> Path:
        """One of the inputs of the jobs with maps, which are the same whatever the network."""
        path = self.folder / name
        if not path.exists():
            print(f"making {name}", file=sys.stderr)
            subprocess.run([sys.executable, str(HERE / "maps.py"), str(path)], check=True)
        return path

    def _make(self, path: Path, ending: str) -> None:
        print(f"making {path.name}", file=sys.stderr)
        if ending in (".pth", ".caffemodel"):
            subprocess.run([sys.executable, str(HERE / "networks.py"), self.network, str(path)], check=True)
        else:
            subprocess.run([*self.porter, "convert", "-q", str(self(".pth")), str(path)], check=True, env=ENVIRONMENT)


def _installed(site: Path) -> Path:
    """A copy of the package in `site`, and the console script that runs it."""
    shutil.rmtree(site, ignore_errors=True)
    shutil.copytree(PACKAGE, site / "porter", ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(site, quiet=1)
    script = site / "porter-script"
    start = f"import sys\nsys.path.insert(0, {str(site)!r})\nfrom porter.cli.main import run\nif __name__ == '__main__':\n    run()\n"
    script.write_text(f"#!{sys.executable}\n{start}")
    script.chmod(0o755)
    return script


def _porter(files: Files, source: Path, ending: str, mebibytes: int | None = None) -> Command:
    out = files.out(f"porter{ending}")
    sidecar = out.with_name(out.name + ".json")
    return Command("porter", [*files.porter, "convert", str(source), str(out)], [out, sidecar], mebibytes=mebibytes)


def _cp(files: Files, source: Path, within: float) -> Command:
    out = files.out("cp" + source.suffix)
    return Command(f"cp of {source.name}", ["cp", str(source), str(out)], [out], Target(within=within))


def pth_to_wts(files: Files) -> list[Command]:
    """Against the per-float script, and `cp` of the text."""
    source, out = files(".pth"), files.out("usual.wts")
    script = [sys.executable, str(HERE / "usual_wts_script.py"), str(source), str(out)]
    return [_porter(files, source, ".wts"), _cp(files, files(".wts"), 3.2), Command("usual script", script, [out], Target(faster=25))]


def pth_to_safetensors(files: Files) -> list[Command]:
    """Against torch with safetensors, and `cp`."""
    source, out = files(".pth"), files.out("torch.safetensors")
    script = [sys.executable, str(HERE / "torch_to_safetensors.py"), str(source), str(out)]
    usual = Command("torch and safetensors", script, [out], Target(faster=12))
    return [_porter(files, source, ".safetensors", 60), _cp(files, source, 1.3), usual]


def wts_to_safetensors(files: Files) -> list[Command]:
    """Against the usual C++ loader that only reads, compiled with -O2."""
    source = files(".wts")
    return [_porter(files, source, ".safetensors"), _usual_loader(files, source, 9)]


def _usual_loader(files: Files, source: Path, faster: float) -> Command:
    loader = files.compiled(HERE / "usual_loader.cpp")
    return Command("usual loader, reading", [str(loader), str(source)], target=Target(faster=faster))


def _load(files: Files, threads: int, faster: float) -> list[Command]:
    source, loader = files(".wts"), files.compiled(CPP / "benchmarks" / "wts_load.cpp")
    argv = [str(loader), str(source), "--threads", str(threads)]
    most = (source.stat().st_size * 4 // 9 >> 20) + 64  # 9 characters a value
    return [
        Command("porter", argv, mebibytes=most),
        Command("porter, no sidecar", [*argv, "--no-sidecar"], mebibytes=most),
        _usual_loader(files, source, faster),
        Command("cat to /dev/null", ["cat", str(source)]),
    ]


def cpp_load(files: Files) -> list[Command]:
    """The C++ loader on one thread, against the usual one, and `cat` to /dev/null."""
    return _load(files, 1, 15)


def cpp_load_threads(files: Files) -> list[Command]:
    """The same on two threads."""
    return _load(files, 2, 25)


def caffemodel_to_safetensors(files: Files) -> list[Command]:
    """Against `cp`."""
    source = files(".caffemodel")
    return [_porter(files, source, ".safetensors", 80), _cp(files, source, 1.5)]


def inspect(files: Files) -> list[Command]:
    """Listing each format; the first line is what Python takes to start at all."""
    endings = (".pth", ".safetensors", ".caffemodel", ".onnx", ".wts", ".npz", ".h5")
    commands = [Command("python -c pass", [sys.executable, "-c", "pass"])]
    inspected = [([*files.porter, "inspect", str(files(e))], f"inspect {e}") for e in endings]
    return commands + [Command(title, argv, seconds=0.15, mebibytes=60) for argv, title in inspected]


def _mapped(files: Files, source: str, map: str, within: float | None, mebibytes: int) -> list[Command]:
    """A conversion with a map, and the same without it."""
    given, out = files.of_maps(source), files.out("map.safetensors")
    plain = [*files.porter, "convert", str(given), str(out)]
    target = Target(within=within) if within is not None else None
    with_map = [*plain, "--map", str(files.of_maps(map))]
    return [Command("porter", with_map, [out], mebibytes=mebibytes), Command("porter, without the map", plain, [out], target)]


def map_rename(files: Files) -> list[Command]:
    """500 MB with other names, against the plain conversion."""
    return _mapped(files, "encoder.safetensors", "rename.pmap", 1.1, 80)


def map_layout(files: Files) -> list[Command]:
    """500 MB of kernels from OIHW to HWIO, against the plain conversion."""
    return _mapped(files, "kernels.safetensors", "turn.pmap", 2, 80)


def map_fold(files: Files) -> list[Command]:
    """The BatchNorms of a ResNet-50 folded, against the plain conversion."""
    return _mapped(files, "resnet.safetensors", "fold.pmap", None, 120)


def map_check(files: Files) -> list[Command]:
    """Maps checked against 10,000 tensors: 100 rules, then a rule for each."""
    many = str(files.of_maps("many.safetensors"))
    checks = {"100 rules": ("rules.pmap", 0.5), "10,000 rules": ("literal.pmap", None)}
    listed = Command("inspect", [*files.porter, "inspect", "-q", many])
    return [listed] + [
        Command(title, [*files.porter, "map", "check", "-q", str(files.of_maps(map)), many], seconds=seconds)
        for title, (map, seconds) in checks.items()
    ]


def map_infer(files: Files) -> list[Command]:
    """Both maps of 500 MB found again from the two files."""
    commands = []
    for source, map in (("encoder.safetensors", "rename.pmap"), ("kernels.safetensors", "turn.pmap")):
        given, result, out = files.of_maps(source), files.folder / f"mapped-{source}", files.out("inferred.pmap")
        if not result.exists():
            argv = [*files.porter, "convert", "-q", str(given), str(result), "--map", str(files.of_maps(map))]
            subprocess.run(argv, check=True, env=ENVIRONMENT)
        commands.append(Command(map, [*files.porter, "map", "infer", str(given), str(result), "-o", str(out)], [out]))
    return commands


JOBS: dict[str, Callable[[Files], list[Command]]] = {
    "pth-wts": pth_to_wts,
    "pth-safetensors": pth_to_safetensors,
    "wts-safetensors": wts_to_safetensors,
    "cpp-load": cpp_load,
    "cpp-load-threads": cpp_load_threads,
    "caffemodel-safetensors": caffemodel_to_safetensors,
    "inspect": inspect,
    "map-rename": map_rename,
    "map-layout": map_layout,
    "map-fold": map_fold,
    "map-check": map_check,
    "map-infer": map_infer,
}

HEADINGS = ("", "median s", "min s", "processor s", "peak MiB", "/ first", "porter, and what it has to reach")


def measure(job: str, commands: list[Command], runs: int) -> list[tuple[str, ...]]:
    """Run the commands in turn; a row for each."""
    for counted in [False] + [True] * runs:
        for command in commands:
            command.run(counted)
    return [
        (
            command.title if command.title != "porter" else f"porter, {job}",
            f"{statistics.median(command.times):.3f}",
            f"{min(command.times):.3f}",
            f"{min(command.processor):.3f}",
            f"{command.peak_kib / 1024:.0f}",
            f"{command.against(commands[0]):.2f}",
            command.verdict(commands[0]),
        )
        for command in commands
    ]


def _print_table(rows: list[tuple[str, ...]], markdown: bool) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADINGS))]
    lines = [[c.ljust(w) if i in (0, 6) else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))] for row in rows]
    if markdown:
        lines.insert(1, ["-" * (w - 1) + ("-" if i in (0, 6) else ":") for i, w in enumerate(widths)])
    for line in lines:
        print(f"| {' | '.join(line)} |" if markdown else "  ".join(line).rstrip())


def main() -> None:
    """Parse, make the inputs, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="*", metavar="JOB", help=f"of {', '.join(JOBS)} (default: all)")
    parser.add_argument("--network", choices=NETWORKS, default="resnet50")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where inputs are kept and outputs go (default: a temporary folder)")
    parser.add_argument("--markdown", action="store_true", help="print tables for README.md")
    args = parser.parse_args()
    unknown = set(args.jobs) - set(JOBS)
    if unknown:
        parser.error(f"no such job: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        files = Files(folder, args.network)
        for job in args.jobs or JOBS:
            rows = measure(job, JOBS[job](files), args.runs)
            print(f"\n{job}, {args.network}: {JOBS[job].__doc__}\n")
            _print_table([HEADINGS, *rows], args.markdown)


if __name__ == "__main__":
    main()
