"""Settings of the registry, and the reading of the one settings file of all packages."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from registry.errors import SettingsInvalid
from registry.wording.field_faults import fault_in, written_as
from registry.wording.known_fields import KnownFields
from registry.wording.suggestions import meant_or_known

TABLES: Final = ("registry", "gateway", "engines", "trainer", "webhooks", "traces", "models")
REGISTRY_VARIABLE: Final = "LORRY_REGISTRY"
"""Environment variable with the URL of the registry, which has a password that no file needs to have."""

Table = TypeVar("Table", bound=BaseModel)


class RegistrySettings(KnownFields):
    """Table `[registry]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str
    """SQLAlchemy URL of the database, `sqlite:////path/registry.db` or `postgresql+psycopg://user@host/name`.

    The environment variable `LORRY_REGISTRY` goes over it.
    """
    artifacts: Path
    """Folder of the content-addressed artifacts."""
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
    """Return the table `[registry]` with its defaults below *home*, and `LORRY_REGISTRY` in the place of its URL."""
    defaults = {"url": f"sqlite:///{home / 'registry.db'}", "artifacts": home / "artifacts"}
    url = os.environ.get(REGISTRY_VARIABLE)
    around = {"url": url} if url else {}
    return parse_table(RegistrySettings, "registry", defaults | dict(tables.get("registry", {})) | around)
