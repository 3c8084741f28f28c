"""`/admin/lineage` and `/admin/provenance`: what models came from, and what was made of them."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter

from gateway.deps import GatewayDep
from gateway.objects.weights.lineage import LineageObject, ProvenanceStatement
from registry.lineage.lineage import lineage_of
from registry.lineage.statement import statement_of

router = APIRouter(prefix="/admin", tags=["lineage"])


@router.get("/lineage/{name:path}")
async def show_lineage(name: str, gateway: GatewayDep) -> LineageObject:
    """Show what a revision, adapter, model, job or data file came from, and what was made of it."""

    def read() -> LineageObject:
        return LineageObject.model_validate(asdict(lineage_of(gateway.registry, name)))

    return await gateway.ask(read)


@router.get("/provenance/{name:path}", response_model_exclude_none=True)
async def show_provenance(name: str, gateway: GatewayDep) -> ProvenanceStatement:
    """Show the same of a model as an in-toto Statement v1 with SLSA provenance v1; its files are hashed for it."""

    def read() -> ProvenanceStatement:
        return ProvenanceStatement.model_validate(statement_of(gateway.registry, name))

    return await gateway.ask(read)
