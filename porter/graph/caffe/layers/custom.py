"""Layers of unknown types, left as nodes of the domain `caffe`."""

from __future__ import annotations

from collections.abc import Mapping

from porter.formats.caffe.message_tree import Message
from porter.graph.builder import Batch, Named, Shape, Unknown
from porter.graph.caffe.layer import Importer, Layer

Attribute = int | float | str | list[int] | list[float] | list[str]


def custom_node(shapes: Mapping[str, Shape]) -> Importer:
    """An importer for layers of any type: a node whose operator is the type, whose inputs are the bottoms and then the weights, and whose
    attributes are the parameters (`my_param { alpha: 2 }` as `alpha`).

    shapes: of tops, by blob; -1 stands for an open batch. What is not said is not known, and nothing that needs it can read the blob.
    """

    def as_custom_node(layer: Layer) -> None:
        attributes = _attributes(layer)
        if layer.weight_count is None:
            layer.assume("no weights were given, so its node has none")
        weights = [layer.weight(i) for i in range(layer.weight_count or 0)]
        tops = [_shape(layer, shapes.get(name)) for name in layer.top_names]
        for value in _node(layer, [*layer.bottoms, *weights], tops, attributes):
            layer.put(value)

    return as_custom_node


def _node(layer: Layer, inputs: list[Named], tops: list[Shape], attributes: Mapping[str, Attribute]) -> list[Named]:
    return layer.builder.ops(layer.type, inputs, tops, attributes, domain="caffe")


def _shape(layer: Layer, stated: Shape | None) -> Shape:
    if stated is None:
        return Unknown()
    if -1 not in stated:
        return stated
    batch = layer.bottoms[0].shape[0] if layer.bottoms and layer.bottoms[0].shape else None
    if stated.count(-1) > 1 or not isinstance(batch, Batch):
        raise layer.error("G055", f"the shape {list(stated)} leaves a size open, which only the size of an open batch may be")
    return tuple([batch if n == -1 else n for n in stated])


def _attributes(layer: Layer) -> dict[str, Attribute]:
    """The parameters by name: without the message that they stand in, those of messages inside it joined by `_`."""
    found: dict[str, Attribute] = {}
    for path in layer.parameters.unread():
        folder, _, rest = path.partition(".")
        name = (rest if rest and folder.endswith("_param") else path).replace(".", "_")
        if name in found or _repeats(layer.parameters.layer.message, path):
            raise layer.error(
                "G055",
                f"an attribute cannot hold its {path}, which stands in several messages or has the name of another",
                hint="'--custom my_layers.py' can say what its node is",
            )
        layer.parameters.ignore(path)
        found[name] = _attribute(layer.parameters.layer.parameters(path))
    return found


def _repeats(message: Message, path: str) -> bool:
    """Whether a message on the way to `path` is there several times."""
    for part in path.split(".")[:-1]:
        inner = message.messages(part)
        if len(inner) != 1:
            return True
        message = inner[0]
    return False


def _attribute(values: list[bool | int | float | str]) -> Attribute:
    """One value as it is, several as a list; true and false as 1 and 0, integers beside other numbers as such."""
    plain = [int(v) if isinstance(v, bool) else v for v in values]
    if len(plain) == 1:
        return plain[0]
    texts = [str(v) for v in values]
    if any(isinstance(v, str) for v in plain):
        return texts
    numbers = [v for v in plain if not isinstance(v, str)]
    integers = [v for v in numbers if isinstance(v, int)]
    return integers if len(integers) == len(numbers) else [float(v) for v in numbers]
