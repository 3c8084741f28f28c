"""The figures of a run that learns preferences, in its events, its checkpoints and its validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

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

    def __init__(self, sums: Mapping[str, float] | None = None) -> None:
        """*sums* are those of other tallies, added up."""
        names = ("pairs", "right", "loss", "preferred", "rejected")
        self.sums: dict[str, float] = dict.fromkeys(names, 0.0) | dict(sums or {})

    def add(self, scored: ScoredPairs) -> None:
        """Count the pairs of a pass; an answer is right if it has the higher reward of the two."""
        self.sums["pairs"] += len(scored.losses)
        self.sums["right"] += int((scored.preferred > scored.rejected).sum())
        self.sums["loss"] += float(scored.losses.detach().sum())
        self.sums["preferred"] += float(scored.preferred.detach().sum())
        self.sums["rejected"] += float(scored.rejected.detach().sum())

    @property
    def loss(self) -> float:
        """Mean loss of a pair."""
        return self._mean("loss")

    def means(self) -> Mapping[str, float]:
        """Return the mean rewards, their difference, and the share of pairs whose preferred answer has the higher."""
        preferred, rejected = self._mean("preferred"), self._mean("rejected")
        return {
            "preferred_reward": preferred,
            "rejected_reward": rejected,
            "reward_margin": preferred - rejected,
            "preference_accuracy": self._mean("right"),
        }

    def _mean(self, name: str) -> float:
        return self.sums[name] / max(1.0, self.sums["pairs"])


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredRatings:
    """The rated answers of a pass, as a method scores them; each tensor is [answers]."""

    losses: Tensor
    rewards: Tensor
    is_desirable: Tensor


class RatedTally:
    """Sums over some rated answers."""

    LABELS: ClassVar[Mapping[str, bool]] = {"desirable": True, "undesirable": False}

    def __init__(self, sums: Mapping[str, float] | None = None) -> None:
        """*sums* are those of other tallies, added up."""
        names = ("loss", *self.LABELS, *(f"{name}_answers" for name in self.LABELS))
        self.sums: dict[str, float] = dict.fromkeys(names, 0.0) | dict(sums or {})

    def add(self, scored: ScoredRatings) -> None:
        """Count the answers of a pass."""
        self.sums["loss"] += float(scored.losses.detach().sum())
        for name, label in self.LABELS.items():
            chosen = scored.is_desirable == label
            self.sums[name] += float(scored.rewards[chosen].sum())
            self.sums[f"{name}_answers"] += int(chosen.sum())

    @property
    def loss(self) -> float:
        """Mean loss of an answer."""
        return self.sums["loss"] / max(1.0, sum(self.sums[f"{name}_answers"] for name in self.LABELS))

    def means(self) -> Mapping[str, float]:
        """Return the mean rewards of good and of bad answers, where there are any, and their difference."""
        counts = {name: self.sums[f"{name}_answers"] for name in self.LABELS}
        means = {f"{name}_reward": self.sums[name] / count for name, count in counts.items() if count}
        if len(means) == len(self.LABELS):
            means["reward_margin"] = means["desirable_reward"] - means["undesirable_reward"]
        return means
