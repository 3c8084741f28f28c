"""Wrong base URLs of clients, recognized by the path that results. Pure."""

from __future__ import annotations

from typing import Final

_BEHIND_V1: Final = (
    "chat/completions",
    "completions",
    "responses",
    "messages",
    "embeddings",
    "rerank",
    "audio/transcriptions",
    "models",
    "files",
    "uploads",
    "batches",
    "fine_tuning",
    "feedback",
)


def meant_path(path: str) -> str | None:
    """Return the path that a client meant whose base URL has `/v1` twice, not at all, or behind a prefix."""
    behind = path[path.rfind("/v1/") + 3 :] if "/v1/" in path else path
    if any(behind == f"/{part}" or behind.startswith(f"/{part}/") for part in _BEHIND_V1):
        return None if path == f"/v1{behind}" else f"/v1{behind}"
    return None
