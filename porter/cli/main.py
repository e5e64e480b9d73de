"""The console script `porter`: parse, call, print, exit code. Each command is a module of its own, imported when it runs."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

import click

from porter.cli.command_table import CommandTable
from porter.cli.options import common_options
from porter.cli.screen import Screen
from porter.cli.status import ExitCode
from porter.errors import PorterError, Terminated, UsageError, access_error

COMMANDS = {
    "inspect": "List the tensors of a weight file.",
    "convert": "Write the weights of one file in another format.",
    "port": "Write a Caffe network as ONNX and PyTorch, layer by layer.",
    "tensorrt": "Build networks with TensorRT, and prove what they hold.",
    "map": "Check, apply, invert, compose, explain and infer maps of names and layouts.",
    "diff": "Compare the weights of two files, bit for bit.",
    "verify": "Compare what two networks compute, layer by layer.",
    "stats": "Say what the numbers of a weight file are like.",
    "audit": "Say what lower precision would do to a weight file.",
    "report": "Write all that can be said of weight files as one page.",
    "quantize": "Quantise weights, or a whole network, and back.",
    "formats": "List the formats, and what each of them keeps.",
    "explain": "Explain an error code.",
    "completion": "Print a shell's completion script.",
}
"""Commands by name, with what `porter --help` says; `porter.cli.<name>` holds `command`."""


COMPLETE = "_PORTER_COMPLETE"
"""The environment variable by which completion scripts ask for completions."""


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from porter import __version__

        ctx.obj.line(f"porter {__version__}")
        ctx.exit()


def _print_versions(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from porter.cli.versions import versions

        for name, version in versions():
            ctx.obj.line(f"{name:<24}{version}")
        ctx.exit()


@click.group(
    cls=CommandTable,
    table=COMMANDS,
    prefix="porter.cli.",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 yes, 1 it ran and the answer is no, 2 it could not run. 'porter COMMAND --help' says more.",
)
@common_options(json=False)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print porter's version.")
@click.option(
    "--versions",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_versions,
    help="Print the versions of everything porter uses, for a bug report.",
)
@click.pass_context
def cli(ctx: click.Context) -> ExitCode | None:
    """Move neural-network weights between frameworks, exactly."""
    if ctx.invoked_subcommand is not None:
        return None
    sys.stderr.write(ctx.get_help() + "\n")
    return ExitCode.FAILED


def run() -> NoReturn:
    """The console script: `main`, then the end of the process, without the interpreter's own.

    When `main` returns, outputs have their final names or are gone, threads have ended, and stdout and stderr are flushed.
    What is left to the interpreter is taking apart every module and tensor one by one, a tenth of the time of a short run.
    """
    _buffer_stdout()
    os._exit(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (without the program's name; by default the process's own); returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Start-up makes many objects and no garbage worth looking for.
    gc.set_threshold(50_000, 20, 20)
    # Python has no stream where the shell closed one (>&-).
    sys.stdout = sys.stdout or open(os.devnull, "w")
    sys.stderr = sys.stderr or open(os.devnull, "w")
    screen = Screen()
    screen.json = "--json" in arguments  # until the options are parsed, which may fail
    with _signals():
        try:
            code = _run(arguments, screen)
            sys.stdout.flush()
        except BrokenPipeError:
            code = ExitCode.BROKEN_PIPE
        except OSError as error:
            # Adapters turn theirs into PorterError; what is left is standard output on a full disk.
            code = _failed(screen, access_error(error, "standard output", "writing"), error)
        except KeyboardInterrupt:
            code = ExitCode.INTERRUPTED
        except Terminated as end:
            code = 128 + end.signum
    _leave_quietly()
    return int(code)


def _buffer_stdout() -> None:
    """Write all of stdout or fail: without a buffer (PYTHONUNBUFFERED) Python drops what the system did not take at once."""
    raw = getattr(sys.stdout, "buffer", None)
    if isinstance(raw, io.RawIOBase):
        encoding = sys.stdout.encoding
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(sys.stdout.detach()), encoding, line_buffering=True)  # type: ignore[union-attr]


def _run(arguments: list[str], screen: Screen) -> int:
    try:
        instruction = os.environ.get(COMPLETE)
        if instruction:
            from click.shell_completion import shell_complete

            return shell_complete(cli, {"obj": screen}, "porter", COMPLETE, instruction)
        # Not `cli.main`, which has its own ideas of broken pipes and exit codes.
        with cli.make_context("porter", arguments, obj=screen) as context:
            code: Any = cli.invoke(context)
        return code if isinstance(code, int) else ExitCode.YES
    except click.exceptions.Exit as end:
        return end.exit_code
    except PorterError as error:
        return _failed(screen, error, error)
    except click.ClickException as error:
        return _failed(screen, _usage_error(error, arguments), error)
    except OSError:
        raise
    except Exception as error:
        return _internal(screen, error)


def _failed(screen: Screen, shown: PorterError, cause: BaseException) -> int:
    with suppress(OSError):
        _trace(cause)
        screen.error(shown)
        sys.stdout.flush()
    return ExitCode.FAILED


def _usage_error(error: click.ClickException, arguments: list[str]) -> PorterError:
    """What click has to say, in porter's words."""
    message = error.message
    context = getattr(error, "ctx", None)
    if isinstance(error, click.MissingParameter):
        message = error.format_message()
    elif isinstance(error, click.BadParameter) and error.param is not None:
        message = f"{error.param.get_error_hint(context) if context else error.param.name}: {message}"
    message = " ".join(message.split()).rstrip(".")
    close = getattr(error, "possibilities", None)
    # Some of click's errors do not say in which command they happened.
    command = context.command_path if context is not None else " ".join(["porter", *[a for a in arguments if a in COMMANDS][:1]])
    hint = f"did you mean {close[0]}?" if close else f"'{command} --help' shows what it takes"
    return UsageError("U901", message[:1].lower() + message[1:], hint=hint)


def _internal(screen: Screen, error: Exception) -> int:
    """A bug, or no memory: still one clear line."""
    _trace(error)
    if isinstance(error, MemoryError):
        return _failed(screen, PorterError("I901", "not enough memory", hint="free some memory, or raise the limit it runs under"), error)
    what = " ".join(f"{type(error).__name__}: {error}".split())[:300].rstrip(": ")
    hint = "please report it, with what PORTER_TRACEBACK=1 prints and 'porter --versions'"
    return _failed(screen, PorterError("U999", f"internal error: {what}", hint=hint), error)


def _trace(error: BaseException) -> None:
    if os.environ.get("PORTER_TRACEBACK"):
        import traceback

        traceback.print_exception(error)


def _leave_quietly() -> None:
    """Let the interpreter's last flush of a broken stdout go nowhere, instead of complaining."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def _signals() -> Iterator[None]:
    """Turn the signals that end a process into exceptions, so that temporary files are removed."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise Terminated(signum)

    before = {}
    for signum in (signal.SIGTERM, signal.SIGHUP):
        # nohup ignores SIGHUP; a thread that is not the main one may not set handlers.
        with suppress(ValueError):
            if signal.getsignal(signum) is signal.SIG_DFL:
                before[signum] = signal.signal(signum, stop)
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
