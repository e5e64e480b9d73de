"""Which integers of a graph are weights that TensorRT takes as they are.

Source: NVIDIA/TensorRT, include/NvInfer.h, tag v11.1 (IDequantizeLayer, IConvolutionLayer::setInput, IDeconvolutionLayer::setInput).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

_PRODUCTS = ("Gemm", "MatMul")


def weights_as_codes(model: ir.Model) -> frozenset[str]:
    """What DequantizeLinear nodes make of int8, or of what nothing says the type of, and nothing reads but layers that multiply by it."""
    nodes = [n for n in model.graph if n.op_type == "DequantizeLinear" and n.domain in ("", "ai.onnx") and _is_plain(n)]
    return frozenset([str(n.outputs[0].name) for n in nodes if _are_weights(n.outputs[0], (*_PRODUCTS, "Conv", "ConvTranspose"))])


def _is_plain(node: ir.Node) -> bool:
    """Whether its input may be int8, and its scales are not those of blocks."""
    x, block = node.inputs[0], node.attributes.get("block_size")
    return x is not None and (x.dtype is None or x.dtype.name == "INT8") and (block is None or block.as_int() == 0)


def _are_weights(value: ir.Value, multiply: tuple[str, ...]) -> bool:
    """Second inputs are weights; those that multiply matrices may transpose them first."""
    return not value.is_graph_output() and all(
        use.node.domain in ("", "ai.onnx")
        and (
            (use.idx == 1 and use.node.op_type in multiply)
            or (use.node.op_type == "Transpose" and _are_weights(use.node.outputs[0], _PRODUCTS))
        )
        for use in value.uses()
    )
