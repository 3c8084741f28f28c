"""`/v1/fine_tuning/checkpoints/{checkpoint}/permissions`: OpenAI's object of a permission."""

from __future__ import annotations

from typing import Literal

from gateway.objects.lists import ApiObject, ListedObject


class CheckpointPermissionObject(ListedObject):
    """The permission of one tenant to use a checkpoint."""

    object: Literal["checkpoint.permission"] = "checkpoint.permission"
    created_at: int
    project_id: str
    """The tenant."""


class DeletedPermission(ApiObject):
    """The answer to a deletion."""

    id: str
    object: Literal["checkpoint.permission"] = "checkpoint.permission"
    deleted: Literal[True] = True
