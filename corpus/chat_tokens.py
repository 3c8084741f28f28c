"""Lengths in tokens as training counts them, by a base model's own tokenizer and chat template, without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from conversations.chat_template import ChatTemplate, TemplateRefused
from conversations.turns import Call, Turn, turn_role
from corpus.errors import SourceRefused
from registry.contracts.chat_template import read_processor_template
from registry.contracts.training_file import TrainingRow
from registry.contracts.training_formats import TrainingLine
from registry.contracts.training_message import ChatMessage

_KEPT_WORDS: Final = 100_000
"""Words whose tokens are kept. The library keeps 10,000, and large files have more: most words were split anew."""
_NAMED_TOKENS: Final = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedRow:
    """A row's length."""

    tokens: int
    """Length of the row; of a pair, that of the longer chat."""
    refused: str = ""
    """Why the chat template does not take the row."""


class _Tokenizer:
    """The part of a tokenizer that `ChatTemplate` uses, from the files of a base model's folder."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        try:
            self.fast = Tokenizer.from_file(str(folder / "tokenizer.json"))
            config = json.loads((folder / "tokenizer_config.json").read_bytes())
        # The library raises `Exception` itself for a file that it cannot read.
        except Exception as exc:
            raise SourceRefused(f"--model {folder}: the tokenizer cannot be read: {exc}") from exc
        with suppress(AttributeError):  # a kind of model that keeps no words
            self.fast.model._resize_cache(_KEPT_WORDS)
        self.fast.no_truncation()
        self.fast.no_padding()
        marked, plain = (self.fast.encode("a", add_special_tokens=is_marked).ids for is_marked in (True, False))
        self.opening = marked.index(plain[0]) if plain and plain[0] in marked else 0
        """Tokens that the tokenizer puts before a text, such as that of its beginning."""
        self._tokens = {name: _token_text(config.get(name)) for name in _NAMED_TOKENS if config.get(name) is not None}
        template = _template_text(folder, config)
        self._template = None if template is None else _environment().from_string(template)

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None,
        tokenize: bool,
        add_generation_prompt: bool,
        **arguments: Any,
    ) -> str:
        """Return the rendered chat as transformers renders it."""
        if self._template is None or tokenize:
            raise ValueError("the base model has no chat template")
        text: str = self._template.render(
            messages=messages,
            tools=tools,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            **self._tokens,
            **arguments,
        )
        return text


class TokenCounter:
    """Counts the tokens of rows for one base model."""

    def __init__(self, folder: Path) -> None:
        """Raise `SourceRefused` if the folder has no tokenizer."""
        self._tokenizer = _Tokenizer(folder)
        self._template = ChatTemplate(self._tokenizer)

    def count(self, rows: Sequence[TrainingLine]) -> list[CountedRow]:
        """Return the length of each row; a text's end token is counted."""
        texts: list[str] = []
        owners: list[tuple[int, int]] = []
        refused: dict[int, str] = {}
        for at, row in enumerate(rows):
            for chat in row.chats:
                try:
                    texts.append(self._text(chat))
                except TemplateRefused as exc:
                    refused.setdefault(at, str(exc)[:120])
                else:
                    # A text has the tokens of its beginning, and gets an end token.
                    owners.append((at, 0 if chat.text is None else self._tokenizer.opening + 1))
        longest = [0] * len(rows)
        for (at, extra), found in zip(owners, self._lengths(texts), strict=True):
            longest[at] = max(longest[at], found + extra)
        return [CountedRow(tokens=length, refused=refused.get(at, "")) for at, length in enumerate(longest)]

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        return [len(one) for one in self._tokenizer.fast.encode_batch_fast(texts, add_special_tokens=False)]

    def _text(self, chat: TrainingRow) -> str:
        if chat.text is not None:
            return chat.text.prompt + chat.text.completion
        prepared = self._template.prepare([_turn(message) for message in chat.messages], chat.tools)
        ends_with_user = chat.messages[-1].role == "user"
        return self._template.render(prepared.messages, prepared.tools, opens_answer=ends_with_user)


def read_context(folder: Path) -> int | None:
    """Return how many tokens the base model can read; None where its configuration has no limit."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    inner = config.get("text_config") or config
    found = inner.get("max_position_embeddings") or inner.get("n_positions")
    return int(found) if isinstance(found, int) else None


def _turn(message: ChatMessage) -> Turn:
    calls = [
        Call(name=call["function"]["name"], arguments=call["function"]["arguments"], id=call.get("id", ""))
        for call in message.tool_calls
    ]
    return Turn(
        role=turn_role(message.role),
        content=message.content,
        name=message.name,
        calls=tuple(calls),
        call_id=message.tool_call_id,
    )


def _token_text(value: Any) -> str:
    return str(value["content"]) if isinstance(value, dict) else str(value)


def _template_text(folder: Path, config: Mapping[str, Any]) -> str | None:
    own = folder / "chat_template.jinja"
    if own.is_file():
        return own.read_text()
    written = config.get("chat_template")
    if isinstance(written, list):
        written = next((entry["template"] for entry in written if entry.get("name") == "default"), None)
    return written or read_processor_template(folder)


def _environment() -> Any:
    """Return the sandbox in which transformers renders chat templates."""
    from jinja2.exceptions import TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.nodes import CallBlock, Node
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks answers for training; here its block is its content."""

        tags = {"generation"}  # noqa: RUF012  as Jinja declares it

        def parse(self, parser: Parser) -> Node | list[Node]:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return CallBlock(self.call_method("_inside"), [], [], body).set_lineno(line)

        def _inside(self, caller: Any) -> str:
            return str(caller())

    def refuse(message: str) -> NoReturn:
        raise TemplateError(message)

    def as_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.filters["tojson"] = as_json
    made.globals["raise_exception"] = refuse
    made.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return made
