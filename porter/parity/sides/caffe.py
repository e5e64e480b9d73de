"""A Caffe net as a side of a comparison, taken over by porter's importer and run in onnxruntime."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from porter.formats.caffe.message_tree import Message, Scalar, python_value
from porter.formats.caffe.net import CaffeLayer, net_from_prototxt
from porter.graph.caffe.importer import LayerRecord
from porter.graph.caffe.preparation import SOURCES
from porter.graph.network import Network
from porter.graph.porting import PortOptions, open_network
from porter.parity.side import Step
from porter.parity.sides.model import ModelSide
from porter.store import TensorStore
from porter.tensor import Json, Tensor

if TYPE_CHECKING:
    from porter.graph.preprocessing import Preprocessing

_STRUCTURE = frozenset({"name", "type", "bottom", "top", "blobs", "include", "exclude", "param", "phase", "loss_weight", "propagate_down"})
"""Fields of a layer that are none of its parameters."""


class CaffeSide(ModelSide):
    """A Caffe net. Its values are called as in the graph that porter makes of it: as their layers, most often."""

    kind = "caffe"

    def __init__(self, label: str, network: Network, layers: Mapping[str, CaffeLayer], stack: ExitStack) -> None:
        super().__init__(
            label, network.model, (), aliases=aliases_of(network.layers), notices=(*network.assumed, *network.notices), stack=stack
        )
        self._store = network.store
        self.preprocessing: Sequence[Preprocessing] = network.preprocessing
        self.steps = tuple(self._steps(network.layers, layers))

    def _steps(self, records: Sequence[LayerRecord], layers: Mapping[str, CaffeLayer]) -> list[Step]:
        known = {*self.inputs}
        weights = weights_by_layer(self._store)
        steps = []
        for record in records:
            outputs = tuple([v for v in dict.fromkeys(record.tops.values()) if v not in known])
            if record.type in SOURCES or not outputs:
                continue
            layer = layers.get(record.name)
            settings = settings_of(layer.message) if layer is not None else {}
            steps.append(Step(record.name, record.type, self.reads(outputs, known), outputs, settings, weights.get(record.name, ())))
            known.update(outputs)
        return steps

    def weight(self, name: str) -> Tensor | None:
        return self._store.get(name) if self._store is not None else super().weight(name)


def open_side(prototxt: str, weights: str | None, options: PortOptions) -> CaffeSide:
    """The net in `prototxt`, with porter's importer. weights: None generates some, which the notices say.

    Raises:
        PorterError: a file is broken, or the net cannot be taken over.
    """
    with ExitStack() as stack:
        network = stack.enter_context(open_network(prototxt, weights, options))
        layers = net_from_prototxt(prototxt).by_name()
        label = f"{prototxt},{weights}" if weights else prototxt
        made = CaffeSide(label, network, layers, stack.pop_all())
        if weights is None:
            made.notices = ("no weights were given: these are made up, and the network computes nothing of use", *made.notices)
        return made


def aliases_of(records: Sequence[LayerRecord]) -> dict[str, tuple[str, ...]]:
    """Names by which others may know the value of a top: `layer/top`, its layer if that has one top, the top if one layer writes it."""
    written = Counter(top for record in records for top in record.tops)
    found: dict[str, list[str]] = {}
    for record in records:
        for top, value in record.tops.items():
            names = found.setdefault(value, [])
            names.append(f"{record.name}/{top}")
            names += [record.name] if len(record.tops) == 1 else []
            names += [top] if written[top] == 1 else []
    return {value: tuple([n for n in dict.fromkeys(names) if n != value]) for value, names in found.items()}


def weights_by_layer(store: TensorStore | None) -> dict[str, tuple[str, ...]]:
    """Names of the tensors of each layer."""
    found: dict[str, tuple[str, ...]] = {}
    for name, tensor in store.items() if store is not None else ():
        layer = tensor.attributes.get("caffe.layer")
        if isinstance(layer, str):
            found[layer] = (*found.get(layer, ()), name)
    return found


def settings_of(message: Message) -> dict[str, Json]:
    """The parameters that a layer's text states; those of its own message (`convolution_param`) without that name."""
    found: dict[str, Json] = {}
    for name, value in _stated(message).items():
        if name in _STRUCTURE:
            continue
        if isinstance(value, dict):
            found.update(value)
        else:
            found[name] = value
    return found


def _stated(message: Message) -> dict[str, Json]:
    found: dict[str, Any] = {}
    for field in message:
        if isinstance(field.value, Message):
            value: Any = _stated(field.value) if field.name not in ("weight_filler", "bias_filler", "filler", "blobs") else None
        else:
            value = python_value(field.value) if isinstance(field.value, Scalar) else None
        if value is None:
            continue
        if field.name in found:
            before = found[field.name]
            found[field.name] = [*before, value] if isinstance(before, list) else [before, value]
        else:
            found[field.name] = value
    return found
