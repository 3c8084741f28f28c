"""Publication of an adapter that was trained elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from registry.contracts.job_spec import JobSpec


class PublishSpec(JobSpec):
    """A job that fingerprints an uploaded adapter, checked and normalised already, and publishes it."""

    id_prefix: ClassVar[str] = "pubjob"
    noun: ClassVar[str] = "publish"
    recipe: ClassVar[str] = "prove"
    reads_folders: ClassVar[bool] = True
    artifact_fields: ClassVar[frozenset[str]] = frozenset({"artifact"})
    # It takes seconds and somebody waits for it; beside engines that are never idle it would not end.
    engines_go_first: ClassVar[bool] = False

    method: Literal["publish"] = "publish"
    artifact: str
    """Digest of the normalised folder."""

    def provenance(self, files: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
        """Return where the adapter came from."""
        return {"source": "published by hand", "upload": self.artifact}

    def published_message(self, name: str) -> str:
        """Return the message."""
        return f"Published as {name}"
