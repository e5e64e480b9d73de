"""What an audit tells of layers that follow each other: folding, equalisation, epsilons; by the file's graph, or by its order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from porter.check.precision.audit import Audit
from porter.check.precision.epsilons import USUAL, Epsilon, StatedEpsilons, epsilons
from porter.check.precision.equalisation import Advice, advise, by_order
from porter.check.precision.folding import FoldedAudit, audit_folded, folded_by_order
from porter.dataclass import dataclass
from porter.errors import PorterError, UsageError
from porter.store import TensorStore
from porter.tensor import TensorSpec

if TYPE_CHECKING:
    from porter.check.precision.topology import Topology


@dataclass(frozen=True, slots=True)
class Layers:
    """What an audit tells of layers that follow each other, None where it was not asked for; known: by what that is known.

    epsilons: what becomes of those of the normalisations.
    """

    epsilons: tuple[Epsilon, ...]
    folded: tuple[FoldedAudit, ...] | None
    advice: tuple[Advice, ...] | None
    known: Literal["graph", "order"] | None


def layers_of(
    store: TensorStore, result: Audit, net: str | None, eps: float | None, *, fold: bool, equalise: bool, every_scheme: bool
) -> Layers:
    """What is to tell of the layers of an audited store. What has to be assumed becomes a notice of the store. Reads what is folded.

    net: the prototxt of a Caffe file. eps: what the caller says the epsilon is.

    Raises:
        PorterError: `net` is no net, or a file that says its epsilons is given another.
    """
    topology = _topology(store, net) if fold or equalise else None
    stated = StatedEpsilons(store, net)
    found = _epsilons(result, topology, stated, eps)
    small = tuple([e for value, assumed in found.items() for e in epsilons(result.targets, value, assumed=assumed)])
    folded = _folded(store, result, topology, stated, eps, every_scheme) if fold else None
    advice = _advice(store, result, topology) if equalise else None
    return Layers(small, folded, advice, ("order" if topology is None else "graph") if fold or equalise else None)


def _topology(store: TensorStore, net: str | None) -> Topology | None:
    """What follows what; None where nothing but the order of the tensors says it."""
    from porter.check.precision.topology import Topology
    from porter.graph.weight_file import graph_of

    try:
        model = graph_of(store, net)
    except PorterError as error:
        # The prototxt that was given has to be right; a net of training, which a caffemodel may have in itself, seldom is.
        if net is not None:
            raise
        store.note("assumed", f"what follows what is taken from the file's order: {error.message}; --net deploy.prototxt says it")
        return None
    return Topology(model, store) if model is not None else None


def _epsilons(result: Audit, topology: Topology | None, stated: StatedEpsilons, eps: float | None) -> dict[float, bool]:
    """Each epsilon of the variances once, and whether it is assumed.

    Raises:
        UsageError: the file says them, and `eps` is given as well.
    """
    variances = [t.spec for t in result.tensors if t.watch == "variance"]
    found = topology.epsilons if topology is not None else tuple([e for v in variances if (e := stated.of(v)) is not None])
    if found and eps is not None:
        said = ", ".join(f"{e:g}" for e in dict.fromkeys(found))
        raise UsageError("U808", f"the network itself says its epsilons ({said}), and --eps {eps:g} is given", hint="leave --eps out")
    unknown = any(stated.of(v) is None for v in variances) and topology is None
    return {**({USUAL if eps is None else eps: eps is None} if unknown else {}), **dict.fromkeys(found, False)}


def _folded(
    store: TensorStore, result: Audit, topology: Topology | None, stated: StatedEpsilons, eps: float | None, every_scheme: bool
) -> tuple[FoldedAudit, ...]:
    def of(spec: TensorSpec) -> float:
        found = stated.of(spec)
        return found if found is not None else USUAL if eps is None else eps

    tensors = topology.fold() if topology is not None else folded_by_order(store, of)
    found = audit_folded(tensors, result.tensors, result.targets, every_scheme=every_scheme, least_snr=result.least_snr)
    for one in found:
        before = one.before.summary.counts if one.before is not None else None
        counts = one.after.summary.counts
        strange = counts.numbers - counts.finite - (before.numbers - before.finite if before is not None else 0)
        if strange > 0:
            said = f"with its normalisation folded in, {strange:,} of {counts.numbers:,} numbers are NaN or infinite"
            store.note("note", said, one.after.spec.name)
    return found


def _advice(store: TensorStore, result: Audit, topology: Topology | None) -> tuple[Advice, ...]:
    names = [t.spec.name for t in result.tensors]
    return tuple(advise(topology.neighbours(names) if topology is not None else by_order([store[n] for n in names])))
