"""Write `schemas/caffe_layers.md` from the registry of importers: `python schemas/caffe_layers.py [--check]`.

`--check` writes nothing and exits 1 if the page is not what the registry says.
"""

from __future__ import annotations

import sys
from pathlib import Path

from porter.graph.caffe.preparation import DATA_LAYERS, INPUT_LAYERS, LOSSES, METRICS
from porter.graph.caffe.registry import TABLE

PAGE = Path(__file__).resolve().with_suffix(".md")

TEXT = """\
# Caffe's layers

What `porter port` takes over, written from the registry by `schemas/caffe_layers.py`; `porter port --list-layers` prints the same
table. A parameter that a prototxt states, that changes what a layer computes, and that does not stand here is refused, never
ignored. *zoo* are single-layer networks run through the real Caffe and its forks; porter agrees with each of them within 10⁻⁵ of the
largest value.

| type | parameters honoured | becomes | checked against |
|---|---|---|---|
{rows}

Layers that read data become inputs: {data}.

Layers that only training needs are left out, and the report says so: {losses}.

A `Python` layer is found by the name of its class, `Python:ProposalLayer`. Any other type: `--custom my_layers.py` says how to take it
over, `--allow-custom` leaves it as a node of the domain `caffe`.

```python
from porter.graph.caffe.layer import Layer


def square(layer: Layer) -> None:
    (x,) = layer.bottoms
    layer.put(layer.builder.binary("Mul", x, x))


LAYERS = {{"Square": square}}
```
"""


def page() -> str:
    """The whole page."""
    entries = sorted(TABLE.values(), key=lambda e: e.type.casefold())
    rows = "\n".join([f"| {' | '.join(map(_cell, (f'`{e.type}`', e.parameters, e.onnx, e.checked)))} |" for e in entries])
    return TEXT.format(rows=rows, data=_listed(DATA_LAYERS | INPUT_LAYERS), losses=_listed(LOSSES | METRICS))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*") or "none"


def _listed(types: frozenset[str]) -> str:
    return ", ".join(f"`{t}`" for t in sorted(types))


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if PAGE.read_text("utf-8") == page() else f"{PAGE.name} is old: run python schemas/caffe_layers.py")
    PAGE.write_text(page(), "utf-8")
