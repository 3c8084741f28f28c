"""The comparison of a server's answers with what the trainer of an adapter saw. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from engines.catalog import kind_of
from engines.errors import EngineError

Precision = Literal["fp32", "fp16", "bf16", "fp8", "int8", "int4"]

TOLERANCES: Final[Mapping[str, float]] = {
    "fp32": 0.01,
    "fp16": 0.03,
    "bf16": 0.1,
    "fp8": 0.2,
    "int8": 0.2,
    "int4": 0.4,
}
"""Precision of the weights -> mean absolute difference of logprobs (nats) up to which two computations are the same."""

QUANTIZED: Final = frozenset({"fp8", "int8", "int4"})
"""Precisions of weights that are quantized in their folder, which no engine computes more exactly than they are."""

FLIP_GAPS: Final = 8.0
"""Tolerances that the trainer's best two tokens may lie apart where the server generates another token."""
EFFECT_MARGIN: Final = 0.1
"""Share by which the adapter's effect may differ from the trainer's where noise plays no part."""
NOISE_SIGMAS: Final = 3.0
WIDEST_MARGIN: Final = 0.5
"""Limit of the margin: however noisy, answers must be nearer to the adapter's than to the base's."""
QUANTIZED_MARGIN: Final = 0.2
"""The same limit where a tolerance is that of quantized weights: right adapters that passed had 0.96 to 1.00 of their
effect there, halved ones that differed too little to fail by their logprobs at most 0.75."""
LEAST_COMPARED: Final = 0.25
"""Share of the recorded tokens that must have been compared."""
NO_EFFECT: Final = 1e-4
"""Root mean square of an adapter's effect (nats) below which there is nothing to see."""
NO_EFFECT_REMARK: Final = (
    "no effect: the adapter changes nothing in the base's answers to the probes of its fingerprint"
)


class StoredToken(BaseModel):
    """A greedy token of the trainer, with the adapter."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: int
    text: str
    """The token as `tokenizer.decode([id])` gives it."""
    piece: str
    """The token as the vocabulary spells it."""
    logprob: float
    base_logprob: float
    """Logprob of the same token after the same tokens, by the base model alone."""
    gap: float
    """Difference to the logprob of the second best token."""


class StoredProbe(BaseModel):
    """A prompt and the answer that the trainer recorded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    messages: list[dict[str, Any]]
    prompt_ids: list[int]
    tokens: list[StoredToken] = Field(min_length=1)

    @property
    def has_pictures(self) -> bool:
        """Whether a message has other parts than text."""
        contents = [message.get("content") for message in self.messages]
        return any(part.get("type") != "text" for parts in contents if isinstance(parts, list) for part in parts)


class StoredFingerprint(BaseModel):
    """The file `fingerprint.json` of an adapter's folder. `registry.contracts.fingerprint` has the writer's side."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1]
    base_digest: str
    template_digest: str
    precision: Precision
    versions: dict[str, str]
    probes: list[StoredProbe] = Field(min_length=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredToken:
    """A token of a server's answer: the logprobs of this token and of the likeliest others, by their text."""

    text: str
    logprobs: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeAnswer:
    """The answer of a server to one probe."""

    prompt_tokens: int
    prompt_ids: Sequence[int] | None
    """None where the server does not show them."""
    tokens: Sequence[AnsweredToken]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Whether a server computes an adapter as its trainer did, with the numbers. Logprobs are in nats."""

    passed: bool
    message: str
    prompt_tokens_equal: bool
    mean_difference: float
    """Mean absolute difference of the tokens' logprobs."""
    largest_difference: float
    separation: float | None
    """How far the adapter moves logprobs away from the base's here, as a share of what the trainer saw: 1 as there,
    0 where the base answers. None where the trainer saw no effect, so that there is nothing to compare."""
    tolerance: float
    """Most that `mean_difference` may be."""
    compared: int
    """Number of tokens that were compared."""
    recorded: int
    """Number of tokens that the fingerprint has."""

    @property
    def remark(self) -> str:
        """The text that people should see of a proof that passed."""
        return NO_EFFECT_REMARK if self.passed and self.separation is None else ""

    def as_json(self) -> dict[str, Any]:
        """Return all fields, for storing."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compared:
    """The logprobs of one token: the trainer's with and without the adapter, and the server's."""

    adapter: float
    base: float
    here: float


@dataclass(slots=True)
class _Comparison:
    """The tokens and flips of all probes."""

    tokens: list[_Compared]
    flips: list[float]
    """Gaps of the tokens in whose place another one came."""


def tolerance_of(kind: str, precision: str) -> float:
    """Return the mean difference (nats) up to which an engine of *kind* with weights in *precision* computes the same.

    `EngineError` for an unknown kind or precision.
    """
    computed_in = precision if precision in QUANTIZED else kind_of(kind).computed_in or precision
    if computed_in not in TOLERANCES:
        raise EngineError(f"precision {precision!r} is not one of {', '.join(TOLERANCES)}")
    return TOLERANCES[computed_in]


def judge(fingerprint: StoredFingerprint, answers: Sequence[ProbeAnswer], tolerance: float) -> Proof:
    """Judge *answers*, one for each probe; the tolerance is at least that of the trainer's own precision."""
    # The recorded numbers are only as exact as the precision in which the trainer computed them.
    tolerance = max(tolerance, TOLERANCES[fingerprint.precision])
    comparison = _Comparison([], [])
    for probe, answer in zip(fingerprint.probes, answers, strict=True):
        _compare(probe, answer, comparison)
    differences = [abs(token.here - token.adapter) for token in comparison.tokens]
    mean = sum(differences) / max(1, len(differences))
    separation, margin = _separation(comparison.tokens, tolerance)
    prompts = _prompt_fault(fingerprint, answers)
    recorded = sum(len(probe.tokens) for probe in fingerprint.probes)
    # Causes before effects: another prompt also changes logprobs, and an adapter that is not applied changes tokens.
    faults = (
        prompts,
        "" if separation is None else _effect_fault(separation, margin, comparison.tokens, tolerance),
        "other logprobs than the trainer's" if mean > tolerance else "",
        _flip_fault(comparison.flips, FLIP_GAPS * tolerance),
        "too few tokens in common" if len(differences) < LEAST_COMPARED * recorded else "",
    )
    fault = next(filter(None, faults), "")
    share = (
        "no effect of the adapter to compare"
        if separation is None
        else f"effect of the adapter {separation:.2f} of the trainer's"
    )
    numbers = (
        f"mean difference {mean:.2g} (tolerance {tolerance:g}), largest {max(differences, default=0.0):.2g} "
        f"over {len(differences)} of {recorded} tokens, {share}"
    )
    return Proof(
        passed=not fault,
        message=f"{fault or 'as the trainer saw it'}: {numbers}",
        prompt_tokens_equal=not prompts,
        mean_difference=mean,
        largest_difference=max(differences, default=0.0),
        separation=separation,
        tolerance=tolerance,
        compared=len(differences),
        recorded=recorded,
    )


def _compare(probe: StoredProbe, answer: ProbeAnswer, comparison: _Comparison) -> None:
    """Compare token by token as long as both have the same tokens before; the first other one is compared as well."""
    for at, token in enumerate(probe.tokens):
        if at == len(answer.tokens):  # it ended before
            comparison.flips.append(token.gap)
            return
        answered = answer.tokens[at]
        found = [logprob for text, logprob in answered.logprobs.items() if _is_same(token, text)]
        here = found[0] if found else min(answered.logprobs.values())  # less likely than all that are listed
        comparison.tokens.append(_Compared(adapter=token.logprob, base=token.base_logprob, here=here))
        if not _is_same(token, answered.text):
            comparison.flips.append(token.gap)
            return


def _is_same(token: StoredToken, text: str) -> bool:
    return text in (token.text, token.piece)


def _separation(tokens: Sequence[_Compared], tolerance: float) -> tuple[float | None, float]:
    """Return the effect as a share of the trainer's, by least squares, and how far from 1 it may be.

    The share is None where the trainer saw no effect.

    Noise of the size of *tolerance* in each logprob moves the share by `tolerance / |effect|`.
    """
    squares = sum((token.adapter - token.base) ** 2 for token in tokens)
    if squares <= len(tokens) * NO_EFFECT**2:  # divided by almost nothing, noise would look like an effect
        return None, WIDEST_MARGIN
    # Least squares through the origin, sum(xy) / sum(x^2): x is the adapter's effect at the trainer, y at the server.
    share = sum((token.here - token.base) * (token.adapter - token.base) for token in tokens) / squares
    widest = QUANTIZED_MARGIN if tolerance >= min(TOLERANCES[each] for each in QUANTIZED) else WIDEST_MARGIN
    return share, min(widest, EFFECT_MARGIN + NOISE_SIGMAS * tolerance / sqrt(squares))


def _prompt_fault(fingerprint: StoredFingerprint, answers: Sequence[ProbeAnswer]) -> str:
    for number, (probe, answer) in enumerate(zip(fingerprint.probes, answers, strict=True), start=1):
        if answer.prompt_tokens != len(probe.prompt_ids):
            return (
                f"another chat template or tokenizer (prompt {number} has {answer.prompt_tokens} tokens here, "
                f"{len(probe.prompt_ids)} for the trainer)"
            )
        if answer.prompt_ids is not None and list(answer.prompt_ids) != probe.prompt_ids:
            return f"another chat template or tokenizer (prompt {number} has other tokens here)"
    return ""


def _effect_fault(separation: float, margin: float, tokens: Sequence[_Compared], tolerance: float) -> str:
    if abs(separation - 1.0) <= margin:
        return ""
    nearer_base = sum(abs(token.here - token.base) < abs(token.here - token.adapter) for token in tokens)
    from_base = sum(abs(token.here - token.base) for token in tokens) / max(1, len(tokens))
    # A share near 0 may also be an effect in another direction; only logprobs that equal the base's show the base.
    if abs(separation) <= margin and from_base <= tolerance:
        return f"the adapter is not applied ({nearer_base} of {len(tokens)} tokens are nearer to the base)"
    return "the adapter has another effect than in training: another scaling, base or template"


def _flip_fault(gaps: Sequence[float], bound: float) -> str:
    far = [gap for gap in gaps if gap > bound]
    return f"other tokens where the trainer was sure ({len(far)} with a gap above {bound:g})" if far else ""
