"""The tools that jobs and commands start in an environment of their own, a row each. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from engines.kinds import SeparateEnvironment

TOOLS: Final[Mapping[str, SeparateEnvironment]] = {
    "quantize": SeparateEnvironment(
        distributions=("llmcompressor",),
        check="import llmcompressor, llmcompressor.modifiers.gptq, llmcompressor.modifiers.transform.awq",
    ),
    "evaluate": SeparateEnvironment(distributions=("evalscope", "lm-eval"), check="import evalscope, lm_eval"),
}
"""Name of a tool -> its environment; its lists are `deploy/envs/<name>-<variant>.txt`, of which `cpu` always exists."""
