"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Sequence


def bytes_text(nbytes: int) -> str:
    """`27.8 kB`: three digits, powers of 1000."""
    if nbytes < 1000:
        return f"{nbytes} B"
    value = float(nbytes)
    for unit in ("kB", "MB", "GB", "TB", "PB"):
        value /= 1000
        if value < 999.5 or unit == "PB":
            break
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"


def count(number: int, noun: str) -> str:
    """`1 tensor`, `6,632 elements`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def shape_text(shape: Sequence[int]) -> str:
    """`10×3×3×3`, and `scalar` for no dimensions."""
    return "×".join(map(str, shape)) if shape else "scalar"
