"""What every tensor of a mapped file was made of, as a JSON file beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from porter.cli.outputs import check_output
from porter.cli.screen import document_text
from porter.errors import UsageError

if TYPE_CHECKING:
    from porter.conversion import Conversion
    from porter.mapping.execution import MappedStore
    from porter.store import TensorStore
    from porter.tensor import Tensor


def refuse_path(path: str, conversion: Conversion) -> None:
    """Refuse a path that cannot be meant. Looks at the disk, writes nothing.

    Raises:
        UsageError: there is no map, or the path is that of the weights, or of something else that is read.
        FileAccessError: the file exists, and nobody said that it may be replaced; or it cannot be written.
    """
    if conversion.map is None:
        hint = "leave --provenance out, or say '--map MAP'"
        raise UsageError("U925", "without a map every tensor is what it was in the source", hint=hint)
    if os.path.realpath(path) == os.path.realpath(conversion.target):
        raise UsageError("U926", "the provenance would be written over the weights", hint="give --provenance a file of its own")
    read, write = conversion.read_options, conversion.write_options
    check_output(path, (conversion.source, read.net, write.net, write.into, conversion.map.name), overwrite=write.overwrite)


@contextmanager
def recorded(path: str | None, conversion: Conversion, store: TensorStore) -> Iterator[None]:
    """Around the writing of the weights: the file is made first and appears once they are written. Without a path nothing happens.

    Reads everything that went into the result once, for its digests; what passes from one stage to the next is computed for them.

    Raises:
        PorterError: the file cannot be written, or an input cannot be read; no weights are written then.
    """
    if path is None:
        yield
        return
    from porter.io.atomic import OutputGroup
    from porter.mapping.execution import MappedStore

    assert isinstance(store, MappedStore)
    text = document_text(_document(conversion, store))
    with OutputGroup() as group:
        group.create(path).write(text.encode())
        yield


def _document(conversion: Conversion, store: MappedStore) -> dict[str, Any]:
    from porter import __version__

    assert conversion.map is not None
    digests: dict[int, str] = {}

    def digest(tensor: Tensor) -> str:
        # One tensor goes into several, and each is to be read once.
        if id(tensor) not in digests:
            digests[id(tensor)] = tensor.digest()
        return digests[id(tensor)]

    dialect = store.source.dialect if store.source is not None else None
    return {
        "porter": __version__,
        "source": {"path": conversion.source, "format": conversion.source_format.name, "dialect": dialect},
        "target": {"path": conversion.target, "format": conversion.target_format.name},
        "map": conversion.map.name,
        "params": dict(conversion.map.params),
        "tensors": [
            {
                "name": name,
                "dtype": tensor.dtype.name,
                "shape": list(tensor.shape),
                "steps": [{"stage": stage + 1, "makes": made, **origin.to_json(digest)} for stage, made, origin in store.path(name)],
            }
            for name, tensor in store.items()
        ],
    }
