"""Webhooks: every move of a rollout is sent to a receiver at least once, in the form of Standard Webhooks.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import binascii
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import httpx2
import orjson
from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError

from gateway.settings import WebhookSettings
from registry.database import Registry
from registry.errors import SettingsInvalid
from registry.rollouts.deliveries import Delivery

log = logging.getLogger(__name__)

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
        acknowledged = 0
        for delivery in registry.deliveries.due(
            since=now() - self.settings.max_age_s, max_attempts=self.settings.max_attempts
        ):
            # The claim holds for this attempt and the pause after it, in which no other sender takes the notice up.
            pause_s = self.settings.first_retry_s * _RETRY_GROWTH**delivery.attempts
            # claimed before it is sent: a process that dies in between is one attempt short, never one notice
            if not registry.deliveries.claim(delivery, now() + self.settings.timeout_s + pause_s):
                continue
            error = self._post(delivery, http, now())
            registry.deliveries.record_outcome(delivery, error)
            acknowledged += not error
            if error:
                facts = {"rollout_id": delivery.rollout.id, "attempt": delivery.attempts + 1, "error": error}
                log.warning("webhook was not acknowledged, retrying later", extra=facts)
        return acknowledged

    def _post(self, delivery: Delivery, http: httpx2.Client, now: float) -> str:
        """Send one notice, and return why it failed; empty if it was acknowledged."""
        notice = orjson.dumps(notice_of(delivery)).decode()
        # The id is the same at every attempt, by which receivers drop repetitions (Standard Webhooks, webhook-id).
        notice_id = f"{delivery.rollout.id}-{delivery.event.seq}"
        # The signature covers the header's timestamp, which has whole seconds.
        at = datetime.fromtimestamp(int(now), UTC)
        headers = {
            "content-type": "application/json",
            "webhook-id": notice_id,
            "webhook-timestamp": str(int(now)),
            "webhook-signature": self.signer.sign(notice_id, at, notice),
        }
        try:
            # The head of the answer is all that counts: a body may have any size and last for any time.
            with http.stream(
                "POST", str(self.settings.url), content=notice, headers=headers, timeout=self.settings.timeout_s
            ) as answer:
                return "" if answer.is_success else f"answered {answer.status_code}"
        except httpx2.HTTPError as exc:
            return f"{type(exc).__name__}: {exc}"


def notice_of(delivery: Delivery) -> dict[str, Any]:
    """Return the notice of a move, which is the same at every attempt."""
    event, rollout = delivery.event, delivery.rollout
    return {
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
