"""The job that merges a revision into its base model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from registry.contracts.job_spec import JobSpec
from registry.states import ResultKind


class MergeSpec(JobSpec):
    """A job that publishes a base model with the adapter of a revision in its weights as a checkpoint."""

    id_prefix: ClassVar[str] = "mergejob"
    noun: ClassVar[str] = "merge"
    recipe: ClassVar[str] = "merge"
    phase_words: ClassVar[Mapping[str, str]] = {"finishing": "merging, and comparing the result with base and adapter"}
    reads_folders: ClassVar[bool] = True
    is_reproducible: ClassVar[bool] = True

    method: Literal["merge"] = "merge"
    revision: str
    """Name of the revision: `support@7`."""
    artifact: str
    """Digest of its folder."""

    def artifacts(self) -> Mapping[str, str]:
        """Return the revision's folder, which is not the job's own and stays when the job has ended."""
        return {"artifact": self.artifact}

    def result_kind(self) -> ResultKind:
        """Return that the result is a whole model."""
        return ResultKind.CHECKPOINT

    def provenance(self, files: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
        """Return what was merged."""
        return {"source": "merge", "adapter": {"name": self.revision, "artifact": self.artifact}}

    def published_message(self, name: str) -> str:
        """Return the message."""
        return f"Merged {self.revision} into {self.base}: {name}"
