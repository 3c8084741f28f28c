"""The description of an export: a model's files by digest, and what made them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from gateway.objects.lists import ApiObject


class ExportedFile(ApiObject):
    """A file of a model's folder."""

    path: str
    """Relative to the folder."""
    size_bytes: int
    sha256: str


class ExportedScore(ApiObject):
    """The newest score of a suite, with its interval."""

    suite: str
    tool: str
    rows: int
    score: float
    low: float | None
    high: float | None


class ExportedOrigin(ApiObject):
    """A step on the way to the model: no owner, no path, no name of a file."""

    name: str
    kind: Literal["adapter", "checkpoint", "base"]
    digest: str
    licence: str | None
    """The licence of base models and checkpoints; None for an adapter."""
    made_by: dict[str, JsonValue]
    """The parts of its provenance that do not reveal who made it, and where."""
    scores: list[ExportedScore] = Field(default_factory=list)
    """The scores of evaluations of exactly these weights."""


class ExportObject(ApiObject):
    """A model that can be exported."""

    object: Literal["export"] = "export"
    name: str
    kind: Literal["adapter", "checkpoint", "base"]
    digest: str
    """sha256 over the manifest of the folder."""
    base: str | None
    """Name of the base model of an adapter, or the one that a checkpoint was made of; None for a base model."""
    files: list[ExportedFile]
    lineage: list[ExportedOrigin]
    """The model itself, then what it was made of, back to the base model that was entered."""


class UploadNote(ApiObject):
    """The answer to a note that a model was uploaded to a hub."""

    object: Literal["export.upload"] = "export.upload"
    model: str
    target: str
    commit: str
