"""The store: named tensors in order, with what their file said around them.

Every adapter reads into a `TensorStore` and writes out of one; it is the only representation of weights in porter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, Protocol, Self, TypeVar, overload

from porter.dataclass import dataclass
from porter.errors import FormatError, UnknownTensorError, UsageError, did_you_mean
from porter.tensor import Json, Tensor

T = TypeVar("T")

NoticeKind = Literal["note", "skipped", "assumed", "changed"]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a user has to know about a run: what was skipped, assumed or changed. Never an error."""

    kind: NoticeKind
    message: str
    tensor: str | None = None


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a store came from: the file, the format and its dialect."""

    path: str
    format: str
    dialect: str | None = None


class Closeable(Protocol):
    """Anything that has `close`."""

    def close(self) -> None: ...


class TensorStore(Mapping[str, Tensor]):
    """Ordered tensors by name, with ties, metadata, attachments and notices.

    Attributes:
        ties: alias name to the name of the tensor whose bytes it shares. Both names are in the store; the payloads are
            the same object or equal.
        metadata: what the file itself says as key and value (safetensors `__metadata__`, ONNX `metadata_props`).
        attachments: opaque bytes by key that belong to the model and are no tensor (`caffe.net`, `keras.model_config`);
            containers that can, carry them.
        notices: what reading skipped, assumed or changed.
        source: where it came from, or None for a store made in memory.

    Asked for a name that it does not have, a store raises `UnknownTensorError`, a `KeyError` that knows the nearest of its names.

    A store read from a file holds the file open; `close` (or `with`) releases it, and so does dropping the last
    reference. Arrays taken from it stay valid.
    """

    ties: dict[str, str]
    metadata: dict[str, Json]
    attachments: dict[str, bytes]
    notices: list[Notice]
    source: Provenance | None

    def __init__(self, tensors: Iterable[Tensor] = (), *, source: Provenance | None = None) -> None:
        self._tensors: dict[str, Tensor] = {}
        self._resources: list[Closeable] = []
        self.ties = {}
        self.metadata = {}
        self.attachments = {}
        self.notices = []
        self.source = source
        for tensor in tensors:
            self.add(tensor)

    def __getitem__(self, name: str) -> Tensor:
        try:
            return self._tensors[name]
        except KeyError:
            some = ", ".join(f"'{known}'" for known in list(self)[:3]) or "no tensors"
            hint = did_you_mean(str(name), self) or f"it has {some}{' and others' if len(self) > 3 else ''}"
            path = self.source.path if self.source is not None else None
            raise UnknownTensorError("U018", "there is no tensor of this name", path=path, tensor=str(name), hint=hint) from None

    # A `Mapping` would ask for the tensor and catch the error, which takes its time to look for names.
    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    @overload
    def get(self, name: str, /) -> Tensor | None: ...
    @overload
    def get(self, name: str, /, default: Tensor | T) -> Tensor | T: ...
    def get(self, name: str, /, default: Tensor | T | None = None) -> Tensor | T | None:
        """The tensor called `name`, or `default`."""
        return self._tensors.get(name, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        origin = f" from {self.source.path!r} ({self.source.format})" if self.source else ""
        return f"<TensorStore of {len(self)} tensors, {self.nbytes:,} bytes{origin}>"

    def add(self, tensor: Tensor) -> None:
        """Append `tensor`.

        Raises:
            FormatError: its name is taken.
        """
        if tensor.name in self._tensors:
            raise FormatError("F004", "two tensors have this name", tensor=tensor.name)
        self._tensors[tensor.name] = tensor

    def tie(self, alias: Tensor, target: str) -> None:
        """Append `alias` as another name for the tensor called `target`.

        Raises:
            UsageError: `target` is unknown, or differs in dtype or size.
        """
        target = self.ties.get(target, target)
        other = self._tensors.get(target)
        if other is None or other.dtype != alias.dtype or other.size != alias.size:
            raise UsageError("U012", f"cannot be tied to '{target}': not there, or another dtype or size", tensor=alias.name)
        self.add(alias)
        self.ties[alias.name] = target

    def replace(self, tensor: Tensor) -> None:
        """Put `tensor` in the place of the one that has its name. Ties of that end, unless `tensor` has the same payload.

        Raises:
            UsageError: there is no tensor of this name.
        """
        if tensor.name not in self._tensors:
            raise UsageError("U013", "there is no tensor of this name to replace", tensor=tensor.name)
        if tensor.payload is not self._tensors[tensor.name].payload:
            self._untie(tensor.name)
        self._tensors[tensor.name] = tensor

    def _untie(self, name: str) -> None:
        """End the ties of `name`; what was tied to it stays tied together."""
        self.ties.pop(name, None)
        left = [alias for alias, target in self.ties.items() if target == name]
        if left:
            del self.ties[left[0]]
            self.ties.update(dict.fromkeys(left[1:], left[0]))

    @property
    def nbytes(self) -> int:
        """Canonical bytes of all tensors, tied ones counted every time."""
        return sum(t.nbytes for t in self._tensors.values())

    @property
    def size(self) -> int:
        """Elements of all tensors, tied ones counted every time."""
        return sum(t.size for t in self._tensors.values())

    def note(self, kind: NoticeKind, message: str, tensor: str | None = None) -> None:
        """Record something that the user has to know."""
        self.notices.append(Notice(kind, message, tensor))

    def digest(self) -> str:
        """The weights digest: equal for equal names, dtypes, shapes and bytes in whatever container and order.

        SHA-256 over one line a tensor, sorted by name as UTF-8: the JSON array `[name, dtype, shape, sha256 of bytes]`
        without spaces, each line ended by a newline. Streams all files.
        """
        return digest_of((t.name, t.dtype.name, t.shape, t.digest()) for t in self.values())

    def manage(self, resource: Closeable) -> None:
        """Close `resource` (a file, or a store that this one's tensors were taken from) when this store is closed."""
        self._resources.append(resource)

    def check_json(self) -> None:
        """Refuse what no container can carry: attributes and metadata that are not JSON values, attachments that are not bytes.

        Raises:
            UsageError: naming the first of them.
        """
        for tensor in self._tensors.values():
            for key, value in tensor.attributes.items():
                _check_json(value, f"the attribute {key!r}", key, tensor.name)
        for key, value in self.metadata.items():
            _check_json(value, f"the metadata {key!r}", key, None)
        for key, data in self.attachments.items():
            if not isinstance(key, str) or not isinstance(data, bytes | bytearray | memoryview):
                raise UsageError("U017", f"the attachment {key!r} is no bytes under a name, but a {type(data).__name__}")

    def close(self) -> None:
        """Release the files. Tensors that were not read yet cannot be read afterwards."""
        for resource in self._resources:
            resource.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _check_json(value: Json, what: str, key: object, tensor: str | None) -> None:
    try:
        good = isinstance(key, str) and _is_json(value)
    except RecursionError:
        good = False
    if not good:
        hint = "use text, numbers, lists and dictionaries of Python itself, and text as keys; 'x.item()' and 'x.tolist()' give such"
        raise UsageError("U017", f"{what} is no JSON value: {value!r:.60}", tensor=tensor, hint=hint)


def _is_json(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_json, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(inner) for key, inner in value.items())
    return value is None or isinstance(value, str | int | float)


def digest_of(entries: Iterable[tuple[str, str, tuple[int, ...], str]]) -> str:
    """The weights digest of `(name, dtype, shape, sha256)` entries; see `TensorStore.digest`."""
    import hashlib
    import json

    lines = [
        json.dumps([name, dtype, list(shape), sha], ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
        for name, dtype, shape, sha in sorted(entries, key=lambda e: e[0].encode("utf-8", "surrogatepass"))
    ]
    return hashlib.sha256(b"".join(line + b"\n" for line in lines)).hexdigest()
