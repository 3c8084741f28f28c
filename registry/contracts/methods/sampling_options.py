"""The options that the methods which learn from rewards have in common: a grader, and how outputs are sampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.graders.grader_kinds import Grader
from registry.contracts.graders.grader_spec import GraderSpec
from registry.contracts.hyperparameters import AUTO, AUTO_IS_NONE, Hyperparameters, MethodOptions
from registry.contracts.training_formats import PROMPTS, LineFormat, TrainingLine
from registry.contracts.unfit_rows import UnfitChoice

AUTO_BATCH: Final = 4
AUTO_STEPS: Final = 40
"""Steps that `auto` aims at: a step samples and grades outputs, and costs several times that of other methods."""


class SamplingHyperparameters(Hyperparameters):
    """OpenAI's hyperparameters of reinforcement, then how Lorry samples."""

    eval_interval: Annotated[Annotated[int, Field(ge=1)] | None, AUTO_IS_NONE] = None
    eval_samples: Annotated[Annotated[int, Field(ge=1, le=16)] | None, AUTO_IS_NONE] = None
    compute_multiplier: Annotated[Annotated[float, Field(gt=0.00001, le=10)] | None, AUTO_IS_NONE] = None
    reasoning_effort: str | None = None
    group_size: Annotated[int, Field(ge=2, le=64)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=4096)] | None = None
    temperature: Annotated[float, Field(gt=0, le=2)] | None = None
    beta: Annotated[float, Field(ge=0, le=10)] | None = None
    epsilon: Annotated[float, Field(gt=0, lt=1)] | None = None
    iterations: Annotated[int, Field(ge=1, le=16)] | None = None

    UNLESS_GIVEN: ClassVar[int] = 1
    """Value of `iterations` where there is none."""

    @model_validator(mode="after")
    def _check_epsilon(self) -> Self:
        if self.epsilon is not None and (self.iterations or self.UNLESS_GIVEN) == 1:
            raise ValueError(
                "epsilon bounds later steps on the same outputs, and with iterations 1 there are none; "
                "raise iterations or leave epsilon out"
            )
        return self

    @field_validator("reasoning_effort")
    @classmethod
    def _check_effort(cls, effort: str | None) -> str | None:
        if effort not in (None, "default"):
            raise ValueError("base models here have no levels of reasoning; leave reasoning_effort out")
        return effort

    def as_asked(self) -> dict[str, int | float | str]:
        """Return the values as the caller sent them, `auto` included."""
        return {"eval_interval": AUTO, "eval_samples": AUTO, "compute_multiplier": AUTO} | super().as_asked()


class SamplingOptions(MethodOptions):
    """A grader beside the hyperparameters."""

    hyperparameters: SerializeAsAny[SamplingHyperparameters] = SamplingHyperparameters()
    grader: Grader
    response_format: dict[str, Any] | None = None

    def graders(self) -> tuple[GraderSpec, ...]:
        """Return the grader."""
        return (self.grader,)

    @field_validator("response_format")
    @classmethod
    def _check_format(cls, response_format: dict[str, Any] | None) -> dict[str, Any] | None:
        if response_format not in (None, {"type": "text"}):
            raise ValueError(
                "outputs are sampled freely here; leave response_format out, and have the grader reward "
                "sample.output_json, which has a value only where the output is JSON"
            )
        return response_format


class SamplingSpec(FineTuneSpec):
    """A job that samples outputs, grades them, and makes good ones likelier."""

    reads_folders: ClassVar[bool] = True
    unfit_choices: ClassVar[tuple[UnfitChoice, ...]] = ("drop",)
    formats: ClassVar[tuple[LineFormat[TrainingLine], ...]] = (PROMPTS,)
    options_as: ClassVar[type[MethodOptions]] = SamplingOptions
    multiplied_rate: ClassVar[float] = 1e-4
    default_group: ClassVar[int] = 8
    least_group: ClassVar[int] = 2
    default_iterations: ClassVar[int] = 1
    default_beta: ClassVar[float] = 0.04

    grader: SerializeAsAny[Grader]
    reward_artifacts: dict[str, str] = Field(default_factory=dict)
    """Digests of the reward models that the grader names."""
    compute_multiplier: float = Field(default=1.0, gt=0)
    """Factor on `group_size`, already part of it."""
    group_size: int = Field(ge=1, le=640)
    """Outputs of each prompt in a step."""
    max_completion_tokens: int = Field(default=256, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    beta: float = Field(ge=0)
    """Weight of the distance to the base model; 0 leaves it out, and its computation too."""
    epsilon: float = Field(default=0.2, gt=0, lt=1)
    """How far steps may move a probability: the clipping range of its ratio. Binds if `iterations` > 1."""
    iterations: int = Field(ge=1)
    """Steps of the optimizer that use the same outputs."""
    eval_interval: int | None = None
    """Steps between two evaluations; None evaluates at the end of each epoch."""
    eval_samples: int = Field(default=1, ge=1)
    """Outputs of each validation prompt in an evaluation."""

    @classmethod
    def resolve(cls, options: MethodOptions, rows: int) -> dict[str, Any]:
        """Return the fields for a file of *rows* prompts."""
        asked = options.hyperparameters.model_dump(exclude_none=True)
        multiplier = asked.get("compute_multiplier", 1.0)
        parallel = options.hyperparameters.parallel()
        wanted = asked.get("batch_size", parallel.divisible(AUTO_BATCH))
        # More rows than there are would have a row twice in a batch.
        batch_size = wanted if wanted <= rows else (rows - rows % parallel.processes or rows)
        iterations = asked.get("iterations", cls.default_iterations)
        steps = -(-rows // batch_size) * iterations
        return super().resolve(options, rows) | {
            "grader": dict(options)["grader"],
            "batch_size": batch_size,
            "n_epochs": asked.get("n_epochs") or max(1, min(10, round(AUTO_STEPS / steps))),
            "compute_multiplier": multiplier,
            "group_size": max(cls.least_group, round(multiplier * asked.get("group_size", cls.default_group))),
            "iterations": iterations,
            "beta": asked.get("beta", cls.default_beta),
        }

    def hyperparameters(self) -> Mapping[str, int | float | str]:
        """Return the hyperparameters that OpenAI's object shows."""
        return {
            **super().hyperparameters(),
            "compute_multiplier": self.compute_multiplier,
            "eval_interval": AUTO if self.eval_interval is None else self.eval_interval,
            "eval_samples": self.eval_samples,
            "reasoning_effort": "default",
        }

    def options(self) -> Mapping[str, Any]:
        """Return the grader."""
        return {"grader": self.grader.model_dump(mode="json", exclude_none=True)}

    def evaluation_steps(self, epoch_steps: int) -> int:
        """Return the steps between two evaluations."""
        return self.eval_interval or epoch_steps

    def repeats(self) -> int:
        """Return how many steps in a row take the same rows."""
        return self.iterations

    def evaluated_outputs(self) -> int:
        """Return the outputs of an evaluation."""
        return self.eval_samples

    def sampled_outputs(self) -> tuple[int, int] | None:
        """Return the outputs of each prompt in a step, and their most tokens."""
        return self.group_size, self.max_completion_tokens

    def passes_without_gradient(self) -> float:
        """Return those that read new outputs: by the base model, and by the model if later steps compare with it."""
        return ((self.beta > 0) + (self.iterations > 1)) / self.iterations

    def rows_at_once(self) -> int:
        """Return the prompts whose outputs go through the model at once."""
        return max(1, super().rows_at_once() // self.group_size)

    def has_reference(self) -> bool:
        """Return whether the distance to the base model counts."""
        return self.beta > 0

    def artifacts(self) -> Mapping[str, str]:
        """Return the digests of the reward models."""
        return {reward_input(name): digest for name, digest in self.reward_artifacts.items()}

    def asked_models(self) -> frozenset[str]:
        """Return the models that the grader asks."""
        return self.grader.asked_models()

    def remarks(self) -> Sequence[str]:
        """Return a message too if the batch was made smaller than it was asked for."""
        asked = self.requested.get("batch_size", AUTO)
        shared = f" that {self.parallel.processes} processes can share" if self.parallel.processes > 1 else ""
        text = f"The batch_size {asked} became {self.batch_size}, the number of rows{shared}"
        return [*super().remarks(), *([text] if self._is_cut(asked) else [])]

    def _is_cut(self, asked: float | str) -> bool:
        return isinstance(asked, int) and asked > self.batch_size


def reward_input(name: str) -> str:
    """Return the field of an order's inputs that has the folder of the reward model *name*."""
    return f"reward_artifacts/{name}"
