"""How far adapters of a full base are from their fingerprints on quantized ones, and whether wrong ones are caught.

    python bench/engine/quantized_proofs.py --base FOLDER --quantized FOLDER ... [--adapters FOLDER] [--steps 25]

Trains three adapters on the full base (kept in the folder of adapters), records their fingerprints as the trainer does,
and replays them on each base folder by the transformers engine: each adapter, then the base alone, another adapter, and
the adapter at half its scaling in its place.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoTokenizer

sys.path.insert(0, str(Path(__file__).parents[2]))

from engines.catalog import build_engine
from engines.proving.fingerprint import prove, tolerance_of
from engines.proving.proof import Proof
from engines.settings import EngineSettings
from gateway.pools.pools import precision_of
from tests.trainer_side import TrainerSide
from trainer.training.base_model import load_base

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
TRAINED: Final = {"support": (16, 1e-3), "questions": (8, 5e-4), "plain": (32, 2e-4)}
"""Name of an adapter and of its file of chats -> rank and learning rate."""
ROWS: Final = 4
LONGEST: Final = 160


def main() -> None:
    """Print a line for each adapter, base and fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--quantized", type=Path, nargs="*", default=[])
    parser.add_argument("--adapters", type=Path)
    parser.add_argument("--steps", type=int, default=25)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        folder = options.adapters or Path(made)
        for name in TRAINED:
            if not (folder / name / "fingerprint.json").exists():
                train(options.base, folder / name, name, options.steps)
        TrainerSideOnce(options.base).record_all(folder)
        print("| base | adapter | mean | largest | effect | base alone | another adapter | at half |")
        print("|---|---|---|---|---|---|---|---|")
        for base in (options.base, *options.quantized):
            asyncio.run(replay(base, folder))


class TrainerSideOnce:
    """The trainer's side, loaded only where a fingerprint is missing."""

    def __init__(self, base: Path) -> None:
        self._base = base

    def record_all(self, folder: Path) -> None:
        """Record the fingerprints that are missing, and write the adapters at half their scaling."""
        missing = [name for name in TRAINED if not (folder / name / "fingerprint.json").exists()]
        side = TrainerSide(self._base) if missing else None
        for name in TRAINED:
            if side is not None and name in missing:
                side.record(folder / name, folder / name)
            half = folder / f"{name}-half"
            shutil.rmtree(half, ignore_errors=True)
            shutil.copytree(folder / name, half)
            settings = json.loads((half / "adapter_config.json").read_text())
            settings["lora_alpha"] = settings["lora_alpha"] / 2
            (half / "adapter_config.json").write_text(json.dumps(settings))


def train(base: Path, target: Path, name: str, steps: int) -> None:
    """Train a LoRA adapter on the chats of an example file."""
    rank, rate = TRAINED[name]
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    model: PeftModel = get_peft_model(
        load_base(base), LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=rate)
    batches = rows_of(EXAMPLES / f"{name}.jsonl", tokenizer)
    for _ in range(steps):
        ids, mask = next(batches)
        loss = model(input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    print(f"trained {name}: loss {float(loss.detach()):.2f}", file=sys.stderr)
    model.save_pretrained(target)


def rows_of(file: Path, tokenizer: object) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches of padded chats without end."""
    lines = cycle([chat_of(json.loads(line)) for line in file.read_text().splitlines()])
    while True:
        texts = [tokenizer.apply_chat_template(next(lines), tokenize=False) for _ in range(ROWS)]  # type: ignore[attr-defined]
        found = tokenizer(texts, return_tensors="pt", padding=True, truncation=True, max_length=LONGEST)  # type: ignore[operator]
        yield found["input_ids"], found["attention_mask"]


def chat_of(line: dict[str, Any]) -> list[dict[str, str]]:
    """Return the messages of a line, with its answer where that stands beside them."""
    answer = [{"role": "assistant", "content": line["answer"]}] if "answer" in line else []
    return [*line["messages"], *answer]


async def replay(base: Path, folder: Path) -> None:
    """Start the engine on *base* and print what proofs of all adapters find there."""
    with tempfile.TemporaryDirectory() as logs:
        settings = EngineSettings(base_path=base, base_name="base", log_path=Path(logs) / "log", max_adapters=8)
        engine = build_engine(settings)
        await engine.start()
        try:
            for name in (*TRAINED, *(f"{each}-half" for each in TRAINED)):
                await engine.load_adapter(name, folder / name)
            names = list(TRAINED)
            for at, name in enumerate(names):
                other = names[(at + 1) % len(names)]
                answering = (name, "base", other, f"{name}-half")
                limit = tolerance_of(settings.kind, precision_of(settings))
                proofs = [await prove(engine.base_url, {"model": each}, folder / name, limit) for each in answering]
                print_line(f"{base.name} ({precision_of(settings)})", name, proofs)
        finally:
            await engine.stop(5)


def print_line(base: str, adapter: str, proofs: list[Proof]) -> None:
    """Print mean difference, largest and effect of the right adapter, and mean / effect of the wrong ones."""
    right, *wrong = proofs
    cells = [f"{each.mean_difference:.3f} / {each.separation or 0:.2f}{verdict(each)}" for each in wrong]
    mean = f"{right.mean_difference:.3f}{verdict(right)}"
    numbers = f"{mean} | {right.largest_difference:.2f} | {right.separation or 0:.2f}"
    print(f"| {base} | {adapter} | {numbers} | {' | '.join(cells)} |", flush=True)


def verdict(proof: Proof) -> str:
    """Return the word for a proof that passed; nothing for one that failed."""
    return " passes" if proof.passed else ""


if __name__ == "__main__":
    main()
