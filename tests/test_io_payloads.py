"""Payloads that are put together while they are read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from porter.io.payloads import ComputedPayload
from porter.io.source import FileSource


def test_pieces_in_memory_that_is_used_again(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(range(10)))
    source = FileSource(path)

    def produce() -> Iterator[memoryview]:
        return source.chunks(0, 10, 4)

    payload = ComputedPayload(10, produce)
    assert b"".join(bytes(c) for c in payload.chunks(3)) == bytes(range(10))
    assert payload.buffer() == bytes(range(10))
    assert payload.buffer().readonly
    source.close()
