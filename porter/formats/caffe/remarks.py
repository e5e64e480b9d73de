"""What a user has to know about a net that is written: where tensors and structure do not go together, and who will not read it.

A store is often changed on its way, while the structure that it brings stays as it was. Porter writes both, and says
where they contradict each other: Caffe would find out only when it loads the file, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from porter.formats.caffe.binary import parameter_of
from porter.formats.caffe.layer_types import blob_roles
from porter.formats.caffe.placing import Placing, Slot
from porter.store import Notice
from porter.tensor import Tensor

_OUTPUTS = {
    # The message of the layer's parameters, and the axis of its weight that counts outputs: those of a deconvolution are per group.
    "Convolution": ("convolution_param", 0),
    "Deconvolution": ("convolution_param", 1),
    "InnerProduct": ("inner_product_param", 0),
}


def remarks(placing: Placing, *, stated: bool) -> list[Notice]:
    """The notices for a net whose tensors are placed; `stated`: its structure is one that the user named."""
    found = _double(tensor for slot in placing.slots + placing.added for tensor in slot.blobs.values())
    if placing.guessed:
        found.append(
            Notice(
                "assumed",
                f"{_count(placing.guessed)} no known type: weights first, then biases, then the other tensors as they come; "
                "--net deploy.prototxt places them as Caffe's layers want them",
            )
        )
    added = [slot.name for slot in placing.added]
    if added and placing.slots:
        net = "the net" if stated else "the net that the weights came with"
        found.append(Notice("note", f"{_count(added)} no place in {net}, and Caffe will pass over what is written for that"))
    bare = [slot.name for slot in placing.slots if not slot.blobs and not slot.kept and _needs_weights(slot)]
    if bare:
        found.append(Notice("note", f"{_count(bare)} no weights among the tensors, though layers of their type have some"))
    gaps = [slot.name for slot in placing.slots + placing.added if b"" in slot.entries()]
    if gaps:
        found.append(Notice("note", f"{_count(gaps)} an empty blob where a tensor is missing, which Caffe refuses"))
    unlike = [(slot.name, said) for slot in placing.slots for said in _contradictions(slot)]
    if unlike:
        more = f"; {len(unlike) - 1} more such" if len(unlike) > 1 else ""
        found.append(Notice("note", f"the net does not fit the tensors: layer '{unlike[0][0]}' {unlike[0][1]}{more}"))
    return found


def _contradictions(slot: Slot) -> Iterator[str]:
    """What the parameters of a layer say about its blobs that is not so."""
    if slot.record is None or not slot.blobs or slot.type not in _OUTPUTS:
        return
    message, axis = _OUTPUTS[slot.type]
    parameter = parameter_of(slot.record)
    outputs, bias, weight = parameter(f"{message}.num_output"), parameter(f"{message}.bias_term"), slot.blobs.get(0)
    if outputs is None:  # optional for protobuf, not for Caffe: a net made only to hold weights
        return
    if parameter(f"{message}.transpose"):
        axis = 1
    groups = parameter(f"{message}.group") if slot.type == "Deconvolution" else None
    if weight is not None and (len(weight.shape) < 2 or weight.shape[axis] * (int(groups) if groups else 1) != outputs):
        yield f"has num_output {outputs} and a weight of shape {list(weight.shape)}"
    if bias is False and 1 in slot.blobs:
        yield "has a bias and 'bias_term: false'"
    elif bias is not False and len(slot.entries()) == 1:
        yield "has no bias and no 'bias_term: false'"


def _needs_weights(slot: Slot) -> bool:
    """Whether layers of this type have weights; those of a second input instead where Scale and Bias have one."""
    if slot.type in ("Scale", "Bias") and slot.record is not None and (slot.record.bottoms or 0) > 1:
        return False
    return bool(slot.type) and any(blob_roles(slot.type or "", [(1,)] * n) is not None for n in (1, 2, 3))


def _double(tensors: Iterable[Tensor]) -> list[Notice]:
    """Source: opencv/opencv 4.x `modules/dnn/src/caffe/caffe_importer.cpp`, blobFromProto: `data` or `raw_data`, nothing else."""
    count = sum(tensor.dtype.name == "float64" for tensor in tensors)
    if not count:
        return []
    return [Notice("note", f"{count} float64 tensor{'s' * (count > 1)} written as double_data, which Caffe reads and OpenCV refuses")]


def _count(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:3]) + (", …" if len(names) > 3 else "")
    return f"{len(names)} layers ({shown}) have" if len(names) > 1 else f"layer {shown} has"
