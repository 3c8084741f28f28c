"""The table of token embeddings in the smallest type that holds its numbers exactly."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

HALVES: Final = (torch.bfloat16, torch.float16)


class EmbeddingTable(nn.Module):
    """Rows of a table that is stored in half of float32's bytes and read as float32."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self._table = table

    def forward(self, tokens: Tensor) -> Tensor:
        """[rows, tokens] -> [rows, tokens, hidden]."""
        return embedding(tokens, self._table).float()


def halve_embedding(model: Any) -> None:
    """Store the input embedding of a float32 *model* in half the bytes where every number stays the same.

    Checkpoints are mostly stored in bfloat16, so their numbers fit. The output layer has its own packed copy.
    """
    layer = model.get_input_embeddings()
    if type(layer) is not nn.Embedding:  # a model that scales its embedding computes more than a look-up
        return
    weight = layer.weight.detach()
    for dtype in HALVES:
        half = weight.to(dtype)
        if torch.equal(half.float(), weight):
            model.set_input_embeddings(EmbeddingTable(half))
            return
