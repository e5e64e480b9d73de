"""`porter port` as a library: a network taken over and written as files of other frameworks, all of them or none."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING

from porter.dataclass import dataclass, field, field_names, replace
from porter.errors import FormatError, PorterError, UsageError
from porter.formats.base import ReadOptions
from porter.formats.caffe.net import net_from_prototxt
from porter.formats.registry import identify, open_store
from porter.graph.caffe.importer import ImportOptions, import_net
from porter.graph.network import Network
from porter.graph.onnx_input import read
from porter.graph.preprocessing import KEY, Preprocessing, Wanted, known, settled
from porter.graph.report import WrittenFile, layers_json, parameters_of, report_json
from porter.io.source import FileSource
from porter.io.staging import check_free, staged_folder
from porter.store import TensorStore

if TYPE_CHECKING:
    import onnx_ir as ir

Writer = Callable[[Network, str], tuple[str, ...] | None]
"""Writes its files of a network into a folder. What a user has to know of them is returned, a line each."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a network can be written as: a function `write(network, folder)`, and the files that it may make.

    files: those it always makes. stale: those it makes at times; left over from an earlier run they would contradict the others.
    """

    name: str
    writer: str
    files: tuple[str, ...]
    stale: tuple[str, ...] = ()

    def write(self, network: Network, folder: str) -> tuple[str, ...]:
        """What a user has to know of the files, a line each."""
        module, _, name = self.writer.partition(":")
        writer: Writer = getattr(importlib.import_module(module), name)
        return writer(network, folder) or ()


_CAFFE = ("deploy.prototxt", "deploy.caffemodel")
_TENSORRT = ("net.wts", "net.wts.json", "net.json")

_ALL = (
    Target("onnx", "porter.graph.onnx_output:write", ("model.onnx",), ("model.onnx.data",)),
    Target("torch", "porter.graph.torch_output:write", ("model.py", "model.pth")),
    Target("wts", "porter.graph.wts_output:write", ("model.wts", "model.wts.json", "model.pmap")),
    Target("caffe", "porter.graph.caffe_output:write", _CAFFE),
    Target("caffe:ssd", "porter.graph.caffe_output:write_ssd", _CAFFE),
    Target("caffe:mobilenet-yolo", "porter.graph.caffe_output:write_mobilenet_yolo", _CAFFE),
    Target("tensorrt-cpp", "porter.tensorrt.source.output:write_cpp", ("net.cpp", "net.hpp", "CMakeLists.txt", *_TENSORRT)),
    Target("tensorrt-py", "porter.tensorrt.source.output:write_python", ("net.py", *_TENSORRT)),
)

TARGETS: Mapping[str, Target] = MappingProxyType({target.name: target for target in _ALL})
"""What a network can be written as, by the words of `--to`."""

REPORTS = ("layers.json", "report.json")


@dataclass(frozen=True, slots=True)
class PortOptions:
    """What a caller may say about porting.

    targets: of `TARGETS`. overwrite: replace files that exist. fold_bn: fold batch normalisation into what is before it.
    preprocess: fold preprocessing into the graph, None for not. importing: how a Caffe net is taken over.
    """

    targets: Sequence[str] = ("onnx",)
    overwrite: bool = False
    fold_bn: bool = False
    preprocess: Wanted | None = None
    importing: ImportOptions = field(default_factory=ImportOptions)


@dataclass(frozen=True, slots=True)
class Ported:
    """A network that was written: what became of it, the files, and the report as `report.json` has it."""

    network: Network
    files: tuple[WrittenFile, ...]
    report: Mapping[str, object]


def port(source: str, weights: str | None, folder: str, options: PortOptions) -> Ported:
    """Take the network in `source` over and write it into `folder`.

    source: a prototxt, whose weights are in `weights` (None: generated), or an ONNX model. Writes the targets' files, `layers.json`
    and `report.json`. The folder is made where there is none.

    Raises:
        PorterError: a file is broken, the network cannot be taken over exactly, or an output exists; nothing is written then.
    """
    targets = _targets(options.targets)
    names = [*(name for t in targets for name in t.files), *REPORTS]
    check_free(folder, names, overwrite=options.overwrite)
    _refuse_own_input(folder, names, [source, *([weights] if weights else [])])
    with open_network(source, weights, options) as network:
        return _ported(network, source, weights, folder, targets)


@contextmanager
def open_network(source: str, weights: str | None, options: PortOptions) -> Iterator[Network]:
    """The network in `source`, with what the options fold into it. The file of its weights is open until the end of the `with` block.

    source, weights: as for `port`. Errors in the block speak of `source` where they name no other file.

    Raises:
        PorterError: a file is broken, or the network cannot be taken over exactly.
    """
    try:
        kind = kind_of(source)
        if kind == "onnx":
            _refuse_for_onnx(weights, options.importing)
            with open_store(source) as store:
                yield _changed(read(source, store), os.path.dirname(source), options)
        else:
            _refuse_mistaken(source, kind, weights)
            with _open_weights(source, weights) as store:
                made = _from_caffe(source, store if weights else None, options.importing)
                yield _changed(made, os.path.dirname(source), options)
    except PorterError as error:
        raise error.located(path=source) from error.__cause__


def _targets(names: Sequence[str]) -> list[Target]:
    found = []
    for name in dict.fromkeys(names):
        if name not in TARGETS:
            raise UsageError("U930", f"a network cannot be written as '{name}'", hint=f"--to takes {', '.join(TARGETS)}")
        found.append(TARGETS[name])
        if len({file for t in found for file in t.files}) < sum(len(t.files) for t in found):
            raise UsageError(
                "U930", f"'{name}' is written to the same files as another target", hint="port once for each, into folders of their own"
            )
    return found


def _refuse_for_onnx(weights: str | None, options: ImportOptions) -> None:
    """Refuse what only a Caffe net needs to be told."""
    if weights is not None:
        raise UsageError("U931", f"an ONNX model has its weights in itself, and '{weights}' is given as well")
    plain = ImportOptions()
    said = [f"--{name.replace('_', '-')}" for name in field_names(ImportOptions) if getattr(options, name) != getattr(plain, name)]
    if said:
        words = ", ".join(said).replace("--state", "--phase, --level, --stage").replace("shapes", "shape")
        raise UsageError("U931", f"an ONNX model has settled what these options say: {words}", hint="leave them out")


def _refuse_own_input(folder: str, names: Sequence[str], inputs: Sequence[str]) -> None:
    outputs = {os.path.realpath(os.path.join(folder, name)) for name in names}
    for path in inputs:
        if os.path.realpath(path) in outputs:
            raise UsageError("U933", f"'{path}' would be written over itself", hint="port into another folder")


def kind_of(path: str) -> str | None:
    """`onnx`, `prototxt`, the name of another format, or None for no known one."""
    source = FileSource(path)
    try:
        entry, dialect = identify(source)
    except FormatError:
        # What is wrong with a prototxt its own reader says better.
        return None
    finally:
        source.close()
    return "prototxt" if dialect == "prototxt" else entry.name


def _refuse_mistaken(source: str, kind: str | None, weights: str | None) -> None:
    """Refuse files that are plainly something else than the network's text and its weights, most often in the wrong order."""
    if kind not in ("prototxt", None):
        hint = "the prototxt comes first, then its weights; an ONNX model is taken as well"
        raise UsageError("U935", f"'{source}' is no network's text: it is {kind}", hint=hint)
    if weights is not None and kind_of(weights) == "prototxt":
        raise UsageError("U935", f"'{weights}' is a prototxt, and weights are asked for", hint="leave it out for generated weights")


def _open_weights(prototxt: str, weights: str | None) -> TensorStore:
    return open_store(weights, options=ReadOptions(net=prototxt)) if weights is not None else TensorStore()


def _from_caffe(prototxt: str, store: TensorStore | None, options: ImportOptions) -> Network:
    net = net_from_prototxt(prototxt)
    made = import_net(net, store, options)
    notices = net.notices + (tuple([n.message for n in store.notices]) if store is not None else ())
    return Network(
        made.model,
        "caffe",
        made.layers,
        made.cut,
        made.assumed,
        made.unused_weights,
        store is None,
        parameters_of(made, store),
        preprocessing=known(net, options.state, _shapes(made.model)),
        notices=notices + _rounded(store),
        store=store,
    )


def _rounded(store: TensorStore | None) -> tuple[str, ...]:
    """What happens to values that float32 need not hold."""
    wide = [t.name for t in store.values() if t.dtype.name == "float64"] if store is not None else []
    return (f"{len(wide)} tensors of the weights are float64 and become float32, which Caffe computes in",) if wide else ()


def _ported(network: Network, source: str, weights: str | None, folder: str, targets: Sequence[Target]) -> Ported:
    stale = [name for t in targets for name in t.stale]
    with staged_folder(folder, stale) as staged:
        files: list[WrittenFile] = []
        for target in targets:
            network = replace(network, notices=(*network.notices, *target.write(network, staged)))
            made = [name for name in (*target.files, *target.stale) if os.path.exists(os.path.join(staged, name))]
            files += [WrittenFile(name, target.name, os.path.getsize(os.path.join(staged, name))) for name in made]
        _write_json(os.path.join(staged, "layers.json"), layers_json(network.layers))
        files.append(WrittenFile("layers.json", "report", os.path.getsize(os.path.join(staged, "layers.json"))))
        report = report_json(network, source, weights, files)
        _write_json(os.path.join(staged, "report.json"), report)
    return Ported(network, tuple(files), report)


def _changed(network: Network, folder: str, options: PortOptions) -> Network:
    """The network with what the options fold into it, and what is known of it in the model's metadata."""
    from porter.graph import fold, preprocessing_nodes

    if options.fold_bn:
        folded = fold.fold_batch_norm(network.model)
        left = fold.still_there(network.layers, network.model)
        gone = [(r.name, top) for r, kept in zip(network.layers, left, strict=True) for top in r.tops if top not in kept.tops]
        network = replace(network, folded=folded, layers=left, vanished=tuple(gone))
    if options.preprocess is not None:
        what = settled(options.preprocess, network.preprocessing, _shapes(network.model))
        value = preprocessing_nodes.fold(network.model, what, folder)
        # What Caffe calls by the input's name is the image as the net sees it.
        layers = tuple([replace(r, tops={t: value if v == what.input else v for t, v in r.tops.items()}) for r in network.layers])
        others = tuple([p for p in network.preprocessing if p.input != what.input])
        network = replace(network, layers=layers, preprocessing=(*others, what))
    _describe(network.model, network.preprocessing)
    return network


def _describe(model: ir.Model, found: Sequence[Preprocessing]) -> None:
    if found:
        model.metadata_props[KEY] = json.dumps([p.to_json() for p in found], ensure_ascii=False)


def _shapes(model: ir.Model) -> dict[str, tuple[int | str, ...]]:
    return {v.name or "": tuple([n if isinstance(n, int) else str(n) for n in (v.shape or ())]) for v in model.graph.inputs}


def _write_json(path: str, document: Mapping[str, object]) -> None:
    with open(path, "xb") as file:
        file.write(json.dumps(document, indent=1).encode() + b"\n")
