"""The line of a `.wts` file that holds one tensor, and what the type codes mean.

Source: NVIDIA/TensorRT samples 5.0 to 8.x, `samples/common/dumpTFWts.py` (line 0 the number of buffers; v1 `name type
count hex…`, v2 `name type (shape) bytes`; type 0 float32, 1 float16, 2 int8, 3 int32) and `sampleMLP.cpp` (`loadWeights`,
v2: one space behind the shape, a newline behind the bytes); wang-xinyu/tensorrtx, `gen_wts.py` and `loadWeights`.
No public loader reads int8 or int32 from v1; porter takes the words as two's complement of the type's own width.
"""

from __future__ import annotations

from typing import Literal

from porter.dataclass import dataclass
from porter.dtypes import DTYPES, DType
from porter.errors import FormatError

Dialect = Literal["tensorrtx", "nvidia-v1", "nvidia-v2"]
DIALECTS: tuple[Dialect, ...] = ("tensorrtx", "nvidia-v1", "nvidia-v2")

STORED: dict[int, DType] = {0: DTYPES["float32"], 1: DTYPES["float16"], 2: DTYPES["int8"], 3: DTYPES["int32"]}
"""What the type codes of the nvidia dialects store; tensorrtx stores code 0 and does not say so."""

TWICE = "the usual loader would keep the last one; rename or remove one of the two"
TRUNCATED = "the file looks truncated (its last line has no newline); fetch or write it again"


@dataclass(frozen=True, slots=True)
class Row:
    """One tensor's line: what it says, and where its values lie.

    `begin` and `end` are byte offsets of the first value's first digit and of the end of the last value (v2: of the raw
    bytes). `line` and `column` (1-based, of `begin`) place errors in text dialects; in v2 `line` is 0. `padded`: every
    word has all its digits (tensorrtx). `packed`: one separator between words of full width, as far as lengths tell;
    decoding checks it. `shape` is what v2 says, None elsewhere. `last` marks a line that the end of the file ends.
    """

    name: str
    code: int
    count: int
    begin: int
    end: int
    line: int = 0
    column: int = 0
    padded: bool = True
    packed: bool = True
    last: bool = False
    shape: tuple[int, ...] | None = None

    @property
    def stored(self) -> DType:
        """The type of the values as the file has them."""
        return STORED[self.code]

    @property
    def digits(self) -> int:
        """Hexadecimal digits of a whole word."""
        return self.stored.bits // 4

    @property
    def nbytes(self) -> int:
        """Canonical bytes of the stored values."""
        return self.stored.nbytes(self.count)

    def error(self, path: str, code: str, message: str, offset: int, hint: str | None = None) -> FormatError:
        """An error about the byte at `offset` of the file, as line and column."""
        column = self.column + offset - self.begin
        return FormatError(code, message, path=path, line=self.line, column=column, tensor=self.name, hint=hint)

    def too_few(self, path: str, found: int, offset: int, *, at_end: bool) -> FormatError:
        """The error for a line that ends, at `offset`, after `found` values."""
        message = f"the count says {self.count} values, the line ends after {found}"
        if at_end:
            return self.error(path, "F001", message, offset, TRUNCATED)
        return self.error(path, "F403", message, offset, "the row was cut, or the count is wrong; write the file again")

    def too_many(self, path: str, offset: int) -> FormatError:
        """The error for a line with a value, at `offset`, beyond its count."""
        hint = "the count is too small, or two lines were joined; write the file again"
        return self.error(path, "F404", f"the count says {self.count} values, here is one more", offset, hint)
