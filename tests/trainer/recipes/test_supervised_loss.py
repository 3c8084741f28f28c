"""The loss of a step is the mean cross-entropy of its learnt tokens, whatever its passes and their layouts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import LlamaForCausalLM

from registry.contracts.job_spec import LoraSpec
from tests.trainer.conftest import MakeSpec
from tests.trainer.tiny_base import ROWS, write_chats
from trainer.data.dataset import ChatEncoder
from trainer.data.encoded_row import EncodedRow
from trainer.recipes.supervised import SupervisedObjective


def plain_loss(model: LlamaForCausalLM, rows: Sequence[EncodedRow]) -> torch.Tensor:
    """The formula as it stands in books: each row alone, all logits, labels shifted by one."""
    losses = []
    for row in rows:
        logits = model(input_ids=torch.tensor([row.input_ids])).logits[0, :-1]
        found = cross_entropy(logits, torch.tensor(row.labels[1:]), reduction="none")
        losses.append(found[torch.tensor(row.labels[1:]) != -100])
    return torch.cat(losses).mean()


def flat_gradient(loss: torch.Tensor, model: LlamaForCausalLM) -> torch.Tensor:
    return torch.cat([each.flatten() for each in torch.autograd.grad(loss, [*model.parameters()])])


@pytest.mark.long
@pytest.mark.parametrize("packing", [False, True, None])
def test_the_loss_of_every_batch_size_is_plain_cross_entropy(
    tiny_base: Path, tmp_path: Path, make_spec: MakeSpec, packing: bool | None
) -> None:
    model = LlamaForCausalLM.from_pretrained(tiny_base).double()
    objective = SupervisedObjective(ChatEncoder(tiny_base), make_spec(packing=packing, lora=LoraSpec(rank=4)))
    rows = objective.read_rows(write_chats(tmp_path / "chats.jsonl"), "training_file")
    objective.prepare(model, rows)
    layouts = set()
    for batch_size in range(1, ROWS + 1):
        plain = plain_loss(model, rows[:batch_size])
        expected = flat_gradient(plain, model)
        for at_once in {1, 3, batch_size}:
            step = rows[:batch_size]
            passes = [objective.collate(step[at : at + at_once]) for at in range(0, batch_size, at_once)]
            items = objective.count_items(passes)
            ours = torch.stack([objective.loss(model, one, items) for one in passes]).sum()
            torch.testing.assert_close(ours, plain, rtol=1e-6, atol=0.0, check_dtype=False)
            torch.testing.assert_close(flat_gradient(ours, model), expected, rtol=1e-4, atol=1e-6)
            layouts |= {"visible" in one for one in passes}
    assert layouts == ({False} if packing is False else {True} if packing else {False, True})
