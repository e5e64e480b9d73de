"""Compile `schemas/*.proto` into the descriptor sets that porter ships: `python schemas/compile.py [--check]`.

Needs grpcio-tools. `--check` writes nothing and exits 1 if a shipped descriptor set is not what its schema gives.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

SCHEMAS = Path(__file__).resolve().parent
DESCRIPTORS = SCHEMAS.parent / "porter" / "io" / "descriptors"


def compiled(schema: Path) -> bytes:
    """The serialised `FileDescriptorSet` of `schema`, without comments and source positions."""
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out.binpb"
        arguments = ["protoc", f"--proto_path={schema.parent}", f"--descriptor_set_out={output}", schema.name]
        if protoc.main(arguments) != 0:
            raise SystemExit(f"{schema.name} does not compile")
        descriptors = FileDescriptorSet.FromString(output.read_bytes())
    for file in descriptors.file:
        # Compilers of different ages spell derived names out or leave them; porter never uses JSON.
        for message in file.message_type:
            _drop_json_names(message)
    return descriptors.SerializeToString(deterministic=True)


def _drop_json_names(message: object) -> None:
    for field in message.field:  # type: ignore[attr-defined]
        field.ClearField("json_name")
    for nested in message.nested_type:  # type: ignore[attr-defined]
        _drop_json_names(nested)


def main(arguments: list[str]) -> int:
    """Compile every schema; the exit status."""
    stale = []
    for schema in sorted(SCHEMAS.glob("*.proto")):
        target, data = DESCRIPTORS / f"{schema.stem}.binpb", compiled(schema)
        if not target.exists() or target.read_bytes() != data:
            stale.append(target.name)
            if "--check" not in arguments:
                target.write_bytes(data)
    print("stale:" if "--check" in arguments else "written:", ", ".join(stale) or "none")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
