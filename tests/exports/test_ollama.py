"""Chat templates of known families as Ollama's; others are left alone."""

from __future__ import annotations

import pytest

from exports.ollama import modelfile, ollama_chat
from tests.trainer.tiny_base import CHATML

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
PLAIN_CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA_3 = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' "
    "+ message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}"
)
GEMMA = (
    "{{ bos_token }}{% for message in messages %}{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' "
    "else message['role']) + '\\n' + message['content'] + '<end_of_turn>\\n' }}{% endfor %}"
    "{{ '<start_of_turn>model\\n' }}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + "
    "' [/INST]' }}{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)


@pytest.mark.parametrize(
    ("template", "family"),
    [(PLAIN_CHATML, "ChatML"), (LLAMA_3, "Llama 3"), (GEMMA, "Gemma"), (MISTRAL, "Mistral")],
)
def test_a_template_that_writes_the_same_prompts_is_of_its_family(template: str, family: str) -> None:
    chat = ollama_chat(template, TOKENS)
    assert chat is not None
    assert (chat.family, chat.system) == (family, None)


def test_a_default_system_prompt_becomes_that_of_the_modelfile() -> None:
    chat = ollama_chat(CHATML, {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"})
    assert chat is not None
    assert (chat.family, chat.system) == ("ChatML", "Be kind")
    text = modelfile("model.gguf", None, chat, "apache-2.0")
    assert text.startswith('FROM ./model.gguf\nTEMPLATE """{{- range .Messages }}<|im_start|>{{ .Role }}')
    assert 'PARAMETER stop "<|im_end|>"\nSYSTEM """Be kind"""\nLICENSE """apache-2.0"""\n' in text


@pytest.mark.parametrize(
    "template",
    [None, "", "{{ messages", PLAIN_CHATML.replace("\\n", " "), "{{ raise_exception('no') }}", "{{ messages[9].x.y }}"],
)
def test_a_template_of_another_form_is_left_to_ollama(template: str | None) -> None:
    assert ollama_chat(template, TOKENS) is None
    assert "TEMPLATE" not in modelfile("model.gguf", "adapter.gguf", None, None)
