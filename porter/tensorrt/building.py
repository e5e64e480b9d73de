"""`porter tensorrt build` as a library: a network taken over, built by TensorRT, checked weight by weight, and written as an engine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from porter.check.precision.plan import read_plan
from porter.dataclass import dataclass, field
from porter.errors import TensorRTError, UsageError
from porter.formats.registry import open_store
from porter.graph.builder import made_of
from porter.graph.network import Network as Graph
from porter.graph.porting import PortOptions, open_network
from porter.io.atomic import OutputGroup
from porter.io.staging import check_free
from porter.mapping.render import dumps
from porter.store import TensorStore
from porter.tensor import Json
from porter.tensorrt.checking import net_manifest
from porter.tensorrt.checking.origin import Origin, origin, origin_by_name
from porter.tensorrt.checking.weights import Report, check
from porter.tensorrt.layers import Network
from porter.tensorrt.live.engine import Profiles
from porter.tensorrt.live.live import Live, build
from porter.tensorrt.lowering.lower import lower
from porter.tensorrt.lowering.mixed import mixed
from porter.tensorrt.lowering.precision import narrowed
from porter.tensorrt.package import Package, find
from porter.tensorrt.substitution import has_codes, with_values
from porter.tensorrt.walk.walk import read


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What a caller may say about building.

    graph: how the network is taken over. wts: a file with the values of all weights, by the names of `stored`. dtype: what is computed
    in: `float32`, `float16` or `bfloat16`; plan: a file that says it tensor by tensor. profiles: for inputs with open sizes. check:
    compare the weights that TensorRT holds.
    """

    graph: PortOptions = field(default_factory=PortOptions)
    wts: str | None = None
    dtype: str = "float32"
    profiles: Profiles = field(default_factory=dict)
    check: bool = True
    overwrite: bool = False
    optimization_level: int | None = None
    plan: str | None = None


@dataclass(frozen=True, slots=True)
class Built:
    """What became of it.

    network: the layers; the values of their weights cannot be read any more, since the files are closed. report: the check of the
    weights, None without one. map: from the file to the weights' names, as text; None where they come from no file. manifest: what
    `net.json` holds. files: bytes of what was written, by path; none where a check failed. notices: what a user has to know, a line each.
    """

    network: Network
    package: Package
    report: Report | None
    map: str | None
    manifest: Mapping[str, Json]
    files: Mapping[str, int]
    notices: tuple[str, ...]


def build_engine(source: str, weights: str | None, output: str | None, options: BuildOptions) -> Built:
    """Build the network in `source`, check it, and write its engine to `output`, with its manifest beside it.

    source, weights: as for `porter.graph.porting.port`. output: None writes nothing, and makes no engine. Nothing is written either
    where the check finds other weights than it should. Both files appear, or none.

    Raises:
        PorterError: a file is broken, the network cannot be taken over or built exactly, or an output exists.
    """
    paths = _outputs(output, [source, weights, options.wts], options.overwrite)
    package = find()
    with open_network(source, weights, options.graph) as graph, open_values(options.wts) as wts:
        network = lower(graph.model, codes=has_codes(wts))
        if wts is not None:
            network = with_values(network, wts)
        network = _in_types(network, options, graph, wts)
        live = build(network, package, profiles=options.profiles)
        origin = _origin(network, graph, wts) if options.check else None
        report = check(network, read(live.network, package, copy=False), origin) if options.check else None
        manifest = net_manifest.document(network, package)
        wrong = report is not None and not report.equal
        files = {} if wrong else _write(live, manifest, paths, options.optimization_level)
        map_text = "\n# What is taken once more.\n\n".join(map(dumps, origin.maps)) if origin is not None else None
        notices = (*_notices(graph, wts is not None), *network.notices, *package.log.warnings())
        return Built(network, package, report, map_text, manifest, files, notices)


def _in_types(network: Network, options: BuildOptions, graph: Graph, wts: TensorStore | None) -> Network:
    """The network in the types that it is to compute in."""
    if options.plan is not None:
        known = [*(wts or ()), *(graph.store or ())]
        return mixed(network, read_plan(options.plan).dtypes, known, made_of(graph.model), options.plan)
    return network if options.dtype == "float32" else narrowed(network, options.dtype)


def _outputs(output: str | None, inputs: Sequence[str | None], overwrite: bool) -> tuple[str, str] | None:
    """The paths of the engine and of its manifest, which are free."""
    if output is None:
        return None
    folder, name = os.path.split(output)
    stem = os.path.splitext(name)[0]
    manifest = os.path.join(folder, f"{stem}.json")
    if not stem or os.path.normpath(manifest) == os.path.normpath(output):
        raise UsageError("U940", f"'{output}' is no name for an engine: its manifest would be '{manifest}'", hint="-o net.engine")
    written = {os.path.realpath(path) for path in (output, manifest)}
    for path in inputs:
        if path is not None and os.path.realpath(path) in written:
            raise UsageError("U933", f"'{path}' would be written over itself", hint="write to another folder")
    check_free(folder or ".", [name, f"{stem}.json"], overwrite=overwrite)
    return output, manifest


@contextmanager
def open_values(path: str | None) -> Iterator[TensorStore | None]:
    """The file of `--wts`, open until the end of the `with` block; None for None. What is wrong with its tensors names it."""
    if path is None:
        yield None
        return
    with open_store(path) as store:
        try:
            yield store
        except TensorRTError as error:
            # What is said of its tensors is said of this file.
            raise error.located(path=path if error.code in ("T203", "T204", "T205") else None) from error.__cause__


def _origin(network: Network, graph: Graph, wts: TensorStore | None) -> Origin | None:
    if wts is not None:
        return origin_by_name(network, graph.model, wts)
    return origin(network, graph.model, graph.store) if graph.store is not None else None


def _notices(graph: Graph, replaced: bool) -> Iterator[str]:
    """What taking the network over had to say."""
    if graph.generated and not replaced:
        yield "no weights were given: these are made up, and the network computes nothing of use"
    yield from graph.notices
    yield from graph.assumed
    if graph.unused_weights and not replaced:
        few = ", ".join(graph.unused_weights[:3]) + (" …" if len(graph.unused_weights) > 3 else "")
        yield f"the weights have {len(graph.unused_weights)} layers that the network does not use: {few}"


def _write(live: Live, manifest: Mapping[str, Json], paths: tuple[str, str] | None, level: int | None) -> dict[str, int]:
    """Make the engine and write it; bytes by path."""
    if paths is None:
        return {}
    engine, document = live.engine(optimization_level=level), net_manifest.dumps(manifest)
    with OutputGroup() as group:
        # The engine comes last: what it finds beside it is its own.
        for path, data in ((paths[1], document), (paths[0], engine)):
            group.create(path).write(data)
    return {paths[0]: engine.nbytes, paths[1]: len(document)}
