"""Where a report comes from: files and their digests, versions, and the commands that give the same again."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Iterator

from porter import __version__
from porter.errors import access_error
from porter.report.request import Inputs, Request
from porter.store import TensorStore
from porter.tensor import Json


def environment() -> dict[str, Json]:
    """The versions of what computed the numbers."""
    from importlib.metadata import version

    return {"porter": __version__, "python": platform.python_version(), **{n: version(n) for n in ("numpy", "ml_dtypes")}}


def file_of(store: TensorStore) -> dict[str, Json]:
    """One input: its path as given, format, size, the SHA-256 of the file, and the weights digest. Reads it twice.

    The weights digest covers all that was read, the file's own only the file that was named: shards and data files that belong to it
    are others.

    Raises:
        FileAccessError: it cannot be read.
    """
    source = store.source
    path = source.path if source is not None else None
    nbytes, digest = _digest(path) if path is not None and os.path.isfile(path) else (None, None)
    return {
        "path": path,
        "format": source.format if source is not None else None,
        "dialect": source.dialect if source is not None else None,
        "bytes": nbytes,
        "sha256": digest,
        "weights_digest": store.digest(),
        "tensors": len(store),
        "elements": store.size,
        "weight_bytes": store.nbytes,
    }


def digest_of_map(name: str) -> str:
    """The SHA-256 of a map's text, in a file or built in."""
    import hashlib

    from porter.mapping import library

    return hashlib.sha256(library.text(name).text.encode("utf-8", "surrogatepass")).hexdigest()


def _digest(path: str) -> tuple[int, str]:
    import hashlib

    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return file.tell(), digest
    except OSError as error:
        raise access_error(error, path, "reading") from error


def commands(request: Request, inputs: Inputs) -> list[dict[str, Json]]:
    """The commands that reproduce the report and its parts, as a shell takes them."""
    return [{"what": what, "command": shlex.join(words)} for what, words in _commands(request, inputs)]


def _commands(request: Request, inputs: Inputs) -> Iterator[tuple[str, list[str]]]:
    a, b = _path(inputs.a), _path(inputs.b) if inputs.b is not None else None
    read_a, read_b, both = (list(request.options.get(which, ())) for which in ("a", "b", "both"))
    use = inputs.map
    params = [word for k, v in (use.params.items() if use is not None else ()) for word in ("--param", f"{k}={v}")]
    mapping = ["--map", use.name, *params] if use is not None else []
    t = request.tolerance
    tolerance = [w for k in ("rtol", "atol", "ulp") if (v := getattr(t, k)) is not None for w in (f"--{k}", repr(v))]
    types = ["--to", ",".join(x.name for x in request.targets)]
    sides = [a, *([b] if b is not None else [])]
    audit = types if request.targets else ["--no-audit"]
    plain = [] if request.histograms else ["--no-histograms"]
    titled = ["--title", request.title]
    yield "this report", ["porter", "report", *sides, *both, *mapping, *tolerance, *audit, *plain, *titled, "-o", "report.html"]
    if b is not None:
        yield "the comparison", ["porter", "diff", *sides, *both, *mapping, *tolerance]
    if use is not None:
        yield "the map", ["porter", "map", "check", use.name, *sides, *read_a, *params]
        yield "what the map makes", ["porter", "convert", a, "mapped.safetensors", *read_a, *mapping, "--provenance", "mapped.json"]
    yield "statistics" + (" of A" if use is not None or b is not None else ""), ["porter", "stats", a, *read_a, "--histogram"]
    if b is not None:
        yield "statistics of B", ["porter", "stats", b, *read_b, "--histogram"]
    if request.targets:
        yield "the audit" + (" of A" if use is not None else ""), ["porter", "audit", a, *read_a, *types, "--details"]
    yield "the digests of the files", ["sha256sum", *sides]


def _path(store: TensorStore) -> str:
    return store.source.path if store.source is not None else "weights"
