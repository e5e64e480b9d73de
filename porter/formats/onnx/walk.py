"""Every tensor of a model in order, and the names they go by in porter.

The order is that of the file: initialisers, sparse initialisers, then the nodes one by one with their constants and
subgraphs; then functions, then training graphs. A tensor goes by the name that the graph uses for its value:
an initialiser's own, a Constant node's output, a sparse tensor's with `.values` and `.indices`; a tensor that is
another node's attribute by `NODE.ATTRIBUTE`. Names inside subgraphs, functions and training graphs have scopes of their
own, so one that is there twice in the file gets its scope before it: `NODE.then_branch.NAME`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from porter.dataclass import dataclass
from porter.errors import FormatError
from porter.formats.onnx.structure import text
from porter.formats.onnx.values import NUMBERS
from porter.store import TensorStore

Scope = tuple[str, ...]
_FLOATS = 6


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """One tensor of the file, unread.

    `own` is its name where it stands and `scope` where that is (empty for the main graph); `proto` a TensorProto, or an
    AttributeProto for a constant that is plain numbers; `origin` one of initializer, constant, attribute, and
    sparse_values, sparse_indices, with the dense shape in `dense`. `node` and `attribute` say which node's attribute it is.
    """

    own: str
    scope: Scope
    proto: Any
    origin: str
    node: str | None = None
    attribute: str | None = None
    dense: tuple[int, ...] | None = None

    @property
    def numbers(self) -> bool:
        """Whether `proto` is an AttributeProto."""
        return self.origin == "constant" and self.proto.DESCRIPTOR.name == "AttributeProto"


def find_tensors(model: Any, store: TensorStore) -> Iterator[Found]:
    """All tensors of `model`; notes on `store` what holds numbers and is no tensor."""
    finder = _Finder(store)
    yield from finder.graph(model.graph, ())
    for function in model.functions:
        label = "::".join(text(part) for part in (function.domain, function.name, function.overload) if part)
        yield from finder.nodes(function.node, (label,))
        for attribute in function.attribute_proto:
            yield from finder.attribute(attribute, label, text(attribute.name), ())
    for index, training in enumerate(model.training_info):
        for part in ("initialization", "algorithm"):
            if training.HasField(part):
                yield from finder.graph(getattr(training, part), (f"training_info[{index}]", part))


def named(found: Sequence[Found], store: TensorStore) -> list[str]:
    """A name for each of `found`, all different; notes on `store` the ones that had to be made up.

    Raises:
        FormatError: two initialisers of the main graph have one name.
    """
    uses = Counter(own for _, own in {_place(f, i): f.own for i, f in enumerate(found)}.items())
    names: list[str] = [""] * len(found)
    taken: dict[str, int] = {}
    segments: dict[Any, str] = {}
    # Names of the main graph first: what is nested yields to them.
    for i in sorted(range(len(found)), key=lambda i: bool(found[i].scope)):
        item = found[i]
        if _place(item, i) in segments:
            names[i] = segments[_place(item, i)]
            continue
        name = item.own if not item.scope or uses[item.own] == 1 else ".".join((*item.scope, item.own))
        if name in taken and not item.scope and item.origin == "initializer":
            raise FormatError("F004", "two initialisers have this name", tensor=name)
        names[i] = segments[_place(item, i)] = _free(name, taken)
        if names[i] != name:
            store.note("changed", f"the file has another tensor called '{name}'; this one goes by '{names[i]}' here", names[i])
    return names


def _place(item: Found, index: int) -> Any:
    """What tells tensors apart: where they stand, but the name alone for segments, which make one tensor together."""
    segmented = not item.numbers and item.proto.HasField("segment")
    return (item.scope, item.own) if segmented else index


def _free(name: str, taken: dict[str, int]) -> str:
    """`name`, or with a number behind it where it is taken. `taken` counts how often each name was asked for."""
    free = name
    while free in taken:
        taken[name] += 1
        free = f"{name}#{taken[name]}"
    taken[free] = 1
    return free


class _Finder:
    def __init__(self, store: TensorStore) -> None:
        self._store = store

    def graph(self, graph: Any, scope: Scope) -> Iterator[Found]:
        for index, proto in enumerate(graph.initializer):
            yield Found(text(proto.name) or self._unnamed("initializer", index), scope, proto, "initializer")
        for index, sparse in enumerate(graph.sparse_initializer):
            name = text(sparse.values.name) or self._unnamed("sparse_initializer", index)
            yield from self._sparse(sparse, name, scope, None, None)
        yield from self.nodes(graph.node, scope)

    def nodes(self, nodes: Any, scope: Scope) -> Iterator[Found]:
        for node in nodes:
            attributes = node.attribute
            if not attributes:
                continue
            if node.op_type == b"Constant" and node.domain in (b"", b"ai.onnx"):
                yield from self._constant(node, scope)
                continue
            for attribute in attributes:
                kind = attribute.type
                # Numbers, strings and lists of them. Files of 2017 state no kind.
                if kind in (1, 2, 3, 6, 7, 8):
                    continue
                yield from self.attribute(attribute, label_of(node), text(attribute.name), scope)
            if node.domain.startswith(b"ai.onnx.ml"):
                self._learned_lists(node)

    def attribute(self, attribute: Any, label: str, name: str, scope: Scope) -> Iterator[Found]:
        """What one attribute holds: a tensor, tensors, graphs."""
        own = f"{label}.{name}"
        if attribute.HasField("t"):
            yield Found(own, scope, attribute.t, "attribute", label, name)
        for index, proto in enumerate(attribute.tensors):
            yield Found(f"{own}[{index}]", scope, proto, "attribute", label, name)
        if attribute.HasField("sparse_tensor"):
            yield from self._sparse(attribute.sparse_tensor, own, scope, label, name)
        for index, sparse in enumerate(attribute.sparse_tensors):
            yield from self._sparse(sparse, f"{own}[{index}]", scope, label, name)
        if attribute.HasField("g"):
            yield from self.graph(attribute.g, (*scope, label, name))
        for index, graph in enumerate(attribute.graphs):
            yield from self.graph(graph, (*scope, label, f"{name}[{index}]"))

    def _constant(self, node: Any, scope: Scope) -> Iterator[Found]:
        label = label_of(node)
        own = text(node.output[0]) if node.output and node.output[0] else label
        for attribute in node.attribute:
            name = text(attribute.name)
            if attribute.ref_attr_name:
                continue  # a function's parameter: the value is where the function is called
            if attribute.name in NUMBERS:
                yield Found(own, scope, attribute, "constant", label, name)
            elif attribute.HasField("t"):
                yield Found(own, scope, attribute.t, "constant", label, name)
            elif attribute.HasField("sparse_tensor"):
                yield from self._sparse(attribute.sparse_tensor, own, scope, label, name)
            elif attribute.name in (b"value_string", b"value_strings"):
                self._store.note("skipped", f"constant '{own}' is text, which is no weight")

    def _sparse(self, sparse: Any, name: str, scope: Scope, label: str | None, attribute: str | None) -> Iterator[Found]:
        dense = tuple(sparse.dims)
        if sparse.HasField("values"):
            yield Found(f"{name}.values", scope, sparse.values, "sparse_values", label, attribute, dense)
        if sparse.HasField("indices"):
            yield Found(f"{name}.indices", scope, sparse.indices, "sparse_indices", label, attribute, dense)

    def _learned_lists(self, node: Any) -> None:
        """Trees, linear models and SVMs keep their parameters in plain lists."""
        lists = [text(a.name) for a in node.attribute if a.type == _FLOATS]
        if lists:
            what = f"{text(node.op_type)} node '{label_of(node)}'"
            self._store.note("skipped", f"{what} keeps numbers in lists, not in tensors: {', '.join(lists)}")

    def _unnamed(self, what: str, index: int) -> str:
        name = f"{what}[{index}]"
        self._store.note("changed", f"an initialiser without a name goes by '{name}' here", name)
        return name


def label_of(node: Any) -> str:
    """What a node is called: its name, else its first output, else its operator."""
    if node.name:
        return text(node.name)
    return next((text(output) for output in node.output if output), text(node.op_type))
