"""Output files appear whole or not at all: killed processes, full disks, links, modes, and outputs that are their own input."""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import porter
from porter.errors import FileAccessError, FormatError
from porter.io.atomic import AtomicFile, OutputGroup
from porter.io.payloads import ComputedPayload
from porter.io.source import FileSource
from porter.store import TensorStore
from porter.tensor import BytesPayload, Tensor

MIB = 1 << 20


def parts(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def store(mebibytes: int, name: str = "w") -> TensorStore:
    return TensorStore([Tensor.from_array(name, np.arange(mebibytes << 18, dtype="f4"))])


# Writing


def test_bytes_arrive_in_order(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(range(256)) * 1024)
    seen: list[int] = []
    file = AtomicFile(tmp_path / "out", progress=seen.append)
    file.write(b"head")
    file.write(memoryview(np.arange(3, dtype="<i2")))
    file.write_payload(FileSource(source).payload(1, 200_000))
    file.write_payload(BytesPayload.of(b"tail"))
    file.write_payload(ComputedPayload(3, lambda: iter([b"a", b"bc"])))
    assert file.position == 4 + 6 + 200_000 + 4 + 3
    assert file.pad_to(64) == -(4 + 6 + 200_000 + 7) % 64
    file.write_at(0, b"HE")
    assert parts(tmp_path) != ["out", "source"]
    file.commit()
    expected = b"HEad" + bytes([0, 0, 1, 0, 2, 0]) + source.read_bytes()[1:200_001] + b"tailabc"
    data = (tmp_path / "out").read_bytes()
    assert data == expected + bytes(len(data) - len(expected))
    assert len(data) % 64 == 0
    assert sum(seen) == len(data)
    assert parts(tmp_path) == ["out", "source"]


def test_reserved_space_is_given_back(tmp_path: Path) -> None:
    file = AtomicFile(tmp_path / "out")
    file.reserve(10_000)
    file.write(b"abc")
    file.truncate()
    file.commit()
    assert (tmp_path / "out").read_bytes() == b"abc"


def test_until_the_end_the_old_file_is_there(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_bytes(b"old")
    with OutputGroup() as group:
        group.create(out).write(b"new")
        assert out.read_bytes() == b"old"
    assert out.read_bytes() == b"new"
    assert parts(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, MemoryError, SystemExit])
def test_an_exception_leaves_the_old_file_and_nothing_else(error: type[BaseException], tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")

    def write() -> None:
        with OutputGroup() as group:
            group.create(tmp_path / "a").write(b"new")
            group.create(tmp_path / "b").write(b"new")
            raise error

    with pytest.raises(error):
        write()
    assert parts(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_stale_companions_go_with_the_commit_and_not_before(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_bytes(b"old")

    def stop() -> None:
        with OutputGroup() as group:
            group.create(tmp_path / "m")
            group.remove_stale(tmp_path / "m.json")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        stop()
    assert parts(tmp_path) == ["m.json"]
    with OutputGroup() as group:
        group.create(tmp_path / "m").write(b"new")
        group.remove_stale(tmp_path / "m.json")
        group.remove_stale(tmp_path / "never there")
    assert parts(tmp_path) == ["m"]


def test_a_failed_rename_removes_the_temporary_file(tmp_path: Path) -> None:
    file = AtomicFile(tmp_path / "out")
    file.write(b"x")
    (tmp_path / "out").mkdir()
    with pytest.raises(FileAccessError) as caught:
        file.commit()
    assert caught.value.code in ("I004", "I005")
    assert parts(tmp_path) == ["out"]


# The place


def test_an_existing_file_keeps_its_mode_and_a_new_one_has_the_usual(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_bytes(b"old")
    out.chmod(0o640)
    with OutputGroup() as group:
        group.create(out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o640
    (tmp_path / "plain").write_bytes(b"")
    with OutputGroup() as group:
        group.create(tmp_path / "fresh")
    assert (tmp_path / "fresh").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_symbolic_links_are_followed_and_stay(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "m.npz", tmp_path / "link.npz"
    target.write_bytes(b"old")
    link.symlink_to(target)
    porter.save(store(0), link, overwrite=True)
    assert link.is_symlink()
    assert list(porter.open(target)) == ["w"]
    assert parts(tmp_path / "real") == ["m.npz"]
    dangling = tmp_path / "dangling.npz"
    dangling.symlink_to(tmp_path / "real" / "later.npz")
    porter.save(store(0), dangling, overwrite=True)
    assert dangling.is_symlink()
    assert (tmp_path / "real" / "later.npz").is_file()


def test_what_is_there_is_not_replaced_unasked(tmp_path: Path) -> None:
    out = tmp_path / "m.npz"
    out.write_bytes(b"mine")
    with pytest.raises(FileAccessError) as caught:
        porter.save(store(0), out)
    assert (caught.value.code, caught.value.where.path) == ("I010", str(out))
    assert "--overwrite" in (caught.value.hint or "")
    assert out.read_bytes() == b"mine"
    (tmp_path / "link.npz").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileAccessError):
        porter.save(store(0), tmp_path / "link.npz")


@pytest.mark.parametrize("kind", ["directory", "fifo", "device"])
def test_what_is_no_regular_file_is_never_replaced(kind: str, tmp_path: Path) -> None:
    out = tmp_path / "m.npz"
    if kind == "directory":
        out.mkdir()
    elif kind == "fifo":
        os.mkfifo(out)
    else:
        out.symlink_to("/dev/null")
    with pytest.raises(FileAccessError) as caught:
        porter.save(store(0), out, overwrite=True)
    assert caught.value.code == "I004"
    assert parts(tmp_path) == ["m.npz"]
    assert Path("/dev/null").is_char_device()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileAccessError) as caught:
        porter.save(store(0), tmp_path / "no" / "m.npz")
    assert (caught.value.code, caught.value.where.path) == ("I001", str(tmp_path / "no" / "m.npz"))
    with pytest.raises(FileAccessError):
        porter.save(store(0), str(tmp_path / "nul\0.npz"))


def test_long_names(tmp_path: Path) -> None:
    name = "n" * 251 + ".npz"
    porter.save(store(0), tmp_path / name)
    assert parts(tmp_path) == [name]
    with pytest.raises(FileAccessError):
        porter.save(store(0), tmp_path / ("n" * 252 + ".npz"))
    wide = "é" * 125 + ".npz"
    porter.save(store(0), tmp_path / wide)
    assert parts(tmp_path) == sorted([name, wide])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    with pytest.raises(FileAccessError) as caught:
        porter.save(store(0), folder / "m.npz")
    assert caught.value.code == "I002"


# Full disks, killed processes


@pytest.fixture
def file_limit() -> Iterator[int]:
    """No file may grow beyond 1 MiB: writing more fails with EFBIG, as on a file system that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, hard))
    yield MIB
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("name", ["m.safetensors", "m.npz", "m.npy", "m.safetensors.index.json"])
def test_a_disk_that_fills_leaves_the_old_file_and_nothing_else(name: str, tmp_path: Path, file_limit: int) -> None:
    small = store(0)
    porter.save(small, tmp_path / name)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(FileAccessError) as caught:
        porter.save(store(2), tmp_path / name, overwrite=True)
    assert caught.value.code == "I003"
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_disk_that_fills_in_the_middle_of_a_copy(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(bytes(3 * MIB))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, hard))
    try:
        with pytest.raises(FileAccessError) as caught, OutputGroup() as group:
            group.create(tmp_path / "out").write_payload(FileSource(big).payload(0, 3 * MIB))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert caught.value.code == "I003"
    assert parts(tmp_path) == ["big"]


def test_no_space_is_known_before_the_work_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(FileAccessError) as caught:
        porter.save(store(1), tmp_path / "m.safetensors")
    assert caught.value.code == "I003"
    assert "nothing was written" in caught.value.message
    assert parts(tmp_path) == []


def test_file_systems_that_cannot_reserve_are_written_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    porter.save(store(1), tmp_path / "m.safetensors")
    assert porter.open(tmp_path / "m.safetensors").digest() == store(1).digest()


def test_a_killed_process_leaves_the_old_file(tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    porter.save(store(0), out)
    before = out.read_bytes()
    script = textwrap.dedent(
        f"""
        import time, porter
        from porter.dtypes import FLOAT32
        from porter.io.payloads import ComputedPayload
        from porter.store import TensorStore
        from porter.tensor import Tensor, TensorSpec

        def slowly():
            for i in range(1024):
                yield bytes(1 << 20)
                if i == 3:
                    print("writing", flush=True)
                    time.sleep(60)

        big = Tensor(TensorSpec("w", FLOAT32, (1 << 28,)), ComputedPayload(1 << 30, slowly))
        porter.save(TensorStore([big]), {str(out)!r}, overwrite=True)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert out.read_bytes() == before
    leftovers = [n for n in parts(tmp_path) if n != out.name]
    assert all(n.startswith(".") and n.endswith(".porter-part") for n in leftovers), "what is left says what it is"


def test_a_stale_file_that_cannot_be_removed(tmp_path: Path) -> None:
    (tmp_path / "m.json").mkdir()
    group = OutputGroup()
    group.create(tmp_path / "m").write(b"new")
    group.remove_stale(tmp_path / "m.json")
    with pytest.raises(FileAccessError) as caught, group:
        pass
    assert caught.value.where.path == str(tmp_path / "m.json")
    assert parts(tmp_path) == ["m.json"]


def test_a_file_system_without_modes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(fd: int, mode: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    out = tmp_path / "m"
    out.write_bytes(b"old")
    monkeypatch.setattr(os, "fchmod", refused)
    with OutputGroup() as group:
        group.create(out).write(b"new")
    assert out.read_bytes() == b"new"


def test_a_disk_that_is_full_when_the_file_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Network file systems write when a file is closed."""
    out, close = tmp_path / "m", os.close
    out.write_bytes(b"old")

    def full(fd: int) -> None:
        close(fd)
        raise OSError(errno.ENOSPC, "No space left on device")

    group = OutputGroup()
    group.create(out).write(b"new")
    monkeypatch.setattr(os, "close", full)
    with pytest.raises(FileAccessError) as caught, group:
        pass
    monkeypatch.undo()
    assert caught.value.code == "I003"
    assert caught.value.hint == "free some space, or write to another disk"
    assert out.read_bytes() == b"old"
    assert parts(tmp_path) == ["m"]


def test_ctrl_c_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "m.npz"
    porter.save(store(0), out)
    before = out.read_bytes()
    script = textwrap.dedent(
        f"""
        import time, porter
        from porter.dtypes import FLOAT32
        from porter.io.payloads import ComputedPayload
        from porter.store import TensorStore
        from porter.tensor import Tensor, TensorSpec

        def slowly():
            yield bytes(4)
            print("writing", flush=True)
            time.sleep(60)

        porter.save(TensorStore([Tensor(TensorSpec("w", FLOAT32, (2,)), ComputedPayload(8, slowly))]), {str(out)!r}, overwrite=True)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"
    process.send_signal(signal.SIGINT)
    process.wait()
    process.stdout.close()
    assert out.read_bytes() == before
    assert parts(tmp_path) == [out.name]


# An output that is its own input


@pytest.mark.parametrize("name", ["m.safetensors", "m.npz"])
def test_conversion_onto_its_own_input(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    original = TensorStore([*store(1, "a").values(), *store(1, "b").values()])
    porter.save(original, path)
    opened = porter.open(path)
    assert opened["a"].location is not None
    porter.save(TensorStore([opened["b"], opened["a"]]), path, overwrite=True)
    again = porter.open(path)
    assert list(again) == ["b", "a"]
    assert again.digest() == original.digest()
    assert opened.digest() == original.digest()
    hard = tmp_path / ("hard" + name[1:])
    os.link(path, hard)
    porter.save(porter.open(path), hard, overwrite=True)
    assert porter.open(hard).digest() == porter.open(path).digest() == original.digest()


def test_a_source_that_shrinks_while_it_is_copied(tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_bytes(bytes(MIB))
    payload = FileSource(path).payload(0, MIB)
    os.truncate(path, 1000)
    with pytest.raises((FileAccessError, FormatError)) as caught, OutputGroup() as group:
        group.create(tmp_path / "out").write_payload(payload)
    assert "shorter" in str(caught.value)
    assert parts(tmp_path) == ["source"]


@pytest.mark.parametrize("left", [0, 1000, 3 * MIB, 6 * MIB - 1], ids=str)
@pytest.mark.parametrize("when", [1, 4, 6])
def test_a_source_that_shrinks_in_the_middle_of_the_copy(left: int, when: int, tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_bytes(bytes(6 * MIB))
    payload = FileSource(path).payload(0, 6 * MIB)
    steps = 0

    def shrink(nbytes: int) -> None:
        nonlocal steps
        steps += 1
        if steps == when:
            os.truncate(path, left)

    with pytest.raises(FileAccessError) as caught, OutputGroup(progress=shrink) as group:
        group.create(tmp_path / "out").write_payload(payload)
    assert (caught.value.code, caught.value.where.path) == ("I006", str(path))
    assert parts(tmp_path) == ["source"]


def test_runs_of_several_files_at_any_place_are_copied(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    contents = [rng.bytes(9 * MIB + 77), rng.bytes(5000), rng.bytes(1)]
    for i, content in enumerate(contents):
        (tmp_path / str(i)).write_bytes(content)
    sources = [FileSource(tmp_path / str(i)) for i in range(3)]
    runs = [
        (0, 5, 9 * MIB),
        (1, 0, 5000),
        (0, 0, 0),
        (0, 9 * MIB, 77),
        (0, 4 * MIB - 1, 2),
        (1, 4096, 904),
        (2, 0, 1),
        (0, 0, 9 * MIB + 77),
    ]
    with OutputGroup() as group:
        file = group.create(tmp_path / "out")
        file.write(b"abc")
        for i, offset, nbytes in runs:
            file.write_payload(sources[i].payload(offset, nbytes))
        assert file.position == 3 + sum(n for *_, n in runs)
    assert (tmp_path / "out").read_bytes() == b"abc" + b"".join(contents[i][o : o + n] for i, o, n in runs)


def test_a_file_that_takes_the_number_of_a_closed_one_is_not_mistaken_for_it(tmp_path: Path) -> None:
    with OutputGroup() as group:
        file = group.create(tmp_path / "out")
        for name in ("a", "b"):
            (tmp_path / name).write_bytes(name.encode() * MIB)
            source = FileSource(tmp_path / name)
            file.write_payload(source.payload(0, MIB))
            numbers = source.fd
            source.close()
        again = FileSource(tmp_path / "a")
        assert again.fd == numbers
        file.write_payload(again.payload(0, 1))
    assert (tmp_path / "out").read_bytes() == b"a" * MIB + b"b" * MIB + b"a"


# Reading


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    started = time.monotonic()
    for path, code in (
        (tmp_path, "I004"),
        (tmp_path / "fifo", "I004"),
        (Path("/dev/zero"), "I004"),
        (tmp_path / "none", "I001"),
        (tmp_path / "fifo" / "below", "I001"),
    ):
        with pytest.raises(FileAccessError) as caught:
            FileSource(path)
        assert (caught.value.code, caught.value.where.path) == (code, str(path))
        assert isinstance(caught.value, OSError)
    with pytest.raises(FileAccessError):
        FileSource("nul\0")
    assert time.monotonic() - started < 5


def test_reading_stays_within_the_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"0123456789")
    source = FileSource(path)
    assert source.read(8, 2) == b"89"
    assert source.read(10, 0) == b""
    assert source.read_up_to(8, 100) == b"89"
    assert source.read_up_to(100, 5) == b""
    assert [bytes(c) for c in source.chunks(1, 8, 3)] == [b"123", b"456", b"78"]
    assert bytes(source.mapped(3, 4)) == b"3456"
    for offset, nbytes, code in ((8, 3, "F001"), (11, 0, "F001"), (0, 1 << 62, "F001"), (-1, 2, "F002"), (2, -1, "F002")):
        for read in (source.read, source.mapped, source.payload, lambda o, n: list(source.chunks(o, n, 4))):
            with pytest.raises(FormatError) as caught:
                read(offset, nbytes)
            assert caught.value.code == code


def test_an_empty_file_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"")
    source = FileSource(tmp_path / "f")
    assert (source.size, source.read(0, 0), bytes(source.mapped(0, 0))) == (0, b"", b"")


def test_a_mapped_file_that_loses_its_end_is_an_error_and_no_crash(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 64)
    source = FileSource(path)
    assert bytes(source.mapped(0, 2)) == b"\0\1"
    os.truncate(path, 4096)
    assert bytes(source.mapped(4094, 2)) == b"\xfe\xff"
    with pytest.raises(FormatError) as caught:
        source.mapped(8192, 10)
    assert (caught.value.code, caught.value.where.offset) == ("F005", 4096)
