"""Values of fields that this server does not have, with which a client asks for nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    # OpenAI's
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "modalities": (["text"],),
    "reasoning_effort": ("none", "minimal", "low", "medium", "high", "xhigh"),  # no model of this server has one
    "verbosity": ("medium",),
    "suffix": ("",),
    "echo": (False,),  # of a chat
    # vLLM's and SGLang's
    "length_penalty": (1,),
    "no_repeat_ngram_size": (0,),
    "stop_token_ids": ([],),
    "bad_words": ([],),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "include_stop_str_in_output": (False,),
    "no_stop_trim": (False,),
    "use_beam_search": (False,),
    "early_stopping": (False,),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "chat_template_kwargs": ({},),
    "documents": ([],),
    "priority": (0,),
    "return_tokens_as_token_ids": (False,),
    "return_token_ids": (False,),
    "return_hidden_states": (False,),
    "include_reasoning": (True, False),
    "separate_reasoning": (True, False),
    "stream_reasoning": (True, False),
    # those of llama.cpp, Ollama, OpenRouter and others
    "repeat_penalty": (1,),
    "typical_p": (1,),
    "tfs_z": (1,),
    "top_a": (0,),
    "mirostat": (0,),
    "mirostat_mode": (0,),
    "dry_multiplier": (0,),
    "xtc_probability": (0,),
    "dynatemp_range": (0,),
    "safe_prompt": (False,),
    "enable_thinking": (False,),
    "thinking": ({"type": "disabled"},),
    "transforms": ([],),
    "plugins": ([],),
    "extra_body": ({},),
}
"""Name of a field -> the values with which it asks for nothing."""


def without_neutral(members: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return *members* without those that ask for nothing; those with a name in *own* stay as they are."""
    # Where the model must not call tools they need no reading: it is never shown them.
    unread = {"tools"} if members.get("tool_choice") == "none" else set()
    unread |= {"functions"} if members.get("function_call") == "none" else set()
    return {
        name: value
        for name, value in members.items()
        if name in own or not (name in unread or asks_for_nothing(name, value))
    }


def asks_for_nothing(name: str, value: Any) -> bool:
    """Whether *value* is what the server does anyway."""
    # Python takes True for 1, JSON does not.
    return any(
        value == neutral and isinstance(value, bool) == isinstance(neutral, bool) for neutral in NEUTRAL.get(name, ())
    )
