"""A score with its interval, of an evaluation and at the gate of a rollout."""

from __future__ import annotations

from gateway.objects.lists import ApiObject


class ScoreInterval(ApiObject):
    """An interval of 95 % confidence."""

    low: float
    high: float
    method: str
