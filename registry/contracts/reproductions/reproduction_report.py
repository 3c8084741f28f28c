"""How a result that was made again differs from the recorded one; the trainer writes it, the gateway shows it."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict

REPORT: Final = "reproduction"
"""Key of the report in the data of the job's last event."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class FactDifference(_Part):
    """A fact of how the result was made that is not the same now."""

    fact: str
    """Name of a library, `python`, or a fact of the machine such as `cpu`."""
    recorded: str | None
    """None where the result did not record it."""
    now: str | None

    @property
    def text(self) -> str:
        """Return the difference in words."""
        return f"{self.fact} {self.recorded or 'unknown'} then, {self.now or 'none'} now"


class GroupDifference(_Part):
    """The difference of all tensors of one kind, over the layers: `q_proj.lora_A`."""

    group: str
    tensors: int
    differing: int
    """How many of the tensors differ in a bit."""
    largest: float
    """Largest absolute difference of two values."""
    relative: float
    """Euclidean norm of the difference divided by that of the recorded values."""


class WeightsDifference(_Part):
    """How far the weights differ."""

    same_bytes: bool
    groups: list[GroupDifference]
    only_recorded: list[str]
    """Tensors that the second result lacks, or has in another shape."""
    only_again: list[str]


class StepDifference(_Part):
    """The loss of one step, both times."""

    step: int
    recorded: float
    again: float


class LossesDifference(_Part):
    """How far the losses differ."""

    compared: int
    """Steps that both runs reported."""
    missing: int
    """Steps that one of the runs reported and the other did not."""
    differing: int
    first_step: int | None
    """First step with another loss."""
    largest: float
    """Largest absolute difference of a step's losses."""
    steps: list[StepDifference]
    """Steps with another loss, evenly thinned out where there are many."""


class ReproductionReport(_Part):
    """The outcome of running the spec of a result again."""

    result: str
    """Name of the result that was run again: `support@7`."""
    job_id: str
    """The job that made it."""
    same_bytes: bool
    """Whether the whole result is the same, byte for byte."""
    recorded_digest: str
    digest: str
    differing_files: list[str]
    """Files of the result's folder whose bytes differ, or that only one of the two has."""
    facts: list[FactDifference]
    """Library versions and facts of the machine that differ, each a possible reason."""
    weights: WeightsDifference
    losses: LossesDifference

    @property
    def verdict(self) -> str:
        """Return the outcome as one sentence."""
        if self.same_bytes:
            return f"{self.result} was reproduced byte for byte (sha256 {self.digest[:12]})"
        reasons = ", ".join(each.text for each in self.facts)
        why = f"what differs: {reasons}" if reasons else "libraries and machine are the same, as far as was recorded"
        if self.weights.same_bytes:
            return f"{self.result}: same weights, other files differ ({', '.join(self.differing_files)}); {why}"
        far = max((group.relative for group in self.weights.groups), default=0.0)
        return f"{self.result} was not reproduced: weights differ by up to {far:.2g} of their size; {why}"
