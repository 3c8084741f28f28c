"""The engine's own parser reads every command line that a driver makes, in the engine's environment."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from engines.answer_parsers import CallFamily, ParserNames, ReasoningFamily
from engines.drivers import lmdeploy, sglang, vllm
from engines.kinds import Hardware, Precision
from engines.settings import EngineSettings
from tests.contract.kinds import FOREIGN, interpreter_of

PROGRAM: Final = Path(__file__).with_name("own_parser.py")
ARGUMENTS: Final[dict[str, Callable[[EngineSettings], list[str]]]] = {
    "vllm": lambda settings: vllm.server_arguments(settings, 9001),
    "sglang": lambda settings: sglang.server_arguments(settings, 9001),
    "lmdeploy": lambda settings: lmdeploy.server_arguments(settings, 9001, {"one@1": Path("/one"), "two@1": Path("/")}),
}
ENVIRONMENTS: Final[dict[str, Callable[[EngineSettings], dict[str, str]]]] = {
    "vllm": vllm.server_environment,
    "sglang": sglang.server_environment,
    "lmdeploy": lmdeploy.server_environment,
}
SEVERAL: Final[dict[str, dict[str, Any]]] = {
    "vllm": {"tensor_parallel": 2, "data_parallel": 2, "extra_args": ("--seed", "7")},
    "sglang": {"tensor_parallel": 2, "pipeline_parallel": 2, "extra_args": ("--random-seed=7",)},
    "lmdeploy": {"tensor_parallel": 2, "extra_args": ("--max-prefill-iters", "7")},
}
"""Several devices and an argument that we do not know, as far as each kind takes them."""
CASES: Final[dict[str, dict[str, Any]]] = {
    "cpu": {"max_step_tokens": 256},
    "nvidia": {"hardware": Hardware.NVIDIA, "precision": Precision.BF16, "kv_memory_gib": 8.0},
    "amd": {"hardware": Hardware.AMD, "precision": Precision.FP16},
    "ascend": {"hardware": Hardware.ASCEND},
}


NAMES: Final[dict[str, ParserNames]] = {"vllm": vllm.PARSERS, "sglang": sglang.PARSERS, "lmdeploy": lmdeploy.PARSERS}
PARSER_FIELDS: Final = ("tool_call_parser", "reasoning_parser")


def named(kind: str) -> list[str]:
    """A parser of tool calls and one of reasoning."""
    names = NAMES[kind]
    return [names.calls[CallFamily.HERMES], names.reasoning[ReasoningFamily.QWEN3]]


@pytest.fixture(scope="session")
def parsed(settings_of: Callable[..., EngineSettings], kind: str) -> dict[str, Any]:
    """Case -> what the parser read, None where it refused the command line; and one that is misspelt."""
    lines = {}
    for name, fields in CASES.items():
        lines[name] = ARGUMENTS[kind](settings_of(**fields))
        lines[f"{name}, several"] = ARGUMENTS[kind](settings_of(**fields, **SEVERAL[kind]))
    lines["parsers"] = ARGUMENTS[kind](settings_of(**dict(zip(PARSER_FIELDS, named(kind), strict=True))))
    lines["misspelt"] = [*lines["cpu"], "--max-batchsize=3"]
    run = subprocess.run(
        [str(interpreter_of(kind)), str(PROGRAM), kind],
        input=json.dumps(lines),
        env={**os.environ, **ENVIRONMENTS[kind](settings_of())},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("kind", FOREIGN, indirect=True)
@pytest.mark.parametrize("case", CASES)
def test_the_engine_reads_what_we_meant(parsed: dict[str, Any], kind: str, case: str) -> None:
    fields = SEVERAL[kind]
    one, several = parsed[case], parsed[f"{case}, several"]
    assert (one["tensor"], one["pipeline"], one["data"]) == (1, 1, 1)
    assert several["tensor"] == 2
    assert several["pipeline"] == fields.get("pipeline_parallel", 1)
    assert several["data"] == fields.get("data_parallel", 1)
    assert several["extra"] == 7
    assert (one["context"], one["batch"]) == (512, 16)


@pytest.mark.parametrize("kind", FOREIGN, indirect=True)
def test_parsers_of_answers_have_names_that_the_engine_knows(parsed: dict[str, Any], kind: str) -> None:
    calls, reasoning = parsed["known"]
    assert set(NAMES[kind].calls.values()) <= set(calls)
    assert set(NAMES[kind].reasoning.values()) <= set(reasoning)
    assert parsed["parsers"]["parsers"] == named(kind)
    assert parsed["cpu"]["parsers"] == [None, None], "the bundled model's template has no tools"


@pytest.mark.parametrize("kind", FOREIGN, indirect=True)
def test_a_misspelt_flag_is_rejected(parsed: dict[str, Any]) -> None:
    assert parsed["misspelt"] is None
