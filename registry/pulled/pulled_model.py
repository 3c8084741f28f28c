"""The record of a model that was pulled from a hub, as the provenance of its base model has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

SOURCE: Final = "hub"
"""`source` in the provenance of such a base model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PulledFile:
    """A file of such a model."""

    size_bytes: int
    sha256: str
    hub_hash: str | None
    """The hash that the hub named, `sha256:...` or `gitoid:...` (Git's blob); None where it names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PulledModel:
    """Where a base model comes from, and each of its files."""

    hub: str
    id: str
    """`OWNER/NAME` on that hub."""
    commit: str
    asked_revision: str | None
    """The branch, tag or commit that was asked for; None for the default branch."""
    pulled_by: str
    pulled_at: float
    files: Mapping[str, PulledFile]
    remote_code: bool
    """Whether its configuration names code of its own, which is never fetched and never run."""

    @property
    def pinned(self) -> str:
        """The id with its commit, by which a pool names exactly this model."""
        return f"{self.id}@{self.commit}"

    def as_provenance(self) -> dict[str, Any]:
        """Return the record as JSON."""
        files = {
            path: {"size_bytes": file.size_bytes, "sha256": file.sha256, "hub_hash": file.hub_hash}
            for path, file in sorted(self.files.items())
        }
        return {
            "source": SOURCE,
            "hub": self.hub,
            "id": self.id,
            "commit": self.commit,
            "asked_revision": self.asked_revision,
            "pulled_by": self.pulled_by,
            "pulled_at": self.pulled_at,
            "remote_code": self.remote_code,
            "files": files,
        }


def pulled_model(provenance: Mapping[str, Any]) -> PulledModel | None:
    """Return the record in the provenance of a base model; None for one that comes from elsewhere."""
    if provenance.get("source") != SOURCE:
        return None
    return PulledModel(
        hub=provenance["hub"],
        id=provenance["id"],
        commit=provenance["commit"],
        asked_revision=provenance["asked_revision"],
        pulled_by=provenance["pulled_by"],
        pulled_at=provenance["pulled_at"],
        remote_code=provenance["remote_code"],
        files={path: PulledFile(**facts) for path, facts in provenance["files"].items()},
    )
