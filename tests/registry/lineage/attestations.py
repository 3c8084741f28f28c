"""The messages of in-toto's Statement v1 and SLSA's provenance v1, as their published .proto files have them.

https://github.com/in-toto/attestation/tree/main/protos/in_toto_attestation. The package with generated classes has had
no release since 2023, so the descriptors are written down here and the parser is protobuf's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf import (  # type: ignore[import-untyped, unused-ignore]
    descriptor_pb2,
    descriptor_pool,
    json_format,
    message_factory,
    struct_pb2,
    timestamp_pb2,
)

STRUCT, TIME = ".google.protobuf.Struct", ".google.protobuf.Timestamp"
MESSAGES: Final[Mapping[str, Mapping[str, str]]] = {
    "Resource": {
        "name": "string",
        "uri": "string",
        "digest": "map",
        "content": "bytes",
        "download_location": "string",
        "media_type": "string",
        "annotations": STRUCT,
    },
    "Statement": {"type": "string", "subject": "[Resource]", "predicate_type": "string", "predicate": STRUCT},
    "Provenance": {"build_definition": "Build", "run_details": "Run"},
    "Build": {
        "build_type": "string",
        "external_parameters": STRUCT,
        "internal_parameters": STRUCT,
        "resolved_dependencies": "[Resource]",
    },
    "Run": {"builder": "Builder", "metadata": "Metadata", "byproducts": "[Resource]"},
    "Builder": {"id": "string", "version": "map", "builder_dependencies": "[Resource]"},
    "Metadata": {"invocation_id": "string", "started_on": TIME, "finished_on": TIME},
}
"""Message -> its fields in the order of their numbers; a list in brackets, `map` of strings to strings."""
_SCALARS: Final = {"string": 9, "bytes": 12}


def check_statement(statement: Mapping[str, Any]) -> None:
    """Fail unless protobuf reads the statement, with no field that the form does not have."""
    pool = descriptor_pool.Default()
    assert struct_pb2.DESCRIPTOR is not None
    assert timestamp_pb2.DESCRIPTOR is not None
    name = "lorry_tests_attestation.proto"
    try:
        file = pool.FindFileByName(name)
    except KeyError:
        pool.AddSerializedFile(_file(name).SerializeToString())
        file = pool.FindFileByName(name)
    for message, content in (("Statement", statement), ("Provenance", statement["predicate"])):
        found = message_factory.GetMessageClass(file.message_types_by_name[message])()
        json_format.ParseDict(dict(content), found)


def _file(name: str) -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name=name, package="lorry.tests", syntax="proto3")
    file.dependency.extend(["google/protobuf/struct.proto", "google/protobuf/timestamp.proto"])
    for message, fields in MESSAGES.items():
        described = file.message_type.add(name=message)
        for number, (field, kind) in enumerate(fields.items(), 1):
            _add_field(described, message, (number, field, kind))
    return file


def _add_field(described: descriptor_pb2.DescriptorProto, message: str, wanted: tuple[int, str, str]) -> None:
    number, name, kind = wanted
    field = described.field.add(name=name, number=number, label=3 if kind[0] == "[" or kind == "map" else 1)
    if name == "type":
        field.json_name = "_type"
    if kind in _SCALARS:
        field.type = _SCALARS[kind]  # type: ignore[assignment, unused-ignore]
        return
    field.type = 11  # type: ignore[assignment, unused-ignore]
    if kind == "map":
        entry = described.nested_type.add(name=f"{name.title()}Entry")
        entry.options.map_entry = True
        for at, part in enumerate(("key", "value"), 1):
            entry.field.add(name=part, number=at, label=1, type=9)
        field.type_name = f".lorry.tests.{message}.{entry.name}"
    else:
        field.type_name = kind if kind.startswith(".") else f".lorry.tests.{kind.strip('[]')}"
