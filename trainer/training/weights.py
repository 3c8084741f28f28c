"""The weights that a job trains."""

from __future__ import annotations

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel, set_seed

from registry.contracts.fine_tune_spec import FineTuneSpec


def attach_lora(base: PreTrainedModel, spec: FineTuneSpec) -> PeftModel:
    """Return *base* with a new adapter whose initial weights depend on the spec's seed alone."""
    set_seed(spec.seed)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=spec.lora.rank,
        lora_alpha=spec.lora.alpha,
        lora_dropout=spec.lora.dropout,
        target_modules=list(spec.lora.target_modules),
    )
    return get_peft_model(base, config)
