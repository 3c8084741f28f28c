"""The next token is chosen by the parameters of its request."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from engines.transformers.sampling import SamplingParams, choose, chooser

PROBABILITIES = torch.tensor([0.5, 0.3, 0.15, 0.05])


def tokens_drawn(params: SamplingParams, times: int = 2000) -> Counter[int]:
    one = chooser(params, 0)
    return Counter(choose(PROBABILITIES.log()[None].clone(), [one])[0].token for _ in range(times))


def test_temperature_zero_takes_the_likeliest() -> None:
    assert tokens_drawn(SamplingParams(temperature=0), 20) == {0: 20}


@pytest.mark.long
def test_drawn_shares_follow_the_probabilities() -> None:
    shares = tokens_drawn(SamplingParams(seed=1))
    for token, expected in enumerate(PROBABILITIES.tolist()):
        assert shares[token] / 2000 == pytest.approx(expected, abs=0.04)


@pytest.mark.long
def test_top_p_keeps_the_fewest_tokens_that_reach_it() -> None:
    assert set(tokens_drawn(SamplingParams(top_p=0.79, seed=1))) == {0, 1}
    assert set(tokens_drawn(SamplingParams(top_p=0.81, seed=1))) == {0, 1, 2}


@pytest.mark.parametrize("top_p", [0.0, 1e-50, 1e-9])
def test_the_narrowest_nucleus_is_the_likeliest_token(top_p: float) -> None:
    assert set(tokens_drawn(SamplingParams(top_p=top_p, seed=1), 50)) == {0}
    assert set(tokens_drawn(SamplingParams(top_p=top_p, top_k=3, seed=1), 50)) == {0}


@pytest.mark.parametrize("temperature", [1e-320, 1e-50, 1e-40, 1e-20, 1e-6, 1e-5])
def test_however_cold_the_likeliest_is_taken(temperature: float) -> None:
    assert set(tokens_drawn(SamplingParams(temperature=temperature, seed=1), 20)) == {0}
    one = chooser(SamplingParams(temperature=temperature, top_p=0.9), 0)
    assert choose(torch.tensor([[-900.0, 1e4, 3.0, 0.0]]), [one])[0].token == 1


def test_top_p_beyond_the_tokens_tried_first_sorts_the_whole_vocabulary() -> None:
    flat = torch.zeros(1, 5000)
    one = chooser(SamplingParams(top_p=0.9, seed=1), 0)
    assert max(choose(flat.clone(), [one])[0].token for _ in range(50)) > 256


@pytest.mark.long
def test_min_p_keeps_what_is_likely_enough_beside_the_likeliest() -> None:
    assert set(tokens_drawn(SamplingParams(min_p=0.29, seed=1))) == {0, 1, 2}
    assert set(tokens_drawn(SamplingParams(min_p=0.31, seed=1))) == {0, 1}
    assert set(tokens_drawn(SamplingParams(min_p=1, seed=1), 50)) == {0}
    assert set(tokens_drawn(SamplingParams(min_p=0.31, top_p=0.6, seed=1))) == {0, 1}


def test_the_repetition_penalty_divides_what_is_likely_and_multiplies_what_is_not() -> None:
    one = chooser(SamplingParams(temperature=0, repetition_penalty=2.0), 0, prompt=[0, 2])
    logits = torch.tensor([[3.0, 1.6, -1.0, -1.9]])
    assert choose(logits, [one])[0].token == 1
    assert logits.tolist() == [[1.5, pytest.approx(1.6), -2.0, pytest.approx(-1.9)]]
    logits = torch.tensor([[3.0, 1.6, -1.0, -1.9]])
    assert choose(logits, [one])[0].token == 0  # the answer's own tokens count as well
    assert logits[0].tolist() == pytest.approx([1.5, 0.8, -2.0, -1.9])


def test_an_answer_does_not_end_before_its_least_tokens() -> None:
    one = chooser(SamplingParams(temperature=0, min_tokens=2), 0, end_tokens=frozenset({0}))
    assert [choose(PROBABILITIES.log()[None].clone(), [one])[0].token for _ in range(3)] == [1, 1, 0]


@pytest.mark.long
def test_top_k_keeps_so_many() -> None:
    assert set(tokens_drawn(SamplingParams(top_k=2, seed=1))) == {0, 1}


@pytest.mark.long
def test_low_temperature_sharpens() -> None:
    assert tokens_drawn(SamplingParams(temperature=0.2, seed=1))[0] > 1800


def test_a_seed_gives_the_same_tokens_whatever_else_is_in_the_batch() -> None:
    logits = torch.randn(3, 100, generator=torch.Generator().manual_seed(0))
    params = SamplingParams(seed=7)
    alone = [choose(logits[:1].clone(), [one])[0].token for one in [chooser(params, 0)] for _ in range(10)]
    mine, others = chooser(params, 0), [chooser(SamplingParams(top_p=0.5), 0), chooser(SamplingParams(), 1)]
    assert alone == [choose(logits.clone(), [mine, *others])[0].token for _ in range(10)]


def test_choices_of_one_seeded_request_differ_from_each_other() -> None:
    logits = torch.zeros(2, 1000)
    tokens = [choice.token for choice in choose(logits, [chooser(SamplingParams(seed=7), index) for index in (0, 1)])]
    assert tokens[0] != tokens[1]


def test_penalties_count_what_was_generated() -> None:
    one = chooser(SamplingParams(temperature=0, presence_penalty=1.0, frequency_penalty=0.5), 0)
    logits = torch.tensor([[3.0, 2.0, 0.0]])
    assert [choose(logits.clone(), [one])[0].token for _ in range(3)] == [0, 1, 0]


def test_bias_moves_the_choice_but_not_the_reported_logprob() -> None:
    one = chooser(SamplingParams(temperature=0, logit_bias={3: 100.0}, top_logprobs=2), 0)
    choice = choose(PROBABILITIES.log()[None].clone(), [one])[0]
    assert choice.token == 3
    assert choice.logprob == pytest.approx(PROBABILITIES[3].log().item())
    assert [alternative.token for alternative in choice.alternatives] == [0, 1]
