"""What the hot paths answer to methods that they do not take; those that they take never come here (`gateway.edge`)."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.exceptions import HTTPException

from gateway.routing.paths import HOT_PATHS

router = APIRouter()


async def refuse_method() -> None:
    """405, naming the method that would be right."""
    raise HTTPException(405, "Method Not Allowed", {"allow": "POST"})


for _path in HOT_PATHS:
    router.add_api_route(_path.decode(), refuse_method, methods=["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
