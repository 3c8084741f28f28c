"""The file `fingerprint.json` of an adapter's folder: answers that the trainer recorded and that replicas replay.

`engines.proving.proof` reads the same file; the two packages share the format, not code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from registry.errors import AdapterRejected
from registry.types import Base
from registry.wording.field_faults import fault_in

FINGERPRINT: Final = "fingerprint.json"
LEAST_PROBES: Final = 4
MOST_PROBES: Final = 8
TOKENS: Final = 16
"""Greedy tokens of a probe; an answer that ends earlier has fewer."""

NO_EFFECT: Final = 1e-4
"""Nats; `engines.proving.proof` judges by the same number."""

STRICT: Final = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

Precision = Literal["fp32", "fp16", "bf16", "fp8", "int8", "int4"]


class FingerprintToken(BaseModel):
    """A greedy token with the adapter. Logprobs are in nats."""

    model_config = STRICT

    id: int
    text: str
    """The token by `tokenizer.decode([id])`."""
    piece: str
    """The token as the vocabulary spells it."""
    logprob: float
    base_logprob: float
    """Logprob of the same token after the same tokens, by the base model alone."""
    gap: float
    """Distance of the logprob from that of the second best token."""


class FingerprintProbe(BaseModel):
    """A prompt, and the answer that the trainer recorded."""

    model_config = STRICT

    messages: list[dict[str, Any]] = Field(min_length=1)
    """As a request has them; a picture is a data URL."""
    prompt_ids: list[int] = Field(min_length=1)
    tokens: list[FingerprintToken] = Field(min_length=1, max_length=TOKENS)


class FingerprintFile(BaseModel):
    """All probes of one revision, and the software that computed them."""

    model_config = STRICT

    format: Literal[1] = 1
    base_digest: str
    template_digest: str
    """sha256 of the chat template's text."""
    precision: Precision
    versions: dict[str, str]
    probes: list[FingerprintProbe] = Field(min_length=LEAST_PROBES, max_length=MOST_PROBES)

    def shows_effect(self) -> bool:
        """Whether the adapter moves the logprobs by `NO_EFFECT` or more, as root mean square over all tokens."""
        effects = [token.logprob - token.base_logprob for probe in self.probes for token in probe.tokens]
        return sum(effect**2 for effect in effects) > len(effects) * NO_EFFECT**2


def write_fingerprint(fingerprint: FingerprintFile, folder: Path) -> None:
    """Write the fingerprint into *folder*."""
    (folder / FINGERPRINT).write_text(fingerprint.model_dump_json(indent=1) + "\n")


def check_fingerprint(folder: Path, base: Base) -> FingerprintFile:
    """Return the folder's fingerprint; `AdapterRejected` without one, or if it was made on another base than *base*."""
    try:
        fingerprint = FingerprintFile.model_validate_json((folder / FINGERPRINT).read_bytes())
    except OSError as exc:
        raise AdapterRejected(f"{FINGERPRINT}: missing; no replica could prove the adapter") from exc
    except ValidationError as exc:
        raise AdapterRejected(f"{FINGERPRINT}: {fault_in(None, exc).sentence}") from exc
    if fingerprint.base_digest != base.digest:
        raise AdapterRejected(
            f"{FINGERPRINT}: the probes were made on a base with digest {fingerprint.base_digest[:12]}; "
            f"{base.name} has {base.digest[:12]}"
        )
    return fingerprint
