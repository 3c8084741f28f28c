"""The fields that all fine-tuning methods share: files, hyperparameters, the shape of the adapter, a rollout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from pydantic import Field

from registry.contracts.extensions.integrations import MLFLOW, Integration
from registry.contracts.hyperparameters import MethodOptions, resolve_auto
from registry.contracts.job_spec import FineTuneFacts, LoraSpec
from registry.contracts.methods.method_traits import MethodTraits
from registry.contracts.parallel_spec import ParallelSpec
from registry.contracts.pictures.picture_part import PicturePart
from registry.contracts.pictures.picture_sources import outside
from registry.contracts.rollout_spec import RolloutSpec
from registry.contracts.unfit_rows import MOST_UNFIT_ROWS, UnfitChoice
from registry.contracts.weights_spec import LIBRARIES, WeightsSpec
from registry.errors import WeightsRefused
from registry.rollouts.rollout import RolloutPlan
from registry.states import Priority, ResultKind

NOT_HYPERPARAMETERS: Final = frozenset(
    {
        "rollout",
        "seed",
        "suffix",
        "priority",
        "integrations",
        "metadata",
        "requested",
        "training_file",
        "validation_file",
        "pictures",
        "base",
        "base_digest",
    }
)
"""Fields that provenance shows elsewhere or not at all."""
NO_SPEED: Final = NOT_HYPERPARAMETERS | {
    "adapter",
    "n_epochs",
    "learning_rate",
    "learning_rate_multiplier",
    "warmup_ratio",
    "unfit_rows",
    "most_unfit_rows",
}
"""Fields that do not change how long a row takes."""


FULL_RATE: Final = 0.05
"""The learning rate of full training as a part of that of LoRA."""
_PLAIN: Final = "take weights lora or qlora with lora_variant lora or rslora"


class FineTuneSpec(MethodTraits):
    """All that decides the result of a fine-tuning job; two runs of a spec give the same bytes on the same machine.

    Every value is resolved: the trainer never sees `auto`.
    """

    id_prefix: ClassVar[str] = "ftjob"
    noun: ClassVar[str] = "fine-tuning"
    is_reproducible: ClassVar[bool] = True
    stops_at_checkpoints: ClassVar[bool] = True
    file_fields: ClassVar[frozenset[str]] = frozenset({"training_file", "validation_file"})

    training_file: str
    """File id."""
    validation_file: str | None = None
    pictures: dict[str, str] = Field(default_factory=dict)
    """File of the job, by its field -> sha256 of names and bytes of the pictures that it names outside of itself."""
    n_epochs: int = Field(ge=1, le=50)
    batch_size: int = Field(ge=1, le=256)
    learning_rate: float = Field(gt=0.0)
    learning_rate_multiplier: float = Field(default=1.0, gt=0.0)
    """The multiplier that the caller asked for; already part of `learning_rate`, kept for the answer."""
    warmup_ratio: float = Field(default=0.03, ge=0.0, lt=1.0)
    max_length: int = Field(default=1024, ge=16)
    """Longest row in tokens; a longer one does not fit."""
    unfit_rows: UnfitChoice = "drop"
    """The choice for rows that are too long; other rows that do not fit are always left out."""
    most_unfit_rows: float = Field(default=MOST_UNFIT_ROWS, ge=0.0, le=1.0)
    """Part of a file's rows that may not fit; with more the job is refused."""
    checkpoint_steps: int = Field(default=25, ge=1)
    keep: Literal["last", "best"] = "last"
    """Which step's weights are the result: the last one's, or those with the lowest validation loss."""
    early_stopping_patience: int | None = Field(default=None, ge=1)
    """After how many validations in a row without a lower loss the run ends; None for never."""
    serve_checkpoints: Literal["epochs", "steps", "none"] = "epochs"
    """Whose checkpoints are served beside the result: of the ends of epochs, of `checkpoint_steps` too, or none."""
    seed: int = Field(ge=0, le=2147483647)
    lora: LoraSpec = LoraSpec()
    weights: WeightsSpec = WeightsSpec()
    parallel: ParallelSpec = ParallelSpec()
    suffix: str | None = None
    priority: Priority = Priority.NORMAL
    """How the job waits for a worker."""
    integrations: tuple[Integration, ...] = ()
    rollout: RolloutSpec | None = None
    """The rollout that starts when the revision is published; None publishes only."""
    metadata: dict[str, str] = Field(default_factory=dict)
    requested: dict[str, int | float | str] = Field(default_factory=dict)
    """The hyperparameters as the caller sent them, `auto` included."""

    def names_pictures(self) -> bool:
        """Return whether a file of the job names pictures outside of itself."""
        return bool(self.pictures)

    def named_pictures(self, paths: Mapping[str, Path]) -> Iterator[tuple[str, PicturePart]]:
        """Yield the pictures outside of the job's files, each with its file's field."""
        for field in self.pictures:
            with paths[field].open("rb") as lines:
                yield from ((field, picture) for picture in outside(self.pictures_in(lines)))

    @classmethod
    def resolve(cls, options: MethodOptions, rows: int) -> dict[str, Any]:
        """Return the method's fields for a file of *rows* examples: those asked for, and values for `auto`."""
        asked = options.hyperparameters
        weights, parallel = asked.trained_weights(), asked.parallel()
        auto = resolve_auto(rows, cls.multiplied_rate * (FULL_RATE if weights.is_full else 1.0))
        multiplier = asked.learning_rate_multiplier or 1.0
        given = asked.model_dump(include=set(cls.model_fields), exclude_none=True)
        return given | {
            "n_epochs": asked.n_epochs or auto.n_epochs,
            "batch_size": asked.batch_size or parallel.divisible(auto.batch_size),
            "parallel": parallel,
            "learning_rate": multiplier * (asked.learning_rate or auto.learning_rate),
            "learning_rate_multiplier": multiplier,
            "lora": asked.lora(),
            "weights": weights,
            "requested": asked.as_asked(),
        }

    def hyperparameters(self) -> Mapping[str, int | float | str]:
        """Return the hyperparameters that OpenAI's object shows for this method."""
        return {
            "n_epochs": self.n_epochs,
            "batch_size": self.batch_size,
            "learning_rate_multiplier": self.learning_rate_multiplier,
        }

    def provenance(self, files: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
        """Return data sets, hyperparameters and seed."""
        unused = ("lora",) if self.weights.is_full else ()
        return {
            "dataset": files["training_file"],
            "validation": files.get("validation_file"),
            **({"pictures": self.pictures} if self.pictures else {}),
            "hyperparameters": self.model_dump(mode="json", exclude={*NOT_HYPERPARAMETERS, *unused}),
            "seed": self.seed,
        }

    def published_message(self, name: str) -> str:
        """Return the message that OpenAI's clients look for."""
        return f"New fine-tuned model created: {name}"

    def alias(self, job_id: str, organisation: str) -> str | None:
        """Return the name of the revision for OpenAI's clients; what takes no requests has none."""
        return self._name(job_id, organisation) if self.result_kind() is ResultKind.ADAPTER else None

    def checkpoint_alias(self, job_id: str, organisation: str, step: int) -> str:
        """Return the name by which OpenAI's clients address the checkpoint of a step, whatever the result is."""
        return f"{self._name(job_id, organisation)}:ckpt-step-{step}"

    def _name(self, job_id: str, organisation: str) -> str:
        return f"ft:{self.base}:{organisation}:{self.adapter}:{job_id[-8:]}"

    def integrations_asked(self) -> Sequence[Integration]:
        """Return what was asked for."""
        return self.integrations

    def serves_steps(self) -> bool:
        """Whether steps are kept beside the result, which they are unless the job asks for none."""
        return self.result_kind() is not ResultKind.COMPARISON and self.serve_checkpoints != "none"

    def process_count(self) -> int:
        """Return how many processes train."""
        return self.parallel.processes

    def is_light(self) -> bool:
        """Whether only a plain adapter is trained, of which nothing is left in the base model or in the process."""
        is_plain = self.lora.variant in ("lora", "rslora") and self.lora.dropout == 0.0
        leaves_base = self.weights.kind == "lora" and not self.weights.merge and self.weights.precision == "auto"
        is_alone = self.process_count() == 1 and not self.integrations and not self.names_pictures()
        return self.trains_beside and is_plain and leaves_base and is_alone

    def queue_priority(self) -> Priority:
        """Return the priority that was asked for."""
        return self.priority

    def libraries(self) -> frozenset[str]:
        """Return the libraries that quantized weights, weights split by DeepSpeed, and trackers need."""
        of_weights = {LIBRARIES[self.weights.kind]} if self.weights.kind in LIBRARIES else set[str]()
        of_trackers = {MLFLOW} & {each.type for each in self.integrations}
        return self.parallel.libraries() | of_weights | of_trackers

    def lora_shape(self) -> LoraSpec | None:
        """Return the shape of the adapter that the job trains; None where it trains all weights."""
        return None if self.weights.is_full else self.lora

    def result_kind(self) -> ResultKind:
        """Return what the method makes; full and merged weights give a checkpoint."""
        return ResultKind.CHECKPOINT if self.weights.is_full or self.weights.merge else self.makes

    def check_weights(self) -> None:
        """Raise `WeightsRefused` for settings that the method, this installation or any engine has no use for."""
        if self.unfit_rows not in self.unfit_choices:
            why = f"{self.method} needs the ends of its rows: leave it out, and long rows are left out"
            raise WeightsRefused(f"unfit_rows {self.unfit_rows!r}: {why}")
        if self.makes is not ResultKind.ADAPTER and self.result_kind() is ResultKind.CHECKPOINT:
            raise WeightsRefused(f"the result of {self.method} is a {self.makes} model, not a checkpoint: {_PLAIN}")
        if self.has_reference() and (self.weights.is_full or self.lora.changes_base):
            changed = "weights 'full'" if self.weights.is_full else f"lora_variant {self.lora.variant!r}"
            raise WeightsRefused(f"{changed} leaves no base model to compare with, which {self.method} needs: {_PLAIN}")
        micro = self.weights.micro_batch_size
        if micro is not None and self.batch_size % micro != 0:
            raise WeightsRefused(f"micro_batch_size {micro} does not divide the batch_size {self.batch_size}")
        self.parallel.check(self.batch_size, self.weights, self.lora)
        if (missing := self.weights.missing_library()) is not None:
            raise WeightsRefused(f"weights {self.weights.kind!r} needs the library {missing}, which is not installed")

    def remarks(self) -> Sequence[str]:
        """Return what OpenAI's clients read of the files' check, and a message if the suffix was made legal."""
        validation = "" if self.validation_file is None else f" and validation file: {self.validation_file}"
        checked = [
            f"Validating training file: {self.training_file}{validation}",
            "Files validated, moving job to queued state",
        ]
        renamed = self.suffix is not None and self.suffix != self.adapter
        return [*checked, *([f"The suffix {self.suffix!r} became the adapter name {self.adapter}"] if renamed else [])]

    def speed_fields(self) -> Mapping[str, Any]:
        """Return every field on which the time for a row depends."""
        return self.model_dump(mode="json", exclude=set(NO_SPEED))

    def memory_kind(self) -> str:
        """Return method and kind of weights, and whether activations are computed again."""
        again = "/checkpointed" if self.weights.gradient_checkpointing else ""
        return f"{self.method}/{self.weights.kind}{again}"

    def workload(self, sizes: Mapping[str, int]) -> float | None:
        """Return the bytes of the training file, once for each epoch."""
        size = sizes.get(self.training_file)
        return None if size is None else float(size * self.n_epochs)

    def rollout_plan(self) -> RolloutPlan | None:
        """Return the plan of the rollout that was asked for."""
        return None if self.rollout is None else self.rollout.plan()

    def fine_tune_facts(self) -> FineTuneFacts:
        """Return the fields for OpenAI's object."""
        hyperparameters = self.hyperparameters()
        return FineTuneFacts(
            training_file=self.training_file,
            validation_file=self.validation_file,
            hyperparameters=hyperparameters,
            method={"type": self.method, self.method: {"hyperparameters": hyperparameters, **self.options()}},
            seed=self.seed,
            metadata=self.metadata,
            suffix=self.suffix,
            integrations=[integration.as_object() for integration in self.integrations],
            extensions={
                "learning_rate": self.learning_rate,
                "lora": None if self.weights.is_full else self.lora.model_dump(),
                "weights": self.weights.model_dump(),
                "priority": self.priority,
                "keep": self.keep,
                "parallel": self.parallel.model_dump(),
            },
        )
