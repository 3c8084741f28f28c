"""Every move of a rollout reaches the receiver, signed, at least once, however receiver and sender fail."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import httpx2
import openai
import pytest
from openai.types.webhooks import (
    BatchCancelledWebhookEvent,
    BatchCompletedWebhookEvent,
    BatchExpiredWebhookEvent,
    BatchFailedWebhookEvent,
    FineTuningJobCancelledWebhookEvent,
    FineTuningJobFailedWebhookEvent,
    FineTuningJobSucceededWebhookEvent,
)
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from gateway.rollouts.controller import begin_if_loaded
from gateway.rollouts.webhooks import Sender, open_sender
from gateway.settings import WebhookSettings
from registry.batches.batch import BatchDraft, BatchFault
from registry.batches.batch_state import ENDED as BATCH_ENDED
from registry.batches.batch_state import BatchState
from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.database import Registry
from registry.errors import SettingsInvalid
from registry.jobs.job import JobError
from registry.jobs.job_state import JobState
from registry.rollouts.guardrails import GuardrailPlan
from registry.rollouts.rollout import RolloutPlan, weighted
from registry.rollouts.rollout_state import RolloutState
from tests.clock import Clock
from tests.gateway.stage import bad, count, good, report, tick
from tests.loopback import LoopbackHandler, LoopbackServer

FineTuningEnd = (
    FineTuningJobSucceededWebhookEvent,
    FineTuningJobFailedWebhookEvent,
    FineTuningJobCancelledWebhookEvent,
)
BatchEnd = (
    BatchCompletedWebhookEvent,
    BatchFailedWebhookEvent,
    BatchExpiredWebhookEvent,
    BatchCancelledWebhookEvent,
)
SECRET = "whsec_" + "bG9ycnktdGVzdC1zZWNyZXQtb2YtMzItYnl0ZXMhISE="


@dataclass
class Receiver:
    """Answers with the statuses in order, the last one for good, and keeps what it got."""

    url: str
    statuses: list[int] = field(default_factory=lambda: [204])
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.got]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(LoopbackHandler):
        def do_POST(self) -> None:
            receiving.got.append((self.lower_headers(), self.read_body()))
            self.reply(receiving.statuses.pop(0) if len(receiving.statuses) > 1 else receiving.statuses[0])

    server = LoopbackServer(Handler)
    receiving = Receiver(f"{server.url}/hook")
    yield receiving
    server.close()


@pytest.fixture
def aborted(two_revisions: Registry, clock: Clock) -> str:
    """Id of a rollout that was aborted on evidence: three moves."""
    report(two_revisions, "r1", "support@1", "support@2")
    plan = RolloutPlan(steps=weighted(5, 100), guardrails=GuardrailPlan())
    rollout = begin_if_loaded(two_revisions, two_revisions.rollouts.start("support", 2, plan, "me"))
    count(two_revisions, rollout, 0, bad(100), good(1000))
    clock.advance(2.0)
    tick(two_revisions)
    assert two_revisions.rollouts.get(rollout.id).state is RolloutState.ABORTED
    return rollout.id


def sender(url: str, **knobs: float) -> Sender:
    settings = WebhookSettings.model_validate({"url": url, "secret_env": "SECRET", "timeout_s": 1.0, **knobs})
    opened = open_sender(settings, {"SECRET": SECRET})
    assert opened is not None
    return opened


def deliver(registry: Registry, by: Sender) -> int:
    with httpx2.Client(trust_env=False, verify=False) as http:
        return by.deliver_due(registry, http)


def test_every_move_is_told_with_its_evidence(two_revisions: Registry, aborted: str, receiver: Receiver) -> None:
    assert deliver(two_revisions, sender(receiver.url)) == 3
    assert deliver(two_revisions, sender(receiver.url)) == 0
    notices = [json.loads(body) for _, body in receiver.got]
    assert [notice["type"] for notice in notices] == ["rollout.pending", "rollout.progressing", "rollout.aborted"]
    last = notices[-1]["data"]
    assert (last["rollout"], last["canary"], last["stable"]) == (aborted, "support@2", "support@1")
    assert (last["reason"], last["evidence"]["decision"]) == ("error_rate", "abort")


def test_a_receiver_that_verifies_takes_ours_and_no_forgery(
    two_revisions: Registry, aborted: str, receiver: Receiver, clock: Clock
) -> None:
    clock.at = time.time()  # the library's own verification insists on the present
    deliver(two_revisions, sender(receiver.url, max_age_s=2 * clock.at))
    assert len(receiver.got) == 3
    for headers, body in receiver.got:
        assert Webhook(SECRET).verify(body, headers)["data"]["rollout"] == aborted
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET).verify(body + b" ", headers)


def job_that_ended(registry: Registry, to: JobState) -> str:
    """Id of a job that did."""
    spec = SupervisedSpec(
        base="tiny",
        base_digest="0" * 64,
        adapter="tone",
        training_file="file-1",
        n_epochs=1,
        batch_size=4,
        learning_rate=1e-4,
        seed=7,
    )
    job_id = registry.jobs.create(spec, "ann").id
    if to is JobState.CANCELLED:
        return registry.jobs.request_cancel(job_id, "ann").id
    lease = registry.jobs.claim("w1", 60.0)
    assert lease is not None
    error = JobError(code="diverged", message="the loss is nan") if to is JobState.FAILED else None
    return registry.jobs.finish(lease, to, error).id


def test_openais_client_unwraps_the_ends_of_jobs(sqlite_registry: Registry, receiver: Receiver, clock: Clock) -> None:
    clock.at = time.time()
    states = [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED]
    jobs = [job_that_ended(sqlite_registry, state) for state in states]
    receiver.statuses = [500, 204]
    by = sender(receiver.url, first_retry_s=1.0)
    assert deliver(sqlite_registry, by) == 2
    clock.advance(3.0)
    assert deliver(sqlite_registry, by) == 1
    assert deliver(sqlite_registry, by) == 0
    assert receiver.got[0][1] == receiver.got[3][1]
    client = openai.OpenAI(api_key="none", webhook_secret=SECRET)
    told = [client.webhooks.unwrap(body, headers) for headers, body in receiver.got[1:]]
    events = {event.data.id: event for event in told if isinstance(event, FineTuningEnd)}
    assert [str(events[job].type) for job in jobs] == [f"fine_tuning.job.{state}" for state in states]
    assert {event.object for event in events.values()} == {"event"}
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.unwrap(receiver.got[0][1] + b" ", receiver.got[0][0])


def batch_that_ended(registry: Registry, to: BatchState) -> str:
    """Id of a batch that did."""
    draft = BatchDraft(
        endpoint="/v1/chat/completions",
        input_file="file-1",
        metadata=None,
        output_expires_after_s=None,
        owner="ann",
        tenant="local",
        key_id="",
    )
    made = registry.batches.create(draft, most_open=9)
    if to is BatchState.CANCELLED:
        registry.batches.request_cancel(made.id, "ann")
    hold = registry.batches.claim(registry.batches.get(made.id), "g1")
    assert hold is not None
    if to is BatchState.FAILED:
        return registry.batches.refuse(hold, [BatchFault(code="empty_file", message="it is empty")]).id
    if to is not BatchState.CANCELLED:
        registry.batches.begin(hold, 0, "tiny")
        registry.batches.finalize(hold, to)
    return registry.batches.finish(hold, to).id


def test_openais_client_unwraps_the_ends_of_batches(
    sqlite_registry: Registry, receiver: Receiver, clock: Clock
) -> None:
    clock.at = time.time()
    ends = {batch_that_ended(sqlite_registry, state): state for state in sorted(BATCH_ENDED)}
    by = sender(receiver.url)
    assert deliver(sqlite_registry, by) == len(ends) == 4
    assert deliver(sqlite_registry, by) == 0
    client = openai.OpenAI(api_key="none", webhook_secret=SECRET)
    told = [client.webhooks.unwrap(body, headers) for headers, body in receiver.got]
    assert {event.data.id: event.type for event in told if isinstance(event, BatchEnd)} == {
        batch_id: f"batch.{state}" for batch_id, state in ends.items()
    }


def test_a_receiver_that_fails_first_gets_it_again_with_the_same_id(
    two_revisions: Registry, aborted: str, receiver: Receiver, clock: Clock
) -> None:
    receiver.statuses = [503, 302, 204]
    by = sender(receiver.url, first_retry_s=5.0)
    assert deliver(two_revisions, by) == 1
    assert deliver(two_revisions, by) == 0
    first, second, third = receiver.ids()
    clock.advance(6.1)
    assert deliver(two_revisions, by) == 2
    assert receiver.ids() == [first, second, third, first, second]
    assert len({body for headers, body in receiver.got if headers["webhook-id"] == first}) == 1


@pytest.mark.long
def test_pauses_grow_and_end(two_revisions: Registry, aborted: str, receiver: Receiver, clock: Clock) -> None:
    receiver.statuses = [500]
    by = sender(receiver.url, max_attempts=3, first_retry_s=5.0)
    rounds = []
    for _ in range(60):
        before = len(receiver.got)
        deliver(two_revisions, by)
        rounds.append(len(receiver.got) - before)
        clock.advance(1.0)
    tries = [at for at, told in enumerate(rounds) if told]
    assert [rounds[at] for at in tries] == [3, 3, 3]
    assert [later - earlier for earlier, later in pairwise(tries)] == [6, 21]


def test_a_sender_killed_before_the_acknowledgement_tells_it_again(
    two_revisions: Registry, aborted: str, receiver: Receiver, clock: Clock
) -> None:
    by = sender(receiver.url)
    (first, *_) = two_revisions.rollout_deliveries.due(since=0.0, max_attempts=8)
    assert two_revisions.rollout_deliveries.claim(first, clock.at + 6.0)
    assert not two_revisions.rollout_deliveries.claim(first, clock.at + 6.0)
    assert deliver(two_revisions, by) == 2
    clock.advance(6.1)
    assert deliver(two_revisions, by) == 1
    assert len(set(receiver.ids())) == 3


def test_two_senders_at_once_tell_each_move_once(two_revisions: Registry, aborted: str, receiver: Receiver) -> None:
    threads = [threading.Thread(target=deliver, args=(two_revisions, sender(receiver.url))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(receiver.ids()) == sorted(set(receiver.ids()))
    assert len(receiver.ids()) == 3


def test_a_receiver_that_is_away_holds_nothing_up_but_itself(two_revisions: Registry, aborted: str) -> None:
    assert deliver(two_revisions, sender("http://127.0.0.1:1/hook")) == 0


def test_old_moves_are_not_told(two_revisions: Registry, aborted: str, receiver: Receiver, clock: Clock) -> None:
    clock.advance(3600.0)
    assert deliver(two_revisions, sender(receiver.url, max_age_s=3599.0)) == 0
    assert deliver(two_revisions, sender(receiver.url, max_age_s=3700.0)) == 3


def test_without_an_address_nobody_is_told() -> None:
    assert open_sender(WebhookSettings(), {}) is None


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_c2hvcnQ=", "whsec_a"])
def test_an_address_without_a_good_secret_is_refused_with_what_to_do(secret: str) -> None:
    settings = WebhookSettings(url="https://example.com/hook", secret_env="HOOK_SECRET")
    with pytest.raises(SettingsInvalid, match="export HOOK_SECRET=whsec_"):
        open_sender(settings, {"HOOK_SECRET": secret})
