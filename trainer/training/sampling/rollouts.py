"""Sampled outputs with their rewards, which may serve several steps and outlive the process in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from trainer.data.encoded_row import IGNORED, EncodedRow
from trainer.data.packing import RowCollator


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """An output of a prompt."""

    row: int
    """Place of the prompt among the rows of the training file."""
    encoded: EncodedRow
    """Prompt and output as tokens; the output's are the labels."""
    tokens: Mapping[str, torch.Tensor]
    """The values that the loss needs for each token of the output, by name: [tokens]."""

    @property
    def length(self) -> int:
        """Tokens of the output."""
        return sum(label != IGNORED for label in self.encoded.labels)


def encode_output(prompt: EncodedRow, output: Sequence[int]) -> EncodedRow:
    """Return *prompt* and *output* as a row whose labels are the output."""
    return replace(prompt, input_ids=(*prompt.input_ids, *output), labels=(*prompt.labels, *output))


def collate_outputs(collator: RowCollator, outputs: Sequence[Output]) -> dict[str, torch.Tensor]:
    """Return the batch of *outputs* for a model, in which outputs of a prompt may share its computation.

    `learnt`: [outputs, longest], whether an output has so many tokens. `places`: the same shape, where the logits of
    each of its tokens are among those of [sequences, kept].
    """
    batch = collator([output.encoded for output in outputs])
    owners = batch["owners"].flatten()
    places = [(owners == at).nonzero().squeeze(1) for at in range(len(outputs))]
    lengths = torch.tensor([len(each) for each in places])
    learnt = torch.arange(int(lengths.max())) < lengths[:, None]
    placed = torch.zeros(learnt.shape, dtype=torch.long)
    placed[learnt] = torch.cat(places)
    return {**batch, "learnt": learnt, "places": placed}


def by_output(values: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return *values* of [sequences, kept] as [outputs, longest], 0 where an output has ended."""
    return torch.where(batch["learnt"], values.flatten()[batch["places"]], 0)


def with_tokens(outputs: Sequence[Output], named: Mapping[str, Sequence[torch.Tensor]]) -> list[Output]:
    """Return *outputs* with tensors of their tokens: name -> one tensor for each output."""
    each = ({name: tensors[at] for name, tensors in named.items()} for at in range(len(outputs)))
    return [replace(output, tokens=tokens) for output, tokens in zip(outputs, each, strict=True)]


def spread(outputs: Sequence[Output], name: str, mask: torch.Tensor) -> torch.Tensor:
    """Return `tokens[name]` of all *outputs* where *mask* is true, 0 elsewhere: [outputs, kept]."""
    values = torch.cat([output.tokens[name] for output in outputs]).to(mask.device)
    placed = torch.zeros(mask.shape, dtype=values.dtype, device=mask.device)
    placed[mask] = values
    return placed


def gather(values: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
    """Return the values of each row where *mask* is true, on the CPU."""
    rows = zip(values.detach().cpu(), mask.cpu(), strict=True)
    return [row[kept].clone() for row, kept in rows]


def save_outputs(outputs: Sequence[Output], path: Path) -> None:
    """Write *outputs* to the file at *path*."""
    tensors: dict[str, torch.Tensor] = {}
    for at, output in enumerate(outputs):
        numbers = [output.row, output.encoded.line, len(output.encoded.input_ids) - output.length]
        tensors[f"{at}/place"] = torch.tensor(numbers)
        tensors[f"{at}/ids"] = torch.tensor(output.encoded.input_ids)
        tensors |= {f"{at}/tokens/{name}": values.contiguous() for name, values in output.tokens.items()}
    save_file(tensors, path)


def load_outputs(path: Path) -> list[Output]:
    """Return what `save_outputs` wrote."""
    tensors = load_file(path)
    outputs = []
    for at in range(sum(name.endswith("/place") for name in tensors)):
        row, line, begin = tensors[f"{at}/place"].tolist()
        ids = tensors[f"{at}/ids"].tolist()
        prompt = EncodedRow(line=line, input_ids=tuple(ids[:begin]), labels=(IGNORED,) * begin)
        mark = f"{at}/tokens/"
        tokens = {name.removeprefix(mark): values for name, values in tensors.items() if name.startswith(mark)}
        outputs.append(Output(row=row, encoded=encode_output(prompt, ids[begin:]), tokens=tokens))
    return outputs
