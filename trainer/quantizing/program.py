"""`python -m trainer.quantizing.program ORDER DESCRIPTOR`: quantize a model, and score it before and after.

Runs in the environment of the tool `quantize`, and imports of our own only what that environment has libraries for. For
a GGUF file it runs in Lorry's own environment.
"""

from __future__ import annotations

import gc
import os
import random
import resource
import sys
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoModelForCausalLM

from trainer.processes.death import die_with
from trainer.quantizing.order import CannotQuantize, QuantizeOrder, ToolMessage
from trainer.quantizing.quantizers import quantizer_of
from trainer.scoring.agreement import agreement, greedy_answers
from trainer.scoring.perplexity import perplexity

VERSIONS_OF: Final = ("torch", "transformers", "tokenizers", "safetensors")


class _Program:
    """A quantization; its messages go to the descriptor."""

    def __init__(self, order: QuantizeOrder, descriptor: int) -> None:
        self._order = order
        self._descriptor = descriptor

    def send(self, message: ToolMessage) -> None:
        line = message.line()
        while line:
            line = line[os.write(self._descriptor, line) :]

    def work(self) -> Mapping[str, Any]:
        """Quantize, and return what there is to report."""
        order = self._order
        self._phase("loading")
        model = self._load(Path(order.model_folder))
        self._phase("preparing")
        before = self._perplexities(model)
        answers = greedy_answers(model, order.prompts, order.answer_tokens, order.ends)
        self._note("Scored in full precision", {"perplexity": before})
        self._phase("training")
        began = time.monotonic()
        make = quantizer_of(order)
        make.quantize(model)
        del model
        gc.collect()
        self._note(f"Quantized as {order.scheme}", {"seconds": round(time.monotonic() - began, 1)})
        self._phase("finishing")
        # The bytes that will be served are scored, not what was in memory.
        model = self._load(Path(order.final_folder), **make.load_options)
        tokens, whole = agreement(model, order.prompts, answers)
        return {
            "before": before,
            "after": self._perplexities(model),
            "agreement": tokens,
            "same_answers": whole,
            "answer_tokens": sum(map(len, answers)),
            "versions": {name: version(name) for name in (*VERSIONS_OF, *make.libraries)},
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }

    def _load(self, folder: Path, **options: str) -> Any:
        # Most CPUs emulate bfloat16, and a score in it would differ between machines.
        dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True, **options)
        return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()

    def _perplexities(self, model: Any) -> dict[str, float]:
        order = self._order
        return {name: perplexity(model, parts, order.window, order.stride) for name, parts in order.texts.items()}

    def _phase(self, name: str) -> None:
        self.send(ToolMessage(kind="phase", message=name, data={}))

    def _note(self, message: str, data: Mapping[str, Any]) -> None:
        self.send(ToolMessage(kind="noted", message=message, data=data))


def main() -> None:
    """Carry out the order that the arguments name."""
    order = QuantizeOrder.read(Path(sys.argv[1]))
    die_with(order.parent_pid)
    torch.set_num_threads(order.threads)
    random.seed(order.seed)
    torch.manual_seed(order.seed)
    program = _Program(order, int(sys.argv[2]))
    try:
        done = program.work()
    except CannotQuantize as exc:
        program.send(ToolMessage(kind="failed", message=str(exc), data={}))
        raise SystemExit(1) from exc
    except Exception as exc:  # the outermost loop of this process, which also logs it
        words = " ".join(f"{type(exc).__name__}: {exc}".split())
        program.send(ToolMessage(kind="failed", message=words[:500], data={}))
        raise
    program.send(ToolMessage(kind="finished", data=done))


if __name__ == "__main__":
    main()
