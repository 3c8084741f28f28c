"""A registry full of long names: adapters, revisions, jobs, keys, rollouts, ratings and replicas to be listed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from gateway.rollouts.controller import begin_if_loaded, reconcile
from gateway.settings import GatewaySettings
from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.database import Registry
from registry.jobs.job import JobError
from registry.jobs.job_moves import JobNote
from registry.jobs.job_phase import JobPhase
from registry.jobs.job_state import JobState
from registry.keys import KeyDraft, KeyLimits, Scope
from registry.publishing.publish import publish
from registry.rollouts.answered_completion import AnsweredCompletion
from registry.rollouts.guardrails import GuardrailPlan
from registry.rollouts.rollout import RolloutPlan, weighted
from registry.rollouts.tally import Cell, Side, Tally
from registry.states import Priority, SlotState
from registry.types import LOCAL_TENANT, Base, RevisionDraft, Slot
from tests.gateway.replica_rows import replica_row

BASE: Final = "tiny-instruct-with-a-name-as-long-as-those-of-hugging-face"
ADAPTER: Final = "customer-support-for-the-north-of-germany"
FILE: Final = "conversations-of-the-last-quarter-without-names.jsonl"
ANSWER: Final = "chatcmpl-0123456789abcdef0123456789abcdef"
COMMENT: Final = "The answer is right, but nobody would write it to a customer in these words, and the link is wrong"
LOSSES: Final = (2.31, 1.94, 1.62)


class Crowd:
    """The entries, with the whole ids that tables may show short."""

    def __init__(self, registry: Registry, base: Base, make_adapter: Callable[..., Path]) -> None:
        self._registry = registry
        self.base = replace(base, name=BASE)
        registry.bases.enter(self.base)
        self.artifacts: list[str] = []
        self.jobs = self._jobs()
        self.revisions = self._revisions(make_adapter)
        self.replica = self._replica()
        self.rollouts = self._rollouts()
        self._ratings()
        registry.forced_sides.put(ADAPTER, "api-key:the-nightly-evaluation", Side.CANARY, "ann")

    def keys(self) -> str:
        """Make four keys, and return the secret of the first, which may do everything."""
        keys = self._registry.keys
        secret = keys.create(KeyDraft(name="root", scopes=frozenset(Scope), owner="Ann of operations"), "ann").secret
        limits = KeyLimits(requests_per_minute=6000, tokens_per_minute=6_000_000, concurrent_requests=40)
        for name in ("nightly-evaluation-of-all-adapters", "chat-of-the-web-shop", "old"):
            keys.create(
                KeyDraft(
                    name=name,
                    scopes=frozenset({Scope.INFERENCE, Scope.TRAINING}),
                    owner="Team of the web shop",
                    tenant="web-shop",
                    models=frozenset({ADAPTER, BASE}),
                    limits=limits,
                    priority=Priority.LOW,
                ),
                "ann",
            )
        keys.revoke("old", "ann")
        return secret

    def _jobs(self) -> list[str]:
        files = self._registry.files
        file = files.add([b"{}\n"], filename=FILE, purpose="fine-tune", owner="ann", tenant=LOCAL_TENANT)
        spec = SupervisedSpec(
            base=BASE,
            base_digest=self.base.digest,
            adapter=ADAPTER,
            training_file=file.id,
            n_epochs=3,
            batch_size=4,
            learning_rate=1e-4,
            seed=7,
        )
        jobs = self._registry.jobs
        failed, running, waiting = [jobs.create(spec, "ann@example.com").id for _ in range(3)]
        lease = jobs.claim("worker-1", 3600.0)
        assert lease is not None
        jobs.finish(lease, JobState.FAILED, JobError(code="diverged", message="the loss is not a number at step 12"))
        lease = jobs.claim("worker-1", 3600.0)
        assert lease is not None
        for step, loss in enumerate(LOSSES, 1):
            figures = {"step": step, "total_steps": 90, "train_loss": loss}
            jobs.add_event(lease, f"ftevent-{step}", JobNote(message=f"Step {step}/90", type="metrics", data=figures))
        jobs.enter_phase(lease, JobPhase.TRAINING, self._registry.transactions.now())
        jobs.note_progress(lease, trained_tokens=4210, estimated_finish=self._registry.transactions.now() + 600)
        return [failed, running, waiting]

    def _revisions(self, make_adapter: Callable[..., Path]) -> list[str]:
        provenance = {
            "dataset": {"filename": FILE, "rows": 60, "sha256": "ab" * 32},
            "validation": None,
            "hyperparameters": {"n_epochs": 3, "learning_rate": 1e-4, "lora": {"rank": 2, "alpha": 4}},
            "seed": 7,
            "base": {"name": BASE, "digest": self.base.digest},
            "versions": {"torch": "2.13.0", "python": "3.11.2"},
            "machine": {"processor": "x86_64"},
            "owner": "ann@example.com",
            "times": {"created_at": 1_700_000_000.0, "started_at": 1_700_000_007.0},
            "attempts": 1,
            "metrics": {"step": 90, "train_loss": 0.81},
            "trained_tokens": 4210,
        }
        found = []
        for seed in (1, 2):
            draft = RevisionDraft(
                adapter=ADAPTER, base=BASE, owner="ann@example.com", job_id=self.jobs[0], provenance=provenance
            )
            revision = publish(self._registry, make_adapter(seed), draft)
            self.artifacts.append(revision.artifact)
            found.append(revision.served_name)
        self._registry.adapters.set_first_stable(ADAPTER, 1, reason="first_revision")
        return found

    def _replica(self) -> str:
        now = self._registry.transactions.now()
        slots = [Slot(served_name=name, state=SlotState.READY) for name in self.revisions]
        lost = Slot(served_name="another@12", state=SlotState.FAILED, reason="no_room", message="16 of 16 are taken")
        row = replica_row(
            "pool-of-the-small-model-0f3a9c",
            base=BASE,
            capacity=16,
            slots=(*slots, lost),
            message="another@12 could not be loaded: 16 of 16 places are taken",
            started_at=now,
            heartbeat_at=now,
            pool="pool-of-the-small-model",
            load=3,
            room=16,
        )
        self._registry.replicas.report(row)
        return row.id

    def _rollouts(self) -> list[str]:
        registry = self._registry
        plan = RolloutPlan(steps=weighted(5, 25, 100), guardrails=GuardrailPlan())
        first = begin_if_loaded(registry, registry.rollouts.start(ADAPTER, 2, plan, "ann@example.com"))
        broken = Tally(requests=60, answers=30, errors={"broken": 30})
        self._count(first.id, broken)
        self._judge()
        second = begin_if_loaded(registry, registry.rollouts.start(ADAPTER, 2, plan, "ann@example.com"))
        self._count(second.id, Tally(requests=40, answers=40))
        self._judge()
        return [first.id, second.id]

    def _count(self, rollout_id: str, canary: Tally) -> None:
        sides = {Side.CANARY: canary, Side.STABLE: Tally(requests=9000, answers=9000, output_tokens=90_000)}
        cells = {
            Cell(rollout_id=rollout_id, step=0, side=side, replica=self.replica): tally for side, tally in sides.items()
        }
        answered = AnsweredCompletion(
            id=ANSWER,
            tenant=LOCAL_TENANT,
            served_name=self.revisions[1],
            replica=self.replica,
            cell=None,
            at=self._registry.transactions.now(),
        )
        self._registry.tallies.put(f"gateway-{rollout_id}", cells, [answered])

    def _judge(self) -> None:
        now = self._registry.transactions.now() + 2.0
        reconcile(self._registry, GatewaySettings(), now)

    def _ratings(self) -> None:
        self._registry.feedback.rate(ANSWER, 0.25, COMMENT)
