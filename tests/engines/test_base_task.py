"""The purpose of a base model follows from its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engines.base_task import BaseTask, task_of


@pytest.mark.parametrize(
    ("config", "has_modules", "task"),
    [
        ({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}, False, BaseTask.GENERATE),
        ({"model_type": "llama"}, False, BaseTask.GENERATE),
        ({"model_type": "bert", "architectures": ["BertModel"]}, True, BaseTask.EMBED),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, False, BaseTask.EMBED),
        ({"model_type": "xlm-roberta"}, False, BaseTask.EMBED),
        ({"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}, True, BaseTask.EMBED),
        ({"model_type": "bert", "architectures": ["BertForSequenceClassification"]}, False, BaseTask.RANK),
        ({"model_type": "xlm-roberta", "architectures": ["XLMRobertaForSequenceClassification"]}, True, BaseTask.RANK),
        ({"model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"]}, False, BaseTask.GENERATE),
    ],
)
def test_the_task_is_read_from_config_and_modules(
    tmp_path: Path, config: dict[str, Any], has_modules: bool, task: BaseTask
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    if has_modules:
        (tmp_path / "modules.json").write_text("[]")
    assert task_of(tmp_path) is task


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_a_folder_that_cannot_be_read_counts_as_one_that_chats(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    assert task_of(tmp_path) is BaseTask.GENERATE
