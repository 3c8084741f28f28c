"""Base models: folders that were entered, models that were pulled from a hub, and checkpoints that jobs made."""

from __future__ import annotations

from typing import Literal

from pydantic import JsonValue

from gateway.objects.lists import ApiObject


class HubOrigin(ApiObject):
    """Where a base model was pulled from."""

    hub: Literal["huggingface", "modelscope"]
    id: str
    """`OWNER/NAME` on the hub."""
    commit: str
    asked_revision: str | None
    """Branch, tag or commit that was asked for; None for the default branch."""
    pulled_by: str
    pulled_at: float


class BaseModelObject(ApiObject):
    """A base model."""

    name: str
    digest: str
    """sha256 over the manifest of the model's folder."""
    path: str
    licence: str
    hub: HubOrigin | None
    """Where it was pulled from; None for a folder that was entered and for a checkpoint."""
    parent: str | None
    """Name of the base model that a job made this checkpoint from; None for a folder that was entered."""
    job_id: str | None
    step: int | None
    """The step of that job whose weights these are; None for a folder that was entered."""
    alias: str | None
    """Another name of such a step, `ft:...:ckpt-step-<step>`."""
    expires_at: float | None
    """When an earlier step of the job is deleted, unless something uses it; None for what stays."""
    owner: str
    """Who asked for the job; empty for a folder that was entered."""
    tenant: str | None
    """Whose keys may use a checkpoint that is not shared; None for a folder, which every key may use."""
    shared: bool
    """Whether every key may use it."""
    created_at: float
    replicas: int
    """Number of ready replicas that serve it."""
    paths: list[str]
    """Paths of requests that these replicas answer by it, such as `/v1/embeddings`."""
    adapters: list[str]
    """Names of the adapters for this base model."""


class BaseModelOrigin(BaseModelObject):
    """A base model with what made it."""

    provenance: dict[str, JsonValue]
    """Dataset digest, hyperparameters, seed, versions, final metrics, times; of a pulled model hub, commit and files.

    Empty for a folder that was entered.
    """


class RemovedBaseModel(ApiObject):
    """The answer to the deletion of a checkpoint or a pulled model."""

    name: str
    deleted: bool = True


class VerifiedFileObject(ApiObject):
    """A file of a pulled model beside its record."""

    path: str
    state: Literal["ok", "changed", "missing", "added"]
    size_bytes: int | None
    """As it is now; None for a file that is missing."""
    sha256: str | None


class VerifiedModel(ApiObject):
    """A pulled model whose files were hashed again."""

    name: str
    digest: str
    """The recorded digest of the whole folder."""
    files: list[VerifiedFileObject]
