"""`/admin/replicas`: the inference servers as they last described themselves; enter an engine by hand, remove it."""

from __future__ import annotations

import secrets
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import NonNegativeInt

from engines.address import shown_address
from engines.catalog import ENGINES
from engines.drivers.adopted import AdoptedEngine
from engines.errors import EngineError
from gateway.deps import ActorDep, Gateway, GatewayDep
from gateway.errors import InvalidRequest
from gateway.objects.lists import ObjectList
from gateway.objects.operations import EnteredEngineObject, RemovedEngine, ReplicaObject
from gateway.openai.types import Body
from gateway.pools.entered_engines import adopted_settings
from registry.database import Registry
from registry.errors import NotFound
from registry.types import Base, EnteredEngine, Replica
from registry.wording.field_faults import written_as
from registry.wording.suggestions import meant_or_known

router = APIRouter(prefix="/admin/replicas", tags=["replicas"])


class EnterEngine(Body):
    """Body of `POST /admin/replicas`: an engine that was started elsewhere."""

    url: Annotated[str, written_as(r"https?://(:[^/?#@\s]+@)?[^/?#@\s]+", "http://host:port, or http://:KEY@host:port")]
    """`http://host:port` of the server, `http://:KEY@host:port` if it wants a key; the key is not shown again."""
    engine: str
    """Kind of the engine."""
    base: str
    """Served name of its base model, which is in the registry."""
    capacity: NonNegativeInt = 16
    """How many adapters the engine can hold."""


@router.get("")
async def list_replicas(gateway: GatewayDep) -> ObjectList[ReplicaObject]:
    """List every replica that is not gone, with its slots."""
    snapshot = await gateway.ask(gateway.registry.snapshot)
    return ObjectList(data=[ReplicaObject.model_validate(_shown(replica)) for replica in snapshot.replicas])


@router.post("", status_code=201)
async def enter_engine(body: EnterEngine, gateway: GatewayDep, actor: ActorDep) -> EnteredEngineObject:
    """Enter an engine that was started elsewhere: its adapters are loaded and proven, then it gets requests.

    400 names the field: an unknown kind, a base model that the registry or the server does not have, an address
    that does not answer. 409 for an address that was entered before.
    """
    if body.engine not in ENGINES:
        raise InvalidRequest(
            f"engine {body.engine[:64]!r} is not known here{meant_or_known(body.engine, sorted(ENGINES))}",
            param="engine",
        )
    entered = EnteredEngine(
        id=f"hand-{body.engine}-{secrets.token_hex(3)}",
        url=body.url,
        engine=body.engine,
        base=body.base,
        capacity=body.capacity,
        actor=actor,
        created_at=time.time(),
    )
    await _check(entered, gateway)
    await gateway.ask(gateway.registry.entered.enter, entered)
    return EnteredEngineObject.model_validate(_shown(entered))


@router.delete("/{replica_id}")
async def remove_engine(replica_id: str, gateway: GatewayDep, actor: ActorDep) -> RemovedEngine:
    """Remove an entered engine: it drains and leaves, the server itself runs on; 404 if it was not entered."""
    await gateway.ask(gateway.registry.entered.remove, replica_id, actor)
    found: list[Replica] = await gateway.ask(gateway.registry.replicas.list)
    row = next((replica for replica in found if replica.id == replica_id), None)
    return RemovedEngine(id=replica_id, state=None if row is None else row.state)


def _base_at_hand(registry: Registry, name: str) -> Base:
    return registry.at_hand(registry.bases.get(name))


async def _check(entered: EnteredEngine, gateway: Gateway) -> None:
    """Raise `InvalidRequest` unless the server answers and has the base model of this name in the registry."""
    try:
        base = await gateway.ask(_base_at_hand, gateway.registry, entered.base)
    except NotFound as exc:
        raise InvalidRequest(f"base: {exc}", param="base") from exc
    engine = AdoptedEngine(entered.url, adopted_settings(entered, Path(base.path)))
    try:
        await engine.start()
    except EngineError as exc:
        raise InvalidRequest(f"url: {exc}", param="url") from exc
    finally:
        await engine.stop(0.0)


def _shown(server: Replica | EnteredEngine) -> dict[str, Any]:
    """Return the fields of *server* as people see them."""
    return asdict(server) | {"url": shown_address(server.url)}
