"""Servers get the parsers that fit the base model's chat template, unless the settings name others or none."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from engines.answer_parsers import Parsers, parsers_of_kind
from engines.drivers import lmdeploy, sglang, vllm
from engines.errors import SettingRefused
from engines.settings import EngineSettings

CONFIG = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 8, "max_position_embeddings": 64}
ARGUMENTS: dict[str, Callable[[EngineSettings], list[str]]] = {
    "vllm": lambda settings: vllm.server_arguments(settings, 1),
    "sglang": lambda settings: sglang.server_arguments(settings, 1),
    "lmdeploy": lambda settings: lmdeploy.server_arguments(settings, 1, {}),
}
QWEN_2 = r"""{%- if tools %}# Tools{% endif %}{{- '\n<tool_call>\n{"name": "' }}<|im_start|>"""
QWEN_3 = QWEN_2 + r"""{%- if enable_thinking is defined %}{{- '<think>\n\n</think>\n\n' }}{% endif %}"""
CODER = "{%- if tools %}<tool_call>\n<function=a>\n<parameter=b>{% endif %}"
LLAMA = (
    """{%- if tools %}<|start_header_id|>{{- '{"name": "' + call.name + '", ' }}{{- '"parameters": ' }}{% endif %}"""
)
MISTRAL = """{%- if tools %}{{ "[TOOL_CALLS] [" }}{% endif %}"""
R1 = "<|tool▁calls▁begin|>{{ message['tool_calls'] }}{{'<|Assistant|><think>\\n'}}".replace("|", "\uff5c")
GPT_OSS = "{%- if tools %}<|channel|>commentary<|call|>{% endif %}"
PLAIN = "{% for m in messages %}{{ m.content }}{% endfor %}"


@pytest.fixture
def flags_of(tmp_path: Path) -> Callable[..., tuple[str | None, str | None]]:
    """The parsers on the command line of a kind for a template."""

    def read(kind: str, template: str, **fields: Any) -> tuple[str | None, str | None]:
        (tmp_path / "config.json").write_text(json.dumps(CONFIG))
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
        known = {"kind": kind, "base_path": tmp_path, "base_name": "base", "log_path": tmp_path / "log"}
        settings = EngineSettings.model_validate({"interpreter": sys.executable, **known, **fields})
        line = ARGUMENTS[kind](settings)
        after = dict(pairwise(line))
        return after.get("--tool-call-parser"), after.get("--reasoning-parser")

    return read


@pytest.mark.parametrize(
    ("template", "in_vllm", "in_sglang", "in_lmdeploy"),
    [
        (QWEN_2, ("hermes", None), ("hermes", None), ("qwen3", None)),
        (QWEN_3, ("hermes", "qwen3"), ("hermes", "qwen3"), ("qwen3", "default")),
        (CODER, ("qwen3_coder", None), ("qwen3_coder", None), ("qwen3coder", None)),
        (LLAMA, ("llama3_json", None), ("llama3", None), (None, None)),
        (MISTRAL, ("mistral", None), ("mistral", None), (None, None)),
        (R1, (None, "deepseek_r1"), (None, "deepseek-r1"), (None, "default")),
        (GPT_OSS, ("openai", "openai_gptoss"), ("gpt-oss", "gpt-oss"), (None, None)),
        (PLAIN, (None, None), (None, None), (None, None)),
    ],
)
def test_the_template_chooses_the_parsers(
    flags_of: Callable[..., tuple[str | None, str | None]],
    template: str,
    in_vllm: tuple[str | None, str | None],
    in_sglang: tuple[str | None, str | None],
    in_lmdeploy: tuple[str | None, str | None],
) -> None:
    assert flags_of("vllm", template) == in_vllm
    assert flags_of("sglang", template) == in_sglang
    assert flags_of("lmdeploy", template) == in_lmdeploy


@pytest.mark.parametrize("kind", ARGUMENTS)
def test_settings_name_other_parsers_or_none(flags_of: Callable[..., tuple[str | None, str | None]], kind: str) -> None:
    assert flags_of(kind, QWEN_3, tool_call_parser="mine", reasoning_parser="none") == ("mine", None)
    assert flags_of(kind, QWEN_3, tool_call_parser="none") == (None, flags_of(kind, QWEN_3)[1])
    given = flags_of(kind, QWEN_3, extra_args=("--tool-call-parser", "theirs"), reasoning_parser="none")
    assert given == ("theirs", None)


def test_vllm_is_told_to_use_its_parser(flags_of: Callable[..., tuple[str | None, str | None]], tmp_path: Path) -> None:
    flags_of("vllm", QWEN_2)
    known = {"kind": "vllm", "base_path": tmp_path, "base_name": "base", "log_path": tmp_path / "log"}
    for fields, is_told in (({}, True), ({"tool_call_parser": "none"}, False)):
        line = vllm.server_arguments(EngineSettings.model_validate(known | fields), 1)
        assert ("--enable-auto-tool-choice" in line) is is_told


def test_the_parsers_of_a_kind_are_known_before_its_start(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text(QWEN_3)
    assert parsers_of_kind("vllm", tmp_path) == Parsers(calls="hermes", reasoning="qwen3")
    assert parsers_of_kind("transformers", tmp_path) is None


def test_a_parser_is_not_named_twice(flags_of: Callable[..., tuple[str | None, str | None]]) -> None:
    with pytest.raises(SettingRefused, match="--tool-call-parser"):
        flags_of("sglang", PLAIN, tool_call_parser="mine", extra_args=("--tool-call-parser=theirs",))
