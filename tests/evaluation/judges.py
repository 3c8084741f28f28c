"""A judge whose answers a test writes down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graders.grade import ModelAnswer


class ScriptedJudge:
    """Gives its replies one after the other, the last one again and again."""

    def __init__(self, *replies: str) -> None:
        self._replies = list(replies)
        self.bodies: list[Mapping[str, Any]] = []

    def answer(self, body: Mapping[str, Any]) -> ModelAnswer:
        """Return the next reply."""
        self.bodies.append(body)
        return ModelAnswer(text=self._replies.pop(0) if len(self._replies) > 1 else self._replies[0], usage={})
