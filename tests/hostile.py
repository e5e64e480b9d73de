"""Damaged files: every one of them either reads or raises `PorterError`, soon, and without taking much memory."""

from __future__ import annotations

import contextlib
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import porter
from porter.errors import PorterError

SECONDS = 10
MEMORY = 2 << 30
"""Address space that reading a damaged file of a few kB may take beyond what the process has: mappings of libraries count."""


@contextlib.contextmanager
def guarded(what: str) -> Iterator[None]:
    """Turn endless work into an AssertionError and a huge allocation into a MemoryError; what the machine does besides does not count."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise AssertionError(f"{what}: still running after {SECONDS} s of work")

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGPROF, stop)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, hard))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def read_everything(path: Path) -> None:
    """Open a file and read all its tensors."""
    with porter.open(path) as store:
        for tensor in store.values():
            for _ in tensor.chunks():
                pass


def truncations(data: bytes, most: int = 400) -> Iterator[tuple[str, bytes]]:
    """`data` cut after each byte; evenly spread where there would be more than `most`."""
    step = max(1, len(data) // most)
    for n in range(0, len(data), step):
        yield f"truncated to {n}", data[:n]


def byte_changes(data: bytes, most: int = 400) -> Iterator[tuple[str, bytes]]:
    """`data` with each byte inverted, and with its lowest and highest bit flipped in turn."""
    step = max(1, len(data) // most)
    for n in range(0, len(data), step):
        for mask in (0xFF, 0x01, 0x80):
            yield f"byte {n} ^ {mask:#x}", data[:n] + bytes([data[n] ^ mask]) + data[n + 1 :]


def growths(data: bytes) -> Iterator[tuple[str, bytes]]:
    """`data` with bytes behind it, or with a part doubled."""
    for extra in (b"\0", b"\xff" * 8, b"\n", data):
        yield f"{len(extra)} bytes behind", data + extra
    half = len(data) // 2
    yield "second half twice", data + data[half:]
    yield "first half gone", data[half:]


def assert_survives(path: Path, variants: Iterator[tuple[str, bytes]]) -> int:
    """Write each variant to `path` and read it; the number that were refused. Anything but `PorterError` fails."""
    refused = 0
    for what, data in variants:
        path.write_bytes(data)
        with guarded(what):
            try:
                read_everything(path)
            except PorterError as error:
                refused += 1
                assert str(error).startswith(f"error[{error.code}]: "), what
                assert error.where.path, f"{what}: the error does not name the file: {error}"
            except Exception as error:
                raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    return refused
