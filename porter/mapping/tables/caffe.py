"""Tables from a Caffe net: layers by kind, with the modules that they become.

The rows of every table are a layer's key, which is what stands before the role in the names of its tensors, and its module:

    layers              whose blobs keep their roles; layers of a kind that porter does not know are among them
    transposed_layers   InnerProduct with `transpose: true`
    prelu_layers        PReLU with a slope for each channel
    shared_prelu_layers PReLU with one slope for all
    batch_norm_layers   BatchNorm: mean, variance, scale factor
    scale_layers        Scale that only applies to a BatchNorm; its module is the BatchNorm's
    shifted_scales      those of them that have a bias
    bn_layers           BN of forks, and BatchNorm without a scale factor: statistics that are used as they are
    lstm_layers, rnn_layers
    shiftless_norms     module and module again: a BatchNorm whose Scale has no bias

The layers of the tensors at hand are in them; those of the whole net where there are none, so that a prototxt is enough.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from porter.dataclass import dataclass, field
from porter.formats.caffe.binary import V1_LAYERS, V2_LAYERS, LayerRecord, parameter_of
from porter.formats.caffe.fields import fields
from porter.formats.caffe.layers import BLOB, LAYER, NET, OCCURRENCE, TYPE
from porter.formats.caffe.placing import split_name
from porter.io.protobuf_wire import DELIMITED
from porter.mapping.tables.base import Tables, some
from porter.mapping.tables.caffe_graph import batch_norm_of_scale, runs_in
from porter.mapping.tables.modules import is_module_path, module_names
from porter.store import TensorStore
from porter.tensor import Tensor

KINDS = (
    *("layers", "transposed_layers", "prelu_layers", "shared_prelu_layers", "batch_norm_layers", "scale_layers", "bn_layers"),
    *("lstm_layers", "rnn_layers"),
)

_WITHOUT_BLOBS = """
    AbsVal Accuracy ArgMax Axpy BNLL Clip Concat Crop Data DetectionOutput Dropout DummyData ELU Eltwise EuclideanLoss Exp
    Flatten HDF5Data HDF5Output ImageData Input Interp LRN Log MVN MemoryData MultiBoxLoss Permute Pooling Power PriorBox
    Python ReLU ReLU6 Reduction Reshape Sigmoid SigmoidCrossEntropyLoss Silence Slice Softmax SoftmaxWithLoss Split Swish
    TanH Threshold Tile Upsample
"""
"""Types that need no module of their own for weights; a net without weights at hand does not tell which layers have blobs."""

_TORCH_EPS = 1e-5
"""Source: PyTorch `torch/nn/modules/batchnorm.py`, the default of `eps`; Caffe's is the same."""


@dataclass(slots=True)
class Layer:
    """A layer: the key of its tensors ("" for none), its V2 type, the net's record of it, and its tensors by role."""

    key: str
    type: str | None
    record: LayerRecord | None = None
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def may_have(self, *roles: str) -> bool:
        """Whether it has blobs of these roles, or nothing is known of its blobs."""
        return not self.tensors or all(role in self.tensors for role in roles)

    def parameter(self, path: str) -> object:
        """A parameter as the net states it, or None."""
        return parameter_of(self.record)(path) if self.record is not None else None


@dataclass(slots=True)
class Net:
    """What a store says of a Caffe net: records of all layers, none without `caffe.net`, and the layers that tables speak of."""

    records: list[LayerRecord]
    layers: list[Layer]


def tables(store: TensorStore) -> Tables | None:
    """The tables of the net that `store` holds, or that its tensors come from. None where it says of no Caffe layer.

    Raises:
        FormatError: the attachment `caffe.net` is no net.
    """
    net = _net(store)
    if not net.layers:
        return None
    pairs = _pairs(net)
    kinds = {layer.key: _kind(layer, layer.key in pairs) for layer in net.layers}
    modules = _modules(net.layers, pairs)
    rows = {kind: tuple([(key, modules[key]) for key in kinds if kinds[key] == kind]) for kind in KINDS}
    scales = [layer for layer in net.layers if layer.key in pairs]
    rows["shifted_scales"] = tuple([(layer.key, modules[layer.key]) for layer in scales if _shifted(layer)])
    rows["shiftless_norms"] = tuple([(modules[layer.key],) * 2 for layer in scales if not _shifted(layer)])
    return Tables(rows, tuple(_notices(net, kinds, pairs)))


def _modules(layers: Sequence[Layer], pairs: Mapping[str, str]) -> dict[str, str]:
    """The module of every layer. A layer without a type is one that porter wrote under the name that a checkpoint had."""
    kept = [layer.key for layer in layers if layer.type is None and is_module_path(layer.key, numbers_first=True)]
    modules = module_names([layer.key for layer in layers if layer.key not in pairs], kept)
    return modules | {scale: modules[norm] for scale, norm in pairs.items()}


# ---- layers ------------------------------------------------------------------------------------------------------------


def _net(store: TensorStore) -> Net:
    """The layers that tensors of `store` belong to, in the order of the net; where there are none, all that may have blobs."""
    records = _records(store.attachments.get(NET, b""))
    found: dict[tuple[str, int], Layer] = {}
    occurrences: Counter[str] = Counter()
    for record in records:
        name = record.name
        occurrences[name] += 1
        found[name, occurrences[name]] = Layer("", record.type, record)
    for tensor in store.values():
        place = _place(tensor)
        if place is not None:
            stated = tensor.attributes.get(TYPE)
            layer = found.setdefault(place, Layer("", None))
            layer.key, role = split_name(tensor.name)
            layer.tensors[role] = tensor
            layer.type = layer.type or (stated if isinstance(stated, str) else None)
    placed: dict[str, Layer] = {}
    for layer in found.values():
        if layer.tensors:
            placed.setdefault(layer.key, layer)
    return Net(records, list(placed.values()) or _without_tensors(records))


def _without_tensors(records: Sequence[LayerRecord]) -> list[Layer]:
    """The layers of a net that may have blobs; of several with one name the one that runs in TEST, else the first."""
    without_blobs = _WITHOUT_BLOBS.split()
    found: dict[str, LayerRecord] = {}
    for record in records:
        name = record.name
        if name and (name not in found or (runs_in(record, "TEST") and not runs_in(found[name], "TEST"))):
            found[name] = record
    return [Layer(name, record.type, record) for name, record in found.items() if record.type not in without_blobs]


def _records(net: bytes) -> list[LayerRecord]:
    layers = [f for f in fields(net) if f.number in (V1_LAYERS, V2_LAYERS) and f.wire == DELIMITED]
    return [LayerRecord(net[f.body : f.end], f.number, position) for position, f in enumerate(layers)]


def _place(tensor: Tensor) -> tuple[str, int] | None:
    """Name and occurrence of the layer that `tensor` is a blob of; None where it has been renamed since, or is none."""
    layer, occurrence = tensor.attributes.get(LAYER), tensor.attributes.get(OCCURRENCE, 1)
    if not isinstance(layer, str) or type(occurrence) is not int or type(tensor.attributes.get(BLOB)) is not int:
        return None
    key, role = split_name(tensor.name)
    same = key == layer or key.startswith(f"{layer}#") or not layer
    return (layer, occurrence) if same and role and tensor.role in (None, role) else None


# ---- kinds -------------------------------------------------------------------------------------------------------------


def _kind(layer: Layer, paired: bool) -> str:
    if paired:
        return "scale_layers"
    if layer.type == "InnerProduct" and _transposed(layer):
        return "transposed_layers"
    if layer.type == "PReLU" and layer.may_have("slope"):
        return "shared_prelu_layers" if _shared_slope(layer) else "prelu_layers"
    if layer.type == "BatchNorm" and layer.may_have("mean", "variance"):
        return "batch_norm_layers" if layer.may_have("scale_factor") else "bn_layers"
    if layer.type in ("BN", "SyncBN") and layer.may_have("weight", "bias"):
        return "bn_layers"
    if layer.type == "LSTM" and layer.may_have("W_xc", "b_c", "W_hc") and not _has_static_input(layer):
        return "lstm_layers"
    if layer.type == "RNN" and layer.may_have("W_xh", "b_h", "W_hh", "W_ho", "b_o") and not _has_static_input(layer):
        return "rnn_layers"
    return "layers"


def _transposed(layer: Layer) -> bool:
    if "weight" in layer.tensors:
        return layer.tensors["weight"].axes == "IO"
    return layer.parameter("inner_product_param.transpose") is True


def _shared_slope(layer: Layer) -> bool:
    if "slope" in layer.tensors:
        return not layer.tensors["slope"].shape
    return layer.parameter("prelu_param.channel_shared") is True


def _shifted(scale: Layer) -> bool:
    """Whether a Scale has a bias."""
    return "bias" in scale.tensors if scale.tensors else scale.parameter("scale_param.bias_term") is True


def _has_static_input(layer: Layer) -> bool:
    """Whether a recurrent layer has a third input, one that does not change over time; PyTorch's layers have none."""
    if layer.tensors:
        return any(role.endswith("_static") for role in layer.tensors)
    return layer.record is not None and (layer.record.bottoms or 0) > 2


def _pairs(net: Net) -> dict[str, str]:
    """The key of each Scale that only applies to a BatchNorm, and that BatchNorm's."""
    types = {layer.type for layer in net.layers}
    if not net.records or not {"BatchNorm", "Scale"} <= types:
        return {}
    at = {layer.record.position: layer for layer in net.layers if layer.record is not None}
    joined = batch_norm_of_scale(net.records).items()
    return {at[scale].key: at[norm].key for scale, norm in joined if scale in at and norm in at and _fit(at[scale], at[norm])}


def _fit(scale: Layer, norm: Layer) -> bool:
    """Whether the two make one BatchNorm as PyTorch has it: one factor for each channel, and none in the BatchNorm itself."""
    if not scale.tensors or not norm.tensors:
        return True
    mean, weight = norm.tensors.get("mean"), scale.tensors.get("weight")
    shapes = {t.shape for t in scale.tensors.values()}
    return mean is not None and weight is not None and shapes == {mean.shape} and "weight" not in norm.tensors


# ---- what has to be said -----------------------------------------------------------------------------------------------


def _notices(net: Net, kinds: Mapping[str, str], pairs: Mapping[str, str]) -> Iterator[str]:
    norms = [layer for layer in net.layers if kinds[layer.key] == "batch_norm_layers"]
    scales = [layer.key for layer in net.layers if layer.type == "Scale" and layer.key not in pairs]
    if norms and scales and not net.records:
        yield (
            f"the file does not say how its layers are connected, so BatchNorm and Scale ({some(scales)}) stay apart; "
            "written as a .caffemodel with --net first, they are joined"
        )
    elif plain := [n.key for n in norms if n.key not in pairs.values() and (not n.tensors or "weight" not in n.tensors)]:
        yield f"BatchNorm without a Scale of its own, to be made with affine=False: {some(plain)}"
    epsilons: dict[float, list[str]] = {}
    for layer in norms:
        eps = layer.parameter("batch_norm_param.eps")
        if isinstance(eps, float) and abs(eps - _TORCH_EPS) > _TORCH_EPS * 1e-6:
            epsilons.setdefault(eps, []).append(layer.key)
    for eps, names in epsilons.items():
        yield f"BatchNorm with eps={eps:.7g}, which PyTorch's layer has to be told: {some(names)}"
    static = [layer.key for layer in net.layers if layer.type in ("LSTM", "RNN") and kinds[layer.key] == "layers"]
    if static:
        yield f"recurrent layers that PyTorch has no like of keep their blobs: {some(static)}"
