"""The report counts the tokens of a row as training encodes them, whatever the chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from corpus.chat_tokens import TokenCounter
from registry.contracts.training_formats import CHATS_OR_TEXTS, MARKED, PROMPTS, LineParser
from tests.trainer.data.test_checked_rows import TEMPLATES
from tests.trainer.tiny_base import save_tokenizer
from trainer.data.dataset import ChatEncoder

ASKS: Final = {"role": "user", "content": "How much is the pot? \n"}
CALLS: Final = {
    "role": "assistant",
    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "price", "arguments": '{"of": "pot"}'}}],
}
TOOLS: Final = [{"type": "function", "function": {"name": "price", "parameters": {"type": "object", "properties": {}}}}]
ROWS: Final[Mapping[str, dict[str, Any]]] = {
    "chat": {"messages": [ASKS, {"role": "assistant", "content": " It is 12 €. "}]},
    "turns": {"messages": [ASKS, {"role": "assistant", "content": "12"}, ASKS, {"role": "assistant", "content": "13"}]},
    "tools": {
        "messages": [ASKS, CALLS, {"role": "tool", "content": "12", "tool_call_id": "c"}, CALLS | {"content": "So:"}],
        "tools": TOOLS,
    },
    "text": {"prompt": "Once upon a ", "completion": "time, and more"},
    "text without a prompt": {"prompt": "", "completion": "a"},
    "pair": {
        "input": {"messages": [ASKS]},
        "preferred_output": [{"role": "assistant", "content": "12"}],
        "non_preferred_output": [{"role": "assistant", "content": "Twelve, I should think."}],
    },
    "rated": {"messages": [ASKS, {"role": "assistant", "content": "12"}], "label": True},
    "prompt": {"messages": [{"role": "system", "content": "Be brief."}, ASKS], "answer": "12"},
}


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("begins", [False, True])
@pytest.mark.parametrize("template", TEMPLATES)
def test_rows_are_as_long_as_training_encodes_them(tmp_path: Path, template: str, begins: bool, row: str) -> None:
    save_tokenizer(tmp_path, TEMPLATES[template])
    if begins:
        _begin_texts(tmp_path)
    formats = PROMPTS if row == "prompt" else next((each for each in MARKED if each.marks & ROWS[row].keys()), None)
    line = LineParser((formats,) if formats else CHATS_OR_TEXTS).parse(json.dumps(ROWS[row]).encode(), 1)
    encoder = ChatEncoder(tmp_path)
    if row == "prompt":
        longest = len(encoder.open_answer([message.as_template_input() for message in line.messages]))
    else:
        longest = max(len(encoded.input_ids) for chat in line.chats for encoded in encoder.encode(chat))
    [counted] = TokenCounter(tmp_path).count([line])
    assert (counted.tokens, counted.refused) == (longest, "")


def _begin_texts(folder: Path) -> None:
    """Have the tokenizer put a token before every text, as Llama's does."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    first = tokenizer.convert_ids_to_tokens(1)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{first} $A", pair=f"{first} $A $B", special_tokens=[(first, 1)]
    )
    tokenizer.save_pretrained(folder)
