"""What names have in common, so that those of a repeated block can be put together from one parameter."""

from __future__ import annotations

from collections.abc import Sequence

from porter.dataclass import dataclass

_SEPARATORS = "_./-: "


@dataclass(frozen=True, slots=True)
class Pieces:
    """A name as text, the parameter with this number, and text."""

    parameter: int
    before: str
    after: str


Column = tuple[str, ...]
"""One name of a block, as it is in each of its uses."""


def parametrised(columns: Sequence[Column]) -> tuple[list[str | Pieces], list[Column]]:
    """For each column the name that it always is or its pieces, and the parameters' values."""
    found: list[str | Pieces | None] = [c[0] if len(set(c)) == 1 else None for c in columns]
    parameters: list[Column] = []
    stems = tuple([stem([c[k] for c, same in zip(columns, found, strict=True) if same is None]) for k in range(len(columns[0]))])
    if len(set(stems)) > 1 and all(stems):
        cut = [_around(c, stems) if same is None else None for c, same in zip(columns, found, strict=True)]
        if any(cut):
            parameters.append(stems)
            found = [Pieces(0, *pieces) if pieces else same for pieces, same in zip(cut, found, strict=True)]
    rest = [i for i, f in enumerate(found) if f is None]
    _by_middles(columns, rest, found, parameters)
    return [f if f is not None else c[0] for f, c in zip(found, columns, strict=True)], parameters


def stem(texts: Sequence[str]) -> str:
    """The longest part that all have in common, best one with a number in it, without separators at its ends."""
    if not texts:
        return ""
    shortest = min(texts, key=len)
    best = ""
    for start in range(len(shortest)):
        low = start
        while low < len(shortest) and all(shortest[start : low + 1] in t for t in texts):
            low += 1
        part = shortest[start:low].strip(_SEPARATORS)
        if (any(map(str.isdigit, part)), len(part)) > (any(map(str.isdigit, best)), len(best)):
            best = part
    return best


def _around(column: Column, stems: Column) -> tuple[str, str] | None:
    """What stands before and behind the stem in every name of a column."""
    place = column[0].find(stems[0])
    while place != -1:
        before, after = column[0][:place], column[0][place + len(stems[0]) :]
        if all(text == before + s + after for text, s in zip(column, stems, strict=True)):
            return before, after
        place = column[0].find(stems[0], place + 1)
    return None


def _by_middles(columns: Sequence[Column], rest: Sequence[int], found: list[str | Pieces | None], parameters: list[Column]) -> None:
    """Cut the columns of `rest` into what is the same in all uses and a middle that differs."""
    groups: dict[Column, list[tuple[int, str, str]]] = {}
    for i in rest:
        before, after = _ends(columns[i])
        middles = tuple([c[len(before) : len(c) - len(after)] for c in columns[i]])
        groups.setdefault(middles, []).append((i, before, after))
    for middles, members in groups.items():
        shared = _shared_end([before for _, before, _ in members])
        parameters.append(tuple([shared + m for m in middles]))
        for i, before, after in members:
            found[i] = Pieces(len(parameters) - 1, before[: len(before) - len(shared)], after)


def _ends(column: Column) -> tuple[str, str]:
    """What all names of a column begin and end with; a number is not cut in two."""
    before = _common(column)
    while before and before[-1].isdigit() and any(c[len(before) : len(before) + 1].isdigit() for c in column):
        before = before[:-1]
    tails = [c[len(before) :] for c in column]
    after = _common([t[::-1] for t in tails])[::-1]
    while after and after[0].isdigit() and any(t[: len(t) - len(after)][-1:].isdigit() for t in tails):
        after = after[1:]
    return before, after


def _shared_end(texts: Sequence[str]) -> str:
    """What all end with, from the beginning of a word on."""
    end = _common([t[::-1] for t in texts])[::-1]
    if all(end == t for t in texts):
        return end
    places = [i for i in range(len(end)) if end[i].isdigit() and not (i and end[i - 1].isdigit())]
    return end[places[0] :] if places else ""


def _common(texts: Sequence[str]) -> str:
    """What all begin with."""
    first, last = min(texts), max(texts)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:length]
