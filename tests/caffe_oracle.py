"""Caffe files by protobuf itself, with a small schema written for the tests: the second opinion on porter's reader and writer."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

_SCHEMA = """
syntax = "proto2";
package plain;

message BlobShape { repeated int64 dim = 1 [packed = true]; }

message BlobProto {
  optional int32 num = 1 [default = 0];
  optional int32 channels = 2 [default = 0];
  optional int32 height = 3 [default = 0];
  optional int32 width = 4 [default = 0];
  repeated float data = 5 [packed = true];
  repeated float diff = 6 [packed = true];
  optional BlobShape shape = 7;
  repeated double double_data = 8 [packed = true];
  repeated double double_diff = 9 [packed = true];
  optional int32 raw_data_type = 10;
  optional bytes raw_data = 12;
}

// The same, as a writer without the packed option makes it.
message UnpackedBlob {
  repeated float data = 5 [packed = false];
  optional BlobShape shape = 7;
}

message ParamSpec { optional string name = 1; optional float lr_mult = 3; optional float decay_mult = 4; }
message Convolution {
  optional uint32 num_output = 1;
  repeated uint32 kernel_size = 4;
}

message LayerParameter {
  optional string name = 1;
  optional string type = 2;
  repeated string bottom = 3;
  repeated string top = 4;
  repeated ParamSpec param = 6;
  repeated BlobProto blobs = 7;
  optional Convolution convolution_param = 106;
  optional string fork = 4711;
}

message V0LayerParameter {
  optional string name = 1;
  optional string type = 2;
  optional uint32 num_output = 3;
  optional uint32 kernelsize = 8;
  repeated BlobProto blobs = 50;
}

message V1LayerParameter {
  optional V0LayerParameter layer = 1;
  repeated string bottom = 2;
  repeated string top = 3;
  optional string name = 4;
  optional int32 type = 5;
  repeated BlobProto blobs = 6;
  repeated float blobs_lr = 7;
  repeated float weight_decay = 8;
  optional Convolution convolution_param = 10;
  repeated string param = 1001;
}

message NetParameter {
  optional string name = 1;
  repeated V1LayerParameter layers = 2;
  repeated LayerParameter layer = 100;
}

message SolverState {
  optional int32 iter = 1;
  optional string learned_net = 2;
  repeated BlobProto history = 3;
  optional int32 current_step = 4;
  optional float minimum_loss = 5;
  optional int32 iter_last_event = 6;
}
"""


@cache
def plain() -> dict[str, Any]:
    """The message classes of the small schema, by name. Compiled by protoc, so a test that asks for them needs grpcio-tools."""
    protoc = pytest.importorskip("grpc_tools.protoc")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "plain.proto").write_text(_SCHEMA)
        out = Path(folder) / "plain.binpb"
        assert protoc.main(["protoc", f"--proto_path={folder}", f"--descriptor_set_out={out}", "plain.proto"]) == 0
        file = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file[0]
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {m.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"plain.{m.name}")) for m in file.message_type}


def parsed(path: Path | str) -> Any:
    """A net as protobuf parses it."""
    return plain()["NetParameter"].FromString(Path(path).read_bytes())


def values(blob: Any) -> np.ndarray:
    """The values of a blob, flat."""
    if blob.HasField("raw_data"):
        return np.frombuffer(blob.raw_data, ("<f8", "<f4", "<f2")[blob.raw_data_type])
    if len(blob.double_data):
        return np.array(blob.double_data, "<f8")
    return np.array(blob.data, "<f4")


def blobs_by_layer(net: Any) -> list[tuple[str, list[Any]]]:
    """Name and blobs of every layer that has some, in the order V1 then V2."""
    found = [(layer.layer.name or layer.name, list(layer.layer.blobs) or list(layer.blobs)) for layer in net.layers]
    found += [(layer.name, list(layer.blobs)) for layer in net.layer]
    return [(name, blobs) for name, blobs in found if blobs]


def blob(shape: tuple[int, ...], **more: Any) -> Any:
    """A BlobProto of float32 counting up from 1."""
    message = plain()["BlobProto"](data=np.arange(1, int(np.prod(shape)) + 1, dtype=np.float32), **more)
    message.shape.dim.extend(shape)
    if not shape:
        message.shape.SetInParent()
    return message


def legacy_blob(shape: tuple[int, int, int, int]) -> Any:
    """A BlobProto of the time before 2015."""
    num, channels, height, width = shape
    data = np.arange(1, int(np.prod(shape)) + 1, dtype=np.float32)
    return plain()["BlobProto"](num=num, channels=channels, height=height, width=width, data=data)


def conv(name: str, *blobs: Any, **more: Any) -> Any:
    """A V2 Convolution."""
    return plain()["LayerParameter"](name=name, type="Convolution", blobs=blobs, **more)


def net_file(folder: Path, *, name: str = "net.caffemodel", layer: Any = (), layers: Any = ()) -> Path:
    """A file of a net of these layers."""
    path = folder / name
    path.write_bytes(plain()["NetParameter"](name="net", layer=layer, layers=layers).SerializeToString())
    return path
