"""Kahneman-Tversky optimization (KTO): make good answers likelier than the reference has them, and bad ones less."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import torch
from accelerate.utils import send_to_device
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from registry.contracts.methods.kto_spec import KtoSpec
from registry.contracts.preference_lines import RatedRow
from registry.contracts.training_formats import RATED_CHATS, LineFormat, TrainingLine, read_lines
from trainer.data.dataset import ChatEncoder
from trainer.data.encoded_row import IGNORED, EncodedRow
from trainer.data.fitting_rows import FittingRows, row_limits
from trainer.data.packing import RowCollator
from trainer.order import ChildOrder
from trainer.progress import Noted, RecipeFinished, RecipeStopped, Report, StopAsked
from trainer.recipes import MakeObjective, Recipe
from trainer.training.evaluating import evaluating
from trainer.training.objective import Batch, Objective
from trainer.training.preferences.answers import answer_logprobs, collate_answers
from trainer.training.preferences.figures import RatedTally, ScoredRatings
from trainer.training.preferences.losses import KtoWeights, kto_kl, kto_losses
from trainer.training.preferences.reference import Reference
from trainer.training.run import run_training

BALANCE: Final = (1.0, 4 / 3)
"""Section 4.2 of the paper: good answers should count so many times as much as bad ones, in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedRating:
    """A rated answer as tokens."""

    number: int
    """From 1; distinguishes it from every other row of the job."""
    answer: EncodedRow
    mismatched: EncodedRow
    """The same prompt with the answer of another row, for the estimate of the KL divergence."""
    is_desirable: bool


class KtoObjective(Objective[EncodedRating]):
    """Mean of `kto_losses`; a reward is beta times the log ratio to the reference."""

    formats: ClassVar[tuple[LineFormat[TrainingLine], ...]] = (RATED_CHATS,)

    def __init__(self, encoder: ChatEncoder, spec: KtoSpec, report: Report) -> None:
        super().__init__(encoder, row_limits(spec))
        self._spec = spec
        self._report = report
        self._weights = KtoWeights(desirable=spec.desirable_weight, undesirable=spec.undesirable_weight)
        self._collator = RowCollator(packing=None)
        self._reference = Reference(answers_per_row=1)
        self._tally = RatedTally()
        self._kl = torch.tensor(0.0)
        self._rows = 0

    def encode_rows(self, path: Path, param: str, fitting: FittingRows) -> Sequence[EncodedRating]:
        """Return the rated answers as tokens, each with the answer of another row beside it."""
        length = self._spec.max_length

        def encode(row: RatedRow) -> list[EncodedRow]:
            return fitting.fit(self.encoder.encode(row.chat, fitting.longest_labelled))

        with path.open("rb") as lines:
            read = fitting.encode(read_lines(lines, (RATED_CHATS,)), encode)
        labels = [row.is_desirable for row, _ in read]
        if param == "training_file" and (remark := remark_on_balance(labels, self._weights)):
            self._report(Noted(message=remark, level="warn"))
        # Only the last answer is learnt, so each chat is one row.
        answers = [rows[0] for _, rows in read]
        others = _others(len(answers), self._spec.seed)
        self._rows += len(answers)
        return [
            EncodedRating(
                number=self._rows - at,
                answer=answer,
                mismatched=mismatched_row(answer, answers[others[at]], length),
                is_desirable=labels[at],
            )
            for at, answer in enumerate(answers)
        ]

    def prepare(self, model: PreTrainedModel | PeftModel, rows: Sequence[EncodedRating]) -> None:
        """Take the untrained model as the reference; lay out rows as it allows."""
        self._collator.fit(model, dropout=self._spec.lora.dropout)
        batches = self.batches(rows, self._spec.rows_at_once())
        self._reference.prepare(model, self._spec, _halves(batches), self.processes)

    def collate(self, rows: Sequence[EncodedRating]) -> Batch:
        """Return the batch of the answers; below `mismatched` the batch of the same prompts with other answers."""
        numbers = torch.tensor([row.number for row in rows])
        return {
            **collate_answers(self._collator, [[row.answer] for row in rows]),
            "row_ids": numbers,
            "is_desirable": torch.tensor([row.is_desirable for row in rows]),
            "mismatched": {
                **collate_answers(self._collator, [[row.mismatched] for row in rows]),
                "row_ids": -numbers,
            },
        }

    def count_items(self, batches: Sequence[Batch]) -> int:
        """Return the number of answers."""
        return sum(len(batch["row_ids"]) for batch in batches)

    def begin_step(self, model: torch.nn.Module, batches: Sequence[Batch]) -> None:
        """Estimate the KL divergence over all rows of the step, so that it depends on no passes and processes."""
        self._reference.begin_step(model, [*_halves(batches)], self.processes)
        with self.processes.whole():
            ratios = self._mismatched_ratios(model, batches)
        summed = torch.stack([ratios.sum(), torch.tensor(float(len(ratios)), device=ratios.device)])
        total, count = self.processes.total(summed)
        self._kl = kto_kl((total / count)[None])

    def loss(self, model: torch.nn.Module, batch: Batch, items: torch.Tensor | int) -> torch.Tensor:
        """Return the sum of the losses of one pass, divided by the answers of the whole step."""
        scored = self._score(model, batch, self._kl)
        self._tally.add(scored)
        return scored.losses.sum() / items

    def pop_figures(self) -> Mapping[str, float]:
        """Return the mean rewards by label, their difference, and the estimate of the KL divergence."""
        tally, self._tally = RatedTally(self.processes.summed(self._tally.sums)), RatedTally()
        return {f"train_{name}": value for name, value in (*tally.means().items(), ("kl", float(self._kl)))}

    def measure(self, model: torch.nn.Module, rows: Sequence[EncodedRating], rows_at_once: int) -> Mapping[str, float]:
        """Return mean loss, mean rewards by label and the estimate of the KL divergence over *rows*."""
        device = next(model.parameters()).device
        batches = [*self.batches(rows, rows_at_once)]
        kl = kto_kl(self._mismatched_ratios(model, batches))
        tally = RatedTally()
        for batch in batches:
            tally.add(self._score(model, send_to_device(batch, device), kl))
        return {"loss": tally.loss, **tally.means(), "kl": float(kl)}

    def save_state(self, folder: Path) -> None:
        """Write the logprobs of the reference."""
        if self.processes.is_first:
            self._reference.save(folder)

    def load_state(self, folder: Path) -> None:
        """Read the logprobs of the reference."""
        self._reference.load(folder)

    def _mismatched_ratios(self, model: torch.nn.Module, batches: Sequence[Batch]) -> Tensor:
        """Return the log ratios of the answers to other prompts, [rows]."""
        device = next(model.parameters()).device
        with evaluating(model):
            ratios = [self._log_ratios(model, send_to_device(batch["mismatched"], device)) for batch in batches]
        return torch.cat([torch.zeros(0, device=device), *ratios])

    def _score(self, model: torch.nn.Module, batch: Batch, kl: Tensor) -> ScoredRatings:
        ratios, beta = self._log_ratios(model, batch), self._spec.beta
        losses = kto_losses(ratios, kl, batch["is_desirable"], beta, self._weights)
        return ScoredRatings(losses=losses, rewards=beta * ratios.detach(), is_desirable=batch["is_desirable"])

    def _log_ratios(self, model: torch.nn.Module, batch: Batch) -> Tensor:
        reference = self._reference.logprobs(model, batch)
        return answer_logprobs(model, batch, len(reference)).sums - reference


def _halves(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield the batches of the answers, and those of the same prompts with other answers."""
    for batch in batches:
        yield from (batch, batch["mismatched"])


def mismatched_row(row: EncodedRow, other: EncodedRow, longest: int) -> EncodedRow:
    """Return the prompt of *row* with the answer of *other*, cut where the row would exceed *longest* tokens."""
    prompt = row.input_ids[: next(at for at, label in enumerate(row.labels) if label != IGNORED)]
    answer = tuple(label for label in other.labels if label != IGNORED)[: max(1, longest - len(prompt))]
    return EncodedRow(line=row.line, input_ids=prompt + answer, labels=(IGNORED,) * len(prompt) + answer)


def remark_on_balance(labels: Sequence[bool], weights: KtoWeights) -> str | None:
    """Return what is unbalanced about the labels and how to mend it; None if they are balanced by their weights."""
    good = sum(labels)
    bad = len(labels) - good
    if not good or not bad:
        return f"All {len(labels)} answers are {'good' if good else 'bad'}: nothing shows what to move away from or to"
    least, most = (weights.desirable * good / (bad * share) for share in reversed(BALANCE))
    if least <= weights.undesirable <= most:
        return None
    return (
        f"{good} good and {bad} bad answers: the method's authors advise an undesirable_weight from {least:.2f} to "
        f"{most:.2f} with the desirable_weight {weights.desirable:g}"
    )


def _others(rows: int, seed: int) -> list[int]:
    """Return another row for each, drawn by *seed* once for the job, so that neighbours in the file are no pair."""
    order = list(range(rows))
    random.Random(seed).shuffle(order)  # noqa: S311 - no secret
    following = dict(zip(order, [*order[1:], *order[:1]], strict=True))
    return [following[at] for at in range(rows)]


def objective_of(order: ChildOrder[KtoSpec], report: Report, encoder: ChatEncoder | None = None) -> KtoObjective:
    """Return the objective of *order*, with an *encoder* for its base model that others use too, if there is one."""
    return KtoObjective(encoder or ChatEncoder(order.base_path), order.spec, report)


def train(order: ChildOrder[KtoSpec], report: Report, stop_asked: StopAsked) -> RecipeFinished | RecipeStopped:
    """Train on the rated chats of the order's training file."""
    return run_training(order, objective_of(order, report), report, stop_asked)


OBJECTIVE: Final[MakeObjective] = objective_of
RECIPE: Final[Recipe] = train
