"""How long statistics and audits take, against numpy's own minimum, maximum and mean of the same mapped file.

    python tests/benchmarks/stats.py --folder /somewhere/with/600MB

Each job runs in a process of its own that has imported numpy and porter; its time is the median of several runs in that process,
of which the first, which meets cold caches, is shown apart. Targets are judged by processor time: one thread does all the work, and what
else the machine does counts less. Memory is the process's peak. Then the same as whole commands, from the start of Python to its end.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

SHAPES = {"fc.weight": (4096, 25088), "conv5.weight": (512, 512, 3, 3), "conv4.weight": (512, 512, 3, 3), "fc7.weight": (4096, 4096)}
MIB = 150

JOBS = {
    "numpy: min, max, mean": "plain(path)",
    "stats": "measure(store, distribution=False)",
    "stats --json (quantiles, histograms)": "measure(store)",
    "audit --to f16,bf16,i8": "audit(store, parse_targets('f16,bf16,i8'))",
    "audit --to f16,bf16,f8_e4m3": "audit(store, parse_targets('f16,bf16,f8_e4m3'))",
}
TARGETS = {"stats": 3.0, "audit --to f16,bf16,i8": 10.0, "audit --to f16,bf16,f8_e4m3": 10.0}

COMMANDS = {
    "stats": ["stats"],
    "stats --json": ["stats", "--json"],
    "audit --to f16,bf16,i8": ["audit"],
    "audit --to f16,bf16,f8_e4m3": ["audit", "--to", "f16,bf16,f8_e4m3"],
}

PLAIN = """
import json, mmap, struct, sys
import numpy as np

def plain(path):
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        size, = struct.unpack("<Q", mapped[:8])
        for name, entry in json.loads(mapped[8 : 8 + size]).items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                values = np.frombuffer(mapped, "<f4", (end - begin) // 4, 8 + size + begin)
                print(values.min(), values.max(), values.mean(), file=sys.stderr)
"""

SCRIPT = f"""{PLAIN}
import time
import porter
from porter.check.precision.audit import audit
from porter.check.precision.targets import parse_targets
from porter.check.statistics.measure import measure

path, job, runs = sys.argv[1], sys.argv[2], int(sys.argv[3])

times = []
with porter.open(path) as store:
    for _ in range(runs):
        start = time.perf_counter(), time.process_time()
        eval(job)
        times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
print(json.dumps({{"times": times, "rss": peak}}))
"""


def make(path: Path) -> None:
    import numpy as np

    import porter
    from porter.store import TensorStore
    from porter.tensor import Tensor

    rng = np.random.default_rng(0)
    tensors = [Tensor.from_array(n, rng.standard_normal(s, dtype="f4") * np.float32(0.02)) for n, s in SHAPES.items()]
    porter.save(TensorStore(tensors), path)


def whole(path: Path, runs: int) -> bool:
    """Time whole commands; whether all reach their targets."""
    print("\n| whole command                        |  wall s | processor s | / numpy |")
    print("| ------------------------------------ | ------: | ----------: | ------: |")
    base = _command("python: numpy min, max, mean", [sys.executable, "-c", f"{PLAIN}\nplain(sys.argv[1])", str(path)], runs, None)
    times = {n: _command(n, [sys.executable, "-m", "porter", c[0], str(path), *c[1:]], runs, base) for n, c in COMMANDS.items()}
    return all(times[name] <= factor * base for name, factor in TARGETS.items())


def _command(name: str, command: Sequence[str], runs: int, base: float | None) -> float:
    """Processor time of the median run."""
    times = []
    for _ in range(runs):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append((wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    wall, processor = (statistics.median(t[i] for t in times) for i in (0, 1))
    print(f"| {name:<36} | {wall:7.3f} | {processor:11.3f} | {processor / (base or processor):7.2f} |")
    return processor


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    path = options.folder / "stats.safetensors"
    if not path.exists():
        make(path)
    path.read_bytes()  # into the page cache
    base = 0.0
    failed = False
    print(f"{path.stat().st_size / 1e6:.0f} MB\n")
    print("|                                      | first s | median s | processor s | peak MiB | / numpy | has to reach |")
    print("| ------------------------------------ | ------: | -------: | ----------: | -------: | ------: | ------------ |")
    for name, job in JOBS.items():
        done = subprocess.run([sys.executable, "-c", SCRIPT, str(path), job, str(options.runs)], capture_output=True, text=True, check=True)
        result = json.loads(done.stdout)
        wall, processor = (statistics.median(t[i] for t in result["times"]) for i in (0, 1))
        base = base or processor
        wanted = ""
        if name in TARGETS:
            missed = processor > TARGETS[name] * base or result["rss"] > MIB
            wanted = f"{TARGETS[name]:g} x, {MIB} MiB{' MISSED' if missed else ''}"
            failed |= missed
        first = result["times"][0][0]
        print(
            f"| {name:<36} | {first:7.3f} | {wall:8.3f} | {processor:11.3f} | {result['rss']:8.0f} | {processor / base:7.2f} | {wanted} |"
        )
    return int(failed | (not whole(path, options.runs)))


if __name__ == "__main__":
    raise SystemExit(main())
