"""A part of a lineage: a thing, its facts, and the things that it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class NodeKind(StrEnum):
    """The kinds of things in a lineage."""

    REVISION = "revision"
    STEP = "step"  # an earlier step of a job, which is served for some time
    CHECKPOINT = "checkpoint"  # a whole model that a job made
    BASE = "base"  # a whole model that was entered from a folder, or pulled
    ADAPTER = "adapter"  # the series of an adapter's revisions
    REPOSITORY = "repository"  # of a hub, at a commit
    JOB = "job"
    FILE = "file"
    REVIEW = "review"  # a person's sign-off on a file
    EVALUATION = "evaluation"
    ROLLOUT = "rollout"
    ACT = "act"  # an entry of the audit log, or a move of a rollout


class NodeState(StrEnum):
    """Whether the thing is still there."""

    PRESENT = "present"
    RETIRED = "retired"  # kept for the record, no longer served
    DELETED = "deleted"  # what is shown of it is what others remember
    ELSEWHERE = "elsewhere"  # not kept by Lorry


@dataclass(frozen=True, slots=True, kw_only=True)
class LineageNode:
    """A thing in a lineage."""

    kind: NodeKind
    name: str
    relation: str
    """The relation to the node above: `base`, `trained on`, `made by`; empty at the top."""
    state: NodeState = NodeState.PRESENT
    digest: str | None = None
    """sha256 of a file, or of the manifest of a folder of weights."""
    at: float | None = None
    """When it was made, or happened."""
    by: str | None = None
    """Who made or did it."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    parts: Sequence[LineageNode] = ()
    """The things that it came from, and what belongs to it: checkpoints, scores, rollouts, acts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """A thing with what it came from and what was made of it."""

    node: LineageNode
    became: Sequence[LineageNode]
    """The things that were made of it, each with those that were made of that one as its parts."""
