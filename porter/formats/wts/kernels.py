"""Hexadecimal text to numbers and back, many at a time.

A word is eight digits; eight bytes are one machine word. The arrays here hold one value in each 64-bit element and work
on all of them at once, in blocks small enough to stay in the processor's cache, in memory that is allocated once. numpy
releases the interpreter's lock in every step, so several threads decode at the same time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 1 << 15
"""Values of one block: three arrays of this length fit the second-level cache."""

STRIDE = 9
"""Bytes from one value of eight digits to the next."""

_DIGIT, _LETTER, _SPACE = np.uint8(0x30), np.uint8(0x57), 0x20
_FOUR, _LOW = np.uint64(4), np.uint64(0x0F0F0F0F0F0F0F0F)
_UPPER, _ONE = np.uint64(0x4040404040404040), np.uint64(1)
_NINE, _TO_LETTER = np.uint8(9), np.uint8(0x27)


class WordDecoder:
    """Decodes blocks of at most `block` words of eight digits with one space between them."""

    def __init__(self, block: int = BLOCK) -> None:
        self._words = np.empty(block, "<u8")
        self._other = np.empty(block, "<u8")
        self._separators = np.empty(block, np.uint8)

    def decode(self, text: bytearray, n: int, out: NDArray[np.uint8]) -> bool:
        """Put the `n` words of `text` into the 4 `n` bytes of `out`, little-endian; False if `text` is anything else."""
        if n > 1:
            separators = self._separators[: n - 1]
            np.copyto(separators, np.ndarray((n - 1,), np.uint8, text, STRIDE - 1, (STRIDE,)))
            if np.minimum.reduce(separators) != _SPACE or np.maximum.reduce(separators) != _SPACE:
                return False
        source = np.ndarray((n,), ">u8", text, 0, (STRIDE,))
        words, other = self._words[:n], self._other[:n]
        np.copyto(words, source)
        if not self._digits(words, other):
            # Capitals: one bit away from small letters, and digits have that bit already.
            np.copyto(words, source)
            np.bitwise_and(words, _UPPER, out=other)
            np.right_shift(other, _ONE, out=other)
            np.bitwise_or(words, other, out=words)
            if not self._digits(words, other):
                return False
        # Two nibbles in each 16 bits, the higher one in the upper byte; the lower byte takes both.
        np.right_shift(words, _FOUR, out=other)
        np.bitwise_or(words, other, out=words)
        np.copyto(out, words.view("<u2"), casting="unsafe")
        return True

    @staticmethod
    def _digits(words: NDArray[np.uint64], other: NDArray[np.uint64]) -> bool:
        """Characters to nibbles in place; False if one of them is no digit or small letter of hexadecimal.

        With d = c - '0' and l = c - ('a' - 10), both modulo 256, a digit has d in 0..9 and l in 0xd9..0xe2, a letter
        d in 0x31..0x36 and l in 10..15: the smaller one is the nibble. All other characters have the smaller one over
        15, or l under 10 (0x57..0x60), or l in 0xe3..0xe8 (0x3a..0x3f).
        """
        nibbles, letters = words.view(np.uint8), other.view(np.uint8)
        np.subtract(nibbles, _LETTER, out=letters)
        np.subtract(nibbles, _DIGIT, out=nibbles)
        if np.minimum.reduce(letters) < 10 or np.maximum.reduce(letters) > 0xE2:
            return False
        np.minimum(nibbles, letters, out=nibbles)
        return bool(np.maximum.reduce(nibbles) <= 15)


class WordEncoder:
    """Encodes blocks of at most `BLOCK` 32-bit values as ` xxxxxxxx`, small letters."""

    def __init__(self) -> None:
        self._words = np.empty(BLOCK, "<u8")
        self._other = np.empty(BLOCK, "<u8")

    def encode(self, values: memoryview, text: memoryview) -> None:
        """Put the 4 n bytes of `values` into the 9 n bytes of `text`, which has the spaces already."""
        raw = np.frombuffer(values, np.uint8)
        n = raw.size // 4
        words, other = self._words[:n], self._other[:n]
        np.copyto(words.view("<u2"), raw)
        np.left_shift(words, _FOUR, out=other)
        np.bitwise_or(words, other, out=words)
        np.bitwise_and(words, _LOW, out=words)
        characters, letters = words.view(np.uint8), other.view(np.uint8)
        np.greater(characters, _NINE, out=letters.view(np.bool_))
        np.multiply(letters, _TO_LETTER, out=letters)
        np.add(characters, letters, out=characters)
        np.add(characters, _DIGIT, out=characters)
        np.copyto(np.ndarray((n,), ">u8", text, 1, (STRIDE,)), words)


def strip_zeros(text: NDArray[np.uint8], digits: int) -> NDArray[np.uint8]:
    """`text`, rows of a space and `digits` digits, without leading zeros; a zero keeps its last digit. Flat."""
    table = text.reshape(-1, digits + 1)
    keep = np.ones(table.shape, np.bool_)
    zero = np.ones(len(table), np.bool_)
    for column in range(1, digits):
        zero &= table[:, column] == _DIGIT
        keep[:, column] = ~zero
    return table[keep]


_SEPARATOR, _NEWLINE, _OTHER = 16, 17, 18
_KINDS = np.full(256, _OTHER, np.uint8)
_KINDS[list(b"0123456789abcdef")] = range(16)
_KINDS[list(b"ABCDEF")] = range(10, 16)
_KINDS[list(b" \t")] = _SEPARATOR
_KINDS[list(b"\n")] = _NEWLINE


class WordFault(Exception):
    """Something in a text that is no list of words: `kind`, its `position` in the text, and where the words before it begin.

    kind: "newline", "character", "short" or "long" (a word with too few or too many digits, `length` of them).
    """

    def __init__(self, kind: str, position: int, starts: NDArray[np.intp], length: int = 0) -> None:
        super().__init__(kind)
        self.kind = kind
        self.position = position
        self.starts = starts
        self.length = length


def parse_words(text: bytes, digits: int, *, padded: bool) -> tuple[NDArray[np.uint32], NDArray[np.intp]]:
    """The words in `text`, whatever white space is between them, and where each begins.

    `padded`: each must have exactly `digits` digits; otherwise it may have fewer.

    Raises:
        WordFault: the first thing that is wrong.
    """
    kinds = _KINDS[np.frombuffer(text, np.uint8)]
    inside = np.zeros(kinds.size + 2, np.int8)
    inside[1:-1] = (kinds != _SEPARATOR) & (kinds != _NEWLINE)
    edges = np.diff(inside)
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    lengths = ends - starts
    odd = np.flatnonzero(lengths != digits if padded else lengths > digits)
    strange = np.flatnonzero(kinds > _SEPARATOR)
    if odd.size and not (strange.size and strange[0] < ends[odd[0]]):
        first = int(odd[0])
        length = int(lengths[first])
        raise WordFault("short" if length < digits else "long", int(starts[first]), starts[:first], length)
    if strange.size:
        position = int(strange[0])
        kind = "newline" if kinds[position] == _NEWLINE else "character"
        raise WordFault(kind, position, starts[ends <= position])
    values = np.zeros(starts.size, np.uint32)
    for place in range(digits):
        nibbles = kinds[np.maximum(ends - 1 - place, 0)].astype(np.uint32)
        values |= np.where(lengths > place, nibbles, np.uint32(0)) << np.uint32(4 * place)
    return values, starts
