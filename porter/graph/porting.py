"""`porter port` as a library: a Caffe network taken over and written as files of other frameworks, all of them or none."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from porter.dataclass import dataclass, field
from porter.errors import FileAccessError, PorterError, UsageError
from porter.formats.base import ReadOptions
from porter.formats.caffe.net import net_from_prototxt
from porter.formats.registry import open_store
from porter.graph.caffe.importer import ImportedNet, ImportOptions, import_net
from porter.graph.onnx_output import write_onnx
from porter.graph.report import WrittenFile, layers_json, report_json
from porter.io.atomic import OutputGroup

TARGETS = ("onnx",)
"""What a network can be written as."""


@dataclass(frozen=True, slots=True)
class PortOptions:
    """What a caller may say about porting.

    targets: of `TARGETS`. overwrite: replace files that exist. importing: how the net is taken over.
    """

    targets: Sequence[str] = ("onnx",)
    overwrite: bool = False
    importing: ImportOptions = field(default_factory=ImportOptions)


@dataclass(frozen=True, slots=True)
class Ported:
    """A network that was written: the graph, and the files."""

    net: ImportedNet
    files: tuple[WrittenFile, ...]


def port(prototxt: str, weights: str | None, folder: str, options: PortOptions) -> Ported:
    """Take the network in `prototxt` over, with the weights in `weights` (None: generated), and write it into `folder`.

    Writes `model.onnx`, `layers.json` and `report.json`. The folder is made where there is none.

    Raises:
        PorterError: a file is broken, the network cannot be taken over exactly, or an output exists; nothing is written then.
    """
    unknown = [t for t in options.targets if t not in TARGETS]
    if unknown:
        raise UsageError("U930", f"a network cannot be written as '{unknown[0]}'", hint=f"--to takes {', '.join(TARGETS)}")
    names = {"onnx": ["model.onnx"]}
    paths = [os.path.join(folder, n) for t in options.targets for n in names[t]] + [
        os.path.join(folder, n) for n in ("layers.json", "report.json")
    ]
    for path in paths:
        if not options.overwrite and os.path.lexists(path):
            raise FileAccessError("I010", "the output exists", path=path, hint="add --overwrite to replace it")
    net = net_from_prototxt(prototxt)
    store = open_store(weights, options=ReadOptions(net=prototxt)) if weights is not None else None
    try:
        imported = import_net(net, store, options.importing)
        made = not os.path.isdir(folder)
        os.makedirs(folder, exist_ok=True)
        try:
            return Ported(imported, _write(imported, folder, [prototxt, *([weights] if weights else [])], options))
        except BaseException:
            if made and not os.listdir(folder):
                os.rmdir(folder)
            raise
    except PorterError as error:
        raise error.located(path=prototxt) from error.__cause__
    finally:
        if store is not None:
            store.close()


def _write(net: ImportedNet, folder: str, source: Sequence[str], options: PortOptions) -> tuple[WrittenFile, ...]:
    files: list[WrittenFile] = []
    with OutputGroup() as group:
        if "onnx" in options.targets:
            path = os.path.join(folder, "model.onnx")
            model = group.create(path)
            write_onnx(net.model, model)
            files.append(WrittenFile(path, "onnx", model.position))
        for name, document in (("layers.json", layers_json(net.layers)), ("report.json", report_json(net, source, files))):
            file = group.create(os.path.join(folder, name))
            file.write(json.dumps(document, indent=1).encode() + b"\n")
    return tuple(files)
