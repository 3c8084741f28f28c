"""Lineages: what models came from, and what was made of them."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, JsonValue

from gateway.objects.lists import ApiObject
from registry.lineage.node import NodeKind, NodeState


class LineageNodeObject(ApiObject):
    """A thing in a lineage."""

    kind: NodeKind
    name: str
    relation: str
    """The thing's relation to the one above it: `base`, `trained on`, `made by`; empty at the top."""
    state: NodeState
    """`deleted` for what is known only because others remember it."""
    digest: str | None
    """sha256 of a file, or of the manifest of a folder of weights."""
    at: float | None
    """When it was made, or happened."""
    by: str | None
    """Who made or did it."""
    facts: dict[str, JsonValue]
    parts: list[LineageNodeObject]
    """The things that it came from, and its checkpoints, scores, rollouts and acts."""


class LineageObject(ApiObject):
    """A thing with what it came from and what was made of it."""

    object: Literal["lineage"] = "lineage"
    node: LineageNodeObject
    became: list[LineageNodeObject]
    """The things that were made of it; their parts are what was made of those."""


class DescribedArtifact(ApiObject):
    """An in-toto resource descriptor."""

    name: str
    uri: str | None = None
    digest: dict[str, str] | None = None
    mediaType: str | None = None
    content: str | None = None
    annotations: dict[str, JsonValue] | None = None


class BuildDefinition(ApiObject):
    """The request and the materials of the build, as SLSA names them."""

    buildType: str
    externalParameters: dict[str, JsonValue]
    internalParameters: dict[str, JsonValue]
    resolvedDependencies: list[DescribedArtifact]


class Builder(ApiObject):
    """The program that made it, with the versions of its libraries."""

    id: str
    version: dict[str, str]


class RunDetails(ApiObject):
    """The run that made it."""

    builder: Builder
    metadata: dict[str, str]
    byproducts: list[DescribedArtifact] | None = None


class Provenance(ApiObject):
    """SLSA provenance v1."""

    buildDefinition: BuildDefinition
    runDetails: RunDetails


class StatementSubject(ApiObject):
    """A file of the weights that the statement is about."""

    name: str
    digest: dict[str, str]


class ProvenanceStatement(ApiObject):
    """An in-toto Statement v1 with SLSA provenance v1."""

    model_config = ConfigDict(frozen=True, defer_build=True, validate_by_name=True, serialize_by_alias=True)

    type_: str = Field(alias="_type")
    subject: list[StatementSubject]
    predicateType: str
    predicate: Provenance
