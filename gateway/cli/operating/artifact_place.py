"""The bucket of the artifacts as `lorry doctor` finds it; the command imports this file when it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gateway.cli.errors import CommandFailed
from gateway.settings import load_settings
from registry.errors import ArtifactsUnavailable, SettingsInvalid
from registry.stores.bucket import Bucket


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactPlace:
    """Where the artifacts are, and what is wrong with the place."""

    place: str
    trouble: str | None
    """The change that is needed; None for a folder, and for a bucket that was written, read and cleared."""


def artifact_place() -> ArtifactPlace:
    """Return the place that the settings of this machine name, tried if it is a bucket; `CommandFailed`."""
    try:
        place = load_settings().registry.artifacts
    except SettingsInvalid as exc:
        raise CommandFailed(str(exc)) from exc
    if isinstance(place, Path):
        return ArtifactPlace(place=str(place), trouble=None)
    try:
        Bucket(place).check()
    except (ArtifactsUnavailable, SettingsInvalid) as exc:
        return ArtifactPlace(place=place, trouble=str(exc))
    return ArtifactPlace(place=place, trouble=None)
