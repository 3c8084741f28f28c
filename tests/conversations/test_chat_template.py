"""Tools are written by a template that has them, else in Hermes' form; serving and training write the same tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from conversations.call_forms import HERMES, LLAMA, MISTRAL, MISTRAL_NEMO, CallForm
from conversations.chat_template import ChatTemplate
from conversations.turns import Call, Turn
from engines.transformers.requests.bodies import ChatRequest
from engines.transformers.requests.messages import render
from engines.transformers.requests.parsing import parse_body
from registry.contracts.training_file import parse_chat_line
from registry.contracts.training_json import parse_object
from tests.trainer.tiny_base import CHATML, save_tokenizer
from trainer.data.dataset import ChatEncoder

QWEN: Final = """
{%- if tools %}{{ '<|im_start|>system\n' -}}
{% if messages[0].role == 'system' %}{{ messages[0].content + '\n\n' }}{% endif -%}
# Tools
<tools>{% for tool in tools %}{{ '\n' + (tool | tojson) }}{% endfor %}{{ '\n</tools><|im_end|>\n' -}}
{% elif messages[0].role == 'system' %}{{ '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}{% endif -%}
{% for m in messages %}{% if m.role == 'user' or (m.role == 'system' and not loop.first) -%}
{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' -}}
{% elif m.role == 'assistant' %}{{ '<|im_start|>assistant' }}{% if m.content %}{{ '\n' + m.content }}{% endif -%}
{% for call in m.tool_calls or [] %}{{ '\n<tool_call>\n{"name": "' + call.function.name -}}
{{ '", "arguments": ' + (call.function.arguments | tojson) + '}\n</tool_call>' }}{% endfor %}{{ '<|im_end|>\n' -}}
{% elif m.role == 'tool' -%}
{{ '<|im_start|>user\n<tool_response>\n' + m.content + '\n</tool_response><|im_end|>\n' }}{% endif %}{% endfor -%}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif -%}
"""
"""In the manner of Qwen 2.5."""
LLAMA_3: Final = """
{%- if tools %}{{ '<|im_start|>user\n' + (tools | tojson) + '<|im_end|>' }}{% endif -%}
{% for m in messages %}{% if m.tool_calls -%}
{% if m.tool_calls | length != 1 %}{{ raise_exception('one call') }}{% endif -%}
{% set call = m.tool_calls[0].function -%}
{{ '<|im_start|>assistant\n{"name": "' + call.name + '", "parameters": ' + (call.arguments | tojson) + '}<|im_end|>' -}}
{% else %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' }}{% endif %}{% endfor -%}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif -%}
"""
"""In the manner of Llama 3.2."""
MISTRAL_3: Final = """
{%- for m in messages %}{% if m.role == 'user' -%}
{% if tools %}{{ '[AVAILABLE_TOOLS] ' + (tools | tojson) }}{% endif %}{{ '[INST] ' + m.content + '[/INST]' -}}
{% elif m.tool_calls %}{{ '[TOOL_CALLS] [' }}{% for call in m.tool_calls %}{{ (call.function | tojson)[:-1] -}}
{% if call.id | length != 9 %}{{ raise_exception('ids have 9 characters') }}{% endif -%}
{{ ', "id": "' + call.id + '"}' }}{% endfor %}{{ ']<|im_end|>' -}}
{% elif m.role == 'tool' %}{{ '[TOOL_RESULTS] ' + m.content + '[/TOOL_RESULTS]' -}}
{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{% endfor -%}
"""
"""In the manner of Mistral 7B v0.3."""
OWN_WAY: Final = QWEN.replace("<tool_call>", "<call>")
NO_SYSTEM: Final = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
TOOL: Final[dict[str, Any]] = {
    "type": "function",
    "function": {"parameters": {"type": "object", "default": None}, "name": "f"},
}
TOOL["function"] |= {"strict": True, "description": "Does it."}
SHOWN: Final = (
    '{"type": "function", "function": {"name": "f", "description": "Does it.", "parameters": {"type": "object"}}}'
)
ASKS = Turn(role="user", content="hi")
CALLS = Turn(role="assistant", content="Wait.", calls=(Call(name="f", arguments={"é": 1}, id="c"),))
RESULT = Turn(role="tool", content="42", call_id="c")


def template_of(folder: Path, source: str) -> ChatTemplate:
    save_tokenizer(folder, source)
    return ChatTemplate(AutoTokenizer.from_pretrained(folder))


def rendered(template: ChatTemplate, turns: list[Turn], tools: list[dict[str, Any]]) -> str:
    prepared = template.prepare(turns, tools)
    return template.render(prepared.messages, prepared.tools, opens_answer=True)


@pytest.mark.parametrize(
    ("source", "writes_tools", "form"),
    [
        (QWEN, True, HERMES),
        (LLAMA_3, True, LLAMA),
        (MISTRAL_3, True, MISTRAL),
        (MISTRAL_3.replace("[TOOL_CALLS] [", "[TOOL_CALLS]["), True, MISTRAL_NEMO),
        (OWN_WAY, True, None),
        (CHATML, False, HERMES),
        (QWEN.replace("tools", "documents"), False, HERMES),
        (QWEN.replace("m.tool_calls", "m.documents"), False, HERMES),
    ],
)
def test_a_template_is_tried_for_what_it_writes(
    tmp_path: Path, source: str, writes_tools: bool, form: CallForm | None
) -> None:
    template = template_of(tmp_path, source)
    assert (template.writes_tools, template.call_form) == (writes_tools, form)


def test_a_template_with_tools_writes_them_itself(tmp_path: Path) -> None:
    text = rendered(template_of(tmp_path, QWEN), [ASKS, CALLS, RESULT], [TOOL])
    assert f"<tools>\n{SHOWN}\n</tools>" in text
    assert 'Wait.\n<tool_call>\n{"name": "f", "arguments": {"é": 1}}\n</tool_call><|im_end|>' in text
    assert text.count("# Tools") == 1


@pytest.mark.parametrize("system", [None, "Be brief."])
def test_a_template_without_tools_gets_them_as_text(tmp_path: Path, system: str | None) -> None:
    turns = [Turn(role="system", content=system)] if system else []
    text = rendered(template_of(tmp_path, CHATML), [*turns, ASKS, CALLS, RESULT, RESULT], [TOOL])
    assert text.startswith(f"<|im_start|>system\n{system}\n\n# Tools\n" if system else "<|im_start|>system\n# Tools\n")
    assert f"<tools>\n{SHOWN}\n</tools>" in text
    assert '<|im_start|>assistant\nWait.\n<tool_call>\n{"name": "f", "arguments": {"é": 1}}\n</tool_call>' in text
    assert text.count("<tool_response>\n42\n</tool_response>") == 2
    assert text.count("<|im_start|>user") == 2


def test_a_template_without_a_system_gets_tools_in_the_first_message_of_the_user(tmp_path: Path) -> None:
    text = rendered(template_of(tmp_path, NO_SYSTEM), [ASKS, CALLS, RESULT], [TOOL])
    assert "<|im_start|>user\n# Tools\n" in text
    assert "</tool_call>\n\nhi<|im_end|>" in text


def test_without_tools_a_conversation_is_rendered_as_it_is(tmp_path: Path) -> None:
    for number, source in enumerate((CHATML, QWEN)):
        template = template_of(tmp_path / str(number), source)
        assert "Tools" not in rendered(template, [ASKS, Turn(role="assistant", content="Hello!"), ASKS], [])


# Training and serving

TEXTS = st.text(alphabet=st.sampled_from('ab {}"\\\n<>é☃'), max_size=8).map("x{}".format)
ARGUMENTS = st.dictionaries(
    TEXTS, TEXTS | st.none() | st.integers() | st.lists(st.floats(-9, 9), max_size=2), max_size=3
)
PROPERTY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def conversations(draw: st.DrawFn) -> dict[str, Any]:
    """A chat with tools, as clients send it and files have it, which ends with a question or a result."""
    messages: list[dict[str, Any]] = []
    if draw(st.booleans()):
        messages.append({"role": draw(st.sampled_from(["system", "developer"])), "content": draw(TEXTS)})
    messages.append({"role": "user", "content": draw(TEXTS), "name": draw(st.sampled_from([None, "Ann"]))})
    for turn in range(draw(st.integers(0, 2))):
        arguments = [
            json.dumps(draw(ARGUMENTS), ensure_ascii=draw(st.booleans())) for _ in range(draw(st.integers(1, 2)))
        ]
        calls = [
            {"id": f"c{turn}{at}", "type": "function", "function": {"name": "f", "arguments": text}}
            for at, text in enumerate(arguments)
        ]
        messages.append({"role": "assistant", "content": draw(st.none() | TEXTS), "tool_calls": calls})
        for call in calls:
            parts = [{"type": "text", "text": draw(TEXTS)}]
            content = draw(st.sampled_from([parts, parts[0]["text"]]))
            messages.append({"role": "tool", "content": content, "tool_call_id": call["id"]})
    return {
        "messages": messages,
        "tools": [TOOL, {"type": "function", "function": {"name": "g"}}][: draw(st.integers(0, 2))],
    }


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each template."""
    made = {}
    for name, source in {"chatml": CHATML, "qwen": QWEN, "no system": NO_SYSTEM, "own way": OWN_WAY}.items():
        save_tokenizer(folder := tmp_path_factory.mktemp("base"), source)
        made[name] = folder
    return made


@pytest.mark.long
@pytest.mark.parametrize("name", ["chatml", "qwen", "no system", "own way"])
@PROPERTY
@given(chat=conversations())
def test_training_reads_the_tokens_that_serving_reads(
    folders: dict[str, Path], name: str, chat: dict[str, Any]
) -> None:
    if name == "no system":
        chat = chat | {"messages": [each for each in chat["messages"] if each["role"] not in ("system", "developer")]}
    request = parse_body(ChatRequest, orjson.dumps({"model": "m", **chat}))
    template = ChatTemplate(AutoTokenizer.from_pretrained(folders[name]))
    served = render(template, request.messages, [tool.as_declared() for tool in request.tools])
    answer = {"role": "assistant", "content": "Good."}
    line = json.dumps({**chat, "messages": [*chat["messages"], answer]}).encode()
    for row in ChatEncoder(folders[name]).encode(parse_chat_line(parse_object(line, "line 1"), 1)):
        assert list(row.input_ids[: len(served)]) == served
        assert [*row.labels[: len(served)]][-1] == -100 or len(row.input_ids) > len(served)
