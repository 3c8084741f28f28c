"""The part of a model's `config.json` that describes its language model.

Models that see nest it, and leave out what equals the defaults of their kind in transformers, which Lorry's own process
does not import.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

NESTED: Final = ("text_config", "llm_config", "language_config")
"""Names of the language model's part in the configs of models that also see or hear."""
DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "llama": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "max_position_embeddings": 2048,
        "vocab_size": 32000,
    },
    "mistral": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "vocab_size": 32000,
    },
    "gemma3_text": {
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131072,
        "vocab_size": 262208,
        "tie_word_embeddings": True,
    },
}
"""`model_type` of a nested config -> what it may leave out, as transformers 5.19 fills it in."""


OTHER_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "hidden_size": ("dim", "n_embd"),
    "intermediate_size": ("hidden_dim", "n_inner"),
    "num_hidden_layers": ("n_layers", "n_layer"),
    "num_attention_heads": ("n_heads", "n_head"),
    "max_position_embeddings": ("n_positions",),
}
"""Name of a field -> its names in configs of a kind of their own, such as DistilBERT's."""


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields of the language model in a model's *config*, those that were left out included."""
    nested = next((config[name] for name in NESTED if isinstance(config.get(name), dict)), None)
    if nested is None:
        found = {field: config[name] for field, names in OTHER_NAMES.items() for name in names if config.get(name)}
        return {**found, **config} if found else config
    return {**DEFAULTS.get(str(nested.get("model_type")), {}), **nested}
