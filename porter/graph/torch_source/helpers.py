"""Functions that a source is given where PyTorch has none: text, formatted as ruff leaves it, and the helpers that it calls itself."""

from __future__ import annotations

_NMS = '''@torch.library.custom_op("porter::non_maximum_suppression", mutates_args=())
def non_maximum_suppression(
    boxes: Tensor,
    scores: Tensor,
    max_output: int,
    overlap: float,
    threshold: float | None,
    centred: bool = False,
) -> Tensor:
    """Rows (image, class, box): for each class the best boxes, each overlapping none before it by more than `overlap`."""
    if centred:
        centre, half = boxes[..., :2], boxes[..., 2:] / 2.0
        low, high = centre - half, centre + half
    else:
        low = torch.minimum(boxes[..., :2], boxes[..., 2:])
        high = torch.maximum(boxes[..., :2], boxes[..., 2:])
    areas = (high - low).prod(-1)
    chosen = []
    for image in range(scores.shape[0]):
        for kind in range(scores.shape[1]):
            values, order = torch.sort(
                scores[image, kind], descending=True, stable=True
            )
            if threshold is not None:
                order = order[values > threshold]
            kept: list[int] = []
            while len(order) > 0 and len(kept) < max_output:
                best = int(order[0])
                kept.append(best)
                order = order[1:]
                top = torch.maximum(low[image, best], low[image, order])
                bottom = torch.minimum(high[image, best], high[image, order])
                shared = (bottom - top).clamp(min=0.0).prod(-1)
                union = areas[image, best] + areas[image, order] - shared
                order = order[(shared <= overlap * union) | (shared <= 0.0)]
            chosen += [[image, kind, box] for box in kept]
    found = torch.tensor(chosen, dtype=torch.int64, device=boxes.device)
    return found.reshape(-1, 3)


@non_maximum_suppression.register_fake
def _(
    boxes: Tensor,
    scores: Tensor,
    max_output: int,
    overlap: float,
    threshold: float | None,
    centred: bool = False,
) -> Tensor:
    rows = torch.library.get_ctx().new_dynamic_size()
    return boxes.new_empty((rows, 3), dtype=torch.int64)
'''

_ROI = '''@torch.library.custom_op("porter::max_roi_pool", mutates_args=())
def max_roi_pool(
    x: Tensor, rois: Tensor, height: int, width: int, scale: float
) -> Tensor:
    """The maximum of each part of regions, rows (image, x1, y1, x2, y2)."""
    pooled = []
    for roi in rois:
        image = int(roi[0])
        scaled = roi[1:] * scale
        corners = torch.sign(scaled) * torch.floor(scaled.abs() + 0.5)
        left, top, right, bottom = corners.long().tolist()
        rows = _parts(top, bottom, height, x.shape[2])
        columns = _parts(left, right, width, x.shape[3])
        for first, last in rows:
            for start, stop in columns:
                part = x[image, :, first:last, start:stop]
                if part.numel() > 0:
                    pooled.append(part.amax((1, 2)))
                else:
                    pooled.append(x.new_zeros(x.shape[1]))
    if not pooled:
        return x.new_zeros(0, x.shape[1], height, width)
    parts = torch.stack(pooled).reshape(-1, height, width, x.shape[1])
    return parts.permute(0, 3, 1, 2).contiguous()


@max_roi_pool.register_fake
def _(x: Tensor, rois: Tensor, height: int, width: int, scale: float) -> Tensor:
    return x.new_empty((rois.shape[0], x.shape[1], height, width))
'''

_PARTS = '''def _parts(first: int, last: int, count: int, size: int) -> list[list[int]]:
    """Where each of `count` parts of a region begins and ends."""
    length = torch.tensor(float(max(last - first + 1, 1))) / count
    steps = torch.arange(count)
    starts = torch.floor(steps * length).long() + first
    ends = torch.ceil((steps + 1) * length).long() + first
    return torch.stack((starts, ends), 1).clamp(0, size).tolist()
'''

HELPERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "non_maximum_suppression": (_NMS, ()),
    "max_roi_pool": (_ROI, ("_parts",)),
    "_parts": (_PARTS, ()),
}
"""Text of each function, and the other functions that it calls."""
