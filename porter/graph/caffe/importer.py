"""A Caffe net as an ONNX graph: every layer in its order, each by the importer of its type."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from porter.dataclass import dataclass, field
from porter.errors import GraphError
from porter.formats.caffe.net import CaffeLayer, CaffeNet
from porter.graph.builder import OPSET, Batch, GraphBuilder, Named, OpsetTooLow, Shape, Unknown
from porter.graph.caffe import registry
from porter.graph.caffe.blobs import MOST_VALUES, Blob, Memory
from porter.graph.caffe.layer import Importer, Layer
from porter.graph.caffe.parameters import Parameters
from porter.graph.caffe.preparation import SOURCES, Cut, Prepared, State, prepare
from porter.graph.caffe.weights import Weights
from porter.store import TensorStore
from porter.tensor import Tensor

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What a caller may say about taking a net over.

    state: the phase, level and stages that layers are filtered by. input_shapes: shapes of inputs, by blob. dynamic_batch: leave the
    first dimension of the inputs open. opset: of the model; None for the lowest that is exact. custom: importers by type of layer.
    allow_custom: leave layers of unknown types as nodes of the domain `caffe`. custom_shapes: what these make, by top, -1 for an open
    batch. seed: of generated weights.
    """

    state: State = State()
    input_shapes: Mapping[str, Shape] = field(default_factory=dict)
    dynamic_batch: bool = False
    opset: int | None = None
    custom: Mapping[str, Importer] = field(default_factory=dict)
    allow_custom: bool = False
    custom_shapes: Mapping[str, Shape] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class LayerRecord:
    """A layer that was taken over: for each top the name of the value that held it right after the layer ran."""

    name: str
    type: str
    tops: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ImportedNet:
    """The model, and what a report says of how it came to be."""

    model: ir.Model
    layers: tuple[LayerRecord, ...]
    cut: tuple[Cut, ...]
    assumed: tuple[str, ...]
    unused_weights: tuple[str, ...]
    opset: int


def import_net(net: CaffeNet, store: TensorStore | None, options: ImportOptions) -> ImportedNet:
    """Take a net over. `store` holds its weights, read with the prototxt; None generates some. Reads only small tensors' values.

    Raises:
        GraphError: a layer of a type porter does not know, a parameter that cannot be honoured, weights that do not fit.
    """
    if options.opset is not None and options.opset < OPSET:
        raise GraphError("G032", f"opset {options.opset} is asked for, and porter writes {OPSET} and later ones")
    try:
        prepared = prepare(net, options.state, options.input_shapes)
        importers = _importers([layer for layer in prepared.layers if layer.type not in SOURCES], options)
        opset = options.opset or OPSET
        while True:
            try:
                return _Import(net, prepared, importers, Weights(store, prepared.layers, options.seed), options, opset).run()
            except OpsetTooLow as low:
                if options.opset is not None:
                    raise GraphError("G032", f"{low.what} exists from opset {low.needed} on, and opset {opset} is asked for") from low
                opset = low.needed
    except GraphError as error:
        error.located(path=net.path)
        raise


def _importers(layers: Sequence[CaffeLayer], options: ImportOptions) -> dict[str, Importer]:
    """The importer for each kind of layer in the net; all unknown ones are refused together."""
    found: dict[str, Importer] = {}
    unknown: list[CaffeLayer] = []
    for layer in layers:
        kind = registry.kind(layer)
        importer = registry.find(kind, options.custom)
        if importer is not None:
            found[kind] = importer
        else:
            unknown.append(layer)
    if unknown and not options.allow_custom:
        raise _unknown(unknown)
    tops = dict.fromkeys(top for layer in unknown for top in layer.tops)
    for name in options.custom_shapes:
        if name not in tops:
            known = f"these are {', '.join(tops)}" if tops else "the net has none"
            raise GraphError("G054", f"a shape is given for '{name}', which is no top of a custom layer", hint=known)
    if unknown:
        from porter.graph.caffe.layers.custom import custom_node

        found.update(dict.fromkeys(map(registry.kind, unknown), custom_node(options.custom_shapes)))
    return found


def _unknown(layers: Sequence[CaffeLayer]) -> GraphError:
    said = []
    for layer in layers[:20]:
        parameters = ", ".join(Parameters(layer).unread()[:6]) or "no parameters"
        said.append(f"{layer.type} '{layer.name}' of {', '.join(layer.bottoms) or 'nothing'} ({parameters})")
    more = f" and {len(layers) - 20} more" if len(layers) > 20 else ""
    first = layers[0]
    spelled = {kind.casefold(): kind for kind in registry.TABLE}
    close = difflib.get_close_matches((first.type or "").casefold(), spelled, 1)
    meant = f"did you mean '{spelled[close[0]]}'? " if close else ""
    return GraphError(
        "G033",
        f"layers of types that porter does not know: {'; '.join(said)}{more}",
        line=first.line or None,
        column=first.column or None,
        hint=f"{meant}'--custom my_layers.py' says how to take them over, '--allow-custom' leaves them as nodes of the domain 'caffe'",
    )


def _check_shapes(layer: Layer) -> None:
    """Refuse what the importers of porter cannot read: bottoms of unknown shape, and of a size that only running the net gives.

    Raises:
        GraphError: a bottom is such a one. The size may be the first: layers read it as they do the batch.
    """
    for name, bottom in zip(layer.parameters.layer.bottoms, layer.bottoms, strict=True):
        if isinstance(bottom.shape, Unknown):
            raise layer.error("G035", f"it reads the blob '{name}', whose shape is not known", hint=_say_shape(name))
        if any(isinstance(n, Batch) and n.symbol != "N" for n in bottom.shape[1:]):
            raise layer.error("G056", f"it reads the blob '{name}', and how large that is shows only when the net runs")


def _say_shape(name: str) -> str:
    return f"'--custom-shape {name}=1x64x7x7' says it; '--custom my_layers.py' can say how the layer before it is taken over"


class _Import:
    """One run over the layers."""

    def __init__(
        self, net: CaffeNet, prepared: Prepared, importers: Mapping[str, Importer], weights: Weights, options: ImportOptions, opset: int
    ) -> None:
        self.net = net
        self.prepared = prepared
        self.importers = importers
        self.weights = weights
        self.options = options
        self.builder = GraphBuilder(opset)
        self.blobs: dict[str, Blob] = {}
        self.records: list[LayerRecord] = []
        self._named: list[ir.Value] = []
        self.assumed: list[str] = list(prepared.assumed)

    def run(self) -> ImportedNet:
        # Values that come in or go out have Caffe's names, weights the store's; nothing else may take these.
        for name in dict.fromkeys((*dict(self.prepared.inputs), *self.prepared.outputs)):
            self.builder.name(name)
        self.builder.keep_for_weights(self.weights.names())
        self._inputs()
        for layer in self.prepared.layers:
            if layer.type in SOURCES:
                self.records.append(LayerRecord(layer.name, layer.type or "", {top: top for top in layer.tops if top in self.blobs}))
            else:
                self._layer(layer)
        self.weights.check_none_missing()
        outputs = [self._output(name) for name in self.prepared.outputs]
        return ImportedNet(
            self._model(outputs),
            tuple(self.records),
            self.prepared.cut,
            tuple(self.assumed),
            tuple(self.weights.extra()),
            self.builder.opset,
        )

    def _inputs(self) -> None:
        """Make the inputs; where the batch is left open, the first dimension of all that have as many items as the first one."""
        batch = next((shape[0] for _, shape in self.prepared.inputs if shape), None)
        for name, shape in self.prepared.inputs:
            if self.options.dynamic_batch and shape:
                if shape[0] == batch:
                    shape = (Batch(batch), *shape[1:])
                else:
                    self.assumed.append(f"the first dimension of the input '{name}' is no batch: it is {shape[0]}, not {batch}")
            if math.prod(shape) > MOST_VALUES:
                raise GraphError("G037", f"the input '{name}' of the shape {list(shape)} has more values than a blob of Caffe can")
            self.blobs[name] = Blob(name, Memory(self.builder.input(name, shape)), shape)

    def _layer(self, caffe: CaffeLayer) -> None:
        bottoms = [self._bottom(caffe, name) for name in caffe.bottoms]
        self.builder.scope = caffe.name

        def weight(index: int, shape: Shape | None) -> Tensor:
            return self.weights.blob(caffe, index, shape)

        parameters = Parameters(caffe)
        layer = Layer(parameters, [b.read(self.builder) for b in bottoms], self.builder, weight, self.weights.count(caffe))
        try:
            self._take_over(caffe, layer)
        except GraphError as error:
            # What the builder refuses does not know its layer.
            raise (error if error.where.line is not None else parameters.error(error.code, error.message, hint=error.hint)) from None
        for i, (name, (value, shared)) in enumerate(zip(caffe.tops, layer.tops, strict=True)):
            in_place = i < len(bottoms) and caffe.bottoms[i] == name
            self._top(parameters, name, value, in_place, bottoms[shared].memory if shared is not None else Memory(value))
        held = {name: self.blobs[name].read(self.builder).value.name or "" for name in caffe.tops}
        self.records.append(LayerRecord(caffe.name, caffe.type or "", held))
        self.assumed += [f"{caffe.name}: {what}" for what in layer.assumed]

    def _take_over(self, caffe: CaffeLayer, layer: Layer) -> None:
        kind = registry.kind(caffe)
        if kind in registry.TABLE and kind not in self.options.custom:
            _check_shapes(layer)
        try:
            self.importers[kind](layer)
        except OverflowError as error:
            raise layer.error("G037", "a size that it works out is beyond any that a blob of Caffe can have") from error
        unread = layer.parameters.unread()
        if unread:
            message = f"{', '.join(unread)} {'is' if len(unread) == 1 else 'are'} stated, and porter does not honour that"
            raise layer.error("G013", message, hint="take it out of the prototxt if it changes nothing")
        if len(layer.tops) != len(caffe.tops):
            raise layer.error("G014", f"it has {len(caffe.tops)} tops, and makes {len(layer.tops)}")
        self.weights.check_all_asked(caffe)

    def _bottom(self, caffe: CaffeLayer, name: str) -> Blob:
        if name not in self.blobs:
            raise Parameters(caffe).error("G034", f"it reads the blob '{name}', which nothing before it makes", hint=self._maker(name))
        return self.blobs[name]

    def _maker(self, name: str) -> str | None:
        """What may be said of a blob that nothing makes."""
        cut = {c.name: c.reason for c in self.prepared.cut}
        for layer in self.net.layers:
            if name in layer.tops and layer.name in cut:
                return f"'{layer.name}' ({layer.type}) makes it, and is left out: {cut[layer.name]}"
        later = next((layer for layer in self.prepared.layers if name in layer.tops), None)
        if later is not None:
            return f"'{later.name}' ({later.type}) makes it, and stands behind it"
        known = [*self.blobs, *(i.name for i in self.net.inputs), *(top for layer in self.prepared.layers for top in layer.tops)]
        close = difflib.get_close_matches(name, known, 1)
        return f"did you mean '{close[0]}'?" if close else None

    def _top(self, parameters: Parameters, name: str, value: Named, in_place: bool, memory: Memory) -> None:
        if any(n < 0 for n in value.shape):
            raise parameters.error("G001", f"its top '{name}' would be of the shape {list(value.shape)}")
        if math.prod(value.shape) > MOST_VALUES:
            raise parameters.error("G037", f"its top '{name}' of the shape {list(value.shape)} has more values than a blob of Caffe can")
        if in_place:
            # Everything that lies in this memory is changed.
            memory = self.blobs[name].memory
            memory.write(value)
        elif name in self.blobs:
            raise parameters.error("G036", f"its top '{name}' is there already, and is not its bottom at the same place")
        else:
            memory.views[tuple(value.shape)] = value
        self.blobs[name] = Blob(name, memory, value.shape)

    def _output(self, name: str) -> Named:
        """The value of an output, under the blob's name."""
        held = self.blobs[name].read(self.builder)
        if isinstance(held.shape, Unknown):
            raise GraphError("G035", f"the shape of the output '{name}' is not known, and ONNX needs it", hint=_say_shape(name))
        value = held.value
        if any(name == given for given, _ in self.prepared.inputs):
            # A layer works in place on an input: two values, which cannot have one name. This one keeps its layer's.
            self.assumed.append(f"the output '{name}' is called '{value.name}': a layer works in place on the input of that name")
            return held
        if value.producer() is None or value in self._named:
            self.builder.scope = name
            held = self.builder.op("Identity", [held], held.shape, hint="output")
        self._named.append(held.value)
        old, held.value.name = held.value.name, name
        self.records = [LayerRecord(r.name, r.type, {top: name if v == old else v for top, v in r.tops.items()}) for r in self.records]
        return held

    def _model(self, outputs: Sequence[Named]) -> ir.Model:
        import onnx_ir as ir

        from porter import __version__

        graph = ir.Graph(
            self.builder.inputs,
            [o.value for o in outputs],
            nodes=self.builder.nodes,
            initializers=list(self.builder.initializers.values()),
            opset_imports={"": self.builder.opset} | ({"caffe": 1} if any(n.domain == "caffe" for n in self.builder.nodes) else {}),
            name=self.net.name or "caffe",
        )
        return ir.Model(graph, ir_version=8, producer_name="porter", producer_version=__version__)
