"""`porter formats`: which formats there are, and what each of them keeps."""

from __future__ import annotations

from typing import Any

import click

from porter.cli.options import common_options
from porter.cli.screen import Screen
from porter.cli.status import ExitCode
from porter.cli.table import Column
from porter.dtypes import DTYPES
from porter.formats.base import Capabilities
from porter.formats.registry import FormatEntry, find_format, formats

KEEPS = ("shape", "order", "ties", "description", "metadata", "attachments")
"""The yes-or-no fields of `Capabilities` that concern what a file keeps."""

COLUMNS = (
    Column("FORMAT"),
    Column("USE"),
    Column("EXTENSIONS", fit="wrap"),
    Column("DIALECTS", fit="drop"),
    Column("TYPES", fit="drop"),
    Column("KEEPS", fit="wrap"),
)


@click.command("formats", short_help="List the formats, and what each of them keeps.")
@click.argument("name", required=False)
@common_options()
@click.pass_obj
def command(screen: Screen, name: str | None) -> ExitCode:
    """List the formats, or say what the format NAME keeps, type by type."""
    entries = [find_format(name)[0]] if name is not None else list(formats().values())
    if screen.json:
        screen.document({"formats": [_document(entry, entry.adapter().CAPABILITIES) for entry in entries]})
    elif name is not None:
        _print(screen, entries[0], entries[0].adapter().CAPABILITIES)
    else:
        screen.table(COLUMNS, [_row(entry, entry.adapter().CAPABILITIES) for entry in entries])
        screen.line("'porter formats NAME' says more.")
    return ExitCode.YES


def _row(entry: FormatEntry, keeps: Capabilities) -> tuple[str, ...]:
    types = f"{len(keeps.dtypes)}" + (f", {len(keeps.widened)} widened" if keeps.widened else "")
    kept = [k for k in KEEPS if getattr(keeps, k)]
    beside = f"; the rest in {_beside(entry, keeps)}" if keeps.sidecar is not None else ""
    return (
        entry.name,
        "read, write" if keeps.writable else "read",
        " ".join(entry.extensions),
        " ".join(entry.dialects),
        types,
        " ".join(kept) + beside if len(kept) < len(KEEPS) else "everything",
    )


def _print(screen: Screen, entry: FormatEntry, keeps: Capabilities) -> None:
    kept = [k for k in KEEPS if getattr(keeps, k)]
    lost = [k for k in KEEPS if k not in kept]
    neither = [d for d in DTYPES.values() if d.name not in keeps.dtypes and d.name not in keeps.widened]
    option = {"float": "allow_lossy", "int": "ints", "uint": "ints", "bool": "ints"}
    fitting = [d.name for d in neither if option.get(d.kind) in keeps.write_options]
    rows = (
        ("use", "read, write" if keeps.writable else "read"),
        ("extensions", " ".join(entry.extensions)),
        ("dialects", " ".join(entry.dialects)),
        ("types", " ".join(d for d in DTYPES if d in keeps.dtypes)),
        *((f"become {to}", " ".join(d for d in DTYPES if keeps.widened.get(d) == to)) for to in dict.fromkeys(keeps.widened.values())),
        ("cast if exact", " ".join(fitting)),
        ("not held", " ".join(d.name for d in neither if d.name not in fitting)),
        ("keeps", ", ".join(kept)),
        ("does not keep", ", ".join(lost)),
        ("kept beside", f"the rest, in {_beside(entry, keeps)}" if keeps.sidecar is not None else ""),
        ("read options", _flags(keeps.read_options)),
        ("write options", _flags(keeps.write_options)),
    )
    screen.line(f"{entry.name}: {entry.summary}")
    for label, text in rows:
        if text:
            screen.paragraph(text, f"  {label:<16}")


def _beside(entry: FormatEntry, keeps: Capabilities) -> str:
    return f"NAME{next(iter(entry.extensions), '')}{keeps.sidecar}"


def _flags(names: frozenset[str]) -> str:
    return " ".join("--" + name.replace("_", "-") for name in sorted(names))


def _document(entry: FormatEntry, keeps: Capabilities) -> dict[str, Any]:
    return {
        "name": entry.name,
        "summary": entry.summary,
        "read": True,
        "write": keeps.writable,
        "extensions": entry.extensions if isinstance(entry.extensions, dict) else dict(entry.extensions),
        "dialects": entry.dialects,
        "dtypes": [d for d in DTYPES if d in keeps.dtypes],
        "widened": keeps.widened,
        "keeps": {k: getattr(keeps, k) for k in KEEPS},
        "sidecar": keeps.sidecar,
        "read_options": sorted(keeps.read_options),
        "write_options": sorted(keeps.write_options),
    }
