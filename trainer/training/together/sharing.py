"""How rows and weights are shared among the processes of a run, and put together again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import PreTrainedModel

from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.parallel_spec import ParallelSpec
from trainer.order import ChildOrder
from trainer.training.objective import Objective
from trainer.training.steps.kept_steps import ADAPTER_WEIGHTS
from trainer.training.together.even_order import FilledRows, collate_filled
from trainer.training.together.processes import Processes
from trainer.training.together.zero import load_whole_from_now_on, zero_arguments
from trainer.training.weights import TRAINED, trained_model

SAFE_WEIGHTS_NAME: Final = "model.safetensors"
"""Name of the weights of a whole model."""
LORA: Final = ".lora_"
"""Is in the name of every weight of an adapter."""


def shared_rows(
    rows: Sequence[Any], objective: Objective[Any], processes: Processes, micro: int, repeats: int
) -> dict[str, Any]:
    """Return the Trainer's data set and collator: with several processes every row is in one pass of one of them.

    Batches that come *repeats* times are always whole, and shared out evenly as they are.
    """
    if processes.size == 1 or repeats > 1:
        return {"train_dataset": rows, "data_collator": objective.collate}
    return {
        "train_dataset": FilledRows(rows, micro * processes.size),
        "data_collator": collate_filled(objective.collate),
    }


def sharing_arguments(parallel: ParallelSpec) -> Mapping[str, Any]:
    """Return the arguments of the Trainer by which processes share weights and gradients."""
    if parallel.processes == 1:
        return {}
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if parallel.zero_stage is not None:
        return zero_arguments(parallel.zero_stage, backend)
    if parallel.shards_weights:
        config = {"version": 2, "auto_wrap_policy": "TRANSFORMER_BASED_WRAP", "state_dict_type": "SHARDED_STATE_DICT"}
        return {"fsdp": True, "fsdp_config": config}
    return {"ddp_backend": backend, "ddp_find_unused_parameters": False}


def whole_again(
    order: ChildOrder[FineTuneSpec], model: PreTrainedModel | PeftModel, objective: Objective[Any]
) -> PreTrainedModel | PeftModel:
    """Return the trained model with all of its weights, in the first process; all processes must call it."""
    if not order.spec.parallel.shards_weights:
        return model
    trained = _gathered(model, objective.processes)
    if not objective.processes.is_first:
        return model
    if order.spec.parallel.zero_stage is not None:
        load_whole_from_now_on()
    whole_model = trained_model(order)
    objective.attach(whole_model)
    with torch.no_grad():
        for name, weight in whole_model.named_parameters():
            if name in trained:
                weight.copy_(trained[name])
    return whole_model


def save_whole(folder: Path, order: ChildOrder[FineTuneSpec], model: torch.nn.Module, processes: Processes) -> None:
    """Write split weights whole into a checkpoint's folder, under the names of an unsplit one; all must call it."""
    if not order.spec.parallel.shards_weights or order.spec.parallel.zero_stage is not None:
        return  # the Trainer gathers what DeepSpeed split, and saves it like unsplit weights
    trained = _gathered(model, processes)
    if processes.is_first:
        name = SAFE_WEIGHTS_NAME if order.spec.weights.is_full else ADAPTER_WEIGHTS
        # What a method trains beside an adapter is for the method to save.
        saved = {key: weight for key, weight in trained.items() if order.spec.weights.is_full or LORA in key}
        save_file({key.replace(f".{TRAINED}.", "."): weight for key, weight in saved.items()}, folder / name)


def _gathered(model: torch.nn.Module, processes: Processes) -> dict[str, torch.Tensor]:
    """Return the trained weights by name in the first process, and none in the others."""
    trained = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            whole = processes.whole_weight(weight)  # gathered by all; kept by one
            if processes.is_first:
                trained[name] = whole.detach().cpu().contiguous()
    return trained
