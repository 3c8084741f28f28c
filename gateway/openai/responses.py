"""`/v1/responses/{id}`: stored responses, read and deleted. The hot path makes and stores them."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import orjson
from fastapi import APIRouter, Query, Response
from starlette.exceptions import HTTPException

from gateway.deps import CallerDep, GatewayDep, KnownQuery
from gateway.errors import InvalidRequest
from gateway.objects.relayed.responses import DeletedResponse, ResponseItemPage

router = APIRouter(dependencies=[KnownQuery], tags=["responses"])

_JSON: Final = "application/json"
_RESPONSE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {_JSON: {"schema": {"$ref": "#/components/schemas/ModelResponse"}}}}
}
"""The answer with a response, described as that of `POST /v1/responses` is."""
Include = Annotated[list[str] | None, Query(alias="include[]")]
"""OpenAI's further parts of what was stored; a stored response has all that it ever had."""


@router.post("/v1/responses/compact", include_in_schema=False)
async def refuse_compaction() -> None:
    """Answer 404 with what there is instead, where the next path would refuse the method."""
    raise HTTPException(404)


@router.get("/v1/responses/{response_id}", response_model=None, responses=_RESPONSE)
async def get_response(  # noqa: PLR0913  its parameters are those of the query
    response_id: str,
    gateway: GatewayDep,
    caller: CallerDep,
    stream: bool = False,
    include: Include = None,
    include_obfuscation: bool = False,
) -> Response:
    """Return a stored response, as its client had it."""
    if stream or include_obfuscation:
        raise InvalidRequest("stream is not supported here: a stored response is read whole", param="stream")
    found = await gateway.ask(gateway.registry.responses.get, caller.tenant, response_id)
    return Response(orjson.dumps(found.body), media_type=_JSON)


@router.delete("/v1/responses/{response_id}")
async def delete_response(response_id: str, gateway: GatewayDep, caller: CallerDep) -> DeletedResponse:
    """Remove a stored response; nothing can go on from it, nor from what went on from it."""
    await gateway.ask(gateway.registry.responses.delete, caller.tenant, response_id)
    return DeletedResponse(id=response_id)


@router.get("/v1/responses/{response_id}/input_items", response_model=ResponseItemPage)
async def list_response_input_items(  # noqa: PLR0913  its parameters are those of the query
    response_id: str,
    gateway: GatewayDep,
    caller: CallerDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
    after: str | None = None,
    include: Include = None,
) -> Response:
    """List the items of a stored response's own request, the last one first unless asked otherwise."""
    found = await gateway.ask(gateway.registry.responses.get, caller.tenant, response_id)
    items = list(found.input_items)
    if order == "desc":
        items.reverse()
    if after is not None:
        ids = [item["id"] for item in items]
        if after not in ids:
            raise InvalidRequest(f"after: the response has no item {after[:64]!r}", param="after")
        items = items[ids.index(after) + 1 :]
    data = items[:limit]
    page: dict[str, Any] = {"object": "list", "data": data, "has_more": len(items) > limit}
    page |= {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return Response(orjson.dumps(page), media_type=_JSON)


@router.post("/v1/responses/{response_id}/cancel", response_model=None, responses=_RESPONSE)
async def cancel_response(response_id: str, gateway: GatewayDep, caller: CallerDep) -> Response:
    """Answer 400 for any response that is stored, as only those made in the background could be cancelled."""
    await gateway.ask(gateway.registry.responses.get, caller.tenant, response_id)
    raise InvalidRequest("Cannot cancel a synchronous response.")
