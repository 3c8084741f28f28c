"""Every row that the check of uploads passes can be trained on; hypothesis writes the rows as people's tools do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from registry.contracts.training_formats import CHATS_OR_TEXTS, check_training_lines
from registry.errors import TrainingFileInvalid
from tests.trainer.tiny_base import CHATML, save_tokenizer
from trainer.data.dataset import ChatEncoder, read_rows
from trainer.data.encoded_row import IGNORED, EncodedRow, collate
from trainer.data.fitting_rows import FittingRows, RowLimits
from trainer.data.probes import training_prompts
from trainer.errors import JobFailed

TRIMS: Final = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + (m.content | trim) + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
THINKS: Final = (
    "{% if messages | selectattr('role', 'equalto', 'user') | list | length == 0 %}"
    "{{ raise_exception('no user query') }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if loop.last and m.role == 'assistant' %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""As of models that think: only the last answer has the block, and a chat without a user is refused."""
CALLS: Final = (
    "{% if tools %}{{ '<|im_start|>system\n' + (tools | tojson) + '<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role }}{% if m.content %}{{ '\n' + m.content }}{% endif %}"
    "{% for call in m.tool_calls or [] %}{{ '\n<tool_call>\n' + call.function.name + ' ' }}"
    "{{ (call.function.arguments | tojson) + '\n</tool_call>' }}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEMPLATES: Final[Mapping[str, str]] = {"chatml": CHATML, "trims": TRIMS, "thinks": THINKS, "calls": CALLS}

TEXTS: Final = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [
            "",
            " ",
            "\n lead",
            "trail \n",
            "a\u2028b\u0085c",
            "\U0001f469\u200d\U0001f467",
            "\ufeffx",
            "\x00",
            "\u202eabc",
        ]
    ),
    st.sampled_from(
        ["<|im_end|>", "<|im_start|>assistant\nfake<|im_end|>", "\ue000", "{{ 7 }}", "line\r\nline", "e\u0301"]
    ),
    st.just("long " * 400),
)
HOLES: Final = st.dictionaries(st.sampled_from(["name", "weight", "tool_calls", "audio", "refusal"]), st.none())


def contents() -> st.SearchStrategy[Any]:
    parts = st.lists(TEXTS.map(lambda text: {"type": "text", "text": text, "image_url": None}), max_size=2)
    return TEXTS | parts


ARGUMENTS: Final = st.dictionaries(st.text(max_size=4), st.none() | st.integers() | st.text(max_size=4), max_size=2)
CALL: Final = st.builds(
    lambda name, arguments, as_text: {
        "id": "c1",
        "type": "function",
        "function": {"name": name, "arguments": json.dumps(arguments) if as_text else arguments},
    },
    st.text(min_size=1, max_size=4),
    ARGUMENTS,
    st.booleans(),
)


@st.composite
def messages_of(draw: st.DrawFn, *, with_tools: bool) -> dict[str, Any]:
    roles = ["system", "developer", "user", "assistant", "assistant", *(["tool"] if with_tools else [])]
    message = draw(HOLES) | {"role": draw(st.sampled_from(roles)), "content": draw(contents())}
    if message["role"] == "assistant":
        message |= draw(st.sampled_from([{}, {"weight": 1.0}, {"weight": 0}, {"reasoning_content": "Hm."}]))
        if with_tools and draw(st.booleans()):
            message |= {"content": draw(st.none() | contents()), "tool_calls": draw(st.lists(CALL, max_size=2))}
    return message


@st.composite
def lines_of(draw: st.DrawFn, *, with_tools: bool) -> bytes:
    chat = draw(st.lists(messages_of(with_tools=with_tools), min_size=1, max_size=4))
    answer = {"role": "assistant", "content": draw(TEXTS)}
    fields: dict[str, Any] = {"messages": [*chat, answer], "tools": None}
    if with_tools and draw(st.booleans()):
        fields["tools"] = [{"type": "function", "function": {"name": "f", "parameters": {"enum": [None]}}}]
    end = draw(st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\n \t\n"]))
    return json.dumps(fields, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass") + end


@st.composite
def texts_of(draw: st.DrawFn) -> bytes:
    fields = {"prompt": draw(st.none() | TEXTS), "completion": draw(TEXTS), "messages": None}
    return json.dumps(fields, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass") + b"\n"


@pytest.fixture(scope="session")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ChatEncoder]:
    """An encoder for each template."""
    found = {}
    for name, template in TEMPLATES.items():
        save_tokenizer(folder := tmp_path_factory.mktemp(name), template)
        found[name] = ChatEncoder(folder)
    return found


def passed(line: bytes) -> bool:
    """Whether the check passes a file of this line."""
    try:
        check_training_lines(BytesIO(line * 10))
    except TrainingFileInvalid as exc:
        assert str(exc).startswith("line "), exc
        return False
    return True


PROPERTY: Final = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.long
@pytest.mark.parametrize("name", TEMPLATES)
@PROPERTY
@given(data=st.data())
def test_what_the_check_passes_can_be_trained_on(
    encoders: dict[str, ChatEncoder], tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    line = data.draw(lines_of(with_tools=True) | texts_of())
    if not passed(line):
        return
    path = tmp_path_factory.getbasetemp() / f"{name}.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + line * 2)
    has_users = name != "thinks" or b'"user"' in line or b'"prompt"' in line
    fitting = FittingRows(RowLimits(max_length=20_000))
    rows = read_rows(path, encoders[name], fitting)
    for reason in fitting.unfit().reasons:
        assert not has_users, reason
        assert reason.example.startswith("line 1: the base model's chat template refuses it: no user query")
        return
    assert all(is_sound(row) for row in rows)
    learnt = collate(rows[:1])["labels"] != IGNORED
    assert learnt.any(), "a batch of the row has something to learn"
    training_prompts(path, 4, CHATS_OR_TEXTS)


def is_sound(row: EncodedRow) -> bool:
    """Something is learnt, as it stands in the row, and the end token with it."""
    learnt = [token for token, label in zip(row.input_ids, row.labels, strict=True) if label == token]
    return (
        len(learnt) >= 1
        and learnt[-1] == 2
        and all(label in (IGNORED, token) for token, label in zip(row.input_ids, row.labels, strict=True))
    )


def learnt_text(folder: Path, row: EncodedRow) -> str:
    return str(AutoTokenizer.from_pretrained(folder).decode([label for label in row.labels if label != IGNORED]))


def encode(folder: Path, template: str, *messages: Mapping[str, Any], **fields: Any) -> list[str]:
    """Return the learnt text of every row that the chat becomes."""
    save_tokenizer(folder, template)
    path = folder / "chats.jsonl"
    path.write_text(json.dumps({"messages": messages, **fields}) + "\n")
    fitting = FittingRows(RowLimits(max_length=512))
    rows = read_rows(path, ChatEncoder(folder), fitting)
    if unfit := fitting.unfit().reasons:
        raise JobFailed(unfit[0].reason, unfit[0].example)
    return [learnt_text(folder, row) for row in rows]


OPENS: Final = {"role": "assistant", "content": "Hello!"}
ASKS: Final = {"role": "user", "content": "hi"}
ANSWERS: Final = {"role": "assistant", "content": "Good."}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_chat_that_the_assistant_opens_is_learnt_from_its_first_word(tmp_path: Path, name: str) -> None:
    learnt = encode(tmp_path, TEMPLATES[name], OPENS, ASKS, ANSWERS)
    last = "<think>\n\n</think>\n\nGood.<|im_end|>" if name == "thinks" else "Good.<|im_end|>"
    assert learnt == ["Hello!<|im_end|>" + last]


def test_an_answer_that_changes_when_others_follow_is_learnt_as_it_was_due(tmp_path: Path) -> None:
    assert encode(tmp_path, THINKS, ASKS, OPENS, ASKS, ANSWERS) == [
        "<think>\n\n</think>\n\nGood.<|im_end|>",
        "<think>\n\n</think>\n\nHello!<|im_end|>",
    ]


def test_an_answer_that_changes_the_turns_before_it_is_learnt_after_the_engines_prompt(tmp_path: Path) -> None:
    marks_last = "{% for m in messages %}{{ (loop.last and 'last ' or '') + m['content'] }}<|im_end|>{% endfor %}"
    save_tokenizer(tmp_path, marks_last)
    (tmp_path / "chats.jsonl").write_text(json.dumps({"messages": [ASKS, OPENS, ASKS, ANSWERS]}) + "\n")
    rows = read_rows(tmp_path / "chats.jsonl", ChatEncoder(tmp_path), FittingRows(RowLimits(max_length=512)))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert [tokenizer.decode(row.input_ids) for row in rows] == [
        "last hi<|im_end|>Hello!<|im_end|>",
        "hi<|im_end|>Hello!<|im_end|>last hi<|im_end|>Good.<|im_end|>",
    ]


def test_a_tool_call_is_learnt_and_its_result_is_read(tmp_path: Path) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"day": null}'}}
    calls = {"role": "assistant", "content": None, "tool_calls": [call]}
    learnt = encode(tmp_path, CALLS, ASKS, calls, {"role": "tool", "content": "42", "tool_call_id": "c"}, ANSWERS)
    assert learnt == ['<tool_call>\nf {"day": null}\n</tool_call><|im_end|>Good.<|im_end|>']


def test_calls_that_the_template_leaves_out_fail_the_job(tmp_path: Path) -> None:
    either = CALLS.replace("in m.tool_calls or []", "in (not m.content and m.tool_calls) or []")
    call = {"function": {"name": "f", "arguments": "{}"}}
    calls = {"role": "assistant", "content": "Wait.", "tool_calls": [call]}
    with pytest.raises(JobFailed, match=r"^line 1: the base model's chat template leaves out tool calls;"):
        encode(tmp_path, either, ASKS, calls, ANSWERS)


def test_a_template_without_tools_learns_them_in_the_form_of_hermes(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    calls = [{"id": name, "function": {"name": "f", "arguments": json.dumps({"of": name})}} for name in "ab"]
    results = [{"role": "tool", "content": name.upper(), "tool_call_id": name} for name in "ab"]
    asked = {"role": "assistant", "content": None, "tool_calls": calls}
    save_tokenizer(tmp_path, CHATML)
    line = {"messages": [ASKS, asked, *results, ANSWERS], "tools": tools}
    (tmp_path / "chats.jsonl").write_text(json.dumps(line) + "\n")
    [row] = read_rows(tmp_path / "chats.jsonl", ChatEncoder(tmp_path), FittingRows(RowLimits(max_length=2000)))
    called = "\n".join(f'<tool_call>\n{{"name": "f", "arguments": {{"of": "{name}"}}}}\n</tool_call>' for name in "ab")
    assert "".join(learnt_text(tmp_path, row)) == f"{called}<|im_end|>Good.<|im_end|>"
    text = AutoTokenizer.from_pretrained(tmp_path).decode(row.input_ids)
    assert text.startswith("<|im_start|>system\n# Tools\n")
    assert '<tools>\n{"type": "function", "function": {"name": "f"}}\n</tools>' in text
    assert "user\n<tool_response>\nA\n</tool_response>\n<tool_response>\nB\n</tool_response><|im_end|>" in text


def test_a_completion_of_the_end_token_alone_can_be_trained_on(
    encoders: dict[str, ChatEncoder], tmp_path: Path
) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"prompt": "", "completion": "<|im_end|>"}\n' * 2)
    rows = read_rows(path, encoders["chatml"], FittingRows(RowLimits(max_length=20_000)))
    assert (collate(rows[:1])["labels"] != IGNORED).any()
