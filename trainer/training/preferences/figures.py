"""The figures of a run that learns preferences, in its events, its checkpoints and its validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredPairs:
    """The pairs of a pass, as a method scores them; each tensor is [pairs]."""

    losses: Tensor
    preferred: Tensor
    """Rewards of the preferred answers."""
    rejected: Tensor


class PairTally:
    """Sums over some pairs."""

    def __init__(self) -> None:
        self._pairs = 0
        self._right = 0
        self._loss = self._preferred = self._rejected = 0.0

    def add(self, scored: ScoredPairs) -> None:
        """Count the pairs of a pass; an answer is right if it has the higher reward of the two."""
        self._pairs += len(scored.losses)
        self._right += int((scored.preferred > scored.rejected).sum())
        self._loss += float(scored.losses.detach().sum())
        self._preferred += float(scored.preferred.detach().sum())
        self._rejected += float(scored.rejected.detach().sum())

    @property
    def loss(self) -> float:
        """Mean loss of a pair."""
        return self._loss / max(1, self._pairs)

    def means(self) -> Mapping[str, float]:
        """Return the mean rewards, their difference, and the share of pairs whose preferred answer has the higher."""
        pairs = max(1, self._pairs)
        preferred, rejected = self._preferred / pairs, self._rejected / pairs
        return {
            "preferred_reward": preferred,
            "rejected_reward": rejected,
            "reward_margin": preferred - rejected,
            "preference_accuracy": self._right / pairs,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredRatings:
    """The rated answers of a pass, as a method scores them; each tensor is [answers]."""

    losses: Tensor
    rewards: Tensor
    is_desirable: Tensor


class RatedTally:
    """Sums over some rated answers."""

    def __init__(self) -> None:
        self._loss = 0.0
        self._rewards = {True: 0.0, False: 0.0}
        self._answers = {True: 0, False: 0}

    def add(self, scored: ScoredRatings) -> None:
        """Count the answers of a pass."""
        self._loss += float(scored.losses.detach().sum())
        for label in (True, False):
            chosen = scored.is_desirable == label
            self._rewards[label] += float(scored.rewards[chosen].sum())
            self._answers[label] += int(chosen.sum())

    @property
    def loss(self) -> float:
        """Mean loss of an answer."""
        return self._loss / max(1, sum(self._answers.values()))

    def means(self) -> Mapping[str, float]:
        """Return the mean rewards of good and of bad answers, where there are any, and their difference."""
        names = {True: "desirable_reward", False: "undesirable_reward"}
        means = {names[label]: self._rewards[label] / count for label, count in self._answers.items() if count}
        if len(means) == len(names):
            means["reward_margin"] = means[names[True]] - means[names[False]]
        return means
