"""The distributions of a store's tensors as a picture: a small histogram for each, as people draw them in notebooks."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from porter.check.statistics.comparison import Compared
from porter.check.statistics.histograms import Linear
from porter.check.statistics.kinds import KINDS
from porter.check.statistics.measure import Statistics, TensorStatistics
from porter.dataclass import dataclass
from porter.errors import MissingDependencyError, UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ENDINGS = (".png", ".svg")

MOST = 120
"""Tensors of one picture: more would not be told apart."""

LONGEST = 50
"""Characters of a name: what fits above its histogram."""

_COLUMNS = 4
_INK = {"parameter": "#31688e", "buffer": "#35a26b", "counter": "#8a8a8a"}
_A, _B = "#31688e", "#e07b39"
_BOTH = 0.55
"""How opaque two histograms are that lie over each other."""


def check_path(path: str) -> None:
    """Refuse what can be refused before the work.

    Raises:
        UsageError: the ending is neither `.png` nor `.svg`.
        MissingDependencyError: matplotlib is not installed.
    """
    from importlib.util import find_spec

    if os.path.splitext(path)[1].lower() not in ENDINGS:
        raise UsageError("U803", "a plot is a .png or an .svg file", path=path, hint="name it 'weights.png' or 'weights.svg'")
    if find_spec("matplotlib") is None:
        raise MissingDependencyError("D801", "plots need matplotlib, which is not installed", hint="pip install 'porter[report]'")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """How many tensors a picture does not show. smaller: than the `MOST` that it does; empty: without a finite number."""

    smaller: int
    empty: int


def plot(result: Statistics, path: str, title: str) -> LeftOut:
    """Draw the distributions of the largest `MOST` tensors, in the order of the file.

    Raises:
        FileAccessError: the file cannot be written.
    """
    drawable = [t for t in result.tensors if t.distribution is not None and t.distribution.linear is not None]
    shown = _largest(drawable, [t.spec.size for t in drawable])
    kinds = [kind for kind in KINDS if any(t.kind == kind for t in shown)]
    figure, grid = _figure(len(shown), title, {f"{kind}s": _INK[kind] for kind in kinds} if len(kinds) > 1 else {})
    for axes, one in zip(grid, shown, strict=False):
        assert one.distribution is not None
        assert one.distribution.linear is not None
        _bars(axes, one.distribution.linear, _INK[one.kind])
        _caption(axes, one.spec.name, _facts(one))
    _save(figure, path)
    return LeftOut(len(drawable) - len(shown), len(result.tensors) - len(drawable))


def plot_compared(found: Sequence[Compared], path: str, title: str, names: tuple[str, str]) -> LeftOut:
    """Draw both files' distributions of each tensor over one range. See `plot`."""
    drawable = [c for c in found if c.linear_a is not None and c.linear_b is not None]
    shown = _largest(drawable, [c.a.spec.size for c in drawable])
    sides = {f"{side}: {_cut(name, LONGEST)}": color for side, name, color in (("a", names[0], _A), ("b", names[1], _B))}
    figure, grid = _figure(len(shown), title, sides if shown else {}, _BOTH)
    for axes, c in zip(grid, shown, strict=False):
        assert c.linear_a is not None
        assert c.linear_b is not None
        _bars(axes, c.linear_a, _A, _BOTH)
        _bars(axes, c.linear_b, _B, _BOTH)
        _caption(axes, c.a.spec.name, f"{_shape(c.a)} · overlap {c.overlap:.1%}")
    _save(figure, path)
    return LeftOut(len(drawable) - len(shown), len(found) - len(drawable))


def _largest(items: Sequence[Any], sizes: Sequence[int]) -> list[Any]:
    if len(items) <= MOST:
        return list(items)
    kept = set(sorted(range(len(items)), key=lambda i: -sizes[i])[:MOST])
    return [item for i, item in enumerate(items) if i in kept]


def _figure(count: int, title: str, legend: Mapping[str, str], alpha: float = 1.0) -> tuple[Figure, list[Axes]]:
    """A figure with room for `count` histograms below its title and its legend, colors by what they are."""
    from matplotlib.figure import Figure

    columns = max(1, min(_COLUMNS, count))
    rows = max(1, math.ceil(count / columns))
    width = max(3.1 * columns, 5.0)
    # Side by side where they have the room.
    lines = len(legend) if width < 9 else min(len(legend), 1)
    height = 0.6 + 1.75 * rows + 0.25 * lines
    figure = Figure(figsize=(width, height), layout="constrained")
    # Its empty lines keep the room of the legend.
    figure.suptitle("\n".join([_plain(_cut(title, int(12 * width))), *[" "] * lines]), fontsize=10, x=0.01, ha="left", linespacing=1.7)
    if legend:
        _legend(figure, legend, alpha, 1 - 0.28 / height, ncols=math.ceil(len(legend) / lines))
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid[count:]:
        axes.axis("off")
    return figure, grid


def _bars(axes: Axes, histogram: Linear, color: str, alpha: float = 1.0) -> None:
    total = sum(histogram.count)
    axes.stairs([n / total for n in histogram.count], histogram.edges, fill=True, color=color, alpha=alpha, linewidth=0)
    if histogram.edges[0] <= 0 <= histogram.edges[-1]:
        axes.axvline(0, color="#00000055", linewidth=0.6)
    axes.set_yticks([])
    axes.tick_params(axis="x", labelsize=6, length=2, pad=1)
    axes.locator_params(axis="x", nbins=5)
    axes.ticklabel_format(axis="x", style="sci", scilimits=(-3, 4))
    axes.xaxis.get_offset_text().set_fontsize(6)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)


def _caption(axes: Axes, name: str, facts: str) -> None:
    axes.set_title(f"{_plain(_cut(name, LONGEST))}\n{facts}", fontsize=6.5, loc="left", pad=2)


def _cut(text: str, most: int) -> str:
    """`text` in at most so many characters, without its middle."""
    return text if len(text) <= most else f"{text[: most // 2 - 1]}…{text[-most // 2 :]}"


def _facts(one: TensorStatistics) -> str:
    s = one.summary
    std = f" · std {s.std:.3g}" if s.std is not None else ""
    strange = "".join(f" · {n:,} {what}" for n, what in ((s.counts.nan, "NaN"), (s.counts.infinite, "Inf")) if n)
    return f"{_shape(one)}{std}{strange}"


def _shape(one: TensorStatistics) -> str:
    return "×".join(map(str, one.spec.shape)) if one.spec.shape else "scalar"


def _plain(text: str) -> str:
    """`text` as it is: matplotlib takes what stands between dollar signs for formulas, and draws no control characters."""
    from porter.errors import printable

    return printable(text).replace("$", r"\$")


def _legend(figure: Figure, colors: Mapping[str, str], alpha: float, top: float, ncols: int) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=color, alpha=alpha, linewidth=0) for color in colors.values()]
    names = [_plain(name) for name in colors]
    figure.legend(handles, names, loc="upper left", bbox_to_anchor=(0, top), ncols=ncols, frameon=False, fontsize=8, borderpad=0.3)


def _save(figure: Figure, path: str) -> None:
    import io

    from porter.io.atomic import OutputGroup

    ending = os.path.splitext(path)[1].lower()[1:]
    drawn = io.BytesIO()
    # Neither a date nor random ids: equal statistics give equal files.
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": "porter", "svg.fonttype": "none"}):
        figure.savefig(drawn, format=ending, dpi=130, metadata={"Date": None} if ending == "svg" else None)
    with OutputGroup() as group:
        group.create(path).write(drawn.getvalue())
