"""Dependencies of the request handlers: the gateway's parts, and who calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant

from gateway.edge.parts import Gateway
from gateway.errors import InvalidRequest
from gateway.keys.caller import Caller

__all__ = [
    "ActorDep",
    "Author",
    "AuthorDep",
    "CallerDep",
    "Gateway",
    "GatewayDep",
    "KnownQuery",
    "actor_of",
    "caller_of",
    "known_query",
]


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


def _query_names(dependant: Dependant) -> list[str]:
    own = [parameter.alias for parameter in dependant.query_params]
    return own + [name for part in dependant.dependencies for name in _query_names(part)]


def known_query(request: Request) -> None:
    """Raise `InvalidRequest` for a query parameter that the endpoint does not have.

    A filter that is passed over in silence would show a caller what it did not ask for. Azure's clients send their
    `api-version` with every request.
    """
    known = _query_names(request.scope["route"].dependant)
    for name in request.query_params:
        base, bracket, _ = name.partition("[")
        is_pair = base == "metadata" and bracket and name.endswith("]")
        if not (name in known or (is_pair and base in known) or name == "api-version"):
            listed = ", ".join(known) or "none"
            raise InvalidRequest(f"unknown query parameter {name[:64]!r}; there are: {listed}", param=name[:64])


KnownQuery = Depends(known_query)
"""For routers whose endpoints refuse unknown query parameters."""
