"""Histograms of a store's tensors as an event file of TensorBoard: its own messages, in its own framing, without its packages.

Source: tensorflow/tensorflow `tensorflow/core/lib/io/record_writer.cc` (2.x): each record is its length (uint64), a masked CRC-32C of
that, the data, and a masked CRC-32C of the data; `tensorflow/core/lib/hash/crc32c.h` for the mask; TensorBoard finds files whose
names contain `tfevents`.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from functools import cache

from porter.check.statistics.measure import Statistics, TensorStatistics
from porter.errors import access_error, printable
from porter.io.protobuf_messages import message_classes


def write_events(result: Statistics, folder: str) -> str:
    """Write an event file into `folder`, which is made if need be; its path. `result` was measured with its distributions.

    Raises:
        FileAccessError: the folder cannot be made, or the file not be written.
    """
    from porter.io.atomic import OutputGroup

    now = time.time()
    path = os.path.join(folder, f"events.out.tfevents.{int(now)}.porter.{os.getpid()}")
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise access_error(error, folder, "writing") from error
    with OutputGroup() as group:
        out = group.create(path)
        for data in _events(result, now):
            out.write(_record(data))
    return path


def _events(result: Statistics, now: float) -> Iterator[bytes]:
    event = message_classes("tensorboard_event.binpb")["tensorboard.Event"]
    yield event(wall_time=now, file_version="brain.Event:2").SerializeToString()
    for one in result.tensors:
        if one.summary.counts.finite:
            yield event(
                wall_time=now, step=0, summary={"value": [{"tag": printable(one.spec.name), "histo": _histogram(one)}]}
            ).SerializeToString()


def _histogram(one: TensorStatistics) -> dict[str, object]:
    s = one.summary
    assert one.distribution is not None
    linear = one.distribution.linear
    assert linear is not None
    assert s.minimum is not None
    assert s.maximum is not None
    m = s.moments
    return {
        "min": float(s.minimum.value),
        "max": float(s.maximum.value),
        "num": float(m.count),
        "sum": m.mean * m.count,
        "sum_squares": m.sum_of_squares,
        # The first bucket begins where nothing lies below, as TensorFlow writes it.
        "bucket_limit": [linear.first * linear.step, *linear.edges[1:]],
        "bucket": [0.0, *map(float, linear.count)],
    }


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return b"".join((length, struct.pack("<I", _masked(length)), data, struct.pack("<I", _masked(data))))


def _masked(data: bytes) -> int:
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of a short record."""
    table, crc = _table(), 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


@cache
def _table() -> tuple[int, ...]:
    rows = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        rows.append(crc)
    return tuple(rows)
