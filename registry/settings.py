"""Settings of the registry, and the reading of the one settings file of all packages."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from registry.errors import SettingsInvalid

TABLES: Final = ("registry", "gateway", "engines", "trainer", "webhooks", "traces")

Table = TypeVar("Table", bound=BaseModel)


class RegistrySettings(BaseModel):
    """Table `[registry]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str
    """SQLAlchemy URL of the database, `sqlite:////path/registry.db` or `postgresql+psycopg://user@host/name`."""
    artifacts: Path
    """Folder of the content-addressed artifacts."""
    picture_folder: Path | None = None
    """Folder below which training files may name pictures by their path; None allows no paths."""
    organisation: str = Field(default="lorry", pattern=r"^[a-z0-9][a-z0-9-]*$")
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
    except (OSError, tomllib.TOMLDecodeError) as exc:
        raise SettingsInvalid(f"settings file {path}: {exc}") from exc
    unknown = sorted(set(tables) - set(TABLES))
    if unknown:
        raise SettingsInvalid(f"settings file {path}: unknown table {unknown[0]!r}; there are {', '.join(TABLES)}")
    return tables


def parse_table(model: type[Table], name: str, fields: Mapping[str, Any]) -> Table:
    """Return *fields* as settings. `SettingsInvalid` names the wrong field and lists the known ones."""
    try:
        return model.model_validate(fields)
    except ValidationError as exc:
        first = exc.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        known = ", ".join(model.model_fields)
        raise SettingsInvalid(f"settings [{name}] {field}: {first['msg']}; fields are {known}") from exc


def registry_settings(tables: Mapping[str, Mapping[str, Any]], home: Path) -> RegistrySettings:
    """Return the table `[registry]` with its defaults below *home*."""
    defaults = {"url": f"sqlite:///{home / 'registry.db'}", "artifacts": home / "artifacts"}
    return parse_table(RegistrySettings, "registry", defaults | dict(tables.get("registry", {})))
