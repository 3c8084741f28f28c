"""`/v1/models`: OpenAI's model object, with a `lorry` part that describes the model."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from gateway.objects.lists import ApiObject


class BaseModelFacts(ApiObject):
    """A base model."""

    kind: Literal["base"] = "base"
    digest: str
    """sha256 over the manifest of the model's folder."""
    licence: str
    parent: str | None
    """Name of the base model that a job made this checkpoint from; None for a folder that was entered."""
    job_id: str | None
    step: int | None
    """The step of that job whose weights these are; None for a folder that was entered."""
    expires_at: int | None
    """When an earlier step of the job is deleted, unless something uses it; None for what stays."""
    paths: list[str]
    """Paths of requests that ready replicas answer by it, such as `/v1/embeddings`; empty while none is ready."""

    @property
    def base_name(self) -> str | None:
        """Name of the base model that a checkpoint was made from."""
        return self.parent

    @property
    def summary(self) -> str | None:
        """The line of a table about this model."""
        return f"{self.licence}, {self.digest[:12]}"


class AdapterFacts(ApiObject):
    """An adapter, which requests address by its name to get its stable revision or its canary."""

    kind: Literal["adapter"] = "adapter"
    base: str
    base_digest: str
    """Digest of the base model: the same name never has other weights."""
    stable: str | None
    """Served name of the stable revision; None before the first revision is served."""

    @property
    def base_name(self) -> str | None:
        """Name of the base model."""
        return self.base

    @property
    def summary(self) -> str | None:
        """The line of a table about this model."""
        return self.stable


class RevisionFacts(ApiObject):
    """A pinned revision of an adapter."""

    kind: Literal["revision"] = "revision"
    base: str
    base_digest: str
    """Digest of the base model: the same name never has other weights."""
    alias: str | None
    replicas: int
    """Number of ready replicas that have the revision loaded."""

    @property
    def base_name(self) -> str | None:
        """Name of the base model."""
        return self.base

    @property
    def summary(self) -> str | None:
        """The line of a table about this model."""
        return f"on {self.replicas} replica(s)"


class AliasFacts(ApiObject):
    """Another name of a revision, `ft:<base>:<organisation>:<adapter>:<id>`."""

    kind: Literal["alias"] = "alias"
    base: str
    base_digest: str
    """Digest of the base model: the same name never has other weights."""
    revision: str
    """Served name of the revision."""

    @property
    def base_name(self) -> str | None:
        """Name of the base model."""
        return self.base

    @property
    def summary(self) -> str | None:
        """The line of a table about this model."""
        return self.revision


class CheckpointFacts(ApiObject):
    """A checkpoint of a job, `ft:<base>:<organisation>:<adapter>:<id>:ckpt-step-<step>`, served until it expires."""

    kind: Literal["checkpoint"] = "checkpoint"
    base: str
    base_digest: str | None
    """Digest of the base model; None where that was deleted."""
    revision: str | None
    """Served name of the revision that the job published; None until then, and for a whole model."""
    served_name: str
    """The revision's own where the job published the weights of this step; the base model's name for a whole model."""
    step: int
    expires_at: int | None
    """None for the step whose weights are the revision's: it stays as long as that."""
    replicas: int
    """Number of ready replicas that have it; that of an adapter is loaded when a request names it."""

    @property
    def base_name(self) -> str | None:
        """Name of the base model."""
        return self.base

    @property
    def summary(self) -> str | None:
        """The line of a table about this model."""
        return f"step {self.step} of {self.revision or 'a job'}, on {self.replicas} replica(s)"


class RewardFacts(ApiObject):
    """A reward model, which graders name and no request does."""

    kind: Literal["reward"] = "reward"
    base: str
    base_digest: str
    """Digest of the base model: the same name never has other weights."""
    revision: str | None
    """Served name of the revision that the job published; None for an earlier step until then."""
    step: int | None
    """None for a revision."""
    expires_at: int | None

    @property
    def base_name(self) -> str | None:
        """Name of the base model."""
        return self.base

    @property
    def summary(self) -> str | None:
        """The line of a table about this model."""
        return "scores answers for graders" if self.step is None else f"step {self.step}, scores answers for graders"


ModelFacts = Annotated[
    BaseModelFacts | AdapterFacts | RevisionFacts | AliasFacts | CheckpointFacts | RewardFacts,
    Field(discriminator="kind"),
]


class ModelObject(ApiObject):
    """A name that a request may carry in `model`."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    lorry: ModelFacts


class AnthropicModel(ApiObject):
    """A model in the form of Anthropic's API."""

    type: Literal["model"] = "model"
    id: str
    display_name: str
    created_at: datetime
    lifecycle: Literal["active"] = "active"


class AnthropicModelPage(ApiObject):
    """A page of models, for clients that send the header `anthropic-version`."""

    data: list[AnthropicModel]
    has_more: bool
    first_id: str | None
    last_id: str | None


class DeletedModel(ApiObject):
    """The answer to a deletion."""

    id: str
    object: Literal["model"] = "model"
    deleted: Literal[True] = True
