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


def cosine_text(value: float) -> str:
    """Six digits, and 1 only for what is 1: rounding must not hide a difference, so what is close to 1 is `1-3e-09`."""
    if value == 1:
        return "1"
    return f"{value:.6f}" if value < 0.999999 else f"1-{1 - value:.0e}"


def amount_text(value: float) -> str:
    """A difference: integers whole, others with two digits, and 0 only for what is 0."""
    return f"{value:,}" if isinstance(value, int) else "0" if not value else f"{value:.1e}"
