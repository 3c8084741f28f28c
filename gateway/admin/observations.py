"""`/admin/rollouts/{rollout_id}/observations`: the sums that all gateways counted for a rollout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from fastapi import APIRouter

from gateway.deps import GatewayDep
from gateway.objects.evidence import ObservedCell
from gateway.objects.lists import ObjectList
from registry.rollouts.tally import Cell, Tally, quantile

router = APIRouter(prefix="/admin/rollouts", tags=["rollouts"])


@router.get("/{rollout_id}/observations")
async def list_observations(rollout_id: str, gateway: GatewayDep) -> ObjectList[ObservedCell]:
    """List one entry for each step, side and replica; 404 if there is no such rollout."""

    def read() -> Mapping[Cell, Tally]:
        gateway.registry.rollouts.get(rollout_id)
        return gateway.registry.tallies.of_rollout(rollout_id)

    cells = await gateway.ask(read)
    order = sorted(cells, key=lambda cell: (cell.step, cell.side, cell.replica))
    return ObjectList(data=[_entry(cell, cells[cell]) for cell in order])


def _entry(cell: Cell, tally: Tally) -> ObservedCell:
    fields = asdict(tally)
    times = {name: fields.pop(name) for name in ("ttft", "tpot", "ttft_cached", "tpot_cached")}
    shares = {
        f"{name}_p{percent}_s": quantile(buckets, percent / 100)
        for name, buckets in times.items()
        for percent in (50, 95)
    }
    win_rate = tally.win_sum / tally.comparisons if tally.comparisons else None
    about = {"step": cell.step, "side": cell.side, "replica": cell.replica}
    return ObservedCell.model_validate(about | fields | {"failures": tally.failures} | shares | {"win_rate": win_rate})
