"""The job that runs the job of a result again, to see whether the same comes out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from registry.contracts.job_spec import JobSpec
from registry.states import ResultKind


class ReproduceSpec(JobSpec):
    """A job that carries out the spec of an earlier job and reports how the result differs; nothing is published."""

    id_prefix: ClassVar[str] = "repjob"
    noun: ClassVar[str] = "reproduction"
    reads_folders: ClassVar[bool] = True
    recipe: ClassVar[str] = ""
    file_fields: ClassVar[frozenset[str]] = frozenset({"training_file", "validation_file"})

    method: Literal["reproduce"] = "reproduce"
    result: str
    """Name of the result to make again: `support@7`."""
    result_artifact: str
    """Digest of the folder that the job made then."""
    job_id: str
    """The job that made it."""
    work: dict[str, Any]
    """Spec of that job."""
    training_file: str | None = None
    """Id of a file with the bytes that the job read."""
    validation_file: str | None = None
    folders: dict[str, str] = Field(default_factory=dict)
    """Digests of the folders that the job read, by field."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of the libraries that made the result, as its provenance records them."""
    machine: dict[str, str] = Field(default_factory=dict)
    """Facts of the machine that made it; empty where they were not recorded."""

    def work_fields(self) -> Mapping[str, Any]:
        """Return the fields of the spec that is run again; trackers got the figures of the first run."""
        return {**self.work, "integrations": []} if "integrations" in self.work else self.work

    def speed_fields(self) -> Mapping[str, Any]:
        """Return the job that is run again: only its own repetitions are like this one."""
        return {"job_id": self.job_id}

    def threads(self) -> int | None:
        """Return the number of threads that made the result: the last digits depend on it."""
        recorded = self.machine.get("threads", "")
        return int(recorded) if recorded.isdigit() else None

    def reproduces(self) -> str:
        """Return the name of the result."""
        return self.result

    def result_kind(self) -> ResultKind:
        """Return that the result is compared and not kept."""
        return ResultKind.COMPARISON

    def artifacts(self) -> Mapping[str, str]:
        """Return the digests of the folders that the job read, by field."""
        return self.folders

    def provenance(self, files: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
        """Return the result that was made again."""
        return {"source": "reproduction", "result": self.result}

    def published_message(self, name: str) -> str:
        """Return the message."""
        return f"Compared with {name}"
