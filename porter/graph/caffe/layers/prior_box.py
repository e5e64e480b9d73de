"""PriorBox of SSD: boxes that depend on sizes alone, so they are calculated while the net is taken over."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from porter.graph.caffe.layer import Layer
from porter.graph.caffe.layers.detections import check_constant

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_P = "prior_box_param."


def prior_box(layer: Layer) -> None:
    """The boxes around each place of a feature map, and their variances: [1, 2, places · boxes · 4], a constant.

    Rounded where the C++ code rounds: sizes to integers, centres, widths and heights to float32, corners from float64.
    Source: weiliu89/caffe (ssd) prior_box_layer.cpp.
    """
    import numpy as np

    layer.need_bottoms(1, 2)
    height, width = _plane(layer, 0)
    image = _image(layer)
    sizes = _sizes(layer)
    check_constant(layer, height * width * len(sizes) * 8)
    step = _step(layer, image, (height, width))
    offset = layer.parameters.number(_P + "offset", 0.5)
    with np.errstate(all="ignore"):
        corners = _corners(sizes, step, offset, (height, width), image)
    if layer.parameters.flag(_P + "clip", False):
        corners = np.clip(corners, np.float32(0), np.float32(1))
    variances = np.broadcast_to(_variances(layer), corners.shape)
    both = np.stack([corners.reshape(-1), variances.reshape(-1)])[None]
    layer.put(layer.builder.constant(both, "priors"))


def _corners(
    sizes: NDArray[np.float32], step: tuple[np.float32, np.float32], offset: float, plane: tuple[int, int], image: tuple[int, int]
) -> NDArray[np.float32]:
    """xmin, ymin, xmax, ymax of all boxes, in parts of the image: [height, width, boxes, 4]."""
    import numpy as np

    y, x = ((np.arange(n, dtype=np.float32) + np.float32(offset)) * s for n, s in zip(plane, step, strict=True))
    centres = np.stack(np.broadcast_arrays(x[None, :, None], y[:, None, None]), -1).astype(np.float64)
    halves = sizes.astype(np.float64) / 2
    whole = np.array([image[1], image[0]], dtype=np.float64)
    return np.concatenate([(centres - halves) / whole, (centres + halves) / whole], -1).astype(np.float32)


def _plane(layer: Layer, index: int) -> tuple[int, int]:
    shape = layer.bottoms[index].shape
    if len(shape) != 4:
        raise layer.error("G012", f"bottom {index} has {len(shape)} dimensions, and 4 are needed")
    return int(shape[2]), int(shape[3])


def _image(layer: Layer) -> tuple[int, int]:
    """Height and width of the image: stated, or those of the second bottom."""
    parameters = layer.parameters
    both = parameters.optional_integer(_P + "img_size")
    h, w = parameters.optional_integer(_P + "img_h"), parameters.optional_integer(_P + "img_w")
    if (h is not None or w is not None) and both is not None:
        raise layer.error("G010", "img_size is stated together with img_h or img_w, which Caffe refuses")
    h, w = (both, both) if both is not None else (h, w)
    if h is None and w is None:
        layer.need_bottoms(2)
        return _plane(layer, 1)
    if not h or not w or h < 0 or w < 0:
        raise layer.error("G010", "img_h and img_w have to be stated both, and above 0")
    return h, w


def _step(layer: Layer, image: tuple[int, int], plane: tuple[int, int]) -> tuple[np.float32, np.float32]:
    """Pixels from one place to the next, down and across."""
    import numpy as np

    parameters = layer.parameters
    both = parameters.optional_number(_P + "step")
    h, w = parameters.optional_number(_P + "step_h"), parameters.optional_number(_P + "step_w")
    if (h is not None or w is not None) and both is not None:
        raise layer.error("G010", "step is stated together with step_h or step_w, which Caffe refuses")
    h, w = (both, both) if both is not None else (h, w)
    if h is None and w is None:
        return np.float32(np.float32(image[0]) / np.float32(plane[0])), np.float32(np.float32(image[1]) / np.float32(plane[1]))
    if h is None or w is None or not h > 0 or not w > 0:
        raise layer.error("G010", "the steps have to be stated both, and above 0")
    return np.float32(h), np.float32(w)


def _sizes(layer: Layer) -> NDArray[np.float32]:
    """Width and height of each box of a place: [boxes, 2]. Of the ratios, Caffe makes boxes of min_size alone."""
    import numpy as np

    parameters = layer.parameters
    smallest, largest = parameters.numbers(_P + "min_size"), parameters.numbers(_P + "max_size")
    if not smallest or not all(0 < s < 1 << 31 for s in (*smallest, *largest)):
        raise layer.error("G010", "it needs a min_size, and sizes above 0 that are in an integer's range")
    if largest and (len(largest) != len(smallest) or any(b <= a for a, b in zip(smallest, largest, strict=True))):
        raise layer.error("G010", "it needs as many max_size as min_size, each above its min_size")
    ratios = _ratios(layer)
    found: list[tuple[float, float]] = []
    for i, size in enumerate(int(np.float32(s)) for s in smallest):
        found.append((size, size))
        if largest:
            side = math.sqrt(size * int(np.float32(largest[i])))
            found.append((side, side))
        for ratio in ratios:
            # sqrt of a float is taken in float.
            root = float(np.sqrt(np.float32(ratio)))
            found.append((size * root, size / root))
    return np.array(found, dtype=np.float64).astype(np.float32)


def _ratios(layer: Layer) -> list[float]:
    """The aspect ratios other than 1, each with its inverse behind it where they are flipped; float32 values."""
    import numpy as np

    flip = layer.parameters.flag(_P + "flip", True)
    found = [1.0]
    for stated in layer.parameters.numbers(_P + "aspect_ratio"):
        ratio = float(np.float32(stated))
        if not ratio > 0:
            raise layer.error("G010", f"aspect_ratio is {stated}, which is not above 0")
        if any(abs(np.float32(ratio - other)) < 1e-6 for other in found):
            continue
        found.append(ratio)
        if flip:
            found.append(float(np.float32(1.0 / ratio)))
    return [r for r in found if not abs(r - 1.0) < 1e-6]


def _variances(layer: Layer) -> NDArray[np.float32]:
    """Four of them; one stands for all, and 0.1 for none."""
    import numpy as np

    stated = layer.parameters.numbers(_P + "variance") or [0.1]
    if len(stated) not in (1, 4) or not all(v > 0 for v in stated):
        raise layer.error("G010", "variance has to be one number or four, above 0")
    return np.array(stated * (4 // len(stated)), dtype=np.float32)
