"""Layers that normalise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from porter.graph.caffe_source.net import Blob, Weight
from porter.graph.caffe_source.op import Op, Refused, laid_over

if TYPE_CHECKING:
    from numpy.typing import NDArray


def batch_normalization(op: Op) -> None:
    """A BatchNorm with a scale factor of one, and a Scale unless that changes nothing."""
    import numpy as np

    if op.attribute("training_mode", 0) or any(op.used(i) for i in range(1, len(op.node.outputs))):
        raise Refused("it normalises by the batch's own statistics and updates them")
    if not op.attribute("spatial", 1):
        raise Refused("it has statistics for each place, and Caffe's for each channel")
    x = op.blob(0)
    scale, bias = op.array(1, "scale"), op.array(2, "bias")
    weights = []
    for i, role in ((3, "mean"), (4, "variance")):
        constant = op.constant(i)
        if constant is None:
            raise Refused(f"its {role} is computed while the network runs")
        weights.append(op.weight(role, constant, constant.shape))
    weights.append(_factor(1.0))
    made = op.layer("BatchNorm", [x], x.shape, {"batch_norm_param": {"use_global_stats": True, **_eps(op)}}, weights, main=True)
    if (scale != 1).any() or (bias != 0).any():
        made = op.scale(made, 1, np.asarray(scale), np.asarray(bias))
    op.put(made)


def instance_normalization(op: Op) -> None:
    """Each plane by itself."""
    x = op.blob(0)
    made = _normalised(op, x, math.prod(x.shape[:2]), op.attribute("epsilon", 1e-5))
    op.put(op.scale(op.reshape(made, x.shape), 1, op.array(1, "scale"), op.array(2, "bias")))


def group_normalization(op: Op) -> None:
    """Channels in groups; until opset 20 scale and bias have a number for each group."""
    import numpy as np

    x, groups = op.blob(0), op.attribute("num_groups")
    scale, bias = op.array(1, "scale"), op.array(2, "bias")
    if scale.size != x.shape[1]:
        scale, bias = (np.repeat(a, x.shape[1] // groups) for a in (scale, bias))
    made = _normalised(op, x, x.shape[0] * groups, op.attribute("epsilon", 1e-5))
    op.put(op.scale(op.reshape(made, x.shape), 1, scale, bias))


def layer_normalization(op: Op) -> None:
    """All axes from `axis` on together."""
    import numpy as np

    if op.used(1) or op.used(2):
        raise Refused("its mean or deviation is used")
    x = op.blob(0)
    axis = op.attribute("axis", -1) % x.rank
    made = op.reshape(_normalised(op, x, math.prod(x.shape[:axis]), op.attribute("epsilon", 1e-5)), x.shape)
    start, scale = laid_over(np.broadcast_to(op.array(1, "scale"), x.shape[axis:]), x.shape)
    bias = np.broadcast_to(op.array(2, "bias") if op.has(2) else np.zeros(1), x.shape[axis:])
    op.put(op.scale(made, start, scale, laid_over(bias, x.shape)[1].reshape(scale.shape)))


def lrn(op: Op) -> None:
    """Across channels; alpha is divided by the size in both."""
    x, size = op.blob(0), op.attribute("size")
    if size % 2 == 0:
        raise Refused(f"its size is {size}, and Caffe takes an odd one")
    if x.rank != 4:
        raise Refused(f"its input has {x.rank} axes, and Caffe takes four")
    said: dict[str, Any] = {"local_size": size, "alpha": op.attribute("alpha", 1e-4), "beta": op.attribute("beta", 0.75)}
    k = op.attribute("bias", 1.0)
    op.put(op.layer("LRN", [x], x.shape, {"lrn_param": said | ({"k": k} if k != 1 else {})}))


def _normalised(op: Op, x: Blob, parts: int, eps: float) -> Blob:
    """`x` as one image of `parts` channels, normalised by its own statistics. Caffe's MVN would add eps elsewhere."""
    planes: tuple[int, ...] = (1, parts, math.prod(x.shape) // parts, 1)
    if x.rank == 4 and x.shape[:2] == planes[:2]:
        planes = x.shape
    x = op.reshape(x, planes)
    weights = [Weight(role, (parts,), _zeros(parts)) for role in ("mean", "variance")]
    said = {"use_global_stats": False} | ({"eps": eps} if abs(eps - 1e-5) > 1e-12 else {})
    return op.layer("BatchNorm", [x], planes, {"batch_norm_param": said}, [*weights, _factor(0.0)], main=True)


def _zeros(count: int) -> Any:
    def load() -> NDArray[Any]:
        import numpy as np

        return np.zeros(count, np.float32)

    return load


def _factor(number: float) -> Weight:
    def load() -> NDArray[Any]:
        import numpy as np

        return np.full(1, number, np.float32)

    return Weight("scale_factor", (1,), load)


def _eps(op: Op) -> dict[str, float]:
    eps = float(op.attribute("epsilon", 1e-5))
    return {"eps": eps} if abs(eps - 1e-5) > 1e-12 else {}
