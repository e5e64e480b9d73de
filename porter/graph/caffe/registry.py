"""Which function takes over which type of layer. One table; modules are imported on use.

`porter port --custom my_layers.py` adds to it: the file defines `LAYERS`, a dictionary of importers by type.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from porter.dataclass import dataclass
from porter.formats.caffe.net import CaffeLayer
from porter.graph.caffe.layer import Importer

_LAYERS = "porter.graph.caffe.layers."


@dataclass(frozen=True, slots=True)
class LayerEntry:
    """One type of layer: where its importer is, how its ONNX form is called in the table of the docs, what checked it.

    parameters: what is honoured. onnx: the operators it becomes. checked: the oracle's networks, or what else.
    """

    type: str
    importer: str
    parameters: str
    onnx: str
    checked: str


_CONVOLUTION = "num_output, bias_term, kernel, stride, pad and dilation in all forms, axis"


def _entries(module: str, rows: Mapping[str, tuple[str, str, str, str]]) -> dict[str, LayerEntry]:
    return {name: LayerEntry(name, f"{_LAYERS}{module}:{function}", *rest) for name, (function, *rest) in rows.items()}


TABLE: Mapping[str, LayerEntry] = MappingProxyType(
    {
        **_entries(
            "convolution",
            {
                "Convolution": ("convolution", f"{_CONVOLUTION}, group", "Conv", "zoo: Convolution_*"),
                "DepthwiseConvolution": ("convolution", f"{_CONVOLUTION}, group", "Conv", "zoo: DepthwiseConvolution_*"),
                "ConvolutionDepthwise": ("convolution_depthwise", _CONVOLUTION, "Conv with a group a channel", "its source"),
                "Deconvolution": ("deconvolution", f"{_CONVOLUTION}, group", "ConvTranspose", "zoo: Deconvolution_*"),
                "Im2col": ("im2col", "kernel, stride, pad and dilation in all forms, axis", "Conv with constant weights", "zoo: Im2col_*"),
            },
        ),
        **_entries(
            "pooling",
            {
                "Pooling": (
                    "pooling",
                    "pool, kernel, stride and pad in all forms, global_pooling, round_mode, ceil_mode",
                    "MaxPool, AveragePool, GlobalMaxPool, GlobalAveragePool, Pad",
                    "zoo: Pooling_*; STOCHASTIC: its source",
                ),
                "SPP": ("spp", "pyramid_height, pool", "MaxPool or AveragePool, Reshape, Concat", "zoo: SPP_*"),
            },
        ),
        **_entries(
            "linear",
            {
                "InnerProduct": ("inner_product", "num_output, bias_term, axis, transpose", "Flatten, Gemm", "zoo: InnerProduct_*"),
                "Embed": ("embed", "input_dim, num_output, bias_term", "Cast, Gather, Add", "zoo: Embed_*"),
                "Scale": ("scale", "axis, num_axes, bias_term", "Mul, Add", "zoo: Scale_*"),
                "Bias": ("bias", "axis, num_axes", "Add", "zoo: Bias_*"),
            },
        ),
        **_entries(
            "normalisation",
            {
                "BatchNorm": (
                    "batch_norm",
                    "eps, use_global_stats; forks: scale_bias, use_weight_bias, bias_term",
                    "BatchNormalization; by batch: ReduceMean, Sub, Mul, Sqrt, Div",
                    "zoo: BatchNorm_*; forks: their sources",
                ),
                "BN": ("bn", "bn_mode; eps, var_eps, moving_average", "BatchNormalization; Mul, Add", "zoo: BN_*"),
                "LRN": ("lrn", "local_size, alpha, beta, k, norm_region", "LRN; AveragePool, Pow, Div", "zoo: LRN_*"),
                "MVN": ("mvn", "across_channels, normalize_variance, eps", "ReduceMean, Sub, Sqrt, Div", "zoo: MVN_*"),
                "Normalize": ("normalize", "across_spatial, channel_shared, eps", "ReduceSum, Sqrt, Div, Mul", "zoo: Normalize_*"),
            },
        ),
        **_entries(
            "activation",
            {
                "ReLU": ("relu", "negative_slope", "Relu, LeakyRelu", "zoo: ReLU_*"),
                "ReLU6": ("relu6", "negative_slope", "Clip; LeakyRelu, Min", "zoo: ReLU6_*"),
                "PReLU": ("prelu", "channel_shared", "PRelu", "zoo: PReLU_*"),
                "Sigmoid": ("sigmoid", "", "Sigmoid", "zoo: Sigmoid_basic"),
                "TanH": ("tanh", "", "Tanh", "zoo: TanH_basic"),
                "ELU": ("elu", "alpha", "Elu", "zoo: ELU_*"),
                "AbsVal": ("absval", "", "Abs", "zoo: AbsVal_basic"),
                "BNLL": ("bnll", "", "Softplus", "zoo: BNLL_basic"),
                "Swish": ("swish", "beta", "Sigmoid, Mul", "zoo: Swish_*"),
                "Mish": ("mish", "", "Softplus, Tanh, Mul", "its formula"),
                "HardSwish": ("hard_swish", "", "HardSigmoid, Mul", "its formula"),
                "Clip": ("clip", "min, max", "Clip", "zoo: Clip_*"),
                "Threshold": ("threshold", "threshold", "Greater, Cast", "zoo: Threshold_*"),
                "Power": ("power", "power, scale, shift", "Mul, Add, Pow", "zoo: Power_*"),
                "Exp": ("exp", "base, scale, shift", "Mul, Exp", "zoo: Exp_*"),
                "Log": ("log", "base, scale, shift", "Mul, Add, Log", "zoo: Log_*"),
                "Softmax": ("softmax", "axis", "Softmax", "zoo: Softmax_*"),
            },
        ),
        **_entries(
            "shape",
            {
                "Concat": ("concat", "axis, concat_dim", "Concat", "zoo: Concat_*"),
                "Slice": ("slice_", "axis, slice_dim, slice_point", "Split", "zoo: Slice_*"),
                "Split": ("split", "", "none", "zoo: Split_*, Structure_alias_*"),
                "Flatten": ("flatten", "axis, end_axis", "Reshape", "zoo: Flatten_*"),
                "Reshape": ("reshape", "shape with 0 and -1, axis, num_axes", "Reshape", "zoo: Reshape_*"),
                "Permute": ("permute", "order", "Transpose", "zoo: Permute_*"),
                "Tile": ("tile", "axis, tiles", "Tile", "zoo: Tile_*"),
                "Crop": ("crop", "axis, offset", "Slice", "zoo: Crop_*"),
                "CropCenter": ("crop_center", "crop_size", "Slice", "zoo: CropCenter_*"),
                "Flip": ("flip", "flip_width, flip_height", "Slice", "zoo: Flip_*"),
                "Parameter": ("parameter", "shape", "an initialiser", "zoo: Parameter_*"),
                "Noop": ("noop", "", "none", "a test of its own"),
            },
        ),
        **_entries(
            "spatial",
            {
                "ShuffleChannel": ("shuffle_channel", "group", "Reshape, Transpose", "zoo: ShuffleChannel_*"),
                "Reorg": ("reorg", "stride, reverse", "SpaceToDepth, DepthToSpace", "zoo: Reorg_*"),
                "Upsample": (
                    "upsample",
                    "YOLO: scale; SegNet: upsample_h, upsample_w, scale, scale_h, scale_w, pad_out_h, pad_out_w",
                    "Resize; ScatterElements",
                    "zoo: Upsample_*",
                ),
                "Interp": ("interp", "height, width, zoom_factor, shrink_factor, pad_beg, pad_end", "Resize", "zoo: Interp_*"),
            },
        ),
        **_entries(
            "combine",
            {
                "Eltwise": ("eltwise", "operation, coeff", "Mul, Add, Sub, Max", "zoo: Eltwise_*"),
                "Axpy": ("axpy", "", "Mul, Add", "zoo: Axpy_*"),
                "ArgMax": ("argmax", "axis, top_k, out_max_val", "ArgMax, ReduceMax, TopK", "zoo: ArgMax_*"),
                "BatchReindex": ("batch_reindex", "", "Gather", "zoo: BatchReindex_*"),
                "Filter": ("filter_", "", "Compress", "a test of its own"),
                "Reduction": (
                    "reduction",
                    "operation, axis, coeff",
                    "ReduceSum, ReduceL1, ReduceSumSquare, ReduceMean",
                    "zoo: Reduction_*",
                ),
                "Dropout": ("dropout", "scale_train, dropout_ratio", "none", "zoo: Dropout_*"),
            },
        ),
        **_entries(
            "prior_box",
            {
                "PriorBox": (
                    "prior_box",
                    "min_size, max_size, aspect_ratio, flip, clip, variance, img_size, img_h, img_w, step, step_h, step_w, offset",
                    "a constant",
                    "zoo: PriorBox_*",
                ),
            },
        ),
        **_entries(
            "detection_output",
            {
                "DetectionOutput": (
                    "detection_output",
                    "num_classes, share_location, background_label_id, code_type, variance_encoded_in_target, confidence_threshold, "
                    "nms_param: nms_threshold, top_k, eta; keep_top_k",
                    "NonMaxSuppression (Loop for eta), TopK, ScatterElements, GatherND, Compress",
                    "zoo: DetectionOutput_*, a test against its definition",
                ),
            },
        ),
        **_entries(
            "yolo_detection",
            {
                "YoloDetectionOutput": (
                    "yolo_detection_output",
                    "num_classes, num_box, biases, confidence_threshold, nms_threshold",
                    "NonMaxSuppression, Softmax, ArgMax, Sigmoid, Exp, Gather",
                    "zoo: YoloDetectionOutput_*, a test against its definition",
                ),
                "Yolov3DetectionOutput": (
                    "yolov3_detection_output",
                    "num_classes, num_box, biases, mask, mask_group_num, anchors_scale, confidence_threshold, nms_threshold",
                    "NonMaxSuppression, Sigmoid, Exp, Gather",
                    "zoo: Yolov3DetectionOutput_*, a test against its definition",
                ),
            },
        ),
        **_entries(
            "roi_pooling",
            {
                "ROIPooling": ("roi_pooling", "pooled_h, pooled_w, spatial_scale", "MaxRoiPool", "zoo: ROIPooling_*"),
                "PSROIPooling": (
                    "psroi_pooling",
                    "spatial_scale, output_dim, group_size",
                    "masks of the bins, MatMul",
                    "zoo: PSROIPooling_*",
                ),
            },
        ),
        **_entries(
            "proposal",
            {
                "Python:ProposalLayer": (
                    "python_proposal",
                    "param_str: feat_stride, scales; the settings of py-faster-rcnn",
                    "NonMaxSuppression, TopK, Gather",
                    "a test against its definition",
                ),
                "Proposal": (
                    "proposal",
                    "base_size, feat_stride, ratio, scale, min_size, pre_nms_topn, post_nms_topn, nms_thresh",
                    "NonMaxSuppression, TopK, Gather",
                    "a test against its definition",
                ),
            },
        ),
        **_entries(
            "correlation",
            {
                "Correlation": (
                    "correlation",
                    "kernel_size, max_displacement, pad, stride_1, stride_2, correlation_type",
                    "Gather, Slice, Mul or Sub, ReduceMean, AveragePool",
                    "a test against its definition, and OpenCV",
                ),
            },
        ),
        **_entries(
            "recurrent",
            {
                "LSTM": ("lstm", "num_output, expose_hidden", "unrolled: Gemm, Split, Sigmoid, Tanh, Mul, Add", "zoo: LSTM_*"),
                "RNN": ("rnn", "num_output, expose_hidden", "unrolled: Gemm, Tanh, Mul", "zoo: RNN_*"),
            },
        ),
    }
)


def kind(layer: CaffeLayer) -> str:
    """What an importer is found by: the layer's type, for a `Python` layer with the name of its class behind it."""
    name = layer.parameter("python_param.layer") if layer.type == "Python" else None
    return f"Python:{name}" if name is not None else layer.type or ""


def find(layer_kind: str, custom: Mapping[str, Importer]) -> Importer | None:
    """The importer of a kind of layer, or None where porter has none."""
    if layer_kind in custom:
        return custom[layer_kind]
    entry = TABLE.get(layer_kind)
    if entry is None:
        return None
    import importlib

    module, _, name = entry.importer.partition(":")
    importer: Importer = getattr(importlib.import_module(module), name)
    return importer
