"""The weights that a job trains: an adapter on the base model, on its quantized weights, or every weight."""

from __future__ import annotations

import ctypes
import gc
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import BitsAndBytesConfig, PreTrainedModel, set_seed

from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.job_spec import LoraSpec
from registry.contracts.pictures.vision_base import of_language_model
from registry.errors import WeightsRefused
from registry.states import ResultKind
from trainer.checkpoints import INITIAL
from trainer.errors import Diverged, JobFailed
from trainer.order import ChildOrder
from trainer.training.base_model import load_base
from trainer.training.precision import multiplies_bf16
from trainer.training.whole_model import check_savable

TRAINED: Final = "default"
"""PEFT's name of the adapter that is trained."""
INITS: Final = {"pissa": "pissa_niter_16", "olora": "olora"}
"""Variant -> how PEFT initialises it; PiSSA's exact decomposition takes some 40 s for 135 million weights."""

ANY_TOKENS: Final = 8
"""Tokens, whichever they are, on which a model shows whether it computes finite numbers."""


def trained_model(
    order: ChildOrder[FineTuneSpec], shared: Callable[[], PreTrainedModel] | None = None
) -> PreTrainedModel | PeftModel:
    """Return the base model with the weights that the job trains; they depend on the spec and its seed alone.

    *shared* gives the base model of a light job, whose weights stay as they are.
    `JobFailed` for what this machine or this base model cannot do.
    """
    spec = order.spec
    try:
        spec.check_weights()
    except WeightsRefused as exc:
        raise JobFailed("invalid_hyperparameters", str(exc), "hyperparameters") from exc
    if spec.result_kind() is ResultKind.CHECKPOINT:
        check_savable(order.base_path)
    if spec.weights.is_full:
        set_seed(spec.seed)
        # In float32 everywhere: the steps of an optimizer vanish in the rounding of bfloat16 weights.
        model = load_base(order.base_path, dtype=torch.float32)
        model.requires_grad_(True)
        return model
    base = load_base(order.base_path, quantization=_quantization(spec)) if shared is None else shared()
    _keep_quantized_layout(base)
    return attach_lora(base, spec, initial_folder(order))


def attach_lora(base: PreTrainedModel, spec: FineTuneSpec, initial: Path) -> PeftModel:
    """Return *base* with a new adapter whose initial weights depend on the spec's seed alone.

    A variant that changes the base leaves its initial adapter in the folder *initial*, to be converted at the end.
    """
    set_seed(spec.seed)
    lora: LoraSpec = spec.lora
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=target_names(base, lora.target_modules),
        use_rslora=lora.variant == "rslora",
        use_dora=lora.variant == "dora",
        init_lora_weights=INITS.get(lora.variant, True),
    )
    model = get_peft_model(base, config)
    if lora.changes_base:
        # So that PEFT does not decompose the base again when it loads the initial or a continued adapter.
        model.peft_config[TRAINED].init_lora_weights = True
        shutil.rmtree(initial, ignore_errors=True)
        model.save_pretrained(initial, save_embedding_layers=False)
    return model


def save_adapter(order: ChildOrder[FineTuneSpec], model: PeftModel, folder: Path) -> None:
    """Write the trained adapter, as one for the base model as it is on disk."""
    initial = str(initial_folder(order)) if order.spec.lora.changes_base else None
    # Left to itself, PEFT may save embeddings too, which `normalize_adapter` would compare with the base's for nothing.
    model.save_pretrained(folder, save_embedding_layers=False, path_initial_model_for_weight_conversion=initial)


@torch.no_grad()
def check_finite(model: torch.nn.Module, step: int) -> None:
    """Raise `Diverged` unless the trained weights and what the model computes with them are finite numbers.

    The loss of the last step was that before its update.
    """
    trained = ((name, weight) for name, weight in model.named_parameters() if weight.requires_grad)
    what = next((name for name, weight in trained if not bool(weight.isfinite().all())), None)
    if what is None:
        device = next(model.parameters()).device
        any_tokens = torch.arange(ANY_TOKENS, device=device)[None]
        what = None if bool(model(input_ids=any_tokens).logits.isfinite().all()) else "what the model answers"
    if what is not None:
        raise Diverged(f"after step {step} {what} is not finite, though the loss before was")


def has_base_as_stored(spec: FineTuneSpec) -> bool:
    """Whether the trained model's base weights are those on disk, which replicas serve."""
    return spec.weights.kind == "lora" and not spec.lora.changes_base


def release(model: torch.nn.Module) -> None:
    """Free the memory of the weights of a model that is not computed with any more, whoever refers to it."""
    for parameter in model.parameters():
        parameter.data = torch.empty(0, dtype=parameter.dtype)
        parameter.grad = None
    gc.collect()
    # The allocator keeps what activations and gradients took; the base model that is loaded next would lie beside it.
    with suppress(AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)


def initial_folder(order: ChildOrder[FineTuneSpec]) -> Path:
    """Return where the initial adapter of an attempt is kept."""
    return order.attempt_folder / INITIAL


def _quantization(spec: FineTuneSpec) -> BitsAndBytesConfig | None:
    """Return the config of QLoRA: NF4, with the scales quantized too; products are computed in the unquantized type."""
    if spec.weights.kind != "qlora":
        return None
    computed = torch.bfloat16 if multiplies_bf16(spec.weights.precision) else torch.float32
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=computed,
    )


def _keep_quantized_layout(model: PreTrainedModel) -> None:
    """Have quantized weights computed in one way on every CPU, in a validation as in a step.

    On some CPUs bitsandbytes repacks them at the first pass without a gradient, for products in bfloat16 from then on;
    weights that are not a multiple of its blocks wide make it fail.
    """
    for module in model.modules():
        if "support_avx512bf16_for_cpu" in vars(module):
            module.support_avx512bf16_for_cpu = False


def target_names(model: PreTrainedModel, targets: Iterable[str]) -> list[str]:
    """Return *targets*, or the whole names of their modules in the language model where other parts have such too."""
    found = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    # PEFT keeps an adapted module as its `base_layer`, beside the adapter's own.
    linear = [name.removesuffix(".base_layer") for name in found if ".lora_" not in name]
    spoken = of_language_model(linear)
    if len(spoken) == len(linear):
        return list(targets)
    ends = [f".{target}" for target in targets]
    return [name for name in spoken if any(f".{name}".endswith(end) for end in ends)]


def load_stored(base: PreTrainedModel, folder: Path) -> PeftModel:
    """Return *base* with the normalised adapter in *folder*, which adapts modules of the language model."""
    return PeftModel.from_pretrained(base, folder, config=_stored_config(base, folder))


def add_stored(model: PeftModel, folder: Path, name: str) -> None:
    """Load the normalised adapter in *folder* beside that of *model*, and make it the active one."""
    model.add_adapter(name, _stored_config(model.get_base_model(), folder))
    model.load_adapter(str(folder), name)
    model.set_adapter(name)


def _stored_config(base: PreTrainedModel, folder: Path) -> LoraConfig:
    config = LoraConfig.from_pretrained(folder)
    config.inference_mode = True
    config.target_modules = set(target_names(base, config.target_modules))
    return config
