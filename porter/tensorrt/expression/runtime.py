"""An ONNX model run in onnxruntime on the CPU, with no optimisation, for the values that are asked for.

The values of initialisers go to onnxruntime as they lie in memory: nothing is serialised, so that a model may be of any size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from porter.errors import MissingDependencyError, TensorRTError

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir
    import onnxruntime
    from numpy.typing import NDArray

LARGE = 4096
"""Bytes from which on an initialiser stays out of the model."""

NARROW = ("FLOAT16", "BFLOAT16")

_SHARED = ("FLOAT", "FLOAT16", "INT32", "INT64", "INT8", "UINT8")
"""Types whose arrays onnxruntime takes as they are."""


class Runnable:
    """A model that can be run for one set of its values after the other. what: how errors name it. Loads its initialisers at once.

    Raises:
        MissingDependencyError: onnxruntime is not there.
    """

    def __init__(self, model: ir.Model, what: str) -> None:
        import onnx_ir as ir

        onnxruntime = _onnxruntime()
        self._what = what
        self._held: dict[str, Any] = {}
        stub = model.clone()
        for value in stub.graph.initializers.values():
            tensor = value.const_value
            if tensor is None or tensor.nbytes < LARGE or tensor.dtype.name not in _SHARED:
                continue
            name = value.name or ""
            self._held[name] = onnxruntime.OrtValue.ortvalue_from_numpy(_array(tensor))
            value.const_value = ir.ExternalTensor("held", 0, tensor.nbytes, tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=name)
        self._proto: onnx.ModelProto = ir.to_proto(stub)
        self._types = {v.name: v.dtype.name for v in _values(stub) if v.name and v.dtype is not None}

    def run(self, feeds: Mapping[str, NDArray[Any]], names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """The values of those names, float16 and bfloat16 as float32. feeds: an array for each input, of its type.

        Raises:
            TensorRTError: onnxruntime cannot load the model, or run it on these.
        """
        import onnx

        onnxruntime = _onnxruntime()
        proto = onnx.ModelProto()
        proto.CopyFrom(self._proto)
        del proto.graph.output[:]
        asked = {}
        for number, name in enumerate(names):
            asked[name] = name
            # The bindings have no arrays of bfloat16, and an input is no output.
            if self._types.get(name) in NARROW or name in feeds:
                asked[name] = f"asked/{number}"
                if self._types.get(name) in NARROW:
                    proto.graph.node.append(onnx.helper.make_node("Cast", [name], [asked[name]], to=onnx.TensorProto.FLOAT))
                else:
                    proto.graph.node.append(onnx.helper.make_node("Identity", [name], [asked[name]]))
        proto.graph.output.extend([onnx.ValueInfoProto(name=n) for n in asked.values()])
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        # It writes its errors to stderr as well.
        options.log_severity_level = 4
        # Threads that wait for work in a loop take it from everybody else.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_external_initializers(list(self._held), list(self._held.values()))
        try:
            session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
            taken = {i.name: _ort(feeds[i.name], self._types.get(i.name, "")) for i in session.get_inputs()}
            made = session.run_with_ort_values(list(asked.values()), taken)
        except Exception as error:
            said = " ".join(str(error).split())[:300]
            hint = "an input that no such network is fed ('--input') can be the reason; else please report it"
            raise TensorRTError("T340", f"onnxruntime cannot run {self._what}: {said}", hint=hint) from error
        return {name: value.numpy() for name, value in zip(asked, made, strict=True)}


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        hint = "pip install onnxruntime, or pip install 'porter[verify]'"
        raise MissingDependencyError("D002", f"onnxruntime is needed to run networks: {error}", hint=hint) from error
    return onnxruntime


def _array(tensor: ir.TensorProtocol) -> NDArray[Any]:
    import numpy as np

    return np.ascontiguousarray(tensor.numpy()).reshape(tensor.shape.numpy())


def _ort(array: NDArray[Any], dtype: str) -> Any:
    import numpy as np
    import onnx
    import onnxruntime

    if dtype == "BFLOAT16":
        kept = np.ascontiguousarray(array).view(np.uint16)
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(kept, onnx.TensorProto.BFLOAT16)
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array).reshape(array.shape))


def _values(model: ir.Model) -> list[ir.Value]:
    return [*model.graph.inputs, *model.graph.initializers.values(), *(v for node in model.graph for v in node.outputs)]
