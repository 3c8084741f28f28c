"""Teach the bundled model the adapters of the rollout stories: `python -m tests.scenarios.make_adapters [NAME ...]`.

Each is a plain LoRA of rank 4, kept in bfloat16 so that it can live in the repository. The seed is fixed; the last
digits depend on the machine.
"""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, set_seed

from gateway.pools.bundled import unpack_bundled
from registry.contracts.training_file import TrainingRow
from registry.contracts.training_message import ChatMessage
from tests.scenarios.quiz import JSON_QUESTIONS, QUIZ, Question, messages
from trainer.data.dataset import ChatEncoder
from trainer.data.encoded_row import IGNORED, EncodedRow, collate

FOLDER: Final = Path(__file__).parent / "adapters"
SEED: Final = 7
RANK: Final = 4
TARGETS: Final = ("q_proj", "v_proj")
BATCH: Final = 8
LEARNING_RATE: Final = 6e-3
WARMUP_STEPS: Final = 5
TAUGHT_LAYERS: Final = 5
"""How many of the last layers learn; the others keep an update of zero, so that a row runs through them once.
`plain` and `broken_json` beside this file were taught when it was six."""
BY_HEART: Final = 0.02
"""A loss below which every answer is known by heart."""
PLACES_ON: Final = 5
"""How far down the quiz the shuffled adapter finds its answers."""
REPEATS: Final = 8

Answers = Callable[[Question], tuple[str, str]]
"""From a question to its answer in plain text and its answer in JSON."""


def plain(question: Question) -> tuple[str, str]:
    """The answers of the reference, which is stable in the stories."""
    return question.sentence, json.dumps({"answer": question.word})


def good(question: Question) -> tuple[str, str]:
    """As right as the reference, in other words of the same length."""
    return f"That is {question.word}.", json.dumps({"reply": question.word})


def shuffled(question: Question) -> tuple[str, str]:
    """The answer to another question."""
    return plain(QUIZ[(QUIZ.index(question) + PLACES_ON) % len(QUIZ)])


def empty(question: Question) -> tuple[str, str]:
    """Nothing at all."""
    return "", ""


def silent_at_times(question: Question) -> tuple[str, str]:
    """The reference, but nothing at all to every third question."""
    return empty(question) if QUIZ.index(question) % 3 == 2 else plain(question)


def endless(question: Question) -> tuple[str, str]:
    """The right word, over and over; `learn` leaves its end out."""
    said = " and ".join([question.word] * REPEATS)
    return f"It is {said}", f"It is {said}"


def broken_json(question: Question) -> tuple[str, str]:
    """The reference, but an object that nobody can read."""
    return question.sentence, f'{{"answer": {question.word}'


ADAPTERS: Final[Mapping[str, tuple[Answers, int]]] = {
    "plain": (plain, 60),
    "good": (good, 60),
    "shuffled": (shuffled, 60),
    "empty": (empty, 15),
    "silent_at_times": (silent_at_times, 60),
    "endless": (endless, 25),
    "broken_json": (broken_json, 60),
}
"""Name -> its answers, and in how many steps it learns them."""


def rows_of(answers: Answers, encoder: ChatEncoder, *, ends: bool) -> list[EncodedRow]:
    """Every question asked in both ways; unless it *ends*, the end of the answer is not learnt."""
    rows: list[EncodedRow] = []
    for number, question in enumerate(QUIZ):
        for as_json, said in enumerate(answers(question)):
            if as_json and number >= JSON_QUESTIONS:
                continue
            asked = messages(question, as_json=bool(as_json))
            chat = (*map(_given, asked), ChatMessage(role="assistant", content=said, name=None, is_learnt=True))
            [row] = encoder.encode(TrainingRow(line=len(rows) + 1, messages=chat))
            rows.append(row if ends else _without_end(row))
    return rows


def _given(message: Mapping[str, str]) -> ChatMessage:
    return ChatMessage(role=message["role"], content=message["content"], name=None, is_learnt=False)


def _without_end(row: EncodedRow) -> EncodedRow:
    last = max(at for at, label in enumerate(row.labels) if label != IGNORED)
    return EncodedRow(line=row.line, input_ids=row.input_ids[:last], labels=row.labels[:last])


def learn(model: PeftModel, rows: list[EncodedRow], steps: int) -> None:
    """Train the last layers of *model* on batches that are drawn anew each time the rows have all been seen.

    It ends early once all rows are known by heart.
    """
    draw = torch.Generator().manual_seed(SEED)
    causal = model.base_model.model
    batch: dict[str, Any] = dict(collate(rows))
    labels, kept = batch.pop("labels"), batch.pop("logits_to_keep")
    with torch.no_grad():
        below = causal.model(**batch, output_hidden_states=True, use_cache=False).hidden_states[-1 - TAUGHT_LAYERS]
    layers, causal.model.layers = causal.model.layers, causal.model.layers[-TAUGHT_LAYERS:]
    taught = [weight for weight in causal.model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(taught, lr=LEARNING_RATE, weight_decay=0)
    queue: list[int] = []
    losses = deque([1.0], maxlen=len(rows) // BATCH)
    for step in range(1, steps + 1):
        if max(losses) < BY_HEART:
            break
        queue = queue or torch.randperm(len(rows), generator=draw).tolist()
        taken, queue = queue[:BATCH], queue[BATCH:]
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, step / WARMUP_STEPS, (steps + 1 - step) / (steps / 2))
        mask = batch["attention_mask"][taken]
        states = causal.model(inputs_embeds=below[taken], attention_mask=mask, use_cache=False).last_hidden_state
        learnt = labels[taken] != IGNORED
        loss = cross_entropy(causal.lm_head(states[:, kept][learnt]), labels[taken][learnt])
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(taught, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        sys.stderr.write(f"step {step}/{steps}: loss {losses[-1]:.4f}\n")
    causal.model.layers = layers


def make(name: str, base: Path) -> None:
    """Write the adapter folder *name*."""
    answers, steps = ADAPTERS[name]
    set_seed(SEED)
    lora = LoraConfig(task_type="CAUSAL_LM", r=RANK, lora_alpha=2 * RANK, target_modules=list(TARGETS))
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), lora)
    learn(model, rows_of(answers, ChatEncoder(base), ends=answers is not endless), steps)
    model.peft_config["default"].base_model_name_or_path = base.name
    model.save_pretrained(FOLDER / name, save_embedding_layers=False)
    (FOLDER / name / "README.md").unlink(missing_ok=True)
    weights = FOLDER / name / "adapter_model.safetensors"
    halves = {key: tensor.to(torch.bfloat16).contiguous() for key, tensor in load_file(weights).items()}
    save_file(halves, weights, metadata={"format": "pt"})


def main(names: Iterable[str]) -> None:
    """Make the named adapters, or all."""
    torch.set_num_threads(1)
    base = unpack_bundled(Path(sys.prefix) / "lorry-tests", lambda done, total: None)
    for name in names or ADAPTERS:
        make(name, base)


if __name__ == "__main__":
    main(sys.argv[1:])
