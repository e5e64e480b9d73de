"""A report's document made small for its page: columns instead of objects, names by what they share, floats with 5 digits.

`page/data.js` reads what this writes. What a column leaves out is None or 0 for every tensor that it does not mention.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

DETAILED = 2_000
"""Tensors up to which a page has everything. Beyond, histograms have half as many bins and numbers 4 digits; quantiles, octaves, places
of extremes, smallest magnitudes, how many numbers a type loses, and of differences all but their sizes are left to the JSON."""

LISTED = 100
"""Dead channels of a tensor that a page lists."""

VERDICTS = {"equal": "=", "within tolerance": "~", "differs": "d", "dtype differs": "t", "shape differs": "s"}
PRECISION = {"ok": "o", "per-channel": "p", "keep f32": "k"}
NO_WAY = "n"
"""Of a tensor that is kept because there is no way into the type at all."""

_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_EXACT = 1 << 53


def pack(document: dict[str, Any]) -> dict[str, Any]:
    """The document as its page embeds it: JSON values of finite numbers."""
    rows = document["tensors"]
    detailed = len(rows) <= DETAILED
    rest = {k: v for k, v in document.items() if k not in ("tensors", "map", "groups", "findings")}
    places = {r["name"]: i for i, r in enumerate(rows)}
    packed: dict[str, Any] = _finite(
        {
            **rest,
            "detailed": detailed,
            "findings": [{**f, "tensors": [places[name] for name in f["tensors"]]} for f in document["findings"]],
            "groups": [_group(g) for g in document["groups"]],
            "map": _map(document["map"]) if document["map"] is not None else None,
            "tensors": _columns(rows, document, detailed),
        }
    )
    return packed


class _Words:
    """Values that occur often, each written once; a column holds their places."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._places: dict[Hashable, int] = {}

    def place(self, value: Any) -> int:
        key = tuple(value) if isinstance(value, list) else value
        if key not in self._places:
            self._places[key] = len(self.values)
            self.values.append(value)
        return self._places[key]

    def column(self, values: Iterable[Any]) -> dict[str, Any]:
        at = [self.place(v) for v in values]
        return {"values": self.values, "at": at}


def names(values: Sequence[str]) -> dict[str, Any]:
    """Each name as the number of UTF-16 units it shares with the one before, and the rest."""
    shared, rest, last = [], [], ""
    for value in values:
        n = 0
        while n < min(len(value), len(last)) and value[n] == last[n] and value[n] < "\ud800":
            n += 1
        shared.append(n)
        rest.append(value[n:])
        last = value
    return {"shared": shared, "rest": rest}


def digits(value: Any, most: int = 5) -> Any:
    """A float with so many significant digits; integers that JavaScript does not hold as text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if abs(value) < _EXACT else str(value)
    if isinstance(value, float) and math.isfinite(value):
        short = float(f"{value:.{most}g}")
        if math.isinf(short):  # rounded beyond the largest
            return value
        return int(short) if abs(short) < 1e6 and short == int(short) else short
    return value


def counts(values: Iterable[int]) -> str:
    """Counts as text: 5 bits a character, the lowest first, the 6th bit set where more follow."""
    out = []
    for value in values:
        while value > 31:
            out.append(_DIGITS[32 + (value & 31)])
            value >>= 5
        out.append(_DIGITS[value])
    return "".join(out)


def _linear(histogram: dict[str, Any] | None, detailed: bool = True) -> Any:
    """[step, first, counts]. Where not detailed, with every two bins as one, so that there are at most 32."""
    if histogram is None:
        return 0
    step, first, count = histogram["step"], histogram["first"], list(histogram["count"])
    if not detailed and len(count) > 32:
        if first % 2:
            first, count = first - 1, [0, *count]
        count += [0] * (len(count) % 2)
        step, first, count = 2 * step, first // 2, [a + b for a, b in zip(count[::2], count[1::2], strict=True)]
    return [step, first, counts(count)]


def _octaves(histogram: dict[str, Any] | None) -> Any:
    if histogram is None:
        return 0
    both = [n for side in ("negative", "positive") for n in histogram[side]]
    return [histogram["first"], counts(both), histogram["zeros"], histogram["below"]]


def _group(group: dict[str, Any]) -> dict[str, Any]:
    return {**group, "linear": _linear(group["linear"]), "octaves": _octaves(group["octaves"]), "quantiles": None}


def _columns(rows: Sequence[dict[str, Any]], document: dict[str, Any], detailed: bool) -> dict[str, Any]:
    stats = [r["statistics"] for r in rows]
    most = 5 if detailed else 4
    columns: dict[str, Any] = {
        "names": names([r["name"] for r in rows]),
        "side": "".join({"a": "a", "b": "b", "both": "="}[r["in"]] for r in rows),
        "kind": "".join(r["kind"][0] for r in rows),
        **{key: _Words().column(r[key] for r in rows) for key in ("dtype", "shape", "role", "axes")},
        "bytes": _sparse(r["bytes"] if r["bytes"] != 4 * math.prod(r["shape"]) else None for r in rows),
        **{key: [digits(s[key], most) for s in stats] for key in ("mean", "std")},
        **{key: [digits(s[key]["value"], most) if s[key] else None for s in stats] for key in ("min", "max")},
        "counts": {
            key: _sparse(s["counts"][key] for s in stats)
            for key in ("zeros", "negative_zeros", "subnormal", "nan", "positive_infinite", "negative_infinite")
        },
        "complex": _sparse(int(s["counts"]["numbers"] != math.prod(r["shape"])) for s, r in zip(stats, rows, strict=True)),
        "channels": [_channels(s["channels"]) for s in stats],
        "linear": [_linear(s["linear"], detailed) for s in stats],
    }
    if detailed:
        columns["smallest"] = [digits(s["smallest"]) for s in stats]
        columns["octaves"] = [_octaves(s["octaves"]) for s in stats]
        columns["quantiles"] = [[digits(v) for v in s["quantiles"]["value"]] if s["quantiles"] else 0 for s in stats]
        columns["extremes"] = [[s[key]["index"] if s[key] else None for key in ("min", "max")] for s in stats]
    if document["precision"] is not None:
        columns["precision"] = [_precision(rows, at, detailed) for at in range(len(document["precision"]["targets"]))]
    if document["comparison"] is not None:
        columns["comparison"] = _comparison(rows, detailed)
    return columns


def _sparse(values: Iterable[Any]) -> dict[str, Any]:
    """Tensor's number to its value, where there is one that is not 0."""
    return {str(i): digits(v) for i, v in enumerate(values) if v}


def _channels(channels: dict[str, Any] | None) -> Any:
    """[axis, assumed, spread, widest, dead, of which are listed]; the last two only where there are some."""
    if channels is None:
        return 0
    entry = [channels["axis"], int(channels["assumed"]), digits(float(f"{channels['spread'] or 0:.3g}")), channels["widest"]]
    dead = channels["dead"]
    return [*entry, len(dead), dead[:LISTED]] if dead else entry


def _precision(rows: Sequence[dict[str, Any]], at: int, detailed: bool) -> dict[str, Any]:
    """One target: verdicts, SNRs with a decimal, what is lost by tensor, and reasons that are not an SNR, by tensor."""
    words, ways = _Words(), _Words()
    verdicts, schemes = [], []
    snr: list[Any] = []
    lost: dict[str, Any] = {}
    reasons: dict[str, int] = {}
    for i, row in enumerate(rows):
        judged = row["precision"]["verdicts"][at] if row["precision"] is not None else None
        best = next((c for c in judged["costs"] if c["scheme"] == judged["best"]), None) if judged is not None else None
        scheme = best["scheme"] if best is not None else None
        schemes.append(_DIGITS[ways.place(scheme)] if scheme is not None else ".")
        if judged is None or best is None:
            verdicts.append("." if judged is None else NO_WAY)
            snr.append(0)
            continue
        snr.append(digits(float(f"{best['snr']:.1f}")) if best["snr"] is not None else None)
        verdicts.append(PRECISION[judged["verdict"]])
        if detailed and (best["overflow"] or best["underflow"] or best["subnormal"]):
            lost[str(i)] = [best["overflow"], best["underflow"], best["subnormal"]]
        if judged["verdict"] == "keep f32" and not judged["reason"].startswith("an SNR"):
            reasons[str(i)] = words.place(judged["reason"])
    return {
        "verdicts": "".join(verdicts),
        "snr": snr,
        "lost": lost,
        "words": words.values,
        "reasons": reasons,
        "ways": ways.values,
        "schemes": "".join(schemes),
    }


def _comparison(rows: Sequence[dict[str, Any]], detailed: bool) -> dict[str, Any]:
    found = [[i, *_compared(r, detailed)] for i, r in enumerate(rows) if r["comparison"] and r["comparison"]["verdict"] != "equal"]
    verdicts = "".join(VERDICTS[r["comparison"]["verdict"]] if r["comparison"] else r["in"] for r in rows)
    return {"verdicts": verdicts, "found": found}


def _compared(row: dict[str, Any], detailed: bool) -> list[Any]:
    """[differing, max_abs, max_ulp, what the cosine lacks of 1, the rest as an object]."""
    one = row["comparison"]
    d = one["difference"]
    rest: dict[str, Any] = {}
    if one["b"]["dtype"] != row["dtype"]:
        rest["dtype"] = one["b"]["dtype"]
    if one["b"]["shape"] != row["shape"]:
        rest["shape"] = one["b"]["shape"]
    if one["notes"]:
        rest["notes"] = one["notes"]
    if detailed and d is not None:
        rest["needs"] = [digits(d["needs"][key]) for key in ("atol", "rtol", "ulp")]
        first = d["first"]
        rest["first"] = [first["index"], first["a"]["value"], first["b"]["value"], first["a"]["bits"], first["b"]["bits"]]
    if detailed and one["common"] is not None:
        rest["common"] = [_linear(one["common"]["a"]), _linear(one["common"]["b"])]
    if detailed and one["b_statistics"] is not None:
        rest["b"] = [
            *[digits(one["b_statistics"][key]) for key in ("mean", "std")],
            *[digits(s["value"]) if (s := one["b_statistics"][key]) else None for key in ("min", "max")],
        ]
    measures: list[Any] = [None] * 4
    if d is not None and d["one_nan"]:
        # The numbers among them may all be equal: that must not be read as no difference.
        measures = [d["differing"], "nan", None, None]
    elif d is not None:
        measures = [d["differing"], digits(d["max_abs"], 3), digits(d["max_ulp"]), _lacking(d["cosine"])]
    return [*measures, rest] if rest else measures


def _lacking(cosine: float | None) -> Any:
    """1 - cosine with 6 decimals; with 2 digits where it has less."""
    if cosine is None:
        return None
    return digits(1 - cosine, 2) if 1 - cosine < 1e-5 else digits(round(1 - cosine, 6), 7)


def _map(mapping: dict[str, Any]) -> dict[str, Any]:
    """The ways as columns of the sources and targets, which stand in one list each."""
    ways = mapping["ways"]
    ends: dict[str, Any] = {}
    for side in ("sources", "targets"):
        flat = [t for w in ways for t in w[side]]
        ends[side] = {
            "count": [len(w[side]) for w in ways],
            "names": names([t["name"] for t in flat]),
            "dtype": _Words().column(t["dtype"] for t in flat),
            "shape": _Words().column(t["shape"] for t in flat),
        }
    how = {"action": _Words().column(w["action"] for w in ways), "lines": _Words().column(w["lines"] for w in ways)}
    return {**mapping, "ways": {**how, **ends}}


def _finite(value: Any) -> Any:
    """Without NaN and infinities, which JSON lacks: as the words that Python has for them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
