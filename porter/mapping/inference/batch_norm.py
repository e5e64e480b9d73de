"""Matching by values: batch normalisations of A that B holds folded into the layer before, or with Caffe's scale factor divided out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass, replace
from porter.dtypes import DType
from porter.mapping.inference.entries import Entry, cast
from porter.mapping.inference.layouts import SAME
from porter.mapping.inference.near_values import NEAR, NOT_EQUAL
from porter.mapping.inference.roles import layer_of, role_of
from porter.mapping.inference.state import Form, Match, State
from porter.mapping.ops.base import Operand, Operation, OperationError
from porter.mapping.ops.batch_norm import BnStats
from porter.mapping.ops.elementwise import Add
from porter.mapping.ops.folding import FoldBn
from porter.mapping.syntax import Argument, Call, Variable

if TYPE_CHECKING:
    from numpy.typing import NDArray

ULP = 4
"""How far B may be from the fold of A, in units of the last place, to be taken for it."""

_EPS = (1e-5, 1e-3, 1e-6, 1e-4, 2e-5, 1e-7, 1e-8, 1e-12, 1e-2, 0.0)
"""Values of eps that frameworks use, the usual ones first; each is tried as float64 and as the float32 nearest to it."""

_NEAR, _NEAR_NARROW = 1e-3, 1e-2
"""How far profiles may be apart for weights to be compared at all, in float32 and in narrower types."""

NORM_LABELS = ("gamma", "beta", "mean", "variance", "scale_factor")
"""What `fold_bn` calls the parts of a batch normalisation, in the order in which rules list them."""

_ROUGH = 4
"""Layers that are exactly no fold after which the methods tried are fewer."""


@dataclass(frozen=True, slots=True)
class BatchNorm:
    """The tensors of a batch normalisation, by the label that `fold_bn` knows them by."""

    parts: Mapping[str, Entry]

    @property
    def channels(self) -> int:
        return self.parts["variance"].size

    @property
    def order(self) -> int:
        """Its place in the file."""
        return min(e.order for e in self.parts.values())


def batch_norms(state: State, needed: Sequence[str]) -> list[BatchNorm]:
    """The batch normalisations of A that have the parts `needed` and of which none of these is matched yet, in the order of the file.

    Caffe's scale and shift are in a layer of their own, the next in the file.
    """
    layers = defaultdict[str, dict[str, Entry]](dict)
    for entry in state.a.values():
        role = role_of(entry.spec)
        if role is not None and max(entry.shape, default=1) == entry.size:
            layers[layer_of(entry.name)].setdefault(role, entry)
    names = list(layers)
    found = []
    for place, name in enumerate(names):
        parts = layers[name]
        if "mean" not in parts or "variance" not in parts:
            continue
        labelled = {"mean": parts["mean"], "variance": parts["variance"]}
        if "scale_factor" in parts:
            labelled["scale_factor"] = parts["scale_factor"]
            following = layers[names[place + 1]] if place + 1 < len(names) else {}
            parts = following if "mean" not in following else {}
        for label, roles in (("gamma", ("gamma", "slope", "weight")), ("beta", ("beta", "bias"))):
            part = next((parts[r] for r in roles if r in parts and parts[r].size == labelled["variance"].size), None)
            if part is not None:
                labelled[label] = part
        if all(label in labelled and labelled[label].name in state.left_a for label in needed):
            found.append(BatchNorm(labelled))
    return found


# ---- Caffe's scale factor ----------------------------------------------------------------------------------------------


def match_statistics(state: State) -> None:
    """Match means and variances that are A's divided by Caffe's scale factor, and variances to which B has eps added already."""
    sizes = {e.size for e in state.left_a.values() if role_of(e.spec) in ("mean", "variance")}
    at = {(e.dtype, e.array().tobytes()): e for e in state.left_b.values() if e.size in sizes}
    labels = ("mean", "variance", "scale_factor")
    for norm in batch_norms(state, labels):
        members = [norm.parts[label] for label in labels]
        found = [at.get((e.dtype, values.tobytes())) for e, values in zip(members, _made(BnStats(), labels, members), strict=False)]
        if found[0] is not None and found[1] is not None and found[0] is not found[1]:
            form = Form(calls=(Call("bn_stats"),), arrow="->", source_labels=labels, target_labels=("mean", "variance"))
            names = tuple(e.name for e in members), (found[0].name, found[1].name)
            state.add(Match(*names, form, 1.0, "equal once divided by the scale factor"))
    for entry in list(state.left_a.values()):
        if role_of(entry.spec) == "variance":
            _match_with_eps(state, entry, at)


def _match_with_eps(state: State, entry: Entry, at: Mapping[tuple[DType, bytes], Entry]) -> None:
    for eps in _EPS:
        made = _made(Add(eps), (None,), [entry])[0]
        # An eps that changes no value is no evidence.
        other = at.get((entry.dtype, made.tobytes())) if made.tobytes() != entry.array().tobytes() else None
        if other is not None and other.name in state.left_b:
            form = Form(calls=(Call("add", (Argument(None, eps),)),), arrow="->")
            state.add(Match((entry.name,), (other.name,), form, 1.0, f"equal once {eps:g} is added"))
            return


# ---- folding -----------------------------------------------------------------------------------------------------------


def match_folds(state: State, *, near: bool = False, casts: bool = False) -> None:
    """Match layers of B with what folding a batch normalisation of A into a layer of A gives.

    near: with what is no further from it than another state of the same training. casts: also where the bias is rounded to the
    weight's type.
    """
    norms = [n for n in batch_norms(state, ("mean", "variance")) if all(e.name in state.left_a for e in n.parts.values())]
    if not norms:
        return
    methods = [FoldBn()] if near else _methods()
    found = list[_Folded]()
    weights, targets = (_weights(side.values()) for side in (state.left_a, state.left_b))
    for weight, target in _candidates(weights, targets, near):
        if target.name not in state.left_b or weight.name not in state.left_a:
            continue
        norm = _norm_of(weight, target, norms)
        folded = _fold(state, weight, target, norm, methods, near, casts) if norm is not None else None
        if folded is not None:
            found.append(folded)
            state.add(folded.match)
            norms.remove(folded.norm)
            _narrow(methods, found)
    _agree(state, found)


@dataclass(frozen=True, slots=True)
class _Folded:
    """A fold that was found: its match, and for every method that does how far it is from B."""

    match: Match
    norm: BatchNorm
    methods: Mapping[FoldBn, float]


def _narrow(methods: list[FoldBn], found: Sequence[_Folded]) -> None:
    """Once some layers are exactly no fold, try only the methods that came near for all of them: the others take long for nothing."""
    rough = [f.methods.keys() for f in found if min(f.methods.values()) > 0]
    if len(rough) == _ROUGH:
        common = set.intersection(*map(set, rough))
        methods[:] = [m for m in methods if m in common] or methods


def _agree(state: State, found: Sequence[_Folded]) -> None:
    """Where B is exactly no fold, let layers have the method that most of them can have: one program has folded them all."""
    rough = [f for f in found if min(f.methods.values()) > 0]
    totals = defaultdict[FoldBn, tuple[int, float]](lambda: (0, 0.0))
    for folded in rough:
        for method, apart in folded.methods.items():
            count, total = totals[method]
            totals[method] = (count - 1, total + apart)
    for folded in rough:
        method = min(folded.methods, key=lambda m: totals[m])
        place = state.matches.index(folded.match)
        state.matches[place] = replace(folded.match, form=replace(folded.match.form, calls=(_call(method),)))


def _call(method: FoldBn) -> Call:
    usual = FoldBn().arguments()
    arguments = method.arguments().items()
    return Call("fold_bn", tuple(Argument(k, Variable(v) if isinstance(v, str) else v) for k, v in arguments if v != usual[k]))


def _weights(entries: Iterable[Entry]) -> list[Entry]:
    return [e for e in entries if len(e.shape) >= 2 and e.size and e.dtype.kind == "float"]


def _candidates(ours: Sequence[Entry], theirs: Sequence[Entry], near: bool) -> Iterator[tuple[Entry, Entry]]:
    """Pairs of weights of one shape whose channels differ by a factor each, nothing else."""
    import numpy as np

    by_shape = defaultdict[tuple[int, ...], list[Entry]](list)
    for entry in theirs:
        by_shape[entry.shape].append(entry)
    profiles: dict[tuple[int, ...], NDArray[Any]] = {}
    for entry in ours:
        alike = by_shape.get(entry.shape)
        if not alike:
            continue
        if entry.shape not in profiles:
            profiles[entry.shape] = np.stack([_profile(other) for other in alike])
        profile, seen = _profile(entry), profiles[entry.shape]
        both = (profile > 0) & (seen > 0)
        apart = np.where(both, np.abs(seen - profile), 0).max(1)
        for place in np.flatnonzero(both.any(1)):
            other = alike[place]
            if apart[place] < (NEAR if near else _NEAR if other.dtype.bits >= 32 else _NEAR_NARROW):
                yield entry, other


def _profile(entry: Entry) -> NDArray[Any]:
    """A number for each output channel that a factor does not change: the length of its projection on a fixed direction."""
    import numpy as np

    rows: NDArray[Any] = np.asarray(entry.array().reshape(entry.shape[0], -1), np.float64)
    direction = np.random.default_rng(1).standard_normal(rows.shape[1])
    length = np.sqrt((rows * rows).sum(1))
    with np.errstate(all="ignore"):
        seen = np.abs(np.dot(rows, direction)) / (length * np.sqrt(np.dot(direction, direction)))
    return np.where(np.isfinite(seen), seen, 0.0)


def _norm_of(weight: Entry, target: Entry, norms: Sequence[BatchNorm]) -> BatchNorm | None:
    """The batch normalisation that scales the channels of `weight` as those of `target` are scaled; the next in the file first."""
    import numpy as np

    rows, wanted = (np.asarray(e.array().reshape(e.shape[0], -1), np.float64) for e in (weight, target))
    square = (rows * rows).sum(1)
    with np.errstate(all="ignore"):
        factor = (rows * wanted).sum(1) / square
    for norm in sorted(norms, key=lambda n: (n.order < weight.order, abs(n.order - weight.order))):
        if norm.channels != weight.shape[0]:
            continue
        scale = _scale(norm)
        usable = (square > 0) & np.isfinite(scale) & (np.abs(scale) > 0)
        if usable.any() and np.median(np.abs(factor[usable] / scale[usable] - 1)) < 0.05:
            return norm
    return None


def _scale(norm: BatchNorm) -> NDArray[Any]:
    import numpy as np

    parts = {label: np.asarray(e.array().reshape(-1), np.float64) for label, e in norm.parts.items()}
    by = parts["scale_factor"][0] if "scale_factor" in parts else 1.0
    with np.errstate(all="ignore"):
        scale: NDArray[Any] = parts.get("gamma", np.float64(1)) / np.sqrt(parts["variance"] / (by or 1.0) + 1e-5)
    return scale


def _methods() -> list[FoldBn]:
    """All ways to fold that are tried; the one that fitted last is moved to the front."""
    import numpy as np

    methods = [FoldBn(eps, arithmetic="f32") for eps in _EPS]
    for eps in _EPS:
        methods += [FoldBn(e) for e in dict.fromkeys((eps, float(np.float32(eps))))]
    return methods


def _fold(state: State, weight: Entry, target: Entry, norm: BatchNorm, methods: list[FoldBn], near: bool, casts: bool) -> _Folded | None:
    """The match of a layer with its fold, by the method that comes nearest, if that is near enough."""
    labels = ["weight", *(label for label in NORM_LABELS if label in norm.parts)]
    members = [weight, *(norm.parts[label] for label in labels[1:])]
    bias = _bias_of(state, weight)
    if bias is not None:
        labels.insert(1, "bias")
        members.insert(1, bias)
    fits = dict[FoldBn, tuple[float, Entry]]()
    # Bits that rounding leaves are those of the exact fold, or their neighbours.
    far, limit = (_share, NEAR) if near else (_ulp, ULP if target.dtype.bits >= weight.dtype.bits else 1)
    biases = {(bias or weight).dtype, *([target.dtype] if casts else [])}
    for method in methods:
        try:
            made = _made(method, labels, members)
        except OperationError:
            continue
        apart = far(cast(made[0], weight.dtype, target.dtype), target.array())
        found = _bias_in(state, made[1], target, norm, (bias or weight).dtype, biases, near) if apart <= limit else None
        if found is not None:
            fits[method] = (apart + found[1], found[0])
            if fits[method][0] == 0:
                break
    if not fits:
        return None
    method = min(fits, key=lambda m: fits[m][0])
    apart, other = fits[method]
    methods.insert(0, methods.pop(methods.index(method)))
    exact, last, other_state = "equal once batch normalisation is folded", ", but for the last bits", f"; {NOT_EQUAL}"
    reason = exact if apart == 0 else f"batch normalisation folded{other_state if near else last}"
    after = target.dtype.short if target.dtype != weight.dtype else None
    form = Form(SAME, (_call(method),), "->", tuple(labels), ("weight", "bias"), after)
    match = Match(tuple(e.name for e in members), (target.name, other.name), form, 1.0 if apart == 0 else 0.8 if near else 0.9, reason)
    return _Folded(match, norm, {m: score for m, (score, entry) in fits.items() if entry is other})


def _bias_of(state: State, weight: Entry) -> Entry | None:
    """The bias of the layer that `weight` is in, where it has one: the tensor of A beside it that is called so."""
    layer = layer_of(weight.name)
    beside = (e for e in state.left_a.values() if layer and layer_of(e.name) == layer)
    return next((e for e in beside if role_of(e.spec) == "bias" and e.size == weight.shape[0]), None)


def _bias_in(
    state: State, made: NDArray[Any], target: Entry, norm: BatchNorm, dtype: DType, dtypes: set[DType], near: bool
) -> tuple[Entry, float] | None:
    """The vector of B of these dtypes nearest to the folded bias of `dtype`, and how far it is, in ULP of the largest term of the sum
    or as a share.
    """
    import numpy as np

    terms = np.abs(_scale(norm) * np.asarray(norm.parts["mean"].array().reshape(-1), np.float64))
    if "beta" in norm.parts:
        terms = np.maximum(terms, np.abs(np.asarray(norm.parts["beta"].array().reshape(-1), np.float64)))
    best: tuple[Entry, float] | None = None
    vectors = [e for e in state.left_b.values() if e.size == made.size and e.dtype in dtypes and e.name != target.name]
    for entry in sorted(vectors, key=lambda e: abs(e.order - target.order)):
        values = entry.array().reshape(-1)
        same = cast(made.reshape(-1), dtype, entry.dtype)
        apart = _share(same, values) if near else _ulp(same, values, terms)
        if apart == 0:
            return entry, 0.0
        if apart <= (2 * NEAR if near else ULP if entry.dtype.bits >= dtype.bits else 1) and (best is None or apart < best[1]):
            best = (entry, apart)
    return best


def _made(operation: Operation, labels: Sequence[str | None], members: Sequence[Entry]) -> list[NDArray[Any]]:
    """What an operation makes of these tensors, rounded to the dtypes of its outputs."""
    from porter.mapping.ops.rounding import rounded, widened

    operands = [Operand(e.name, e.dtype, e.shape, label) for e, label in zip(members, labels, strict=True)]
    made = operation.compute([widened(e.array(), e.dtype) for e in members], operands)
    outputs = operation.outputs(operands)
    return [rounded(values, out.dtype)[0] for values, out in zip(made, outputs, strict=True)]


def _share(one: NDArray[Any], other: NDArray[Any]) -> float:
    """How far two arrays are apart on average, as a share of `other`."""
    import numpy as np

    x, y = np.asarray(one, np.float64), np.asarray(other, np.float64)
    size = np.sqrt((y * y).mean())
    return float(np.sqrt(((x - y) ** 2).mean()) / size) if size else float("inf")


def _ulp(one: NDArray[Any], other: NDArray[Any], size: NDArray[Any] | None = None) -> float:
    """How far two arrays are apart at most, in units of the last place of `other`, or of `size` where that is larger."""
    import numpy as np

    x, y = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if not (np.isfinite(x) == np.isfinite(y)).all():
        return float("inf")
    scale = np.abs(y) if size is None else np.maximum(np.abs(y), size)
    unit = np.spacing(np.maximum(scale, np.finfo(np.float32).tiny).astype(other.dtype)).astype(np.float64)
    with np.errstate(all="ignore"):
        return float(np.nanmax(np.abs(x - y) / unit, initial=0.0))
