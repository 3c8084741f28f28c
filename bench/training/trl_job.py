"""`python trl_job.py ORDER`, in TRL's environment: the job as a plain script with TRL does it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl import (
    DPOConfig,
    DPOTrainer,
    GRPOConfig,
    GRPOTrainer,
    KTOConfig,
    KTOTrainer,
    RewardConfig,
    RewardTrainer,
    SFTConfig,
    SFTTrainer,
)

Order = Mapping[str, Any]


def main() -> None:
    """Train, save the adapter, and print the losses."""
    order = json.loads(Path(sys.argv[1]).read_bytes())
    torch.set_num_threads(1)
    trainer = TRAINERS[order["method"]](order)
    trainer.train()
    trainer.save_model(order["folder"] + "/trained")
    losses = [each["loss"] for each in trainer.state.log_history if "loss" in each]
    sys.stdout.write(json.dumps({"losses": losses}) + "\n")


def _supervised(order: Order) -> Any:
    chats = [row["messages"] for row in _rows(order)]
    pairs = Dataset.from_list([{"prompt": chat[:-1], "completion": chat[-1:]} for chat in chats])
    return SFTTrainer(
        model=_model(order),
        args=SFTConfig(**_arguments(order)),
        train_dataset=pairs,
        processing_class=_tokenizer(order),
        peft_config=_lora(order),
    )


def _dpo(order: Order) -> Any:
    return DPOTrainer(
        model=_model(order),
        args=DPOConfig(beta=0.1, **_arguments(order)),
        train_dataset=_pairs(order),
        processing_class=_tokenizer(order),
        peft_config=_lora(order),
    )


def _kto(order: Order) -> Any:
    rows = [
        {"prompt": row["messages"][:-1], "completion": row["messages"][-1:], "label": row["label"]}
        for row in _rows(order)
    ]
    return KTOTrainer(
        model=_model(order),
        args=KTOConfig(beta=0.1, **_arguments(order)),
        train_dataset=Dataset.from_list(rows),
        processing_class=_tokenizer(order),
        peft_config=_lora(order),
    )


def _reward(order: Order) -> Any:
    model = AutoModelForSequenceClassification.from_pretrained(order["model"], num_labels=1, dtype=torch.float32)
    tokenizer = _tokenizer(order)
    model.config.pad_token_id = tokenizer.pad_token_id
    lora = LoraConfig(
        task_type="SEQ_CLS",
        r=order["rank"],
        lora_alpha=order["alpha"],
        target_modules=list(order["targets"]),
        modules_to_save=["score"],
    )
    return RewardTrainer(
        model=model,
        args=RewardConfig(**_arguments(order)),
        train_dataset=_pairs(order),
        processing_class=tokenizer,
        peft_config=lora,
    )


def _grpo(order: Order) -> Any:
    own, group = order["hyperparameters"], order["hyperparameters"]["group_size"]
    wanted = order["grader"]["reference"].lower()

    def reward(completions: Sequence[Sequence[Mapping[str, str]]], **_: Any) -> list[float]:
        return [float(wanted in each[-1]["content"].lower()) for each in completions]

    sampling = {
        "num_generations": group,
        "max_completion_length": own["max_completion_tokens"],
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "beta": own["beta"],
        "loss_type": "dapo",
        "scale_rewards": "group",
    }
    arguments = {name: value for name, value in _arguments(order).items() if name != "max_length"}
    # A row of TRL's batches is an output.
    arguments["per_device_train_batch_size"] *= group
    return GRPOTrainer(
        model=_model(order),
        args=GRPOConfig(**arguments, **sampling),
        reward_funcs=reward,
        train_dataset=Dataset.from_list([{"prompt": row["messages"]} for row in _rows(order)]),
        processing_class=_tokenizer(order),
        peft_config=_lora(order),
    )


TRAINERS: Final[Mapping[str, Callable[[Order], Any]]] = {
    "supervised": _supervised,
    "dpo": _dpo,
    "kto": _kto,
    "reward": _reward,
    "reinforcement": _grpo,
}
"""Lorry's name of a method -> the trainer for an order."""


def _pairs(order: Order) -> Any:
    return Dataset.from_list(
        [
            {
                "prompt": row["input"]["messages"],
                "chosen": row["preferred_output"],
                "rejected": row["non_preferred_output"],
            }
            for row in _rows(order)
        ]
    )


def _rows(order: Order) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(order["rows"]).read_text().splitlines()]


def _model(order: Order) -> Any:
    return AutoModelForCausalLM.from_pretrained(order["model"], dtype=torch.float32)


def _tokenizer(order: Order) -> Any:
    return AutoTokenizer.from_pretrained(order["model"])


def _lora(order: Order) -> LoraConfig:
    return LoraConfig(
        task_type="CAUSAL_LM", r=order["rank"], lora_alpha=order["alpha"], target_modules=list(order["targets"])
    )


def _arguments(order: Order) -> dict[str, Any]:
    """Return the settings of every trainer; gradients are kept whole, as Lorry keeps them."""
    return {
        "output_dir": order["folder"] + "/out",
        "max_length": order["max_length"],
        "max_steps": order["steps"],
        "per_device_train_batch_size": order["micro_rows"],
        "gradient_accumulation_steps": order["batch_size"] // order["micro_rows"],
        "gradient_checkpointing": False,
        "learning_rate": order["learning_rate"],
        "lr_scheduler_type": "linear",
        "warmup_steps": round(0.03 * order["steps"]),
        "logging_steps": 1,
        "save_steps": 25,
        "save_total_limit": 2,
        "use_cpu": True,
        "bf16": False,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
        "report_to": "none",
        "seed": order["seed"],
    }


if __name__ == "__main__":
    main()
