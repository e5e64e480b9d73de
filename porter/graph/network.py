"""A network on its way through porter: the ONNX graph, and everything that a reader has to know of how it came to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from porter.dataclass import dataclass
from porter.graph.caffe.importer import LayerRecord
from porter.graph.caffe.preparation import Cut
from porter.graph.fold import Folded
from porter.graph.preprocessing import Preprocessing
from porter.store import TensorStore

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True, slots=True)
class Network:
    """A network that was taken over.

    model: the graph. source: `caffe` or `onnx`. layers: Caffe's, or the nodes of an ONNX model, in the order in which they run, with
    the values that still exist. cut, assumed, unused_weights: see `ImportedNet`. generated: whether the weights are made up.
    parameters: how many values they have. folded: what `--fold-bn` folded. vanished: (layer, top) whose values are gone by that.
    preprocessing: what is known of it by input. notices: what reading the files had to say.
    store: the file that the weights are in, open; None where they are generated.
    """

    model: ir.Model
    source: str
    layers: tuple[LayerRecord, ...]
    cut: tuple[Cut, ...] = ()
    assumed: tuple[str, ...] = ()
    unused_weights: tuple[str, ...] = ()
    generated: bool = False
    parameters: int = 0
    folded: tuple[Folded, ...] = ()
    vanished: tuple[tuple[str, str], ...] = ()
    preprocessing: tuple[Preprocessing, ...] = ()
    notices: tuple[str, ...] = ()
    store: TensorStore | None = None

    @property
    def opset(self) -> int:
        """Of ONNX's own operators."""
        return self.model.opset_imports.get("", self.model.opset_imports.get("ai.onnx", 0))
