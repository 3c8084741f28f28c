"""Read `adapter_config.json` and refuse what cannot be served, by the name of the field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from registry.errors import AdapterRejected
from registry.publishing.adapter_files import CONFIG, cut_name

LONGEST_CONFIG: Final = 1024 * 1024
"""Bytes; configs of trainers have a few thousand."""
LARGEST_RANK: Final = 1_000_000
LARGEST_ALPHA: Final = 1_000_000

UNSERVABLE: Final[Mapping[str, tuple[str, str]]] = {
    "alora_invocation_tokens": ("activated LoRA", "vLLM"),
    "fan_in_fan_out": ("transposed weights", "vLLM"),
    "layer_replication": ("replicated layers", "vLLM"),
    "lora_bias": ("a bias in the LoRA layers", "vLLM"),
    "modules_to_save": ("whole modules beside the LoRA weights", "the transformers engine"),
    "target_parameters": ("parameters as targets", "the transformers engine"),
    "trainable_token_indices": ("trained token embeddings", "the transformers engine"),
    "use_bdlora": ("block-diagonal LoRA", "vLLM"),
    "use_dora": ("DoRA", "vLLM"),
    "use_qalora": ("QALoRA", "vLLM"),
}
"""Fields of PEFT's LoraConfig that must be empty -> what they mean, and an engine that cannot serve it."""

TO_NORMALIZE: Final[Mapping[str, tuple[str, str]]] = {
    "alpha_pattern": ("another alpha for some modules", "LMDeploy"),
    "exclude_modules": ("targets that are not listed", "LMDeploy"),
    "rank_pattern": ("another rank for some modules", "LMDeploy"),
    "use_rslora": ("rank-stabilised scaling", "LMDeploy"),
}
"""Fields that `registry.publishing.normalize` resolves, so that they are empty in published adapters."""


def read_config(folder: Path) -> Mapping[str, Any]:
    """Return the adapter's config, in any of JSON's encodings; `AdapterRejected` if it is not a JSON object."""
    path = folder / CONFIG
    try:
        if path.stat().st_size > LONGEST_CONFIG:
            raise AdapterRejected(f"{CONFIG}: longer than {LONGEST_CONFIG} bytes")
        # From bytes: `loads` recognises UTF-8 with and without a byte order mark, UTF-16 and UTF-32.
        config = json.loads(path.read_bytes())
    except UnicodeDecodeError as exc:
        raise AdapterRejected(f"{CONFIG}: not readable as JSON: byte {exc.start} is not {exc.encoding}") from exc
    except (OSError, json.JSONDecodeError) as exc:
        raise AdapterRejected(f"{CONFIG}: not readable as JSON: {exc}") from exc
    except (ValueError, RecursionError) as exc:
        raise AdapterRejected(f"{CONFIG}: not readable: a number is too long, or the nesting too deep") from exc
    if not isinstance(config, dict):
        raise AdapterRejected(f"{CONFIG}: not a JSON object")
    return config


def check_plain(config: Mapping[str, Any], unservable: Mapping[str, tuple[str, str]]) -> int:
    """Return the rank; `AdapterRejected` if not LoRA, with one of the *unservable* fields, or without rank or alpha."""
    if config.get("peft_type") != "LORA":
        raise refuse_field(config, "peft_type", "only LORA is served")
    if config.get("bias", "none") != "none":
        raise refuse_field(config, "bias", "only 'none' is served: the transformers engine adds no bias")
    for field, (meaning, engine) in unservable.items():
        if config.get(field):
            raise refuse_field(config, field, f"that means {meaning}, which {engine} cannot serve")
    rank = config.get("r")
    if type(rank) is not int or not 1 <= rank <= LARGEST_RANK:
        raise refuse_field(config, "r", "the rank must be a whole number from 1")
    if not is_factor(config.get("lora_alpha")):
        raise refuse_field(config, "lora_alpha", f"it must be a number above 0, up to {LARGEST_ALPHA}")
    return rank


def is_factor(value: object) -> bool:
    """Whether *value* can be a rank or an alpha: with 0 the adapter has no effect, with infinity no finite one."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= LARGEST_ALPHA


def refuse_field(config: Mapping[str, Any], field: str, why: str) -> AdapterRejected:
    """Return the error for a field of the adapter's config."""
    return AdapterRejected(f"{CONFIG}: {cut_name(field)} is {cut_name(repr(config.get(field)))}; {why}")
