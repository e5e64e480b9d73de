"""Tables of residual nets: blocks by Kaiming He's names and by torchvision's.

He numbers stages from 2 and calls blocks by letters (`res2a`, `res2b`); in nets of 101 and more layers those of stages 3 and 4
are `a`, `b1`, `b2` …. torchvision numbers stages from 1 and blocks from 0 (`layer1.0`).

Source: KaimingHe/deep-residual-networks `prototxt/ResNet-{50,101,152}-deploy.prototxt`; pytorch/vision
`torchvision/models/resnet.py`.
"""

from __future__ import annotations

import re

from porter.mapping.tables.base import Tables
from porter.store import TensorStore

_CAFFE = re.compile(r"res([2-9])(a|b[1-9][0-9]{0,2}|[b-z])_branch")
_TORCH = re.compile(r"layer([1-8])\.(0|[1-9][0-9]{0,2})\.(conv1|downsample\.0)\.")


_MOST_LETTERS = 6
"""Blocks of ResNet-50's fourth stage; nets with more there count them from b1 on, in the third stage too."""


def tables(store: TensorStore) -> Tables | None:
    """`blocks`: He's stage and block (`2a`, `3b1`) and torchvision's (`1.0`, `2.1`). None where no tensor is in such a block."""
    blocks = {f"{m[1]}{m[2]}": f"{int(m[1]) - 1}.{_number(m[2])}" for name in store if (m := _CAFFE.match(name))}
    if not blocks:
        found = sorted({(int(m[1]), int(m[2])) for name in store if (m := _TORCH.match(name))})
        deep = (3, _MOST_LETTERS) in found
        blocks = {f"{stage + 1}{_token(block, deep and stage in (2, 3))}": f"{stage}.{block}" for stage, block in found}
    return Tables({"blocks": tuple(blocks.items())}) if blocks else None


def _number(token: str) -> int:
    """The number of a block: `a` is 0, `c` is 2, `b17` is 17."""
    return int(token[1:]) if len(token) > 1 else ord(token) - ord("a")


def _token(block: int, counted: bool) -> str:
    """He's name of a block: `a`, then `b`, `c` …, or where blocks are counted, and behind `z`, `b1`, `b2` …."""
    return f"b{block}" if block and (counted or block > 25) else chr(ord("a") + block)
