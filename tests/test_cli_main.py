"""The command line as a whole: help, versions, exit codes, errors, pipes, signals, terminals."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import click
import numpy as np
import pytest
from cli_runner import ROOT, Porter, spawn, validate

import porter
from porter.cli import inspect as inspect_command
from porter.cli import main as cli_main
from porter.cli.main import COMMANDS, cli
from porter.cli.status import ExitCode
from porter.store import Notice, TensorStore
from porter.tensor import Tensor


def save(path: Path, *names: str, size: int = 4) -> None:
    porter.save(TensorStore(Tensor.from_array(n, np.arange(size, dtype="<f4")) for n in names), path)


# Help and versions


def test_no_arguments_is_help_and_could_not_run(porter_cli: Porter) -> None:
    run = porter_cli()
    assert (run.code, run.out) == (2, "")
    assert run.err.startswith("Usage: porter [OPTIONS] [COMMAND] [ARGS]...")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(porter_cli: Porter, command: str) -> None:
    for flag in ("--help", "-h"):
        run = porter_cli(*filter(None, [command]), flag)
        assert (run.code, run.err) == (0, "")
        assert run.out.startswith("Usage: porter")
        assert max(map(len, run.out.splitlines())) <= 80


def test_the_table_of_commands_says_what_the_commands_say() -> None:
    context = click.Context(cli)
    for name, summary in COMMANDS.items():
        command = cli.get_command(context, name)
        assert command is not None
        assert (command.name, command.short_help) == (name, summary)
    assert cli.get_command(context, "nothing") is None


def test_every_option_says_what_it_is_for() -> None:
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{name} {parameter.opts}"
                assert parameter.help.endswith("."), f"{name} {parameter.opts}"


def test_version(porter_cli: Porter) -> None:
    assert porter_cli("--version").out == f"porter {porter.__version__}\n"


def test_versions(porter_cli: Porter) -> None:
    lines = dict(line.split(maxsplit=1) for line in porter_cli("--versions").out.splitlines())
    assert lines["porter"] == porter.__version__
    assert lines["numpy"] == version("numpy")
    assert "MISSING" not in lines.values()
    assert {"python", "platform", "torch", "click", "onnxruntime"} <= set(lines)


def test_the_script_and_the_module_are_the_same(tmp_path: Path) -> None:
    save(tmp_path / "a.safetensors", "w")
    module = spawn("inspect", "a.safetensors", cwd=tmp_path)
    assert module.returncode == 0
    assert module.stdout.startswith(b"safetensors:single")
    assert spawn("inspect", cwd=tmp_path).stderr.startswith(b"error[U901]: missing argument 'FILE'")


# Wrong usage


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["frmats"], "error[U902]: there is no command 'frmats'", "did you mean 'formats'?"),
        (["qqqq"], "error[U902]: there is no command 'qqqq'", "'porter --help' lists the commands"),
        (["--verson"], "error[U901]: no such option '--verson'", "did you mean --version?"),
        (["inspect"], "error[U901]: missing argument 'FILE'", "'porter inspect --help' shows what it takes"),
        (["inspect", "a", "b"], "error[U901]: got unexpected extra argument (b)", "'porter inspect --help' shows what it takes"),
        (["inspect", "a", "--digset"], "error[U901]: no such option '--digset'", "did you mean --digest?"),
        (["diff", "a", "b", "--atol", "x"], "error[U901]: '--atol': 'x' is not a valid float", "'porter diff --help' shows what it takes"),
        (["diff", "a", "b", "--atol"], "error[U901]: option '--atol' requires an argument", "'porter diff --help' shows what it takes"),
        (["convert", "a", "b", "--ints", "x"], "error[U901]: '--ints': 'x' is not one of", "'porter convert --help' shows what it takes"),
        (["completion"], "error[U901]: missing argument", "'porter completion --help' shows what it takes"),
        (["--color", "x", "inspect", "a"], "error[U901]: '--color': 'x' is not one of", "'porter --help' shows what it takes"),
    ],
)
def test_wrong_usage(porter_cli: Porter, arguments: list[str], message: str, hint: str) -> None:
    run = porter_cli(*arguments)
    assert (run.code, run.out) == (2, "")
    first, *_, last = run.err.splitlines()
    assert first.startswith(message)
    assert last == f"   = help: {hint}"


# Errors


def test_errors_go_to_stderr(porter_cli: Porter) -> None:
    Path("x.bin").write_bytes(b"\x12\x34not a model")
    run = porter_cli("inspect", "x.bin")
    assert (run.code, run.out) == (2, "")
    assert (
        run.err
        == """\
error[F009]: no known format; the first bytes are 12 34 6e 6f 74 20 61 20 6d 6f 64 65 6c
  --> x.bin
   = help: if you know what it is, say so with -f FORMAT (see 'porter formats')
"""
    )


def test_errors_as_json(porter_cli: Porter) -> None:
    run = porter_cli("inspect", "missing", "--json")
    assert run.code == 2
    assert run.err.startswith("error[I001]")
    assert run.json == {
        "error": {
            "code": "I001",
            "message": "reading: no such file or directory",
            "path": "missing",
            "offset": None,
            "line": None,
            "column": None,
            "tensor": None,
            "hint": None,
        }
    }
    assert porter_cli("inspect", "--jsn", "--json").json["error"]["code"] == "U901"


def test_hostile_paths_are_escaped(porter_cli: Porter) -> None:
    name = "a\x1b[31mb\n\u202e.pth"
    for option in ([], ["--json"], ["--color", "always"]):
        run = porter_cli("inspect", name, *option)
        assert run.code == 2
        assert "\x1b[31mb" not in run.out + run.err
        assert "\u202e" not in run.out + run.err


def test_a_path_that_is_no_unicode(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff\xfe.safetensors"
    save(tmp_path / "a.safetensors", "w")
    os.rename(tmp_path / "a.safetensors", name)
    for arguments in ([], ["--json"]):
        done = subprocess.run([sys.executable, "-m", "porter", "inspect", name, *arguments], capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
    copy = subprocess.run([sys.executable, "-m", "porter", "convert", name, "b.npz"], cwd=tmp_path, capture_output=True, check=False)
    assert copy.returncode == 0
    assert b"\\udcff\\udcfe.safetensors" in copy.stdout


@pytest.mark.parametrize("error", [RuntimeError("boom\nand\nmore"), RecursionError("too deep"), KeyError("k"), AssertionError()])
def test_internal_errors_have_no_traceback(porter_cli: Porter, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(inspect_command, "open_store", fail)
    run = porter_cli("inspect", "x", "--json")
    assert (run.code, run.json["error"]["code"]) == (2, "U999")
    assert run.err.startswith(f"error[U999]: internal error: {type(error).__name__}")
    assert len(run.err.splitlines()) == 2
    assert "Traceback" not in run.err
    monkeypatch.setenv("PORTER_TRACEBACK", "1")
    assert "Traceback (most recent call last)" in porter_cli("inspect", "x").err


def test_no_memory(porter_cli: Porter, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr(inspect_command, "open_store", fail)
    run = porter_cli("inspect", "x")
    assert (run.code, run.err.splitlines()[0]) == (2, "error[I901]: not enough memory")


def test_notices_are_summed_up(porter_cli: Porter, monkeypatch: pytest.MonkeyPatch) -> None:
    save(Path("a.safetensors"), "w")

    def opened(*arguments: object, **options: object) -> TensorStore:
        store = porter.open("a.safetensors")
        store.notices += [Notice("skipped", "the same", f"t{i}") for i in range(5)] + [
            Notice("note", "once\x1b[2J"),
            Notice("assumed", "x", "y"),
        ]
        return store

    monkeypatch.setattr(inspect_command, "open_store", opened)
    run = porter_cli("inspect", "a.safetensors")
    assert run.err == "note: the same (t0, t1 and 3 more)\nnote: once\\x1b[2J\nnote: x (y)\n"
    assert "(t0, t1, t2, t3, t4)" in porter_cli("-v", "inspect", "a.safetensors").err
    assert porter_cli("-q", "inspect", "a.safetensors").err == ""
    assert len(porter_cli("inspect", "a.safetensors", "--json").json["notices"]) == 7


# explain, formats, completion


def test_explain(porter_cli: Porter) -> None:
    for written in ("I010", "i010", "error[I010]:", "I010:"):
        run = porter_cli("explain", written)
        assert run.code == 0
        assert run.out.startswith("I010: the output exists\n\nporter does not replace a file")
    assert max(map(len, porter_cli("explain", "I010", terminal=True).out.splitlines())) <= 80
    assert porter_cli("explain", "I010", "--json").json["codes"][0]["title"] == "the output exists"


def test_explain_all(porter_cli: Porter) -> None:
    run = porter_cli("explain")
    assert "\n  F001  the file ends too early\n" in run.out
    assert len(porter_cli("explain", "--json").json["codes"]) == len([x for x in run.out.splitlines() if x.startswith("  ")])


def test_explain_unknown(porter_cli: Porter) -> None:
    run = porter_cli("explain", "F01")
    assert run.code == 2
    assert re.search(r"error\[U904\]: there is no error code 'F01'\n   = help: did you mean 'F[0-9]{3}'\?", run.err)
    assert "'porter explain' lists them all" in porter_cli("explain", "nonsense").err


def test_formats(porter_cli: Porter) -> None:
    lines = porter_cli("formats").out.splitlines()
    assert lines[0].split() == ["FORMAT", "USE", "EXTENSIONS", "DIALECTS", "TYPES", "KEEPS"]
    assert [line.split()[0] for line in lines[1:8]] == ["safetensors", "pytorch", "npz", "hdf5", "wts", "onnx", "caffe"]
    terminal = porter_cli("formats", terminal=True).out
    assert max(map(len, terminal.splitlines())) <= 80
    document = porter_cli("formats", "--json").json
    assert {f["name"]: f["write"] for f in document["formats"]}["safetensors"] is True


def test_one_format(porter_cli: Porter) -> None:
    out = porter_cli("formats", "wts").out
    assert "  dialects        tensorrtx nvidia-v1 nvidia-v2\n" in out
    assert "  write options   --allow-lossy --ints\n" in out
    assert porter_cli("formats", "wts:nvidia-v1").code == 0
    run = porter_cli("formats", "kaffe")
    assert run.code == 2
    assert "did you mean 'caffe'?" in run.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(porter_cli: Porter, shell: str) -> None:
    run = porter_cli("completion", shell)
    assert run.code == 0
    assert "_PORTER_COMPLETE" in run.out


def test_completion_completes(tmp_path: Path) -> None:
    done = spawn(cwd=tmp_path, env={"_PORTER_COMPLETE": "bash_complete", "COMP_WORDS": "porter ins", "COMP_CWORD": "1"})
    assert done.stdout == b"plain,inspect\n"
    done = spawn(cwd=tmp_path, env={"_PORTER_COMPLETE": "bash_complete", "COMP_WORDS": "porter convert a --max", "COMP_CWORD": "3"})
    assert done.stdout == b"plain,--max-shard-size\n"


# Pipes, full disks, signals


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_reader_that_goes_away(tmp_path: Path, unbuffered: str) -> None:
    save(tmp_path / "a.safetensors", *(f"tensor{i}" for i in range(20_000)), size=1)
    command = f"{sys.executable} -m porter inspect --json a.safetensors | head -n 1; echo ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.stderr == b""
    assert done.stdout.splitlines()[-1] == str(int(ExitCode.BROKEN_PIPE)).encode()


def test_stdout_on_a_full_disk(tmp_path: Path) -> None:
    save(tmp_path / "a.safetensors", "w")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "porter", "inspect", str(tmp_path / "a.safetensors")], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 2
    assert done.stderr.startswith(b"error[I003]: writing: no space left on the device")
    assert b"Exception ignored" not in done.stderr


def test_closed_stdout(tmp_path: Path) -> None:
    save(tmp_path / "a.safetensors", "w")
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m porter inspect a.safetensors >&-"], cwd=tmp_path, stderr=subprocess.PIPE, check=False
    )
    assert b"Traceback" not in done.stderr


SLOW = """
import sys, time, os
from porter.cli.main import main
from porter.io.atomic import AtomicFile
write = AtomicFile.write
def slowly(self, data):
    write(self, data)
    os.write(1, b"writing\\n")
    time.sleep(60)
AtomicFile.write = slowly
sys.exit(main(["convert", "a.safetensors", "b.safetensors", "--overwrite"]))
"""


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=["INT", "TERM", "HUP"]
)
def test_signals_leave_the_old_file_and_nothing_else(tmp_path: Path, signum: signal.Signals, code: int) -> None:
    save(tmp_path / "a.safetensors", "w")
    (tmp_path / "b.safetensors").write_bytes(b"old")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", SLOW], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"writing\n"
        assert len(list(tmp_path.iterdir())) == 3, "the temporary file"
        process.send_signal(signum)
        assert process.wait(10) == code
        assert b"Traceback" not in process.stderr.read()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]
    assert (tmp_path / "b.safetensors").read_bytes() == b"old"


def test_main_gives_signals_back() -> None:
    before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGHUP)]
    assert cli_main.main(["--version"]) == 0
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGHUP)] == before


# A real terminal


def in_terminal(arguments: list[str], cwd: Path, env: dict[str, str]) -> str:
    """What `porter` writes to a terminal 80 columns wide."""
    parent, child = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "80", **env}
    if "NO_COLOR" not in env:
        environment.pop("NO_COLOR", None)
    with subprocess.Popen([sys.executable, "-m", "porter", *arguments], cwd=cwd, env=environment, stdout=child, stderr=child) as process:
        os.close(child)
        output, end = b"", time.monotonic() + 30
        while time.monotonic() < end:
            if not select.select([parent], [], [], 1)[0]:
                continue
            try:
                output += (part := os.read(parent, 65536))
            except OSError:  # Linux says EIO when the other end is closed
                break
            if not part:
                break
        process.wait(10)
    os.close(parent)
    return output.decode().replace("\r\n", "\n")


def test_terminal(tmp_path: Path) -> None:
    save(tmp_path / "a.safetensors", "conv.weight", "conv.bias")
    colored = in_terminal(["inspect", "a.safetensors"], tmp_path, {})
    assert "\x1b[1mNAME" in colored
    plain = spawn("inspect", "a.safetensors", cwd=tmp_path).stdout.decode()
    assert re.sub(r"\x1b\[[0-9;]*m", "", colored) == plain
    for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert in_terminal(["inspect", "a.safetensors"], tmp_path, env) == plain
    assert in_terminal(["inspect", "a.safetensors", "--color", "never"], tmp_path, {}) == plain
    assert "\x1b[1;31merror[I001]" in in_terminal(["inspect", "missing"], tmp_path, {})


def test_json_in_a_terminal_is_plain(tmp_path: Path) -> None:
    save(tmp_path / "a.safetensors", "w")
    document = json.loads(in_terminal(["inspect", "a.safetensors", "--json"], tmp_path, {}))
    validate(document, "inspect")
