"""Base models: folders that were entered, and checkpoints that jobs made."""

from __future__ import annotations

from pydantic import JsonValue

from gateway.objects.lists import ApiObject


class BaseModelObject(ApiObject):
    """A base model."""

    name: str
    digest: str
    """sha256 over the manifest of the model's folder."""
    path: str
    licence: str
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
    """Dataset digest, hyperparameters, seed, versions, final metrics, times; empty for a folder that was entered."""


class RemovedBaseModel(ApiObject):
    """The answer to the deletion of a checkpoint."""

    name: str
    deleted: bool = True
