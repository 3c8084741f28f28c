"""A halved embedding gives the numbers of the whole one."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from engines.transformers.embedding import EmbeddingTable, halve_embedding


@pytest.mark.parametrize("stored_in", [torch.bfloat16, torch.float16])
def test_numbers_that_fit_are_stored_in_half_the_bytes_and_read_as_they_were(stored_in: torch.dtype) -> None:
    model = tiny_model(stored_in)
    tokens = torch.tensor([[1, 5, 31]])
    before = model.get_input_embeddings()(tokens)
    halve_embedding(model)
    assert isinstance(model.get_input_embeddings(), EmbeddingTable)
    assert torch.equal(model.get_input_embeddings()(tokens), before)


def test_numbers_that_do_not_fit_stay() -> None:
    model = tiny_model(torch.float32)
    halve_embedding(model)
    assert not isinstance(model.get_input_embeddings(), EmbeddingTable)


def tiny_model(stored_in: torch.dtype) -> LlamaForCausalLM:
    sizes = {"vocab_size": 32, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2)).to(stored_in).float()
