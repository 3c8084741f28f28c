"""The answer of the hot paths to other methods than POST; `gateway.edge` takes the POSTs before they come here."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.exceptions import HTTPException

from gateway.routing.paths import HOT_PATHS

router = APIRouter()


async def refuse_method() -> None:
    """Answer 405, naming the right method."""
    raise HTTPException(405, headers={"allow": "POST"})


for _path in HOT_PATHS:
    router.add_api_route(
        _path.decode(),
        refuse_method,
        methods=["GET", "PUT", "PATCH", "DELETE"],
        include_in_schema=False,
    )
