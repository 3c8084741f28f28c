"""Keys in the registry of this machine, for `lorry keys --home`; only this file of the CLI opens a database."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError

from gateway.admin.key_types import CreateKey, issued_object, key_object
from gateway.cli.errors import CommandFailed
from gateway.objects.keys import IssuedKeyObject, KeyObject
from gateway.settings import load_settings
from registry.database import Registry, open_registry
from registry.disk import keep_files_private, make_private
from registry.errors import RegistryError
from registry.schema import migrate
from registry.wording.field_faults import fault_in


class KeysAtHome:
    """Keys in the registry; gateways see a change at their next reading."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._actor = getpass.getuser()

    def create(self, body: dict[str, Any]) -> IssuedKeyObject:
        """Make the key that *body* describes; it is returned with its secret."""
        try:
            asked = CreateKey.model_validate(body)
        except ValidationError as exc:
            raise CommandFailed(fault_in(body, exc).sentence) from exc
        keys = self._registry.keys
        return issued_object(keys.create(asked.draft(is_first=keys.valid().is_keyless), self._actor))

    def list(self) -> list[KeyObject]:
        """Return every key that was ever made, newest first."""
        return [key_object(key) for key in self._registry.keys.list()]

    def revoke(self, id_or_name: str) -> KeyObject:
        """Revoke the key and return it."""
        return key_object(self._registry.keys.revoke(id_or_name, self._actor))


@contextmanager
def keys_at_home() -> Iterator[KeysAtHome]:
    """Open the registry that LORRY_HOME and LORRY_CONFIG name, migrated; its errors become `CommandFailed`."""
    try:
        loaded = load_settings()
        keep_files_private()
        make_private(loaded.home)
        settings = loaded.registry
        migrate(settings.url)
        registry = open_registry(settings)
        try:
            yield KeysAtHome(registry)
        finally:
            registry.close()
    except RegistryError as exc:
        raise CommandFailed(str(exc)) from exc
    except OSError as exc:
        raise CommandFailed(f"LORRY_HOME is not writable: {exc.strerror}: {exc.filename}") from exc
