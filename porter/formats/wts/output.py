"""The files of one `.wts`: its text or bytes, and its sidecar."""

from __future__ import annotations

from porter import manifest
from porter.formats.base import WriteOptions
from porter.formats.wts import sidecar
from porter.formats.wts.encode import Encode, Line, encode_raw, encode_unpadded, padded_encoder, taken_from, taken_of, write_lines
from porter.formats.wts.plan import Planned, encode_name
from porter.formats.wts.rows import Dialect
from porter.io.atomic import OutputGroup
from porter.io.source import FilePayload
from porter.store import TensorStore
from porter.tensor import Json


def write_files(store: TensorStore, planned: list[Planned], path: str, beside: str, dialect: Dialect, options: WriteOptions) -> None:
    """Write `planned` to `path` and the description of `store` to `beside`.

    A sidecar that is there goes first, then the new file comes, then its sidecar: whenever that is interrupted, what
    is there agrees.
    """
    description = manifest.describe(store) or {}
    first = b"%d\n" % len(planned)
    lines = [_line(entry, dialect) for entry in planned]
    with OutputGroup(progress=options.progress) as group:
        file = group.create(path)
        group.remove_stale(beside)
        file.reserve(len(first) + sum(_longest(line, dialect) for line in lines))
        file.write(first)
        write_lines(file, lines, _encoder(dialect, sum(p.tensor.size for p in planned)))
        file.truncate()
        entries = [_entry(entry, line) for entry, line in zip(planned, lines, strict=True)]
        group.create(beside).write(sidecar.compose(dialect, file.position, entries, description))


def _line(entry: Planned, dialect: Dialect) -> Line:
    tensor, name = entry.tensor, encode_name(entry.tensor.name)
    if dialect == "tensorrtx":
        head, tail = b"%s %d" % (name, tensor.size), b"\n"
    elif dialect == "nvidia-v1":
        head, tail = b"%s %d %d " % (name, entry.code, tensor.size), b"\n"
    else:
        head, tail = b"%s %d %s " % (name, entry.code, str(tensor.shape).encode()), b"\n"
    payload, take = tensor.payload, None
    if isinstance(payload, FilePayload) and tensor.dtype == entry.stored:
        take = taken_from(payload)
    return Line(head, tail, entry.stored, take or taken_of(entry.chunks(), entry.nbytes), entry.nbytes)


def _longest(line: Line, dialect: Dialect) -> int:
    """Bytes of the line; in nvidia-v1 at most."""
    values = line.nbytes // line.stored.itemsize
    text = line.nbytes if dialect == "nvidia-v2" else values * (line.stored.bits // 4 + 1)
    return len(line.head) + text + len(line.tail)


def _encoder(dialect: Dialect, values: int) -> Encode:
    if dialect == "tensorrtx":
        return padded_encoder(values)
    return encode_unpadded if dialect == "nvidia-v1" else encode_raw


def _entry(entry: Planned, line: Line) -> dict[str, Json]:
    tensor = entry.tensor
    described: dict[str, Json] = {
        "name": tensor.name,
        "dtype": tensor.dtype.name,
        "shape": list(tensor.shape),
        "stored": entry.stored.name,
        "count": tensor.size,
        "crc32": f"{line.crc32:08x}",
        "sha256": line.sha256,
    }
    return described if entry.exact else {**described, "exact": False}
