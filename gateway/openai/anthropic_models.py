"""`GET /v1/models` as Anthropic's clients read it, who name themselves by the header `anthropic-version`. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from gateway.errors import InvalidRequest
from gateway.objects.models import AnthropicModel, AnthropicModelPage, ModelObject

_USUAL_LIMIT: Final = 20
_MOST: Final = 1000


def anthropic_model(model: ModelObject) -> AnthropicModel:
    """Return *model* in Anthropic's form."""
    return AnthropicModel(id=model.id, display_name=model.id, created_at=datetime.fromtimestamp(model.created, UTC))


def anthropic_page(models: Sequence[ModelObject], query: Mapping[str, str]) -> AnthropicModelPage:
    """Return the page of *models* that *query* asks for by `limit`, and `after_id` or `before_id`; `InvalidRequest`."""
    limit = _limit(query.get("limit"))
    ids = [model.id for model in models]
    start, end = 0, len(models)
    if "after_id" in query:
        start = _place(ids, "after_id", query["after_id"]) + 1
    if "before_id" in query:
        end = _place(ids, "before_id", query["before_id"])
    found = models[start:end]
    # Before a cursor the page is the one that ends at it.
    shown = found[-limit:] if "before_id" in query else found[:limit]
    return AnthropicModelPage(
        data=[anthropic_model(model) for model in shown],
        has_more=len(found) > limit,
        first_id=shown[0].id if shown else None,
        last_id=shown[-1].id if shown else None,
    )


def _limit(asked: str | None) -> int:
    if asked is None:
        return _USUAL_LIMIT
    if not (asked.isascii() and asked.isdigit() and len(asked) <= 4 and 1 <= int(asked) <= _MOST):
        raise InvalidRequest(f"limit must be a whole number from 1 to {_MOST}; got {asked[:64]!r}", param="limit")
    return int(asked)


def _place(ids: Sequence[str], name: str, cursor: str) -> int:
    if cursor not in ids:
        raise InvalidRequest(f"{name} must be the id of a model; got {cursor[:64]!r}", param=name)
    return ids.index(cursor)
