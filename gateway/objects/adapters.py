"""Adapters, their revisions, and where each revision stands in the replicas."""

from __future__ import annotations

from pydantic import JsonValue

from gateway.objects.lists import ApiObject
from gateway.objects.rollouts import RolloutObject
from registry.states import AdapterKind, RevisionState, SlotState


class ProofObject(ApiObject):
    """The numbers of the last replay of a revision's fingerprint through the server that loaded it."""

    passed: bool
    message: str
    prompt_tokens_equal: bool
    mean_difference: float
    """Mean absolute difference of the tokens' logprobs."""
    largest_difference: float
    separation: float | None
    """How far the adapter moves logprobs away from the base's, as a share of what the trainer saw; None where the
    trainer saw no effect: the adapter changes nothing."""
    tolerance: float
    """The highest `mean_difference` that passes."""
    compared: int
    """Tokens that were compared."""
    recorded: int
    """Tokens that the fingerprint has."""


class SlotObject(ApiObject):
    """Where a revision stands in one replica."""

    state: SlotState
    reason: str
    """Why loading failed, in one word; empty otherwise."""
    message: str
    proof: ProofObject | None
    """None before the first replay."""


class RevisionObject(ApiObject):
    """An immutable revision of an adapter."""

    name: str
    """The served name, `support@7`."""
    number: int
    state: RevisionState
    artifact: str
    base: str
    base_digest: str
    rank: int
    target_modules: list[str]
    alias: str | None
    job_id: str | None
    owner: str
    created_at: float
    provenance: dict[str, JsonValue]
    """The origin of the revision: dataset digest, hyperparameters, seed, versions, final metrics, times."""
    replicas: int
    """Number of ready replicas that have the revision loaded."""
    slots: dict[str, SlotObject]
    """Id of a replica -> where the revision stands there."""


class AdapterObject(ApiObject):
    """A named series of revisions for one base model."""

    name: str
    kind: AdapterKind
    """`chat` answers requests, `reward` scores answers for graders."""
    base: str
    stable: int | None
    """Number of the revision that callers get; None until the first revision is served."""
    previous_stable: int | None
    latest: int | None
    stable_since: float | None
    created_at: float
    tenant: str
    """Whose keys may train the adapter."""
    shared: bool
    """Whether every key may use it; otherwise its tenant's, and keys that name it."""
    rollout: RolloutObject | None
    """The open rollout."""


class AdapterOwnerObject(ApiObject):
    """The owner of an adapter after a change."""

    adapter: str
    tenant: str
    shared: bool


class AdapterHistory(AdapterObject):
    """An adapter with all its revisions, newest first."""

    revisions: list[RevisionObject]
