"""Batch normalisations that B seems to hold folded, where only names and shapes say so."""

from __future__ import annotations

from collections.abc import Mapping

from porter.mapping.inference.batch_norm import NORM_LABELS, BatchNorm, batch_norms
from porter.mapping.inference.entries import Entry
from porter.mapping.inference.layouts import SAME
from porter.mapping.inference.roles import layer_of, role_of
from porter.mapping.inference.state import Form, Match, State
from porter.mapping.inference.structure import match_described
from porter.mapping.syntax import Call

_LESS = 0.7
"""How much less sure a fold is than the match of its weight: nothing but the missing tensors speaks for it, and eps is not known."""


def match_described_folds(state: State, note: str) -> None:
    """Match layers of B with layers of A and the batch normalisations behind them, if B has none and as many biases less vectors."""
    norms = batch_norms(state, ("mean", "variance"))
    if not norms or not _folded(state, norms):
        return
    parts = {e.name: e for norm in norms for e in norm.parts.values()}
    for name in parts:
        state.left_a.pop(name, None)
    match_described(state, note)
    state.left_a.update(parts)
    for norm in norms:
        _fold(state, norm)
    state.left_a = {name: state.left_a[name] for name in state.a if name in state.left_a}


def _folded(state: State, norms: list[BatchNorm]) -> bool:
    """Whether B has neither means nor variances, nor vectors without a name that could be such."""
    if any(role_of(e.spec) in ("mean", "variance") for e in state.b.values()):
        return False
    vectors = [sum(len(e.shape) == 1 for e in side.values()) for side in (state.a, state.b)]
    return vectors[1] <= vectors[0] - 2 * len(norms)


def _fold(state: State, norm: BatchNorm) -> None:
    """Take the batch normalisation into the match of the layer before it, if that has a bias in B."""
    plain = {m.sources[0]: m for m in state.matches if len(m.sources) == 1 and m.form.layout is SAME}
    weight = _layer_before(state, norm, plain)
    if weight is None:
        return
    of_weight = plain[weight.name]
    target = state.b[of_weight.targets[0]]
    biases = (e for e in state.a.values() if layer_of(e.name) == layer_of(weight.name) and role_of(e.spec) == "bias")
    own = next((e for e in biases if e.size == norm.channels and e.name not in {p.name for p in norm.parts.values()}), None)
    of_bias = plain.get(own.name) if own is not None else None
    bias = state.b[of_bias.targets[0]] if of_bias is not None else _bias_beside(state, target, norm.channels)
    if bias is None:
        return
    parts = {"weight": weight} | ({"bias": own} if of_bias is not None and own is not None else {})
    parts |= {label: norm.parts[label] for label in NORM_LABELS if label in norm.parts}
    for match in (of_weight, of_bias):
        if match is not None:
            state.take_back(match)
    after = target.dtype.short if target.dtype != weight.dtype else None
    form = Form(SAME, (Call("fold_bn"),), "->", tuple(parts), ("weight", "bias"), after)
    reason = f"batch normalisation folded, with eps as usual; {of_weight.reason}"
    names = tuple(e.name for e in parts.values()), (target.name, bias.name)
    state.add(Match(*names, form, _LESS * of_weight.confidence, reason, of_weight.rivals))


def _layer_before(state: State, norm: BatchNorm, plain: Mapping[str, Match]) -> Entry | None:
    """The weight that the batch normalisation follows: of its own layer or block by name, then the nearest before it in the file."""
    own = layer_of(norm.parts["variance"].name)
    found: list[tuple[tuple[bool, bool, int], Entry]] = []
    for entry in state.a.values():
        layer = layer_of(entry.name)
        inside = bool(layer) and layer in (own, layer_of(own))
        if len(entry.shape) >= 2 and entry.shape[0] == norm.channels and entry.name in plain and (inside or entry.order < norm.order):
            found.append(((inside, layer_of(layer) == layer_of(own), -abs(entry.order - norm.order)), entry))
    return max(found, key=lambda f: f[0], default=(None, None))[1]


def _bias_beside(state: State, weight: Entry, channels: int) -> Entry | None:
    """The vector of B that nothing has been found for in the layer of `weight`, or next to it in the file."""
    vectors = [e for e in state.left_b.values() if e.shape == (channels,)]
    layer = layer_of(weight.name)
    inside = [e for e in vectors if layer and layer_of(e.name) == layer]
    return next(iter(inside), None) or next((e for e in vectors if e.order == weight.order + 1), None)
