"""Processor time of a pass of rows padded, packed and with shared beginnings, beside what the rule of packing expects.

    python bench/training/packing_cost.py FOLDER | wide [--rounds 3] [--only 4x400]

FOLDER is a base model; `wide` is a random Llama of another shape. Forward and backward with LoRA on one thread; the
least of all rounds, in parts of the padded pass. The rule expects what stands after "rule".
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).parents[2]))

from trainer.data.encoded_row import IGNORED, EncodedRow, collate
from trainer.data.packing import lay_out, model_inputs, pack, share, token_work, work_of
from trainer.training.loss import summed_cross_entropy

TARGETS: Final = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CASES: Final[Mapping[str, tuple[int, int, Sequence[int]]]] = {
    "4x55, 30 shared": (4, 30, (20, 28, 22, 30)),
    "8x55, 30 shared": (8, 30, (20, 28, 22, 30)),
    "8x15 to 65, 5 shared": (8, 5, (10, 60, 20, 40)),
    "2x300, 240 shared": (2, 240, (60,)),
    "4x120, 20 shared": (4, 20, (100,)),
    "4x200, 60 shared": (4, 60, (140,)),
    "8x200, 30 shared": (8, 30, (170,)),
    "4x400, 30 shared": (4, 30, (370,)),
}
"""Rows, tokens that all of them begin with, and further tokens of each row, the last third of them learnt."""


def main() -> None:
    """Measure each case and print a row of a table for it."""
    args = _arguments()
    torch.set_num_threads(1)
    model = _model(args.model)
    work = token_work(model.config)
    sys.stdout.write(f"{'rows':24}{'padded s':>10}{'packed':>10}{'rule':>8}{'shared':>10}{'rule':>8}\n")
    for name, case in CASES.items():
        if args.only in name:
            rows = _rows(*case)
            batches = {
                "padded": collate(rows),
                "packed": lay_out(rows, pack(rows)),
                "shared": lay_out(rows, share(rows)),
            }
            padded, *measured = _seconds(model, list(batches.values()), args.rounds)
            shapes = [batch["input_ids"].shape for batch in batches.values()]
            full, *expected = [work_of(shape[0], shape[1], work) for shape in shapes]
            pairs = zip(measured, expected, strict=True)
            told = "".join(f"{seconds / padded:10.2f}{units / full:8.2f}" for seconds, units in pairs)
            sys.stdout.write(f"{name:24}{padded:10.2f}{told}\n")
            sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder of a base model, or wide")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="cases whose names contain this")
    return parser.parse_args()


def _model(name: str) -> PeftModel:
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=32_000,
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=6,
        num_attention_heads=16,
        num_key_value_heads=8,
    )
    base = (
        LlamaForCausalLM(shape)
        if name == "wide"
        else AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32, local_files_only=True)
    )
    return get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=16, target_modules=TARGETS)).train()


def _rows(count: int, shared: int, lengths: Sequence[int]) -> list[EncodedRow]:
    chance = random.Random(0)
    beginning = chance.choices(range(3, 30_000), k=shared)
    rows = []
    for at in range(count):
        own = chance.choices(range(3, 30_000), k=lengths[at % len(lengths)])
        learnt = len(own) // 3
        labels = (*[IGNORED] * (shared + len(own) - learnt), *own[-learnt:])
        rows.append(EncodedRow(line=at, input_ids=(*beginning, *own), labels=labels))
    return rows


def _seconds(model: PeftModel, batches: Sequence[Mapping[str, torch.Tensor]], rounds: int) -> list[float]:
    """Return the least processor time of a pass of each batch; the batches alternate."""
    found: list[list[float]] = [[] for _ in batches]
    for _ in range(rounds):
        for times, batch in zip(found, batches, strict=True):
            began = time.process_time()
            torch.autograd.backward(summed_cross_entropy(model(**model_inputs(batch)).logits, batch["labels"]))
            times.append(time.process_time() - began)
            model.zero_grad()
    return [min(times) for times in found]


if __name__ == "__main__":
    main()
