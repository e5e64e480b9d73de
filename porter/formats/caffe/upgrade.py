"""Nets of Caffe's first two generations as trees of the third.

`upgrade_net` turns `layers { layer { type: "conv" … } }` (V0) and `layers { type: CONVOLUTION … }` (V1) into `layer {
type: "Convolution" … }` (V2), and leaves what is V2 or unknown as it is. Nothing is dropped: a field without a place in
the new form stays a field of its layer.

Source: BVLC/caffe `src/caffe/util/upgrade_proto.cpp` at 9b891540183d: UpgradeV0PaddingLayers, UpgradeV0LayerParameter,
UpgradeNetDataTransformation, UpgradeV1LayerParameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Literal

from porter.dataclass import dataclass, replace
from porter.formats.caffe.layer_types import upgrade_type
from porter.formats.caffe.message_tree import Field, Message, NumberRun, Scalar, python_value

Generation = Literal["v0", "v1", "v2"]
Entry = Field | NumberRun

_PARAM_OF_V0 = MappingProxyType(
    {
        "conv": "convolution_param",
        "innerproduct": "inner_product_param",
        "pool": "pooling_param",
        "dropout": "dropout_param",
        "lrn": "lrn_param",
        "data": "data_param",
        "hdf5_data": "hdf5_data_param",
        "images": "image_data_param",
        "window_data": "window_data_param",
        "infogain_loss": "infogain_loss_param",
        "concat": "concat_param",
    }
)
"""The message that holds the parameters of a V0 layer type."""

_V0_FIELDS = MappingProxyType(
    # V0 field: its name in that message, and the layer types that have it.
    {
        "num_output": ("num_output", ("conv", "innerproduct")),
        "biasterm": ("bias_term", ("conv", "innerproduct")),
        "weight_filler": ("weight_filler", ("conv", "innerproduct")),
        "bias_filler": ("bias_filler", ("conv", "innerproduct")),
        "pad": ("pad", ("conv", "pool")),
        "kernelsize": ("kernel_size", ("conv", "pool")),
        "group": ("group", ("conv",)),
        "stride": ("stride", ("conv", "pool")),
        "pool": ("pool", ("pool",)),
        "dropout_ratio": ("dropout_ratio", ("dropout",)),
        "local_size": ("local_size", ("lrn",)),
        "alpha": ("alpha", ("lrn",)),
        "beta": ("beta", ("lrn",)),
        "k": ("k", ("lrn",)),
        "source": ("source", ("data", "hdf5_data", "images", "window_data", "infogain_loss")),
        "batchsize": ("batch_size", ("data", "hdf5_data", "images", "window_data")),
        "rand_skip": ("rand_skip", ("data", "images")),
        "shuffle_images": ("shuffle", ("images",)),
        "new_height": ("new_height", ("images",)),
        "new_width": ("new_width", ("images",)),
        "concat_dim": ("concat_dim", ("concat",)),
        "det_fg_threshold": ("fg_threshold", ("window_data",)),
        "det_bg_threshold": ("bg_threshold", ("window_data",)),
        "det_fg_fraction": ("fg_fraction", ("window_data",)),
        "det_context_pad": ("context_pad", ("window_data",)),
        "det_crop_mode": ("crop_mode", ("window_data",)),
    }
)
_V0_TRANSFORMS = MappingProxyType({"scale": "scale", "meanfile": "mean_file", "cropsize": "crop_size", "mirror": "mirror"})
_KEPT_OF_V0 = frozenset(("name", "type", "blobs", "blobs_lr", "weight_decay"))
_TRANSFORMED = MappingProxyType({"Data": "data_param", "ImageData": "image_data_param", "WindowData": "window_data_param"})
_TRANSFORMS = frozenset(_V0_TRANSFORMS.values())
_PARAM_SPECS = MappingProxyType({"param": "name", "blob_share_mode": "share_mode", "blobs_lr": "lr_mult", "weight_decay": "decay_mult"})
"""Repeated fields of a V1 layer that are fields of `param` in V2, in the order that `param` has them."""


@dataclass(frozen=True, slots=True)
class Upgraded:
    """A layer in V2 form, and the generation that it was written in."""

    field: Field
    generation: Generation


def upgrade_net(net: Message, notices: list[str]) -> tuple[Message, tuple[Generation, ...]]:
    """`net` with all its layers in V2 form, and the generation that each of them had.

    What is read although Caffe's own upgrade would refuse or ignore it is appended to `notices`.
    """
    plain: list[Entry] = []
    layers: list[Upgraded] = []
    for entry in _fold_padding(net.entries, notices):
        if entry.name not in ("layer", "layers") or not isinstance(entry, Field) or not isinstance(entry.value, Message):
            plain.append(entry)
            continue
        layers.append(_upgrade_layer(entry, entry.value, notices))
    generations = tuple(layer.generation for layer in layers)
    if len(set(generations)) > 1:
        notices.append(f"the net mixes layers of {' and '.join(sorted(set(generations)))}; all are read, in the order of the text")
    return Message((*plain, *(layer.field for layer in layers))), generations


def _upgrade_layer(field: Field, layer: Message, notices: list[str]) -> Upgraded:
    generation: Generation = "v2" if field.name == "layer" else "v1"
    if field.name == "layers" and layer.messages("layer"):
        generation, layer = "v0", _from_v0(field, layer, notices)
    if generation != "v2" or _v1_type(layer):
        layer = _from_v1(field, layer, notices)
    return Upgraded(replace(field, name="layer", value=layer), generation)


def _v1_type(layer: Message) -> bool:
    """Whether a layer has V1's kind of type, an enum, although it is written as `layer`."""
    kind = layer.field("type")
    return kind is not None and isinstance(kind.value, Scalar) and kind.value.kind != "string"


def _from_v0(field: Field, layer: Message, notices: list[str]) -> Message:
    """A V0 layer in V1 form, its type still V0's."""
    inner = layer.message("layer") or Message()
    kind = inner.string("type") or ""
    grouped: dict[str, list[Entry]] = {}
    entries: list[Entry] = [e for e in layer.entries if e.name != "layer"]
    for entry in inner.entries:
        name, types = _V0_FIELDS.get(entry.name, ("", ()))
        if entry.name in _V0_TRANSFORMS:
            grouped.setdefault("transform_param", []).append(replace(entry, name=_V0_TRANSFORMS[entry.name]))
        elif kind in types:
            grouped.setdefault(_PARAM_OF_V0[kind], []).append(replace(entry, name=name))
        else:
            entries.append(entry)
            if entry.name not in _KEPT_OF_V0 and not (entry.name == "hdf5_output_param" and kind == "hdf5_output"):
                notices.append(f"line {entry.line}: '{entry.name}' means nothing in a V0 layer of type '{kind}'; kept as it is")
    groups = [Field(name, Message(tuple(found)), field.line, field.column) for name, found in grouped.items()]
    return Message((*entries, *groups))


def _from_v1(field: Field, layer: Message, notices: list[str]) -> Message:
    """A V1 layer in V2 form."""
    entries: list[Entry] = []
    specs: list[list[Entry]] = []
    for entry in layer.entries:
        if entry.name == "type" and isinstance(entry, Field) and isinstance(entry.value, Scalar):
            kind = upgrade_type(_enum(entry.value))
            if kind is None:
                notices.append(f"line {entry.line}: the layer type number {entry.value.text} is not one of Caffe's; the type is left out")
            else:
                entries.append(replace(entry, value=Scalar("string", kind)))
        elif not _is_spec(entry):
            entries.append(entry)
    for name, new in _PARAM_SPECS.items():
        for index, spec in enumerate(f for f in layer.fields(name) if _is_spec(f)):
            while len(specs) <= index:
                specs.append([])
            specs[index].append(replace(spec, name=new))
    entries += [Field("param", Message(tuple(spec)), field.line, field.column) for spec in specs]
    return _move_transforms(Message(tuple(entries)), field)


def _is_spec(entry: Entry) -> bool:
    """Whether a field of a V1 layer goes into `param`; one that is a message is V2's already."""
    return entry.name in _PARAM_SPECS and (isinstance(entry, NumberRun) or isinstance(entry.value, Scalar))


def _enum(scalar: Scalar) -> int | str:
    value = python_value(scalar)
    return value if scalar.kind == "number" and isinstance(value, int) else scalar.text


def _move_transforms(layer: Message, field: Field) -> Message:
    """The scale, mean, crop and mirror of an input layer, which V2 has in `transform_param`."""
    holder = _TRANSFORMED.get(layer.string("type") or "")
    if holder is None or not any(entry.name in _TRANSFORMS for part in layer.messages(holder) for entry in part.entries):
        return layer
    moved: list[Entry] = []
    entries: list[Entry] = []
    for entry in layer.entries:
        if entry.name == holder and isinstance(entry, Field) and isinstance(entry.value, Message):
            moved += [e for e in entry.value.entries if e.name in _TRANSFORMS]
            entries.append(replace(entry, value=Message(tuple(e for e in entry.value.entries if e.name not in _TRANSFORMS))))
        else:
            entries.append(entry)
    return Message((*entries, Field("transform_param", Message(tuple(moved)), field.line, field.column)))


def _fold_padding(entries: Sequence[Entry], notices: list[str]) -> list[Entry]:
    """V0's `padding` layers as `pad` of the convolution or pooling that reads them, which is all that they were for."""
    if not any(_v0_type(entry) == "padding" for entry in entries):
        return list(entries)
    folded: list[Entry] = []
    producers: dict[str, Field] = {}
    for entry in entries:
        if not isinstance(entry, Field) or _v0_type(entry) is None:
            folded.append(entry)
            continue
        layer = _message(entry)
        sources = [producers[name] for name in layer.strings("bottom") if name in producers and _v0_type(producers[name]) == "padding"]
        if _v0_type(entry) == "padding":
            if sources:
                notices.append(f"line {entry.line}: a padding layer reads another; only the last one's pad is taken")
        else:
            folded.append(_padded(entry, sources[0], notices) if sources else entry)
        for top in layer.strings("top"):
            producers[top] = entry
    return folded


def _padded(entry: Field, padding: Field, notices: list[str]) -> Field:
    """`entry`, reading what `padding` reads, with its pad."""
    layer, source = _message(entry), _message(padding)
    inner = layer.message("layer") or Message()
    if _v0_type(entry) not in ("conv", "pool"):
        notices.append(
            f"line {entry.line}: a padding layer in front of a '{_v0_type(entry)}' layer has no meaning; its pad is kept as a field"
        )
    amount = [replace(f, name="pad") for f in (source.message("layer") or Message()).fields("pad")]
    padded = Message((*(e for e in inner.entries if e.name != "pad"), *amount))
    bottoms: list[Entry] = list(source.fields("bottom"))
    others = [e for e in layer.entries if e.name not in ("bottom", "layer")]
    return replace(entry, value=Message((Field("layer", padded, entry.line, entry.column), *bottoms, *others)))


def _message(field: Field) -> Message:
    return field.value if isinstance(field.value, Message) else Message()


def _v0_type(entry: Entry) -> str | None:
    """The type of a V0 layer ("" where it says none), or None for anything else."""
    if not isinstance(entry, Field) or entry.name != "layers":
        return None
    inner = _message(entry).message("layer")
    return None if inner is None else inner.string("type") or ""
