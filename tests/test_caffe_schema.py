"""The schema of Caffe and its forks, and the descriptor set made from it."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT

from porter.errors import FormatError
from porter.io.protobuf_messages import message_classes, parse

SCHEMAS = sorted((ROOT / "schemas").glob("*.proto"))


def _compiler() -> ModuleType:
    spec = importlib.util.spec_from_file_location("schemas_compile", ROOT / "schemas" / "compile.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda p: p.stem)
def test_the_packaged_descriptor_set_is_what_the_schema_gives(schema: Path) -> None:
    pytest.importorskip("grpc_tools")
    packaged = (ROOT / "porter" / "io" / "descriptors" / f"{schema.stem}.binpb").read_bytes()
    assert _compiler().compiled(schema) == packaged, "run python schemas/compile.py"


def test_the_pool_is_private() -> None:
    """Another `caffe.proto` in the process, registered as everybody does it, does not clash with porter's."""
    code = (
        "from google.protobuf import descriptor_pb2, descriptor_pool\n"
        "from porter.io.protobuf_messages import message_classes\n"
        "message_classes('caffe.binpb')\n"
        "file = descriptor_pb2.FileDescriptorProto(name='caffe.proto', package='caffe')\n"
        "file.message_type.add(name='NetParameter')\n"
        "descriptor_pool.Default().AddSerializedFile(file.SerializeToString())\n"
        "descriptor_pool.Default().FindMessageTypeByName('caffe.NetParameter')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_is_required() -> None:
    assert not re.search(r"^\s*required ", (ROOT / "schemas" / "caffe.proto").read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("message", "field", "number"),
    [
        ("LayerParameter", "convolution_param", 106),
        ("LayerParameter", "prior_box_param", 203),
        ("LayerParameter", "roi_pooling_param", 8266711),
        ("LayerParameter", "bn_param", 45),
        ("LayerParameter", "psroi_pooling_param", 153),
        ("BlobProto", "raw_data", 12),
        ("V1LayerParameter", "blobs", 6),
        ("NetParameter", "layer", 100),
        ("SolverState", "minimum_loss", 5),
    ],
)
def test_fields(message: str, field: str, number: int) -> None:
    assert message_classes("caffe.binpb")[f"caffe.{message}"].DESCRIPTOR.fields_by_name[field].number == number


def test_a_number_that_forks_use_differently_is_in_the_schema_only_as_the_main_line_has_it() -> None:
    layer = message_classes("caffe.binpb")["caffe.LayerParameter"].DESCRIPTOR.fields_by_number
    assert layer[137].name == "embed_param"
    assert layer[143].name == "input_param"
    assert 149 not in layer
    assert 150 not in layer


def test_every_real_net_parses(shared: Path) -> None:
    for path in sorted((shared / "real").rglob("*.caffemodel")):
        net = parse(message_classes("caffe.binpb")["caffe.NetParameter"], path.read_bytes(), "the net", str(path))
        assert net.layer or net.layers


def test_parse_says_what_and_where() -> None:
    with pytest.raises(FormatError, match="the net does not parse") as caught:
        parse(message_classes("caffe.binpb")["caffe.NetParameter"], b"\x0a\xff", "the net", "x.caffemodel")
    assert (caught.value.code, caught.value.where.path) == ("F012", "x.caffemodel")
