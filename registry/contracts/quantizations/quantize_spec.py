"""The job that quantizes a revision, a base model or a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Literal

from pydantic import Field

from registry.contracts.job_spec import JobSpec
from registry.contracts.quantizations.quantization_report import REPORT
from registry.contracts.quantizations.schemes import SCHEMES, Scheme
from registry.states import CheckpointForm, ResultKind

USUAL_LENGTH: Final = 512
USUAL_RISE: Final = 0.05
WINDOW: Final = 512
STRIDE: Final = 256
"""The window and the stride of the perplexity: each reads 512 tokens and begins 256 after the one before."""


class QuantizeSpec(JobSpec):
    """A job that quantizes a model and publishes a checkpoint, unless its scores are worse than its gate allows."""

    id_prefix: ClassVar[str] = "quantjob"
    noun: ClassVar[str] = "quantization"
    recipe: ClassVar[str] = "quantize"
    phase_words: ClassVar[Mapping[str, str]] = {
        "loading": "loading the model, with its adapter merged if it has one",
        "preparing": "scoring the model in full precision",
        "training": "quantizing",
        "finishing": "scoring the result, and trying it on the engines of its pools",
    }
    reads_folders: ClassVar[bool] = True
    file_fields: ClassVar[frozenset[str]] = frozenset({"calibration_file"})

    method: Literal["quantize"] = "quantize"
    source: str
    """Name of what is quantized: `support@7`, or a base model or checkpoint."""
    artifact: str | None = None
    """Digest of the folder of the adapter that is merged first; None for a whole model."""
    scheme: Scheme
    group_size: int | None = None
    chosen_because: str | None = None
    """Why `auto` chose the scheme; None where it was named."""
    calibration_file: str
    samples: int = Field(ge=1)
    max_length: int = Field(default=USUAL_LENGTH, ge=16)
    """Tokens of a row beyond which it is cut."""
    seed: int
    max_rise: float = Field(default=USUAL_RISE, ge=0)
    """The largest rise of perplexity, as a part of what it was."""
    waived: tuple[str, ...] = ()
    """Texts whose rise is not judged; `load-test` where no engine's answers are."""
    pools: tuple[str, ...] = ()
    """Pools that are to serve the result."""
    engines: tuple[str, ...] = ()
    """Kinds of engine of these pools, on which the result is tried before it is published."""
    notes: tuple[str, ...] = ()

    def artifacts(self) -> Mapping[str, str]:
        """Return the revision's folder, which is not the job's own and stays when the job has ended."""
        return {} if self.artifact is None else {"artifact": self.artifact}

    def result_kind(self) -> ResultKind:
        """Return that the result is a base model of its own."""
        return ResultKind.CHECKPOINT

    def checkpoint_form(self) -> CheckpointForm:
        """Return how the weights of the result are stored."""
        return CheckpointForm.GGUF if SCHEMES[self.scheme].gguf_type else CheckpointForm.QUANTIZED

    def report_key(self) -> str:
        """Return the key of the scores in the data of the job's events."""
        return REPORT

    def remarks(self) -> Sequence[str]:
        """Return why the scheme was chosen, and what else was decided for the caller."""
        chosen = [] if self.chosen_because is None else [f"auto chose {self.scheme}: {self.chosen_because}"]
        return [*chosen, *self.notes]

    def speed_fields(self) -> Mapping[str, Any]:
        """Return what the time depends on."""
        return {"base": self.base, "scheme": self.scheme, "samples": self.samples}

    def provenance(self, files: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
        """Return source, scheme, calibration and seed."""
        merged = {} if self.artifact is None else {"adapter": {"name": self.source, "artifact": self.artifact}}
        return {
            "source": "quantize",
            "made_from": self.source,
            **merged,
            "scheme": self.scheme.value,
            "group_size": self.group_size,
            "chosen_because": self.chosen_because,
            "calibration": {
                **files["calibration_file"],
                "samples": self.samples,
                "max_length": self.max_length,
            },
            "seed": self.seed,
            "pools": list(self.pools),
        }

    def published_message(self, name: str) -> str:
        """Return the message."""
        return f"Quantized {self.source} as {self.scheme}: {name}"
