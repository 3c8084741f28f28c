"""The files that sentence-transformers wrote beside a model are followed, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engines.base_task import BaseTask
from engines.transformers.encoders.folder import read_folder
from engines.transformers.errors import UnsupportedModel

TRANSFORMER = {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"}
POOLING = {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.sentence_transformer.modules.pooling.Pooling"}
NORMALIZE = {"idx": 2, "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}
DENSE = {"idx": 2, "path": "2_Dense", "type": "sentence_transformers.models.Dense"}


def written(folder: Path, **files: Any) -> Path:
    config = {"model_type": "bert"}
    for name, content in ({"config": config} | files).items():
        path = folder / f"{name.replace('__', '/')}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, ("mean",)),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, ("cls",)),
        ({"pooling_mode_lasttoken": True}, ("lasttoken",)),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, ("cls", "mean")),
        ({"pooling_mode": "max"}, ("max",)),
        ({"pooling_mode": ["mean", "max"]}, ("mean", "max")),
        ({}, ("mean",)),
    ],
)
def test_pooling_is_read_in_both_ways_that_it_was_ever_written(
    tmp_path: Path, pooling: dict[str, Any], expected: tuple[str, ...]
) -> None:
    folder = read_folder(written(tmp_path, modules=[TRANSFORMER, POOLING, NORMALIZE], **{"1_Pooling__config": pooling}))
    assert (folder.poolings, folder.normalizes, folder.task) == (expected, True, BaseTask.EMBED)


def test_length_case_and_prompts_are_read(tmp_path: Path) -> None:
    folder = read_folder(
        written(
            tmp_path,
            modules=[TRANSFORMER, POOLING],
            sentence_bert_config={"max_seq_length": 128, "do_lower_case": True},
            config_sentence_transformers={
                "prompts": {"query": "query: ", "document": ""},
                "default_prompt_name": "query",
            },
        )
    )
    assert (folder.longest, folder.lowers_case, folder.normalizes) == (128, True, False)
    assert (dict(folder.prompts), folder.default_prompt) == ({"query": "query: ", "document": ""}, "query")


def test_a_folder_without_modules_is_read_as_sentence_transformers_does(tmp_path: Path) -> None:
    folder = read_folder(written(tmp_path))
    assert (folder.poolings, folder.normalizes, folder.longest) == (("mean",), False, None)


@pytest.mark.parametrize(
    ("files", "score"),
    [
        ({}, "sigmoid"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, "identity"),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.activation.Sigmoid"}, "sigmoid"),
    ],
)
def test_the_score_of_a_cross_encoder_is_what_its_config_says(
    tmp_path: Path, files: dict[str, Any], score: str
) -> None:
    config = {"model_type": "bert", "architectures": ["BertForSequenceClassification"], **files}
    folder = read_folder(written(tmp_path, config=config))
    assert (folder.task, folder.score) == (BaseTask.RANK, score)


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"modules": [TRANSFORMER, {**POOLING, "type": "a.WordWeights"}]}, "WordWeights"),
        ({"modules": [POOLING]}, "first module"),
        ({"modules": [{**TRANSFORMER, "path": "0_Transformer"}, POOLING]}, "in the folder itself"),
        ({"modules": [TRANSFORMER, NORMALIZE | {"idx": 1}, POOLING | {"idx": 2}]}, "order"),
        ({"modules": "{"}, "modules"),
        ({"modules": [TRANSFORMER, POOLING], "1_Pooling__config": {"pooling_mode": "median"}}, "median"),
        ({"modules": [TRANSFORMER, POOLING], "1_Pooling__config": {"include_prompt": False}}, "include_prompt"),
        ({"modules": [TRANSFORMER, POOLING, DENSE], "2_Dense__config": {"activation_function": "a.Swish"}}, "Swish"),
        ({"modules": [TRANSFORMER, POOLING, DENSE], "2_Dense__config": {}}, "no model.safetensors"),
        ({"config_sentence_transformers": {"default_prompt_name": "q"}}, "default_prompt_name"),
        ({"config": {"architectures": ["ForSequenceClassification"]}, "modules": [TRANSFORMER, POOLING]}, "Pooling"),
    ],
)
def test_what_is_not_served_is_named(tmp_path: Path, files: dict[str, Any], named: str) -> None:
    with pytest.raises(UnsupportedModel, match=named):
        read_folder(written(tmp_path, **files))
