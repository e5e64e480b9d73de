"""A Caffe net as layers: what a prototxt of any generation and any fork says, in the terms of V2.

The records here are made from the tree of the text (`prototxt`), upgraded (`upgrade`); everything that they do not name
is in `message`, the layer's tree in V2 form. Adapters take layer types and parameters from here, and later the importers
of graphs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from porter.dataclass import dataclass
from porter.errors import FormatError
from porter.formats.caffe.layer_types import Scalar as Value
from porter.formats.caffe.layers import decoded
from porter.formats.caffe.message_tree import Field, Message, Scalar, scalar_bytes
from porter.formats.caffe.prototxt import parse, read_text
from porter.formats.caffe.upgrade import Generation, upgrade_net


@dataclass(frozen=True, slots=True)
class ParamSpec:
    """What a layer says about one of its parameters: the name under which layers share it ("" for none), and the
    multipliers of learning rate and decay, None where the text does not state them.
    """

    name: str = ""
    lr_mult: float | None = None
    decay_mult: float | None = None
    share_mode: str | None = None


@dataclass(frozen=True, slots=True)
class StateRule:
    """One `include` or `exclude` of a layer; None or empty where it does not restrict."""

    phase: str | None = None
    min_level: int | None = None
    max_level: int | None = None
    stages: tuple[str, ...] = ()
    not_stages: tuple[str, ...] = ()

    def met(self, phase: str, level: int, stages: frozenset[str]) -> bool:
        """Whether a net in this state meets the rule. Source: BVLC/caffe net.cpp, StateMeetsRule."""
        return (
            self.phase in (None, phase)
            and (self.min_level is None or level >= self.min_level)
            and (self.max_level is None or level <= self.max_level)
            and stages.issuperset(self.stages)
            and stages.isdisjoint(self.not_stages)
        )


@dataclass(frozen=True, slots=True)
class NetInput:
    """An input blob: declared by the net itself, or by an Input layer, whose name is `layer`. `shape` is None where not stated."""

    name: str
    shape: tuple[int, ...] | None = None
    layer: str | None = None


@dataclass(frozen=True, slots=True)
class CaffeLayer:
    """One layer. `type` is V2's ("Convolution"), None where the text has none that porter can read.

    `message` is all that the text says of the layer, in V2 form, its blobs included; `line` and `column` are where the
    layer begins.
    """

    name: str
    type: str | None
    generation: Generation
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    params: tuple[ParamSpec, ...]
    include: tuple[StateRule, ...]
    exclude: tuple[StateRule, ...]
    message: Message
    line: int = 0
    column: int = 0

    @property
    def blobs(self) -> list[Field]:
        """The fields of the layer that are blobs in text."""
        return [f for f in self.message.fields("blobs") if isinstance(f.value, Message)]

    def parameter(self, path: str) -> Value | None:
        """A parameter by its path (`inner_product_param.transpose`), or None where the text does not state it.

        Numbers are int or float, `true` and `false` are bool, strings and enum values are str.
        """
        return self.message.lookup(path)

    def parameters(self, path: str) -> list[Value]:
        """All values of a repeated parameter (`convolution_param.kernel_size`), in order."""
        return values_at(self.message, path)

    def runs_in(self, phase: str = "TEST", level: int = 0, stages: Iterable[str] = ()) -> bool:
        """Whether the layer is part of the net in this state. Source: BVLC/caffe net.cpp, FilterNet."""
        state = (phase, level, frozenset(stages))
        if self.include:
            return any(rule.met(*state) for rule in self.include)
        return not any(rule.met(*state) for rule in self.exclude)


@dataclass(frozen=True, slots=True)
class CaffeNet:
    """A net: its name ("" for none), inputs and layers in the order of the text, and the whole tree in V2 form.

    `notices` say what was read although Caffe would have refused it.
    """

    name: str
    inputs: tuple[NetInput, ...]
    layers: tuple[CaffeLayer, ...]
    message: Message
    notices: tuple[str, ...] = ()
    path: str | None = None

    def by_name(self) -> dict[str, CaffeLayer]:
        """Layers by name; of several with one name (one to train, one to test) the one that runs in TEST, else the first."""
        found: dict[str, CaffeLayer] = {}
        for layer in self.layers:
            if layer.name not in found or (layer.runs_in() and not found[layer.name].runs_in()):
                found[layer.name] = layer
        return found


def net_from_prototxt(path: str) -> CaffeNet:
    """The net in a prototxt file. Reads the file.

    Raises:
        FormatError: it is no text that protobuf reads, with line and column, or no net.
        FileAccessError: it cannot be read.
    """
    notices: list[str] = []
    tree = parse(read_text(path, notices), path=path, notices=notices)
    return net_from_tree(tree, path=path, notices=notices)


def net_from_tree(tree: Message, *, path: str | None = None, notices: Sequence[str] = ()) -> CaffeNet:
    """The net that `tree` describes.

    Raises:
        FormatError: there is nothing of a net in it.
    """
    found = list(notices)
    _check_is_net(tree, path)
    upgraded, generations = upgrade_net(tree, found)
    fields = [(f, f.value) for f in upgraded.fields("layer") if isinstance(f.value, Message)]
    layers = tuple(_layer(f, message, generation) for (f, message), generation in zip(fields, generations, strict=True))
    return CaffeNet(_name(upgraded.string("name")), _inputs(upgraded, layers), layers, upgraded, tuple(found), path)


def values_at(message: Message, path: str) -> list[Value]:
    """All scalars at `path` below `message`, see `CaffeLayer.parameters`."""
    folder, _, name = path.rpartition(".")
    for part in folder.split(".") if folder else ():
        inner = message.message(part)
        if inner is None:
            return []
        message = inner
    return message.scalars(name)


def _check_is_net(tree: Message, path: str | None) -> None:
    names = {entry.name for entry in tree.entries}
    if names & {"layer", "layers", "input"}:
        return
    for name in ("net", "train_net", "test_net"):
        if (net := tree.string(name)) is not None:
            raise FormatError("F154", "this is a solver's settings, not a net", path=path, hint=f"the net is in '{net}'")
    what = f"its fields are {', '.join(sorted(names)[:5])}" if names else "it has no fields"
    raise FormatError("F154", f"the text describes no Caffe net: {what}", path=path, hint="a net has 'layer' or 'layers'")


def _layer(field: Field, message: Message, generation: Generation) -> CaffeLayer:
    return CaffeLayer(
        name=_name(message.string("name")),
        type=message.string("type"),
        generation=generation,
        bottoms=tuple(map(_name, message.strings("bottom"))),
        tops=tuple(map(_name, message.strings("top"))),
        params=tuple(_param(f) for f in message.fields("param")),
        include=tuple(_rule(m) for m in message.messages("include")),
        exclude=tuple(_rule(m) for m in message.messages("exclude")),
        message=message,
        line=field.line,
        column=field.column,
    )


def _param(field: Field) -> ParamSpec:
    """A `param`; in a V2 layer someone may still have written V1's form, a name alone."""
    if isinstance(field.value, Scalar):
        return ParamSpec(_name(field.value.text))
    message = field.value
    return ParamSpec(_name(message.string("name")), _float(message, "lr_mult"), _float(message, "decay_mult"), message.string("share_mode"))


def _name(text: str | None) -> str:
    """A name as every reader of Caffe's files gives it: bytes that are not UTF-8 are escaped."""
    return decoded(scalar_bytes(text)) if text else ""


def _rule(message: Message) -> StateRule:
    phase = message.string("phase")
    return StateRule(
        {"0": "TRAIN", "1": "TEST"}.get(phase, phase) if phase is not None else None,
        _integer(message, "min_level"),
        _integer(message, "max_level"),
        tuple(message.strings("stage")),
        tuple(message.strings("not_stage")),
    )


def _inputs(net: Message, layers: Sequence[CaffeLayer]) -> tuple[NetInput, ...]:
    """The net's own inputs, their shapes in `input_shape` or four `input_dim` each, then those of Input layers."""
    names = [_name(text) for text in net.strings("input")]
    shapes = [_dims(m, "dim") for m in net.messages("input_shape")]
    if not shapes:
        dims = _dims(net, "input_dim")
        shapes = [dims[i : i + 4] for i in range(0, len(dims) - 3, 4)]
    found = [NetInput(name, shapes[i] if i < len(shapes) else None) for i, name in enumerate(names)]
    for layer in layers:
        if layer.type == "Input":
            param = layer.message.message("input_param") or Message()
            own = [_dims(m, "dim") for m in param.messages("shape")]
            # One shape is for all tops.
            own = own * len(layer.tops) if len(own) == 1 else own
            found += [NetInput(top, own[i] if i < len(own) else None, layer.name) for i, top in enumerate(layer.tops)]
    return tuple(found)


def _dims(message: Message, name: str) -> tuple[int, ...]:
    return tuple(v for v in message.scalars(name) if type(v) is int)


def _float(message: Message, name: str) -> float | None:
    value = message.lookup(name)
    return float(value) if isinstance(value, int | float) else None


def _integer(message: Message, name: str) -> int | None:
    value = message.lookup(name)
    return value if type(value) is int else None
