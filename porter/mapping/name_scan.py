"""The quick way to take a name apart: from both ends towards the middle, with nothing to choose on the way.

Most patterns leave no choice: an integer takes all the digits there are, a `name` ends at the next dot or slash, and of words none
begins another. One field may be left over in the middle, and takes what is between. For such patterns there is at most one way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from porter.dataclass import dataclass
from porter.mapping.captures import Field

_DIGITS = "0123456789"

_Steps = tuple[tuple[str, Mapping[str, str] | None, tuple[int, ...], str], ...]
"""Kind of field, its words and their lengths, and the literal that follows."""


@dataclass(frozen=True, slots=True)
class NameScan:
    """Reads names of one pattern. `forward` from the start, `backward` from the end with everything reversed; `middle` is the kind
    of the field between, with its words, or None where `forward` reads them all.
    """

    prefix: str
    suffix: str
    forward: _Steps
    backward: _Steps
    middle: tuple[str, Mapping[str, str] | None] | None

    def texts(self, name: str) -> list[str] | None:
        """The text of each field in order, or None where `name` does not match. Whether digits make a number is not looked at."""
        if not (name.startswith(self.prefix) and name.endswith(self.suffix)):
            return None
        start, end = len(self.prefix), len(name) - len(self.suffix)
        texts: list[str] = []
        if self.forward:
            start = _scanned(name, start, self.forward, texts)
            if start < 0:
                return None
        if self.middle is None:
            return texts if start == len(name) else None
        after: list[str] = []
        if self.backward:
            backward = _scanned(name[::-1], len(self.suffix), self.backward, after)
            if backward < 0:
                return None
            end = len(name) - backward
        if start > end:
            return None
        text = name[start:end]
        kind, words = self.middle
        if (text not in words) if words is not None else (not text or (kind == "segment" and ("." in text or "/" in text))):
            return None
        texts.append(text)
        texts += [t[::-1] for t in reversed(after)]
        return texts


def _scanned(text: str, at: int, steps: _Steps, texts: list[str]) -> int:
    """Read `steps` from position `at`, add the texts of their fields to `texts`; the position after them, or -1."""
    for kind, words, lengths, literal in steps:
        end = at
        if kind == "digits":
            if at and text[at - 1] in _DIGITS:
                return -1
            size = len(text)
            while end < size and text[end] in _DIGITS:
                end += 1
        elif words is None:
            dot, slash = text.find(".", at), text.find("/", at)
            end = min(dot if dot >= 0 else len(text), slash if slash >= 0 else len(text))
        else:
            for length in lengths:
                if text[at : at + length] in words and text.startswith(literal, at + length):
                    end = at + length
                    break
            else:
                return -1
        if (end == at and words is None) or not text.startswith(literal, end):
            return -1
        texts.append(text[at:end])
        at = end + len(literal)
    return at


def scan_of(literals: Sequence[str], fields: Sequence[Field]) -> NameScan | None:
    """A scan for the pattern with these parts (as from `parts_of`), or None where something would have to be chosen."""
    first, last = 0, len(fields) - 1
    forward, backward = [], []
    while first <= last and (step := _step(fields[first], literals[first + 1], 1)):
        forward.append(step)
        first += 1
    while first < last and (step := _step(fields[last], literals[last][::-1], -1)):
        backward.append(step)
        last -= 1
    if first < last:
        return None
    middle = (fields[first].kind, fields[first].words) if first == last else None
    return NameScan(literals[0], literals[-1], tuple(forward), tuple(backward), middle)


def _step(field: Field, literal: str, direction: int) -> tuple[str, Mapping[str, str] | None, tuple[int, ...], str] | None:
    """How to read `field` where `literal` follows, or None where there might be several ways. `direction` -1: all reversed."""
    if field.kind == "digits" or (field.kind == "segment" and literal[:1] in (".", "/")):
        return field.kind, None, (), literal
    if field.words is not None:
        words = {word[::direction]: value for word, value in field.words.items()}
        ordered = sorted([word + literal for word in words])
        if not any(b.startswith(a) for a, b in pairwise(ordered)):
            return field.kind, words, tuple(sorted({len(word) for word in words}, reverse=True)), literal
    return None
