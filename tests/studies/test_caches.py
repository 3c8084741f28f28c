from __future__ import annotations

from registry.rollouts.guardrails import GuardrailPlan
from registry.rollouts.tally import Side
from studies.canary.caches import Crowd, Rollout, cached_share

CROWD = Crowd(per_second=12.0, burst=4.0, prompts=6)


def test_a_copy_that_finds_fewer_prompts_in_caches_is_promoted_nevertheless() -> None:
    rollout = Rollout(CROWD, GuardrailPlan(min_samples=10), seed=1)
    how, _ = rollout.run()
    assert how == "promoted"
    assert cached_share(rollout.counts, Side.CANARY) < cached_share(rollout.counts, Side.STABLE)
