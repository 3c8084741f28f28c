"""Statements of provenance, read by the in-toto project's own package: what it reads, other tools read too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format  # type: ignore[import-untyped, unused-ignore]
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage


def check_statement(statement: Mapping[str, Any]) -> None:
    """Fail unless the package reads and accepts the statement, with no field that the form does not have."""
    read = json_format.ParseDict(dict(statement), StatementMessage())
    Statement.copy_from_pb(read).validate()
    predicate = json_format.ParseDict(dict(statement["predicate"]), Provenance())
    build, run = predicate.build_definition, predicate.run_details
    assert build.build_type
    assert run.builder.id
    for dependency in build.resolved_dependencies:
        ResourceDescriptor.copy_from_pb(dependency).validate()
