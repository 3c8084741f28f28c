"""The store of a registry, by its settings."""

from __future__ import annotations

from pathlib import Path

from registry.artifacts import ArtifactStore, Referenced
from registry.settings import RegistrySettings
from registry.stores.bucket import Bucket
from registry.stores.bucket_store import BucketStore
from registry.stores.cache import ArtifactCache
from registry.stores.folder_store import FolderStore
from registry.transactions import Transactions


def build_store(settings: RegistrySettings, transactions: Transactions, referenced: Referenced) -> ArtifactStore:
    """Return the store of artifacts, which connects to nothing yet. Raises `StorageFull`."""
    place = settings.artifacts
    if isinstance(place, Path):
        return FolderStore(place, referenced)
    cache = ArtifactCache(settings.artifact_cache.absolute(), settings.artifact_cache_bytes, transactions.now)
    return BucketStore(Bucket(place), cache, transactions, referenced)
