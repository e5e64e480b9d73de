"""Axis patterns for movements of elements: the usual ones by their usual letters, any other with letters made for it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from porter.dataclass import dataclass
from porter.mapping.inference.digits import Digits, merged, split
from porter.mapping.syntax import Axes, Axis, AxisElement, Count, Expression, Group, Number

Dimensions = tuple[tuple[str, ...], ...]
"""For each dimension the axes it holds, the last running fastest; a dimension of one holds none."""


@dataclass(frozen=True, slots=True)
class Layout:
    """An axis pattern for each side, and the sizes that shapes do not give. Sides with the same pattern change nothing."""

    source: Dimensions
    target: Dimensions
    where: tuple[tuple[str, int], ...] = ()

    @property
    def moves(self) -> bool:
        """Whether a rule has to say it: no pattern is needed for a tensor that stays as it is."""
        return self.source != self.target

    def sizes(self, source: Sequence[int], target: Sequence[int]) -> dict[str, int] | None:
        """The size of each axis, or None where the pattern does not fit these shapes."""
        sizes = dict(self.where)
        for dimensions, shape in ((self.source, source), (self.target, target), (self.source, source)):
            if len(dimensions) != len(shape) or not all(_solved(axes, n, sizes) for axes, n in zip(dimensions, shape, strict=True)):
                return None
        fits = all(
            math.prod(sizes.get(axis, 0) for axis in axes) == n
            for axes, n in zip((*self.source, *self.target), (*source, *target), strict=True)
        )
        return sizes if fits else None

    def digits(self, source: Sequence[int], target: Sequence[int]) -> Digits | None:
        """The movement it stands for between these shapes, or None where it does not fit them."""
        sizes = self.sizes(source, target)
        if sizes is None:
            return None
        strides, stride = dict[str, int](), 1
        for axis in reversed(list(itertools.chain.from_iterable(self.source))):
            strides[axis] = stride
            stride *= sizes[axis]
        order = reversed(list(itertools.chain.from_iterable(self.target)))
        return merged([(sizes[axis], strides[axis]) for axis in order])

    def moves_elements(self, source: Sequence[int], target: Sequence[int]) -> bool:
        """Whether elements change places, not only dimensions their sizes."""
        return self is not SAME and self.digits(source, target) != merged(((math.prod(source), 1),))

    def axes(self) -> tuple[Axes, Axes]:
        """Both patterns as nodes of a map."""
        return _axes(self.source), _axes(self.target)

    def sizes_given(self) -> tuple[tuple[str, Expression], ...]:
        """`where`, as a rule holds it."""
        return tuple((name, Number(value)) for name, value in self.where)


SAME = Layout((), ())
"""No change: the tensors have one shape, and the same bytes."""


def _solved(axes: tuple[str, ...], size: int, sizes: dict[str, int]) -> bool:
    """Work out the one axis of a dimension that is not known, if there is one; False where it cannot be."""
    unknown = [axis for axis in axes if axis not in sizes]
    known = math.prod(sizes[axis] for axis in axes if axis in sizes)
    if len(unknown) == 1:
        if not known or size % known:
            return False
        sizes[unknown[0]] = size // known
    return bool(unknown) or known == size


def _axes(dimensions: Dimensions) -> Axes:
    return Axes(tuple(_element(axes) for axes in dimensions))


def _element(axes: tuple[str, ...]) -> AxisElement:
    if not axes:
        return Count(1)
    return Axis(axes[0]) if len(axes) == 1 else Group((tuple(Axis(axis) for axis in axes),))


def _pattern(text: str) -> Dimensions:
    return tuple(() if axis == "1" else (axis,) for axis in text.split())


USUAL = tuple(
    Layout(_pattern(one), _pattern(other))
    for one, other in (
        ("o i h w", "h w i o"),
        ("h w i o", "o i h w"),
        ("o i h w", "h w o i"),
        ("h w o i", "o i h w"),
        ("o i h w", "o i w h"),
        ("o i h w", "w h i o"),
        ("w h i o", "o i h w"),
        ("o i", "i o"),
        ("o i w", "w i o"),
        ("w i o", "o i w"),
        ("o i d h w", "d h w i o"),
        ("d h w i o", "o i d h w"),
        ("o i 1 1", "o i"),
        ("o i", "o i 1 1"),
        ("o i 1 1", "i o"),
        ("o i", "1 1 i o"),
        ("o i 1", "o i"),
        ("o i", "o i 1"),
    )
)
"""Kernels as frameworks lay them out. Source: Caffe and PyTorch store (out, in, h, w) and (out, in) (PyTorch 2.x documentation,
`torch.nn.Conv2d`, `torch.nn.Linear`); Keras and TensorFlow (h, w, in, out) and (in, out), depthwise (h, w, in, multiplier)
(Keras 3 documentation, `Conv2D`, `DepthwiseConv2D`, `Dense`)."""


def layout_of(digits: Digits, source: Sequence[int], target: Sequence[int], channels: frozenset[int] = frozenset()) -> Layout | None:
    """A pattern for a movement: none where nothing moves, a usual one where it says the same, else one made of its digits.

    channels: how many channels layers of this net have, to tell which axis of a flattened dimension is the channels'.
    None where no axis pattern can say it: dimensions that share no common factors (`4 6 -> 3 8`).
    """
    size = math.prod(source)
    if tuple(source) == tuple(target) and digits == merged(((size, 1),)):
        return SAME
    for layout in USUAL:
        if layout.digits(source, target) == digits:
            return layout
    return made(digits, source, target, channels) if size else None


def made(digits: Digits, source: Sequence[int], target: Sequence[int], channels: frozenset[int] = frozenset()) -> Layout | None:
    """The pattern with one axis for each digit, cut where dimensions end."""
    pieces = split(digits, source, target)
    if pieces is None:
        return None
    in_target = _placed([radix for radix, _ in pieces], target)
    by_stride = sorted(range(len(pieces)), key=lambda k: pieces[k][1])
    in_source = [[by_stride[k] for k in axes] for axes in _placed([pieces[k][0] for k in by_stride], source)]
    letters = _letters(in_source, in_target, [radix for radix, _ in pieces], channels)
    sizes = {letters[k]: pieces[k][0] for k in range(len(pieces))}
    sides = [tuple(tuple(letters[k] for k in axes) for axes in side) for side in (in_source, in_target)]
    return Layout(sides[0], sides[1], _given(sides, sizes, channels))


def _placed(radices: Sequence[int], shape: Sequence[int]) -> list[list[int]]:
    """Which of these axes, fastest first, each dimension holds, slowest first."""
    dimensions: list[list[int]] = []
    k = 0
    for length in reversed(shape):
        held, done = list[int](), 1
        while done < length:
            held.append(k)
            done *= radices[k]
            k += 1
        dimensions.append(held[::-1])
    return dimensions[::-1]


def _letters(source: list[list[int]], target: list[list[int]], sizes: Sequence[int], channels: frozenset[int]) -> dict[int, str]:
    """A name for each axis: `o`, `i` and so on for whole dimensions, `c`, `h`, `w` for what a flattened one holds."""
    letters = dict[int, str]()
    flat = [axes for axes in (*source, *target) if len(axes) > 1]
    for axes in flat:
        if any(k in letters for k in axes) or len(axes) > 3:
            continue
        channel = _channel(axes, sizes, channels)
        rest = [k for k in axes if k != channel]
        names = ["hw"] if len(rest) == 1 else ["h", "w"]
        if set(letters.values()).isdisjoint({*names, "c"}):
            letters.update({channel: "c"} | dict(zip(rest, names, strict=True)))
    free = iter([x for x in ("o", "i", *(("h", "w") if not letters else ()), *"abdefgjklmnpqrstuvxyz") if x not in letters.values()])
    for k in itertools.chain.from_iterable((*source, *target)):
        if k not in letters:
            letters[k] = next(free, None) or f"x{k}"
    return letters


def _channel(axes: Sequence[int], sizes: Sequence[int], channels: frozenset[int]) -> int:
    """Of the axes in a flattened dimension the channels': the first or the last, by what numbers of channels there are."""
    return max((axes[0], axes[-1]), key=lambda k: (sizes[k] in channels, sizes[k]))


def _given(sides: Sequence[Dimensions], sizes: Mapping[str, int], channels: frozenset[int]) -> tuple[tuple[str, int], ...]:
    """The sizes without which a flattened dimension cannot be taken apart, on either side: all of its axes but one."""
    given = list[str]()
    for dimensions in sides:
        for axes in dimensions:
            left = [axis for axis in axes if axis not in given]
            if len(axes) > 1 and len(left) > 1:
                spare = "c" if "c" in left else left[0]
                given += [axis for axis in left if axis != spare]
    return tuple((axis, sizes[axis]) for axis in given)
