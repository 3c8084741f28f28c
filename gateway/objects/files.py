"""`/v1/files` and `/v1/uploads`: OpenAI's objects of files and of uploads in parts."""

from __future__ import annotations

from typing import Literal

from gateway.objects.lists import ApiObject, ListedObject
from registry.files.upload import UploadState


class FileObject(ListedObject):
    """An uploaded file, checked and stored."""

    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["uploaded", "processed", "error"] = "processed"
    """`uploaded`: a report on the training file is being made, and jobs may read it; `error`: there will be none."""
    status_details: str | None = None
    """Summary of the report, or why there is none."""
    expires_at: int | None = None


class DeletedFile(ApiObject):
    """The answer to a deletion."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class UploadObject(ApiObject):
    """OpenAI's `upload`: a file that is sent in parts."""

    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: UploadState
    file: FileObject | None = None
    """The file that a completed upload became."""


class UploadPartObject(ApiObject):
    """OpenAI's `upload.part`."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str
