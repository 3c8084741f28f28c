"""Settings of the registry, and the reading of the one settings file of all packages."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError

from registry.errors import SettingsInvalid
from registry.wording.field_faults import fault_in, written_as
from registry.wording.known_fields import KnownFields
from registry.wording.suggestions import meant_or_known

TABLES: Final = ("registry", "gateway", "engines", "trainer", "webhooks", "traces", "models")
REGISTRY_VARIABLE: Final = "LORRY_REGISTRY"
"""Environment variable with the URL of the registry, which has a password that no file needs to have."""

Table = TypeVar("Table", bound=BaseModel)

ARTIFACTS_VARIABLE: Final = "LORRY_ARTIFACTS"
"""Environment variable that names the place of the artifacts on one machine, in place of the settings file's."""
BUCKET_SCHEMES: Final = ("s3", "gs", "az")


def _artifact_place(text: object) -> Path | str:
    """Return a folder as a path, and the address of a bucket as it is. Raises `ValueError` for anything else."""
    if not isinstance(text, (str, Path)):
        raise ValueError("must be a text")
    scheme, mark, rest = str(text).partition("://")
    if not mark or isinstance(text, Path):
        return Path(text)
    if scheme not in BUCKET_SCHEMES or not rest.strip("/"):
        raise ValueError("must be a folder, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX")
    return text


ArtifactPlace = Annotated[Path | str, PlainValidator(_artifact_place)]
"""A folder as a path, or the address of a bucket as text."""


class RegistrySettings(KnownFields):
    """Table `[registry]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str
    """SQLAlchemy URL of the database, `sqlite:////path/registry.db` or `postgresql+psycopg://user@host/name`.

    The environment variable `LORRY_REGISTRY` goes over it.
    """
    artifacts: ArtifactPlace
    """Folder of the content-addressed artifacts, or a bucket: `s3://BUCKET/PREFIX`, `gs://…`, `az://…`.

    The environment variable `LORRY_ARTIFACTS` goes over it.
    """
    artifact_cache: Path = Path("artifact-cache")
    """Folder of this machine's copies of the artifacts in a bucket."""
    artifact_cache_bytes: Annotated[int, Field(ge=1)] = 1 << 36
    """How many bytes these copies may take; those used least lately are removed, none that a process has loaded."""
    picture_folder: Path | None = None
    """Folder below which training files may name pictures by their path; None allows no paths."""
    response_days: Annotated[float, Field(gt=0)] = 30.0
    """How long a stored response is kept after it was made, or last gone on from, in days."""
    responses_per_tenant: Annotated[int, Field(ge=1)] = 10_000
    """How many responses a tenant may have stored; those used least lately are removed."""
    response_bytes_per_tenant: Annotated[int, Field(ge=1)] = 1 << 28
    """How many bytes they may take in all, packed; those used least lately are removed."""
    organisation: Annotated[
        str, written_as(r"[a-z0-9][a-z0-9-]*", "small letters, digits and -, of which the first is no -")
    ] = "lorry"
    """Third part of the names of fine-tuned models, `ft:<base>:<organisation>:<adapter>:<id>`."""


def lorry_home() -> Path:
    """Return the folder of all state: the environment variable `LORRY_HOME`, else `~/.lorry`."""
    return Path(os.environ.get("LORRY_HOME") or Path.home() / ".lorry").absolute()


def read_tables(path: Path | None) -> Mapping[str, Mapping[str, Any]]:
    """Return the tables of the TOML file at *path*, none for None. Raises `SettingsInvalid`."""
    if path is None:
        return {}
    try:
        tables = tomllib.loads(path.read_text())
    except OSError as exc:
        raise SettingsInvalid(f"settings file {path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise SettingsInvalid(f"settings file {path}: is not text in UTF-8") from exc
    except ValueError as exc:
        raise SettingsInvalid(f"settings file {path}: is not TOML: {exc}") from exc
    unknown = sorted(set(tables) - set(TABLES))
    if unknown:
        raise SettingsInvalid(f"settings file {path}: unknown table {unknown[0]!r}{meant_or_known(unknown[0], TABLES)}")
    return tables


def parse_table(model: type[Table], name: str, fields: Mapping[str, Any]) -> Table:
    """Return *fields* as settings. `SettingsInvalid` names the wrong field, and for an unknown one what was meant."""
    try:
        return model.model_validate(fields)
    except ValidationError as exc:
        sentence = fault_in(fields, exc).sentence.replace("unknown field", "unknown setting")
        raise SettingsInvalid(f"settings [{name}] {sentence}") from exc


def registry_settings(tables: Mapping[str, Mapping[str, Any]], home: Path) -> RegistrySettings:
    """Return the table `[registry]` with its defaults below *home*, below what the environment says of this machine."""
    defaults = {
        "url": f"sqlite:///{home / 'registry.db'}",
        "artifacts": home / "artifacts",
        "artifact_cache": home / "cache" / "artifacts",
    }
    variables = {"url": REGISTRY_VARIABLE, "artifacts": ARTIFACTS_VARIABLE}
    around = {field: os.environ[name] for field, name in variables.items() if os.environ.get(name)}
    return parse_table(RegistrySettings, "registry", defaults | dict(tables.get("registry", {})) | around)
