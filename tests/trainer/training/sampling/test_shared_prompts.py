"""Outputs that share the computation of their prompt get the numbers that each of them gets alone."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import GenerationConfig

from trainer.data.encoded_row import IGNORED, EncodedRow
from trainer.data.packing import RowCollator, model_inputs
from trainer.training.base_model import load_base
from trainer.training.sampling.outputs import Asked, SamplingPlan, sample_outputs
from trainer.training.sampling.policy_loss import token_logps
from trainer.training.sampling.rollouts import Output, by_output, collate_outputs, encode_output

PROMPTS = ((1, 50, 60, 70, 80, 90, 2, 33, 44), (1, 50, 60, 41))
ASKED = [Asked(key=f"step 1/{at}", ids=ids) for at, ids in enumerate(PROMPTS)]
OUTPUTS = ((100, 101, 102, 2), (100, 7), (9, 8, 7))


def outputs_of(prompt: tuple[int, ...]) -> list[Output]:
    encoded = EncodedRow(line=1, input_ids=prompt, labels=(IGNORED,) * len(prompt))
    return [Output(row=0, encoded=encode_output(encoded, ids), tokens={}) for ids in OUTPUTS]


def test_shared_outputs_have_the_probabilities_and_gradients_of_padded_ones(tiny_base: Path) -> None:
    model = load_base(tiny_base, dtype=torch.float64)
    padded, shared = RowCollator(packing=None), RowCollator(packing=None)
    shared.fit(model, dropout=0.0)
    found = []
    for collator in (padded, shared):
        batch = collate_outputs(collator, outputs_of(PROMPTS[0]))
        logps = by_output(token_logps(model(**model_inputs(batch)).logits, batch["labels"], 1.0), batch)
        model.zero_grad()
        torch.autograd.backward(logps.square().sum())
        found.append((batch["input_ids"].numel(), logps.detach(), model.model.embed_tokens.weight.grad.clone()))
    # Each output repeats the last token of the prompt, whose logits are for its own first token.
    assert found[1][0] == len(PROMPTS[0]) - 1 + sum(1 + len(ids) for ids in OUTPUTS)
    assert found[0][1].shape == (3, 4)
    assert torch.equal(found[0][1] == 0, torch.tensor([[False] * 4, [False, False, True, True], [False] * 3 + [True]]))
    torch.testing.assert_close(found[1][1], found[0][1], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found[1][2], found[0][2], rtol=1e-5, atol=1e-8)


def test_outputs_of_a_prompt_that_was_read_once_follow_from_it(tiny_base: Path) -> None:
    model = load_base(tiny_base, dtype=torch.float64).eval()
    # At such a temperature the likeliest token is drawn.
    plan = SamplingPlan(outputs=3, most_tokens=6, temperature=1e-6, end_ids=frozenset({2}), seed=1)
    sampled = sample_outputs(model, ASKED, plan)
    greedy = GenerationConfig(do_sample=False, max_new_tokens=6, eos_token_id=2, pad_token_id=0)
    for prompt, outputs in zip(PROMPTS, sampled, strict=True):
        ids = torch.tensor([prompt])
        alone = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=greedy)
        assert outputs == [tuple(alone[0, len(prompt) :].tolist())] * 3


def test_an_output_does_not_depend_on_what_is_sampled_beside_it(tiny_base: Path) -> None:
    model = load_base(tiny_base, dtype=torch.float64).eval()
    plan = SamplingPlan(outputs=3, most_tokens=6, temperature=1.0, end_ids=frozenset({2}), seed=1)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    together = sample_outputs(model, ASKED, plan)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [sample_outputs(model, [asked], plan)[0] for asked in ASKED] == together
    assert len({output for outputs in together for output in outputs}) == 6
