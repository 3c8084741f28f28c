"""The verdict on made-up answers passes or fails with the right numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from engines.errors import EngineError
from engines.proving.proof import (
    AnsweredToken,
    ProbeAnswer,
    StoredFingerprint,
    StoredProbe,
    StoredToken,
    judge,
    tolerance_of,
)

PROMPT = [1, 2, 3]
LENGTH = 12
EFFECTS = (1.0, -0.5, 0.25, 0.0)
"""Changes of the logprob of each token by the adapter, in turn."""

Here = Callable[[StoredToken], float]


def fingerprint(strength: float = 1.0, gap: float = 2.0, probes: int = 4) -> StoredFingerprint:
    tokens = [
        StoredToken(
            id=at,
            text=f" {at}",
            piece=f"Ġ{at}",
            logprob=-1.0,
            base_logprob=-1.0 - strength * EFFECTS[at % len(EFFECTS)],
            gap=gap,
        )
        for at in range(LENGTH)
    ]
    probe = StoredProbe(messages=[{"role": "user", "content": "hello"}], prompt_ids=PROMPT, tokens=tokens)
    return StoredFingerprint(
        format=1, base_digest="b", template_digest="t", precision="fp32", versions={}, probes=[probe] * probes
    )


def answers(
    seen: StoredFingerprint, here: Here, *, flip_at: int = LENGTH, prompt_tokens: int = len(PROMPT)
) -> list[ProbeAnswer]:
    """Every probe answered with *here* for each token, and from *flip_at* on with tokens of its own."""

    def token(at: int, recorded: StoredToken) -> AnsweredToken:
        if at < flip_at:
            return AnsweredToken(text=recorded.text, logprobs={recorded.text: here(recorded)})
        return AnsweredToken(text="?", logprobs={"?": here(recorded) + 0.001, recorded.piece: here(recorded)})

    return [
        ProbeAnswer(
            prompt_tokens=prompt_tokens,
            prompt_ids=None,
            tokens=[token(at, recorded) for at, recorded in enumerate(probe.tokens)],
        )
        for probe in seen.probes
    ]


def between(share: float) -> Here:
    """So far on the way from the base's logprob to the adapter's."""
    return lambda token: token.base_logprob + share * (token.logprob - token.base_logprob)


def test_the_same_logprobs_pass_with_the_numbers() -> None:
    seen = fingerprint()
    proof = judge(seen, answers(seen, lambda token: token.logprob + 0.001), 0.01)
    assert proof.passed and proof.prompt_tokens_equal
    assert proof.mean_difference == pytest.approx(0.001)
    assert proof.separation == pytest.approx(1.0, abs=0.01)
    assert (proof.compared, proof.recorded) == (48, 48)
    assert proof.message == (
        "as the trainer saw it: mean difference 0.001 (tolerance 0.01), largest 0.001 over 48 of 48 tokens, "
        "effect of the adapter 1.00 of the trainer's"
    )
    assert proof.as_json()["tolerance"] == 0.01


def test_an_adapter_that_is_not_applied_fails_however_small_its_effect() -> None:
    for strength in (1.0, 0.1, 0.005):
        seen = fingerprint(strength)
        proof = judge(seen, answers(seen, between(0.0)), 0.01)
        assert not proof.passed
        assert proof.separation == pytest.approx(0.0)
        assert proof.message.startswith("the adapter is not applied (36 of 48 tokens are nearer to the base)")
    assert proof.mean_difference < proof.tolerance


def test_an_adapter_of_another_scale_fails() -> None:
    for share in (0.25, 0.71, 1.4):
        seen = fingerprint(strength=0.1)
        proof = judge(seen, answers(seen, between(share)), 0.01)
        assert not proof.passed
        assert proof.separation == pytest.approx(share)
        assert "another effect than in training" in proof.message


def test_answers_that_resemble_neither_are_not_taken_for_the_base() -> None:
    seen = fingerprint()
    proof = judge(seen, answers(seen, lambda token: token.base_logprob - 1.0), 0.01)
    assert not proof.passed
    assert proof.message.startswith("the adapter has another effect than in training: another scaling, base or templ")


def test_a_prompt_of_another_length_or_of_other_tokens_fails() -> None:
    seen = fingerprint()
    longer = judge(seen, answers(seen, between(1.0), prompt_tokens=4), 0.01)
    assert not longer.passed and not longer.prompt_tokens_equal
    assert "prompt 1 has 4 tokens here, 3 for the trainer" in longer.message
    other = [
        ProbeAnswer(prompt_tokens=3, prompt_ids=[1, 2, 4], tokens=answer.tokens)
        for answer in answers(seen, between(1.0))
    ]
    assert "prompt 1 has other tokens here" in judge(seen, other, 0.01).message


def test_logprobs_beyond_the_tolerance_fail_even_where_the_effect_is_right() -> None:
    seen = fingerprint(strength=10.0)
    proof = judge(seen, answers(seen, lambda token: token.logprob + 0.02), 0.01)
    assert not proof.passed
    assert proof.message.startswith("other logprobs than the trainer's: mean difference 0.02 (tolerance 0.01)")


def test_another_token_is_forgiven_where_two_were_nearly_as_likely() -> None:
    close, sure = fingerprint(gap=0.05), fingerprint(gap=0.5)
    forgiven = judge(close, answers(close, between(1.0), flip_at=6), 0.01)
    assert forgiven.passed and (forgiven.compared, forgiven.recorded) == (28, 48)
    refused = judge(sure, answers(sure, between(1.0), flip_at=6), 0.01)
    assert not refused.passed
    assert refused.message.startswith("other tokens where the trainer was sure (4 with a gap above 0.08)")


def test_an_answer_that_ends_early_fails() -> None:
    seen = fingerprint()
    short = [
        ProbeAnswer(prompt_tokens=3, prompt_ids=None, tokens=answer.tokens[:4])
        for answer in answers(seen, between(1.0))
    ]
    assert not judge(seen, short, 0.01).passed
    seen = fingerprint(gap=0.01)
    silent = [ProbeAnswer(prompt_tokens=3, prompt_ids=None, tokens=[]) for _ in seen.probes]
    assert judge(seen, silent, 0.01).message.startswith("too few tokens in common")


def test_an_adapter_without_any_effect_is_proven_by_the_rest() -> None:
    seen = fingerprint(strength=0.0)
    proof = judge(seen, answers(seen, between(1.0)), 0.01)
    assert proof.passed and proof.separation is None
    assert "no effect of the adapter" in proof.message and "changes nothing" in proof.remark


def test_the_tolerance_is_at_least_that_of_the_precision_it_was_recorded_in() -> None:
    seen = fingerprint(strength=10.0).model_copy(update={"precision": "bf16"})
    assert judge(seen, answers(seen, lambda token: token.logprob + 0.02), 0.01).passed


def test_a_tolerance_follows_from_what_the_engine_computes_in() -> None:
    assert tolerance_of("vllm", "bf16") > tolerance_of("vllm", "fp32") == tolerance_of("transformers", "bf16")
    with pytest.raises(EngineError, match="precision 'fp3' is not one of fp32, fp16"):
        tolerance_of("vllm", "fp3")
