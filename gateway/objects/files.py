"""`/v1/files`: OpenAI's file object."""

from __future__ import annotations

from typing import Literal

from gateway.objects.lists import ApiObject, ListedObject


class FileObject(ListedObject):
    """An uploaded file, checked and stored."""

    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    status_details: str | None = None
    expires_at: int | None = None


class DeletedFile(ApiObject):
    """The answer to a deletion."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True
