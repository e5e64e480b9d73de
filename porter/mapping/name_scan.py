"""The quick way to take a name apart: from both ends towards the middle, with nothing to choose on the way.

Most patterns leave no choice: an integer takes all the digits there are, a `name` ends at the next dot or slash, and of words none
begins another. One field may be left over, and takes what is between: then there is at most one way. With two left over, there is
one for each place where the literal between them is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from porter.dataclass import dataclass
from porter.mapping.captures import Field

_DIGITS = "0123456789"

_Steps = tuple[tuple[str, Mapping[str, str] | None, tuple[int, ...], str], ...]
"""Kind of field, its words and their lengths, and the literal that follows."""


_Gap = tuple[str, Mapping[str, str] | None]
"""A field that takes what the others leave: its kind, and its words."""


class TooManyWays(Exception):
    """There are more ways to try than is sensible, and none or one is found."""


@dataclass(frozen=True, slots=True)
class NameScan:
    """Reads names of one pattern. `forward` from the start, `backward` from the end with everything reversed.

    gaps: the fields between: none where `forward` reads all, one, or two. With two, `anchor` is the literal after the first and
    `inner` reads from there to the second, at every place where the anchor is.
    """

    prefix: str
    suffix: str
    forward: _Steps
    backward: _Steps
    gaps: tuple[_Gap, ...]
    anchor: str = ""
    inner: _Steps = ()

    def only(self, name: str) -> list[str] | None:
        """The text of each field in order, or None where `name` does not match; for patterns with one gap or none. Whether digits
        make a number is not looked at.
        """
        before: list[str] = []
        after: list[str] = []
        start, end = self._outside(name, before, after)
        if not self.gaps:
            return before if start == len(name) else None
        if start < 0 or start > end:
            return None
        text = name[start:end]
        return [*before, text, *after[::-1]] if _fits(text, self.gaps[0]) else None

    def ways(self, name: str) -> Iterator[list[str]]:
        """As `only`, for every place where the anchor can be; for patterns with two gaps."""
        before: list[str] = []
        after: list[str] = []
        start, end = self._outside(name, before, after)
        at = name.find(self.anchor, start + 1) if start >= 0 else -1
        while 0 <= at < end:
            first = name[start:at]
            if not _fits(first, self.gaps[0]):
                return
            inner: list[str] = []
            stop = _scanned(name, at + len(self.anchor), self.inner, inner)
            if 0 <= stop < end and _fits(name[stop:end], self.gaps[1]):
                yield [*before, first, *inner, name[stop:end], *after[::-1]]
            at = name.find(self.anchor, at + 1)

    def _outside(self, name: str, before: list[str], after: list[str]) -> tuple[int, int]:
        """Where the gaps start and end; the start is -1 where `name` does not match. The texts around them are added to `before`,
        and to `after` from the last one on.
        """
        if not (name.startswith(self.prefix) and name.endswith(self.suffix)):
            return -1, 0
        start, end = len(self.prefix), len(name) - len(self.suffix)
        if self.forward:
            start = _scanned(name, start, self.forward, before)
        if start >= 0 and self.backward:
            backward = _scanned(name[::-1], len(self.suffix), self.backward, after)
            if backward < 0:
                return -1, 0
            after[:] = [text[::-1] for text in after]
            end = len(name) - backward
        return start, end


def _fits(text: str, gap: _Gap) -> bool:
    kind, words = gap
    if words is not None:
        return text in words
    return bool(text) and (kind != "segment" or not ("." in text or "/" in text))


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
    gaps = [(field.kind, field.words) for field in fields[first : last + 1]]
    if len(gaps) <= 1:
        return NameScan(literals[0], literals[-1], tuple(forward), tuple(backward), tuple(gaps))
    inner = [_step(fields[i], literals[i + 1], 1) for i in range(first + 1, last)]
    anchor, ends = literals[first + 1], (gaps[0], gaps[-1])
    if not anchor or not all(inner) or any(words is not None for _, words in ends):
        return None
    return NameScan(literals[0], literals[-1], tuple(forward), tuple(backward), ends, anchor, tuple([step for step in inner if step]))


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
