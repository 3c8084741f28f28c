"""Dependencies of the request handlers: the gateway's parts, and who calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from gateway.edge.parts import Gateway
from gateway.keys.auth import Caller

__all__ = ["ActorDep", "Author", "AuthorDep", "CallerDep", "Gateway", "GatewayDep", "actor_of", "caller_of"]


def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


GatewayDep = Annotated[Gateway, Depends(_gateway)]


def caller_of(request: Request) -> Caller:
    """Return the caller whom `Authentication` stored with the request."""
    caller: Caller = request.state.caller
    return caller


def actor_of(request: Request) -> str:
    """Return who acts, for the audit log: the key's name; without keys the header `x-lorry-actor`, else `local`."""
    caller = caller_of(request)
    return caller.name if caller.key_id else request.headers.get("x-lorry-actor", caller.name)[:64]


CallerDep = Annotated[Caller, Depends(caller_of)]
ActorDep = Annotated[str, Depends(actor_of)]


@dataclass(frozen=True, slots=True)
class Author:
    """Who makes a file, a job or an adapter."""

    name: str
    """The name that `actor_of` gives."""
    caller: Caller


def author_of(caller: CallerDep, actor: ActorDep) -> Author:
    """Return the maker of what the request makes."""
    return Author(actor, caller)


AuthorDep = Annotated[Author, Depends(author_of)]
