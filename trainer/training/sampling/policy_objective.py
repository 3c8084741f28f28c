"""The parts that the methods which sample outputs of the trained model share: prompts, sampling, grading, figures."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, TypeVar

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from graders.grade import Grade, Sample
from registry.contracts.methods.sampling_options import SamplingSpec
from registry.contracts.prompt_lines import PromptRow
from registry.contracts.training_formats import PROMPTS, LineFormat, TrainingLine, read_lines
from registry.errors import TrainingFileInvalid
from trainer.data.dataset import ChatEncoder
from trainer.data.encoded_row import IGNORED, EncodedRow
from trainer.data.fitting_rows import FittingRows, row_limits
from trainer.data.packing import RowCollator, model_inputs
from trainer.training.evaluating import evaluating
from trainer.training.objective import Batch, Objective
from trainer.training.sampling.outputs import Asked, SamplingPlan, sample_outputs
from trainer.training.sampling.policy_loss import kl_estimates, token_logps
from trainer.training.sampling.rewarding import Rewarder, mean_rewards
from trainer.training.sampling.rollouts import (
    Output,
    by_output,
    collate_outputs,
    encode_output,
    gather,
    load_outputs,
    save_outputs,
)

STATE: Final = "sampling.json"
OUTPUTS: Final = "outputs.safetensors"

Spec = TypeVar("Spec", bound=SamplingSpec)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A prompt as tokens, ready for the answer."""

    place: int
    """The row's place among the rows of its file that fit."""
    encoded: EncodedRow
    messages: Sequence[Mapping[str, Any]]
    item: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """The grades of outputs."""

    all: Sequence[Grade]
    """The number in all processes."""
    own: Sequence[Grade]
    """The values of this process, in the order of its outputs."""


class PolicyObjective(Objective[Prompt], Generic[Spec]):
    """Samples outputs when a step begins, grades them, and learns from them for `iterations` steps.

    `count_items` is called once for each step, before its passes, with all of its prompts; so that is where outputs are
    sampled: the divisor of the step may be the number of their tokens.
    """

    is_cheap_to_measure: ClassVar[bool] = False  # each measure samples outputs
    formats: ClassVar[tuple[LineFormat[TrainingLine], ...]] = (PROMPTS,)

    def __init__(self, encoder: ChatEncoder, spec: Spec, rewarder: Rewarder) -> None:
        super().__init__(encoder, row_limits(spec))
        self.spec = spec
        self._rewarder = rewarder
        self._collator = RowCollator(packing=None)
        self._model: Any = None
        self._prompts: dict[int, Prompt] = {}
        """Place -> prompt, of all that a batch had so far: a batch may be collated long before its step begins."""
        self._steps = 0
        """Steps that have begun."""
        self._outputs: dict[int, list[Output]] = {}
        """Place of a prompt -> its outputs of the current step."""
        self.figures: dict[str, float] = {}
        self.sums: dict[str, float] = {}
        """Sums over the passes of a step, divided by `tokens` for the figures."""

    @abstractmethod
    def judged(self, outputs: Sequence[Output], rewards: torch.Tensor) -> Sequence[Output]:
        """Return *outputs*, prompt by prompt, with their advantages. *rewards*: [prompts, outputs of each]."""

    @abstractmethod
    def pass_loss(self, model: torch.nn.Module, outputs: Sequence[Output], batch: Batch) -> torch.Tensor:
        """Return the summed loss of *outputs*, of which *batch* has the tokens."""

    @abstractmethod
    def count(self, outputs: Sequence[Output]) -> int:
        """Return the divisor of a step with these outputs."""

    def encode_rows(self, path: Path, param: str, fitting: FittingRows) -> Sequence[Prompt]:
        """Return the prompts; a grader's field that a line lacks is a fault of the line."""
        wanted = sorted(self.spec.grader.item_fields())

        def encode(line: PromptRow) -> Prompt:
            missing = [name for name in wanted if name not in line.item]
            if missing:
                raise TrainingFileInvalid(f"line {line.line}: has no field {missing[0]!r}, which the grader reads")
            messages = [message.as_template_input() for message in line.messages]
            ids = tuple(self.encoder.open_answer(messages, line.line))
            [encoded] = fitting.fit([EncodedRow(line=line.line, input_ids=ids, labels=(IGNORED,) * len(ids))])
            return Prompt(place=0, encoded=encoded, messages=messages, item=line.item)

        with path.open("rb") as lines:
            kept = fitting.encode(read_lines(lines, (PROMPTS,)), encode)
        return [replace(prompt, place=at) for at, (_, prompt) in enumerate(kept)]

    def prepare(self, model: PreTrainedModel | PeftModel, rows: Sequence[Prompt]) -> None:
        """Try the grader, and keep the model to sample from."""
        if self.processes.is_first:  # the only one to grade
            self._rewarder.check()
        self._collator.fit(model, dropout=self.spec.lora.dropout)
        self._model = model

    def collate(self, rows: Sequence[Prompt]) -> Batch:
        """Return the prompts of one pass."""
        self._prompts |= {row.place: row for row in rows}
        longest = max(len(row.encoded.input_ids) for row in rows)
        ids = [[*row.encoded.input_ids, *[0] * (longest - len(row.encoded.input_ids))] for row in rows]
        mask = [[at < len(row.encoded.input_ids) for at in range(longest)] for row in rows]
        places = torch.tensor([row.place for row in rows])
        return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask).long(), "places": places}

    def count_items(self, batches: Sequence[Batch]) -> int:
        """Begin a step: sample and grade outputs unless those of the last step serve again; return the divisor."""
        places = [place for batch in batches for place in batch["places"].tolist()]
        if self._steps % self.spec.iterations == 0:
            with self.processes.whole():
                self._sample_step([self._prompts[place] for place in places])
        self._steps += 1
        return self.count([output for place in dict.fromkeys(places) for output in self._outputs[place]])

    def count_tokens(self, batch: Batch) -> int:
        """Return the tokens of the outputs of one pass, each with its prompt."""
        return sum(len(output.encoded.input_ids) for output in self._outputs_of(batch))

    def loss(self, model: torch.nn.Module, batch: Batch, items: torch.Tensor | int) -> torch.Tensor:
        """Return the summed loss of the outputs of one pass, divided by the items of the step."""
        outputs = self._outputs_of(batch)
        tokens = self._tokens(outputs)
        return self.pass_loss(model, outputs, tokens) / items

    def pop_figures(self) -> Mapping[str, float]:
        """Return rewards and lengths of the outputs, and what was summed over the passes."""
        sums, self.sums = self.processes.summed(self.sums), {}
        tokens = sums.pop("tokens", 0.0)
        summed = {name: value / tokens for name, value in sums.items() if tokens}
        return self.figures | summed

    def measure(self, model: torch.nn.Module, rows: Sequence[Prompt], rows_at_once: int) -> Mapping[str, float]:
        """Return the mean reward of new outputs for *rows*; `loss` is the reward with its sign changed."""
        own = rows[self.processes.rank :: self.processes.size]
        with self.processes.whole():
            found = self._sample(own, self.spec.eval_samples, "evaluation")
        means = mean_rewards(self._grade(own, found, "an evaluation").all)
        return {"loss": -means["mean_reward"], **means}

    def save_state(self, folder: Path) -> None:
        """Write the count of steps, and outputs that later steps use."""
        every = self.processes.gathered([output for outputs in self._outputs.values() for output in outputs])
        if self.processes.is_first:
            (folder / STATE).write_text(json.dumps({"steps": self._steps, "figures": self.figures}))
            save_outputs([output for outputs in every for output in outputs], folder / OUTPUTS)

    def load_state(self, folder: Path) -> None:
        """Read what `save_state` wrote."""
        state = json.loads((folder / STATE).read_text())
        self._steps, self.figures = state["steps"], state["figures"]
        self._keep(load_outputs(folder / OUTPUTS))

    def reference_logps(self, outputs: Sequence[Output]) -> list[torch.Tensor]:
        """Return log p of each output's tokens by the base model."""
        with self._model.disable_adapter():
            return self._logps(outputs)

    def policy_logps(self, outputs: Sequence[Output]) -> list[torch.Tensor]:
        """Return log p of each output's tokens by the model as it is."""
        return self._logps(outputs)

    def logps(self, model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, Any]:
        """Return log p of the tokens of *batch*, [outputs, longest], and the model's whole answer."""
        answer = model(**model_inputs(batch), **self.asks())
        return by_output(token_logps(answer.logits, batch["labels"], self.spec.temperature), batch), answer

    def asks(self) -> Mapping[str, Any]:
        """Return what the method wants of the model beside the logits."""
        return {}

    def add_kl(self, logps: torch.Tensor, reference: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the estimates of the KL divergence at each token, and count them for the figures."""
        estimates = kl_estimates(logps, reference)
        self.add("kl", estimates, mask)
        return estimates

    def add(self, name: str, values: torch.Tensor, mask: torch.Tensor) -> None:
        """Count *values* of tokens for the figure *name*."""
        self.sums[name] = self.sums.get(name, 0.0) + float(values.detach()[mask].sum())

    def passes(self, outputs: Sequence[Output]) -> Iterator[tuple[Sequence[Output], Batch]]:
        """Yield *outputs* in the portions that go through the model at once, without a gradient."""
        at_once = self.spec.rows_at_once() * self.spec.group_size
        with evaluating(self._model):
            for at in range(0, len(outputs), at_once):
                portion = outputs[at : at + at_once]
                yield portion, self._tokens(portion)

    def _sample_step(self, prompts: Sequence[Prompt]) -> None:
        occasion = f"step {self._steps + 1}"
        found = self._sample(prompts, self.spec.group_size, occasion)
        grades = self._grade(prompts, found, occasion)
        outputs = [
            Output(row=prompt.place, encoded=encode_output(prompt.encoded, ids), tokens={})
            for prompt, group in zip(prompts, found, strict=True)
            for ids in group
        ]
        self.figures = self._figures_of(grades.all, outputs)
        if not self.figures["reward_deviation"]:
            self._rewarder.warn_of_equal_rewards(occasion)
        rewards = torch.tensor([grade.reward for grade in grades.own]).view(len(prompts), self.spec.group_size)
        self._outputs = {}
        self._keep(self.judged(outputs, rewards))

    def _outputs_of(self, batch: Batch) -> list[Output]:
        return [output for place in batch["places"].tolist() for output in self._outputs[place]]

    def _keep(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            self._outputs.setdefault(output.row, []).append(output)

    def _figures_of(self, grades: Sequence[Grade], outputs: Sequence[Output]) -> dict[str, float]:
        """Return the figures of a step whose outputs, of all processes, have *grades*; *outputs* are the own ones."""
        ended = [output.encoded.input_ids[-1] in self.encoder.end_ids for output in outputs]
        sums = {"outputs": len(outputs), "tokens": sum(output.length for output in outputs), "ended": sum(ended)}
        every = self.processes.summed(sums)
        return {
            **{f"train_{name}": value for name, value in mean_rewards(grades).items()},
            "reward_deviation": float(torch.tensor([grade.reward for grade in grades]).std(correction=0)),
            "completion_tokens": every["tokens"] / every["outputs"],
            "ended": every["ended"] / every["outputs"],
        }

    def _grade(self, prompts: Sequence[Prompt], found: Sequence[Sequence[Sequence[int]]], occasion: str) -> Graded:
        """Return the grades of the outputs that all processes *found*; the first process grades them."""
        samples = [
            Sample(output_text=self.encoder.read_output(ids), item=prompt.item, messages=tuple(prompt.messages))
            for prompt, group in zip(prompts, found, strict=True)
            for ids in group
        ]
        every = self.processes.gathered(samples)
        together = [sample for one in every for sample in one]
        grades = self.processes.from_first(lambda: self._rewarder.grade(together, occasion))
        first = sum(len(one) for one in every[: self.processes.rank])
        return Graded(all=grades, own=grades[first : first + len(samples)])

    def _sample(self, prompts: Sequence[Prompt], outputs: int, occasion: str) -> list[list[tuple[int, ...]]]:
        plan = SamplingPlan(
            outputs=outputs,
            most_tokens=self.spec.max_completion_tokens,
            temperature=self.spec.temperature,
            end_ids=self.encoder.end_ids,
            seed=self.spec.seed,
        )
        asked = [Asked(key=f"{occasion}/{prompt.place}", ids=prompt.encoded.input_ids) for prompt in prompts]
        return sample_outputs(self._model, asked, plan)

    def _tokens(self, outputs: Sequence[Output]) -> Batch:
        device = next(self._model.parameters()).device
        return {name: tensor.to(device) for name, tensor in collate_outputs(self._collator, outputs).items()}

    def _logps(self, outputs: Sequence[Output]) -> list[torch.Tensor]:
        found: list[torch.Tensor] = []
        for _, batch in self.passes(outputs):
            logps, _ = self.logps(self._model, batch)
            found += gather(logps, batch["learnt"])
        return found
