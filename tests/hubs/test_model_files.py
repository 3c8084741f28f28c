"""Which files of a repository are fetched."""

from __future__ import annotations

from typing import Any

import pytest

from hubs.errors import NotPullable
from hubs.model_files import model_files
from hubs.repository import NO_SIZE, RemoteFile

CONFIGS = ("config.json", "tokenizer_config.json")


def chosen(*paths: str) -> list[str]:
    return [
        file.path
        for file in model_files("o/n", [RemoteFile(path=path, size_bytes=1, sha256="a" * 64) for path in paths])
    ]


def test_weights_come_once_and_only_as_safetensors() -> None:
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = "model.safetensors.index.json"
    others = ["pytorch_model.bin", "consolidated.safetensors", "original/consolidated.00.pth", "onnx/model.onnx"]
    others += [
        "model.fp16.safetensors",
        "m-q4.gguf",
        "modeling_x.py",
        "runs/events.out",
        "onnx/config.json",
        "../config.json",
        "a/tokenizer.json",
        ".gitattributes",
        "a.png",
    ]
    assert chosen(*CONFIGS, *shards, index, *others) == sorted([*CONFIGS, *shards, index])
    assert chosen(*CONFIGS, "model.safetensors", *shards, index) == sorted([*CONFIGS, "model.safetensors"])
    assert "consolidated.safetensors" not in chosen(*CONFIGS, "m.safetensors", "consolidated.safetensors")


def test_tokenizer_templates_licence_and_parts_of_encoders_come_along() -> None:
    beside = ["tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "qwen.tiktoken", "chat_template.jinja"]
    beside += ["generation_config.json", "preprocessor_config.json", "LICENSE", "NOTICE.txt", "README.md"]
    beside += ["modules.json", "1_Pooling/config.json", "2_Dense/model.safetensors", "2_Dense/config.json"]
    beside += ["additional_chat_templates/tool_use.jinja", "config_sentence_transformers.json"]
    assert set(beside) <= set(chosen(*CONFIGS, "model.safetensors", *beside))


@pytest.mark.parametrize("facts", [{"size_bytes": NO_SIZE, "sha256": "a" * 64}, {"size_bytes": 1}])
def test_a_file_that_cannot_be_checked_is_refused(facts: dict[str, Any]) -> None:
    files = [RemoteFile(path=path, **facts) for path in (*CONFIGS, "model.safetensors")]
    with pytest.raises(NotPullable, match=r"o/n: the hub names no size or no hash of config.json"):
        model_files("o/n", files)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ((*CONFIGS, "pytorch_model.bin"), "pytorch_model.bin is a pickle"),
        ((*CONFIGS, "m-q4.gguf"), "m-q4.gguf, a form of other programs"),
        (("adapter_config.json", "adapter_model.safetensors"), "is an adapter"),
        (("tokenizer_config.json", "model.safetensors"), r"no config.json \(the configuration\)"),
        (("config.json", "model.safetensors"), r"no tokenizer_config.json \(the tokenizer\)"),
        (("unet/model.safetensors",), "folders of parts"),
        (("README.md",), "its files: README.md"),
        ((), "its files: none"),
    ],
)
def test_what_is_no_model_that_can_be_served_is_refused_by_name(paths: tuple[str, ...], message: str) -> None:
    with pytest.raises(NotPullable, match=message):
        chosen(*paths)
