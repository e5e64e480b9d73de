"""Exit codes, the same for every command."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a script may rely on."""

    YES = 0
    """It ran, and the answer is yes."""

    NO = 1
    """It ran, and the answer is no: the files differ, the code is unknown."""

    FAILED = 2
    """It could not run: a wrong option, a broken file, a refusal."""

    INTERRUPTED = 130
    """Ctrl-C, as shells report it (128 + SIGINT). Other signals that end porter give 128 + their number too."""

    BROKEN_PIPE = 141
    """Whoever read the output went away (128 + SIGPIPE), as `head` does."""
