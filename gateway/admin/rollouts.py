"""`/admin/rollouts` and the moves of a rollout by hand: start, pause, resume, promote, abort, roll back."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from gateway.deps import ActorDep, CallerDep, Gateway, GatewayDep
from gateway.evaluations.gate_plan import pinned_plan
from gateway.keys.access import check_judge
from gateway.objects.lists import ObjectList
from gateway.objects.rollouts import RolloutMove, RolloutObject, RolloutStory
from gateway.openai.types import Body, RolloutRequest
from gateway.rollouts import controller, rollback
from gateway.rollouts.gate import progress_text, suite_of
from gateway.routing.readiness import why_not_begun
from registry.rollouts.rollout import Rollout, RolloutEvent, plan_as_json
from registry.rollouts.rollout_state import RolloutState

router = APIRouter(prefix="/admin", tags=["rollouts"])


class StartRollout(RolloutRequest):
    """Body of `POST /admin/adapters/{name}/rollouts`."""

    revision: int


class Rollback(Body):
    """Body of `POST /admin/adapters/{name}/rollback`; `to` None is the revision that was stable before."""

    to: int | None = None


class Promote(Body):
    """Body of `POST /admin/rollouts/{id}/promote`."""

    full: bool = False
    """Skip the steps between."""
    step: int | None = None
    """Index of the step that the caller saw; 409 if the rollout is at another one."""
    skip_gate: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    """Why a pending rollout is to begin without a decision of its gate; the audit log keeps it."""


@router.post("/adapters/{name}/rollouts", status_code=201)
async def start_rollout(
    name: str, body: StartRollout, gateway: GatewayDep, caller: CallerDep, actor: ActorDep
) -> RolloutStory:
    """Open a rollout; it takes traffic once the canary is on every replica (immediately where it is loaded already)."""
    await gateway.feed.refresh()
    plan = await gateway.ask(pinned_plan, gateway.registry, caller, gateway.feed.table, body.plan())
    check_judge(caller, gateway.feed.table, plan.shadow_judge)

    def start() -> Rollout:
        rollout = gateway.registry.rollouts.start(name, body.revision, plan, actor)
        return controller.begin_if_loaded(gateway.registry, rollout)

    return await _answer(gateway, await gateway.ask(start))


@router.post("/adapters/{name}/rollback")
async def roll_back(name: str, gateway: GatewayDep, actor: ActorDep, body: Rollback | None = None) -> RolloutStory:
    """Abort the open rollout, or make the former stable revision (or `to`) stable again.

    409 `nothing_to_roll_back` if the last change was taken back already: only `to` leads to what was taken back.
    """
    to = body.to if body else None
    rollout = await gateway.ask(rollback.roll_back, gateway.registry, name, to, actor)
    return await _answer(gateway, rollout)


@router.get("/rollouts")
async def list_rollouts(
    gateway: GatewayDep, adapter: str | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> ObjectList[RolloutObject]:
    """List rollouts, newest first."""
    found = await gateway.ask(gateway.registry.rollouts.list, adapter=adapter, limit=limit)
    return ObjectList(data=[rollout_object(rollout) for rollout in found])


@router.get("/rollouts/{rollout_id}")
async def show_rollout(rollout_id: str, gateway: GatewayDep) -> RolloutStory:
    """Show one rollout with its moves, oldest first."""
    return await _answer(gateway, await gateway.ask(gateway.registry.rollouts.get, rollout_id))


@router.post("/rollouts/{rollout_id}/pause")
async def pause_rollout(rollout_id: str, gateway: GatewayDep, actor: ActorDep) -> RolloutStory:
    """Pause the rollout: the weight holds until a person decides."""
    return await _move(gateway, rollout_id, RolloutState.PAUSED, actor)


@router.post("/rollouts/{rollout_id}/resume")
async def resume_rollout(rollout_id: str, gateway: GatewayDep, actor: ActorDep) -> RolloutStory:
    """Resume a paused rollout at the weight that was held."""
    return await _move(gateway, rollout_id, RolloutState.PROGRESSING, actor)


@router.post("/rollouts/{rollout_id}/abort")
async def abort_rollout(rollout_id: str, gateway: GatewayDep, actor: ActorDep) -> RolloutStory:
    """Abort the rollout: the stable revision gets all traffic again."""
    return await _move(gateway, rollout_id, RolloutState.ABORTED, actor)


@router.post("/rollouts/{rollout_id}/promote")
async def promote_rollout(
    rollout_id: str, gateway: GatewayDep, actor: ActorDep, body: Promote | None = None
) -> RolloutStory:
    """Go to the next step now; the one at 100 makes the canary stable."""
    asked = body or Promote()
    if asked.skip_gate is not None:
        skip = controller.skip_gate
        skipped = await gateway.ask(skip, gateway.registry, rollout_id, actor, asked.skip_gate, full=asked.full)
        return await _answer(gateway, skipped)
    promoted = await gateway.ask(
        controller.promote, gateway.registry, rollout_id, actor, full=asked.full, step=asked.step
    )
    return await _answer(gateway, promoted)


async def _move(gateway: Gateway, rollout_id: str, to: RolloutState, actor: str) -> RolloutStory:
    def move() -> Rollout:
        rollout = gateway.registry.rollouts.get(rollout_id)
        rollout.check_open()
        return gateway.registry.rollouts.move(rollout_id, rollout.state, to, reason="requested", actor=actor)

    return await _answer(gateway, await gateway.ask(move))


async def _answer(gateway: Gateway, rollout: Rollout) -> RolloutStory:
    await gateway.feed.refresh()
    events = await gateway.ask(gateway.registry.rollouts.events, rollout.id)
    moves = [_move_object(event) for event in events]
    # Not from the feed's table, which stays as it is while a change of replicas changes no endpoint.
    is_pending = rollout.state is RolloutState.PENDING
    obstacle = why_not_begun(await gateway.ask(gateway.registry.snapshot), rollout) if is_pending else None
    if is_pending and obstacle is None and rollout.plan.gate is not None:
        found = await gateway.ask(gateway.registry.evaluations.of_rollout, rollout.id)
        if found:
            obstacle = f"The gate {suite_of(rollout.plan.gate, found)} is asked: {progress_text(found)}."
    return RolloutStory.model_validate({**_fields_of(rollout), "events": moves, "obstacle": obstacle})


def rollout_object(rollout: Rollout) -> RolloutObject:
    """Return the JSON object of a rollout, with revisions by served name."""
    return RolloutObject.model_validate(_fields_of(rollout))


def _fields_of(rollout: Rollout) -> dict[str, object]:
    return {
        "id": rollout.id,
        "adapter": rollout.adapter,
        "canary": f"{rollout.adapter}@{rollout.canary}",
        "stable": None if rollout.stable is None else f"{rollout.adapter}@{rollout.stable}",
        "state": rollout.state,
        **plan_as_json(rollout.plan),
        "step": rollout.step,
        "canary_weight": rollout.canary_weight,
        "shadow_percent": rollout.shadow_percent,
        "reason": rollout.reason,
        "message": rollout.message,
        "actor": rollout.actor,
        "created_at": rollout.created_at,
        "step_since": rollout.step_since,
        "finished_at": rollout.finished_at,
        "judged_at": rollout.judged_at,
        "evidence": rollout.evidence,
        "gate_result": rollout.gate_result,
    }


def _move_object(event: RolloutEvent) -> RolloutMove:
    return RolloutMove.model_validate(
        {
            "at": event.at,
            "state": event.state,
            "step": event.step,
            "reason": event.reason,
            "message": event.message,
            "actor": event.actor,
            "evidence": event.evidence,
        }
    )
