"""Values out of a pickle as containers: what they hold, under which keys, and which of them are tensors.

Nothing here descends more than one level; whoever walks has to bound the walk.

Source: pytorch `torch/nn/modules/module.py` (`_save_to_state_dict`, `state_dict`), 2.13.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from porter.formats.pytorch.archive import Declared
from porter.formats.pytorch.records import ArrayTensor, Leaf, Parameter, TensorView
from porter.io.pickle_globals import ByteString, Instance, describe_value
from porter.io.pickled_numpy import PickledArray


def tensor_bytes(tensor: object) -> int:
    """Bytes of what `is_tensor`, as far as they can be told without looking."""
    return tensor.nbytes if isinstance(tensor, Leaf) else ArrayTensor(tensor).nbytes if isinstance(tensor, PickledArray) else 0


def describe(node: object) -> str:
    """A few words on a value, for messages."""
    if isinstance(node, PickledArray) and node.dtype is not None:
        return f"a numpy {'scalar' if node.scalar else 'array'} of {node.dtype.descr}"
    return describe_value(node)


def is_container(node: object) -> bool:
    """Whether `node` may hold others."""
    return isinstance(node, dict | list | tuple | Instance)


def is_empty(node: object) -> bool:
    """Whether `node` is a dictionary, list or tuple that holds nothing."""
    return isinstance(node, dict | list | tuple) and not node


def is_tensor(node: object) -> bool:
    """Whether named tensors come of `node`."""
    if isinstance(node, PickledArray):
        return not node.scalar and node.objects is None and node.dtype is not None
    return isinstance(node, Leaf)


def is_module(node: object) -> bool:
    """Whether `node` is a module, of Python or of TorchScript."""
    if not isinstance(node, Instance):
        return False
    if is_script(node):
        return isinstance(node.state, dict)
    attributes = node.attributes()
    return isinstance(attributes.get("_parameters"), dict) and isinstance(attributes.get("_modules"), dict)


def is_script(node: object) -> bool:
    """Whether `node` is an object of TorchScript: a module, or an instance of a class written in C++ (packed parameters)."""
    return isinstance(node, Instance) and node.of.module.partition(".")[0] == "__torch__"


def is_packed(node: object) -> bool:
    """Whether `node` is an instance of a class written in C++, whose state is a tuple: what quantised layers keep weights in."""
    if not isinstance(node, Instance) or not isinstance(node.state, tuple):
        return False
    return node.of.module.startswith("__torch__.torch.classes") or (node.of.module, node.of.name) == ("torch", "ScriptObject")


def is_positional(node: object) -> bool:
    """Whether `node` is an object whose state is a tuple: what its class made of it, without names (quantised convolutions)."""
    return isinstance(node, Instance) and isinstance(node.state, tuple) and not node.attributes() and not is_packed(node)


_QUANTIZED_CONVOLUTION = {10: "weight", 11: "bias", 12: "scale", 13: "zero_point"}
"""Names of the items of a quantised convolution's state. Source: pytorch `torch/ao/nn/quantized/modules/conv.py`
(`_ConvNd.__getstate__`), 2.13; the same in `torch/nn/quantized` since 1.3.
"""


def _positional_entries(node: Instance) -> Iterator[tuple[str, object]]:
    state = node.state if isinstance(node.state, tuple) else ()
    convolution = "quantized" in node.of.module and "Conv" in node.of.name and len(state) == 15
    names = _QUANTIZED_CONVOLUTION if convolution else {}
    for index, value in enumerate(state):
        if not convolution or index in names:
            yield names.get(index, str(index)), value


def identity(leaf: object) -> object:
    """Equal for records that show the same elements."""
    if isinstance(leaf, Parameter):
        leaf = leaf.data
    if isinstance(leaf, TensorView):
        return id(leaf.storage), leaf.offset, leaf.shape, leaf.strides
    return id(leaf)


def key_text(key: object) -> str:
    """A dictionary's key as a part of a name."""
    if isinstance(key, ByteString):
        return key.text()
    if isinstance(key, bytes):
        return key.decode("utf-8", "backslashreplace")
    if isinstance(key, tuple):
        return f"({', '.join(describe_value(part) for part in key[:16])})"
    return key if isinstance(key, str) else describe_value(key)


def entries_of(node: object) -> Iterator[tuple[str, object]]:
    """Keys and values of a container: of a dictionary, a list, or a recorded object's items, pairs and attributes."""
    if isinstance(node, dict):
        yield from ((key_text(k), v) for k, v in node.items())
    elif isinstance(node, list | tuple):
        yield from ((str(i), v) for i, v in enumerate(node))
    elif isinstance(node, Instance):
        yield from ((key_text(k), v) for k, v in node.pairs or ())
        yield from ((str(i), v) for i, v in enumerate(node.items or ()))
        yield from ((key_text(k), v) for k, v in node.attributes().items())
        if is_packed(node) and isinstance(node.state, tuple):
            # An eager module pickles (state, class name) for such an object, TorchScript the state alone.
            inner = node.state[0] if node.of.module == "torch" and node.state else node.state
            yield from entries_of(inner)
        elif is_positional(node):
            yield from _positional_entries(node)


def module_entries(node: object, declared: Mapping[str, Declared]) -> Iterator[tuple[str, object]]:
    """What `state_dict()` of a module lists, in its order, submodules as such, and the packed parameters of quantised layers."""
    assert isinstance(node, Instance)
    attributes = {key_text(k): v for k, v in node.attributes().items()}
    if not is_script(node):
        for table in ("_parameters", "_buffers", "_modules"):
            yield from _registered(attributes, table)
        yield from ((k, v) for k, v in attributes.items() if is_packed(v))
        yield from _output_scale(node, attributes)
        return
    of_class = declared.get(str(node.of))
    if of_class is None:
        yield from ((k, v) for k, v in attributes.items() if is_tensor(v))
    else:
        for names in (of_class.parameters, of_class.buffers):
            yield from ((k, v) for k, v in attributes.items() if k in names and v is not None)
    yield from ((k, v) for k, v in attributes.items() if is_module(v) or is_packed(v) or (is_script(v) and is_positional(v)))
    yield from _output_scale(node, attributes)


def _output_scale(node: Instance, attributes: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Numbers that the state_dict() of a quantised layer lists as tensors: they are none here, and have to be spoken of."""
    if "quantized" in node.of.module:
        yield from ((k, attributes[k]) for k in ("scale", "zero_point") if isinstance(attributes.get(k), int | float))


def _registered(attributes: Mapping[str, object], table: str) -> Iterator[tuple[str, object]]:
    values = attributes.get(table)
    transient = attributes.get("_non_persistent_buffers_set") if table == "_buffers" else None
    for key, value in values.items() if isinstance(values, dict) else ():
        if value is not None and not (isinstance(transient, set) and isinstance(key, str) and key in transient):
            yield key_text(key), value
