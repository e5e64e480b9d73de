"""What the source of a network says about the shapes along it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from porter.tensorrt.layers import Network
from porter.tensorrt.source.call import Call

Shape = tuple[int, ...]


def stages(body: Sequence[Call], shapes: Mapping[str, Shape]) -> dict[int, str]:
    """For each call with which a part of the network begins, the shape of what it makes: another size of the image, or other axes."""
    found: dict[int, str] = {}
    last: object = None
    for place, call in enumerate(body):
        shape = shapes.get(call.outputs[0])
        if shape is None or call.function in ("constant", "numbers"):
            continue
        image = (len(shape), shape[2:] if len(shape) > 3 else None)
        if image != last:
            found[place] = shape_text(shape)
        last = image
    return found


def shape_text(shape: Shape) -> str:
    """`N x 64 x 56 x 56`."""
    return " x ".join("N" if n < 0 else str(n) for n in shape) or "a number"


def signatures(network: Network) -> tuple[str, str]:
    """The inputs and the outputs of a network, in words."""
    given = _signature(
        [i.name for i in network.inputs], {i.name: i.shape for i in network.inputs}, {i.name: i.dtype for i in network.inputs}
    )
    return given, _signature(network.outputs, network.shapes, network.dtypes)


def _signature(names: Sequence[str], shapes: Mapping[str, Shape], dtypes: Mapping[str, str]) -> str:
    """Tensors with their types and shapes, in words."""
    return ", ".join(f"{n} ({dtypes.get(n, 'float32')}, {shape_text(shapes[n])})" if n in shapes else n for n in names) or "none"


def with_stage(lines: list[str], shown: Mapping[int, str], place: int, count: int, mark: str, width: int) -> list[str]:
    """The lines of a call with the shape that its stage has: behind a call that is alone in it, else above the first."""
    if place not in shown:
        return lines
    alone = place + 1 in shown or place + 1 == count
    behind = f"{lines[0]}  {mark}{shown[place]}"
    if alone and len(lines) == 1 and len(behind) <= width:
        return [behind]
    return ["", f"    {mark}{shown[place]}", *lines]
