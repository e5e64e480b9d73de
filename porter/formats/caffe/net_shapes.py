"""Shapes that a net gives to tensors which come flat, as those of a .wts file without its sidecar do.

Caffe compares the shape of a blob with the one that the layer makes, so a weight that was written flat would be refused.
The parameters say all of a weight's dimensions but one, and its size says that one.

Source: BVLC/caffe at 9b891540183d: `base_conv_layer.cpp` (`LayerSetUp`: kernel_h and kernel_w, or kernel_size for one or all
spatial axes; weight_shape), `inner_product_layer.cpp`, `embed_layer.cpp`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from porter.errors import FormatError
from porter.formats.caffe.binary import V2_LAYERS, LayerRecord
from porter.formats.caffe.blobs import legacy_shape
from porter.formats.caffe.placing import Slot
from porter.io.protobuf_messages import message_classes, parse
from porter.store import Notice
from porter.tensor import Tensor

_PARAMETERS = {
    "Convolution": "convolution_param",
    "Deconvolution": "convolution_param",
    "InnerProduct": "inner_product_param",
    "Embed": "embed_param",
}


def take_shapes(slots: Iterable[Slot]) -> dict[str, Tensor]:
    """Give flat weights in `slots` the shapes that their layers' parameters say; the tensors that changed, by name."""
    changed: dict[str, Tensor] = {}
    for slot in slots:
        flat = slot.blobs.get(0)
        shaped = weight_of(slot.record, flat) if slot.record is not None and flat is not None else None
        if shaped is not None:
            slot.blobs[0] = changed[shaped.name] = shaped
    return changed


def weight_of(record: LayerRecord, tensor: Tensor) -> Tensor | None:
    """The flat `tensor` with the shape of the weight of the layer `record`; None where it is not flat, or nothing says a shape."""
    kind = record.type
    if kind not in _PARAMETERS or len(tensor.shape) != 1 or legacy_shape(tensor) is not None:
        return None
    shape = _shape(kind, _parameters(record, _PARAMETERS[kind]), tensor.size)
    return tensor.with_spec(shape=shape, axes=None) if shape is not None else None


def notice_of(changed: Mapping[str, Tensor]) -> Notice:
    """What to say of tensors that got a shape."""
    shown = ", ".join(f"{name} {'×'.join(map(str, t.shape))}" for name, t in list(changed.items())[:3]) + (
        ", …" if len(changed) > 3 else ""
    )
    return Notice("changed", f"{len(changed)} flat tensor{'s get' if len(changed) > 1 else ' gets'} the shape that the net says: {shown}")


def _parameters(record: LayerRecord, name: str) -> Any:
    """The parameter message called `name`, None where the layer has none."""
    kind = "caffe.LayerParameter" if record.field == V2_LAYERS else "caffe.V1LayerParameter"
    try:
        layer = parse(message_classes("caffe.binpb")[kind], record.data, "a layer")
    except FormatError:
        return None
    return getattr(layer, name) if name in layer.DESCRIPTOR.fields_by_name and layer.HasField(name) else None


def _shape(kind: str, parameters: Any, size: int) -> tuple[int, ...] | None:
    """The shape of a weight of `size` elements, None where the parameters do not say it."""
    if parameters is None:
        return None
    outputs = parameters.num_output
    if kind == "InnerProduct":
        rest = _divided(size, [outputs])
        return None if rest is None else (rest, outputs) if parameters.transpose else (outputs, rest)
    if kind == "Embed":
        return (parameters.input_dim, outputs) if parameters.input_dim * outputs == size else None
    kernel = list(parameters.kernel_size)
    if parameters.HasField("kernel_h") or parameters.HasField("kernel_w"):
        kernel = [parameters.kernel_h, parameters.kernel_w]
    elif len(kernel) == 1:
        kernel *= 2
    if not kernel:
        return None
    if kind == "Deconvolution":
        per_group = outputs // max(parameters.group, 1)
        inputs = _divided(size, [per_group, *kernel])
        return None if inputs is None else (inputs, per_group, *kernel)
    inputs = _divided(size, [outputs, *kernel])
    return None if inputs is None else (outputs, inputs, *kernel)


def _divided(size: int, known: list[int]) -> int | None:
    """The dimension that is left beside the `known` ones, None where there is none."""
    product = math.prod(known)
    return size // product if product and size and size % product == 0 else None
