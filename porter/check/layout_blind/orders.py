"""Orders of channels by name: the same order on the outputs of one layer and on the inputs of the next has one."""

from __future__ import annotations

from collections.abc import Sequence

from porter.check.layout_blind.records import Permutation, Relation, Step, Use
from porter.dataclass import replace

Order = tuple[int, ...]


def gathered(relations: Sequence[Relation]) -> tuple[tuple[Relation, ...], tuple[Permutation, ...]]:
    """The relations with a step for each axis that is permuted, and the permutations that these name: P1, P2 …

    Flattened dimensions are taken apart: where whole blocks of neighbours move, it is the blocks' order that is named.
    """
    found = [(order, axis, r.b[0]) for r in relations for axis, order in r.permuted]
    plain = dict.fromkeys(sorted((order for order, _, _ in found), key=len))
    known = dict[Order, tuple[Order, int, int]]()
    for order in plain:
        known[order] = next((parts for other in known.values() if (parts := _parts(order, other[0])) is not None), (order, 1, 1))
    names = dict[Order, str]()
    uses = dict[Order, list[Use]]()
    for order, axis, tensor in found:
        whole, blocks, repeats = known[order]
        names.setdefault(whole, f"P{len(names) + 1}")
        uses.setdefault(whole, []).append(Use(tensor, axis, blocks, repeats))
    with_steps = tuple([_with_steps(r, known, names) for r in relations])
    return with_steps, tuple([Permutation(name, order, tuple(uses[order])) for order, name in names.items()])


def _parts(order: Order, base: Order) -> tuple[Order, int, int] | None:
    """`order` as `base`, each element of which is a block of neighbours, or which is repeated; None where it is neither."""
    times, rest = divmod(len(order), len(base))
    if rest or times < 2:
        return None
    if order == tuple([i * times + k for i in base for k in range(times)]):
        return base, times, 1
    if order == tuple([k * len(base) + i for k in range(times) for i in base]):
        return base, 1, times
    # Channels that are flattened first on one side (NCHW) and last on the other (NHWC).
    last = tuple([i * times + k for k in range(times) for i in base])
    return (base, times, times) if order in (last, tuple([k * len(base) + i for i in base for k in range(times)])) else None


def _with_steps(relation: Relation, known: dict[Order, tuple[Order, int, int]], names: dict[Order, str]) -> Relation:
    steps = list(relation.steps)
    for axis, order in relation.permuted:
        whole, blocks, repeats = known[order]
        name = names[whole]
        more = f", in blocks of {blocks}" if blocks > 1 else f", {repeats} times" if repeats > 1 else ""
        more = ", flattened channels first in one and last in the other" if blocks > 1 and repeats > 1 else more
        text = f"axis {axis} in the order {name}{more}"
        steps.append(Step("permutation", text, {"axis": axis, "permutation": name, "blocks": blocks, "repeats": repeats}))
    return replace(relation, steps=tuple(steps))
