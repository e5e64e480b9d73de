"""An ONNX model run in onnxruntime on the CPU, with no optimisation, for the values that are asked for.

The values of initialisers go to onnxruntime as they lie in memory: nothing is serialised, so that a model may be of any size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any

from porter.errors import GraphError, MissingDependencyError

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir
    from numpy.typing import NDArray

LARGE = 4096
"""Bytes from which on an initialiser stays out of the model."""

SMALL = 1 << 16
"""Bytes that a model is fed up to which it runs in one thread: starting more, and ending them, takes longer than it does."""

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

        onnxruntime = onnxruntime_package()
        self._what = what
        self._held: dict[str, Any] = {}
        stub = model.clone()
        for value in stub.graph.initializers.values():
            tensor, name = value.const_value, value.name or ""
            if tensor is None:
                continue
            if tensor.nbytes < LARGE or tensor.dtype.name not in _SHARED:
                if isinstance(tensor, ir.ExternalTensor):
                    value.const_value = ir.tensor(tensor.numpy(), dtype=tensor.dtype, name=name)
                continue
            self._held[name] = onnxruntime.OrtValue.ortvalue_from_numpy(_array(tensor))
            value.const_value = ir.ExternalTensor("held", 0, tensor.nbytes, tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=name)
        self._proto: onnx.ModelProto = ir.to_proto(stub)
        _name_once(self._proto.graph.node)
        self._types = {v.name: v.dtype.name for v in _values(stub) if v.name and v.dtype is not None}

    def needs(self, names: Iterable[str], known: Set[str]) -> list[str]:
        """Which of `known` the nodes take that `names` are made by, where values that are known are not computed."""
        return list(dict.fromkeys(taken for node in self._behind(names, known) for taken in _read(node) if taken in known))

    def _behind(self, names: Iterable[str], known: Set[str]) -> list[onnx.NodeProto]:
        """The nodes that make `names` of values that are known, in their order."""
        wanted, found = set(names), []
        for node in reversed(self._proto.graph.node):
            if wanted & set(node.output):
                found.append(node)
                wanted |= set(_read(node)) - known
        return found[::-1]

    def run(
        self, feeds: Mapping[str, NDArray[Any]], names: Sequence[str], known: Mapping[str, NDArray[Any]] | None = None
    ) -> dict[str, NDArray[Any]]:
        """The values of those names, float16 and bfloat16 as float32.

        feeds: an array for each input, of its type. known: values that are taken from here wherever a node reads them.

        Raises:
            GraphError: onnxruntime cannot load the model, or run it on these.
        """
        import onnx

        if not names:
            return {}
        proto = onnx.ModelProto()
        proto.CopyFrom(self._proto)
        given = self._replaced(proto, names, known or {})
        taken = given | {i.name: _ort(feeds[i.name], self._types.get(i.name, "")) for i in proto.graph.input if i.name in feeds}
        asked = self._asked(proto, feeds, names)
        try:
            fed = sum(array.nbytes for array in (*feeds.values(), *(known or {}).values()))
            made = self._session(proto, fed).run_with_ort_values(list(asked.values()), taken)
        except Exception as error:
            said = " ".join(str(error).split())[:300]
            hint = "an input that no such network is fed ('--input') can be the reason; else please report it"
            raise GraphError("G090", f"onnxruntime cannot run {self._what}: {said}", hint=hint) from error
        return {name: value.numpy() for name, value in zip(asked, made, strict=True)}

    def _session(self, proto: onnx.ModelProto, nbytes: int) -> Any:
        """nbytes: of what it is fed."""
        onnxruntime = onnxruntime_package()
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        # A session runs once: what it would keep for a next time only takes memory.
        options.enable_cpu_mem_arena = False
        # It writes its errors to stderr as well.
        options.log_severity_level = 4
        if nbytes < SMALL:
            options.intra_op_num_threads = 1
        # Threads that wait for work in a loop take it from everybody else.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        held = [i.name for i in proto.graph.initializer if i.name in self._held]
        options.add_external_initializers(held, [self._held[name] for name in held])
        return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def _replaced(self, proto: onnx.ModelProto, names: Sequence[str], known: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
        """Leave in `proto` what `names` take to be made of `known`, and let it be fed these; they are given back to be fed."""
        import onnx

        given = {name: f"known/{number}" for number, name in enumerate(known)}
        nodes = self._behind(names, given.keys())
        used = {name for node in nodes for name in _read(node)} | set(names)
        # onnxruntime forgets initialisers that nothing reads before it is told their values.
        initializers = [i for i in self._proto.graph.initializer if i.name in used and (i.name not in given or i.name in names)]
        inputs = [i for i in self._proto.graph.input if i.name in used]
        del proto.graph.node[:], proto.graph.initializer[:], proto.graph.input[:]
        proto.graph.node.extend(nodes)
        _rename(proto.graph, given)
        proto.graph.initializer.extend(initializers)
        taken = {given[name]: self._as_held(name, known[name]) for name in given if name in used}
        made = [onnx.helper.make_tensor_value_info(name, value.element_type(), None) for name, value in taken.items()]
        proto.graph.input.extend([*inputs, *made])
        return taken

    def _asked(self, proto: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]], names: Sequence[str]) -> dict[str, str]:
        """Make `names` the outputs of `proto`; what each is called there."""
        import onnx

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
        del proto.graph.output[:]
        proto.graph.output.extend([onnx.ValueInfoProto(name=n) for n in asked.values()])
        return asked

    def _as_held(self, name: str, array: NDArray[Any]) -> Any:
        """`array` in the type that the value has: positions may have another width, and floating point another precision."""
        import numpy as np
        import onnx

        dtype = self._types.get(name)
        if dtype is None:
            return _ort(array, "")
        code = onnx.TensorProto.DataType.Value(dtype)
        with np.errstate(over="ignore"):
            return _ort(array.astype(onnx.helper.tensor_dtype_to_np_dtype(code), copy=False), dtype)


def _name_once(nodes: Iterable[onnx.NodeProto]) -> None:
    """Take the names of nodes away that others have: ONNX allows these, onnxruntime does not."""
    taken: set[str] = set()
    for node in nodes:
        if node.name in taken:
            node.name = ""
        taken.add(node.name)


def _read(node: onnx.NodeProto) -> list[str]:
    """What a node reads, and what graphs inside it read."""
    return [*node.input, *(name for graph in _graphs(node) for inner in graph.node for name in _read(inner)), *_given_back(node)]


def _given_back(node: onnx.NodeProto) -> list[str]:
    """What graphs inside a node have as outputs: this may be a value from outside."""
    return [value.name for graph in _graphs(node) for value in graph.output]


def _graphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [graph for a in node.attribute for graph in ([a.g] if a.HasField("g") else [*a.graphs])]


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Let every node read these under other names, nodes of inner graphs as well."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        for inner in _graphs(node):
            _rename(inner, names)
            for value in inner.output:
                value.name = names.get(value.name, value.name)


def onnxruntime_package() -> Any:
    """The onnxruntime package.

    Raises:
        MissingDependencyError: it is not there.
    """
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
