"""Webhooks: moves of rollouts, ends of jobs and batches are sent at least once, in the form of Standard Webhooks.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import binascii
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import httpx2
import orjson
from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError

from gateway.settings import WebhookSettings
from registry.batches.deliveries import BatchEnd
from registry.database import Registry
from registry.deliveries import DeliveryStore
from registry.errors import SettingsInvalid
from registry.jobs.deliveries import JobEnd
from registry.rollouts.deliveries import RolloutMove

log = logging.getLogger(__name__)

Subject = TypeVar("Subject")

_RETRY_GROWTH: Final = 4
_SHORTEST_SECRET: Final = 24
"""Bytes; the specification asks for 24 to 64."""


def open_sender(settings: WebhookSettings, environment: Mapping[str, str]) -> Sender | None:
    """Return a sender for the receiver of *settings*, or None without one. `SettingsInvalid` for a bad secret."""
    if settings.url is None:
        return None
    secret = environment.get(settings.secret_env, "")
    try:
        size = len(binascii.a2b_base64(secret.removeprefix("whsec_") + "=="))
        signer = Webhook(secret)
    except (binascii.Error, EmptyWebhookSecretError, ValueError) as exc:
        raise SettingsInvalid(_no_secret(settings)) from exc
    if size < _SHORTEST_SECRET:
        raise SettingsInvalid(_no_secret(settings))
    return Sender(settings=settings, signer=signer)


def _no_secret(settings: WebhookSettings) -> str:
    return (
        f"settings [webhooks] url is set, so the environment variable {settings.secret_env} must hold the signing "
        f"secret, `whsec_` and base64 of at least {_SHORTEST_SECRET} bytes: "
        f"export {settings.secret_env}=whsec_$(openssl rand -base64 32)"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """The body that the receiver is sent, the same at every attempt."""

    id: str
    """By which receivers drop repetitions (Standard Webhooks, webhook-id)."""
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Posts signed notices to one receiver."""

    settings: WebhookSettings
    signer: Webhook

    def deliver_due(self, registry: Registry, http: httpx2.Client) -> int:
        """Try each due notice once, store the outcomes, and return how many the receiver acknowledged.

        A kill at any point loses no notice: an attempt is counted before it is made, and repeated later unless its
        acknowledgement was stored.
        """
        now = registry.transactions.now
        moves = self._deliver(registry.rollout_deliveries, notice_of_move, http, now)
        jobs = self._deliver(registry.job_deliveries, notice_of_job, http, now)
        return moves + jobs + self._deliver(registry.batch_deliveries, notice_of_batch, http, now)

    def _deliver(
        self,
        store: DeliveryStore[Subject],
        write: Callable[[int, Subject], Notice],
        http: httpx2.Client,
        now: Callable[[], float],
    ) -> int:
        acknowledged = 0
        since = now() - self.settings.max_age_s
        for delivery in store.due(since=since, max_attempts=self.settings.max_attempts):
            # The claim holds for this attempt and the pause after it, in which no other sender takes the notice up.
            pause_s = self.settings.first_retry_s * _RETRY_GROWTH**delivery.attempts
            # claimed before it is sent: a process that dies in between is one attempt short, never one notice
            if not store.claim(delivery, now() + self.settings.timeout_s + pause_s):
                continue
            notice = write(delivery.seq, delivery.subject)
            error = self._post(notice, http, now())
            store.record_outcome(delivery, error)
            acknowledged += not error
            if error:
                facts = {"notice": notice.id, "attempt": delivery.attempts + 1, "error": error}
                log.warning("webhook was not acknowledged, retrying later", extra=facts)
        return acknowledged

    def _post(self, notice: Notice, http: httpx2.Client, now: float) -> str:
        """Send one notice, and return why it failed; empty if it was acknowledged."""
        body = orjson.dumps(notice.body).decode()
        # The signature covers the header's timestamp, which has whole seconds.
        at = datetime.fromtimestamp(int(now), UTC)
        headers = {
            "content-type": "application/json",
            "webhook-id": notice.id,
            "webhook-timestamp": str(int(now)),
            "webhook-signature": self.signer.sign(notice.id, at, body),
        }
        try:
            # The head of the answer is all that counts: a body may have any size and last for any time.
            with http.stream(
                "POST", str(self.settings.url), content=body, headers=headers, timeout=self.settings.timeout_s
            ) as answer:
                return "" if answer.is_success else f"answered {answer.status_code}"
        except httpx2.HTTPError as exc:
            return f"{type(exc).__name__}: {exc}"


def notice_of_job(_: int, end: JobEnd) -> Notice:
    """Return OpenAI's webhook event for the end of a fine-tuning job."""
    return _event(f"evt_{end.job_id.rpartition('-')[2]}", f"fine_tuning.job.{end.state}", end.job_id, end.at)


def notice_of_batch(_: int, end: BatchEnd) -> Notice:
    """Return OpenAI's webhook event for the end of a batch."""
    return _event(f"evt_{end.batch_id}", f"batch.{end.state}", end.batch_id, end.at)


def _event(event_id: str, kind: str, subject: str, at: float) -> Notice:
    body = {"id": event_id, "object": "event", "created_at": int(at), "type": kind, "data": {"id": subject}}
    return Notice(id=event_id, body=body)


def notice_of_move(seq: int, move: RolloutMove) -> Notice:
    """Return the notice of a rollout's move."""
    event, rollout = move.event, move.rollout
    body = {
        "type": f"rollout.{event.state}",
        "timestamp": datetime.fromtimestamp(event.at, UTC).isoformat(),
        "data": {
            "rollout": rollout.id,
            "adapter": rollout.adapter,
            "canary": f"{rollout.adapter}@{rollout.canary}",
            "stable": None if rollout.stable is None else f"{rollout.adapter}@{rollout.stable}",
            "state": str(event.state),
            "step": event.step,
            "steps": [step.as_json() for step in rollout.plan.steps],
            "reason": event.reason,
            "message": event.message,
            "actor": event.actor,
            "evidence": event.evidence,
        },
    }
    return Notice(id=f"{rollout.id}-{seq}", body=body)
