"""The lengths of a training file's rows in the tokens of a base model, from a sample of its lines.

Lines are chosen by their bytes before any is read: some in equal distances by size, and the longest ones. The tokenizer
is that of the folder's `tokenizer.json`, the chat template its own; both libraries are loaded when they are used.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any, Final

from estimates.data_shape import DataShape, RowLength
from registry.contracts.chat_template import read_chat_template
from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.training_file import TrainingRow
from registry.contracts.training_formats import LineParser, TrainingLine
from registry.errors import TrainingFileInvalid

SAMPLED: Final = 160
"""Lines whose tokens are counted."""
LONGEST_SAMPLED: Final = 16
"""Number of the longest rows among them."""
CHARACTERS_A_TOKEN: Final = 3.6
"""For models without a `tokenizer.json`: characters of English text for a token of usual vocabularies, a few short."""
MARKS_OF_A_TURN: Final = 5
"""Tokens around a message, as ChatML has them, where a template cannot be rendered."""
PICTURE_TOKENS: Final = 576
"""Tokens of a picture: 24 x 24 patches, as LLaVA-1.5 has (arXiv:2310.03744); other models have fewer or more."""

CountTokens = Callable[[str], list[int]]


def read_data_shape(file: Path, kind: type[FineTuneSpec], base: Path | None) -> DataShape:
    """Return the shape of *file* for jobs of *kind* on the base model in the folder *base*; None counts characters.

    `TrainingFileInvalid` names a sampled line that is no row of the method.
    """
    with file.open("rb") as lines:
        sizes = [(len(line), at) for at, line in enumerate(lines) if line.strip()]
    chosen = _chosen(sizes)
    with file.open("rb") as lines:
        texts = {at: line for at, line in enumerate(lines) if at in chosen}
    parser = LineParser(kind.formats)
    rows = [parser.parse(texts[at], at + 1) for at in sorted(texts)]
    if not rows:
        raise TrainingFileInvalid("the file is empty; it needs one JSON object a line")
    reader = RowReader(base)
    encoded = [reader.read(row) for row in rows]
    return DataShape(
        rows=len(sizes),
        sample=tuple(length for length, _ in encoded),
        shared=_shared([ids for _, ids in encoded]),
    )


def _chosen(sizes: Sequence[tuple[int, int]]) -> frozenset[int]:
    """Return the places of the lines that are read."""
    ordered = sorted(sizes, reverse=True)
    step = max(1, -(-len(ordered) // (SAMPLED - LONGEST_SAMPLED)))
    # The longest lines stand for themselves alone: too many of them would make every pass look long.
    longest = ordered[:LONGEST_SAMPLED] if step == 1 else ordered[:1]
    return frozenset(at for _, at in (*longest, *ordered[step // 2 :: step]))


def _shared(rows: Sequence[Sequence[int]]) -> int:
    """Return how many first tokens all rows have in common."""
    if len(rows) < 2:
        return 0
    return min(
        sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
        for one, other in pairwise(rows)
    )


class RowReader:
    """Reads rows as tokens."""

    def __init__(self, base: Path | None) -> None:
        self._count: CountTokens = _by_characters if base is None else _tokenizer(base)
        self._render = None if base is None else _template(base)

    def read(self, row: TrainingLine) -> tuple[RowLength, list[int]]:
        """Return the lengths of a row, and the tokens that it begins with."""
        chats = row.chats
        wholes = [self._whole(chat) for chat in chats]
        learnt = [self._learnt(chat) for chat in chats]
        prompt = max(len(whole) - own for whole, own in zip(wholes, learnt, strict=True))
        return RowLength(max(1, prompt), tuple(max(1, own) for own in learnt)), wholes[0]

    def _whole(self, chat: TrainingRow) -> list[int]:
        if chat.text is not None:
            return self._count(chat.text.prompt + chat.text.completion)
        found = None if self._render is None else self._render(chat)
        if found is not None:
            return self._count(found) + [0] * (PICTURE_TOKENS * len(chat.pictures))
        ids: list[int] = []
        for message in chat.messages:
            ids += self._count(message.content) + [0] * (MARKS_OF_A_TURN + PICTURE_TOKENS * len(message.pictures))
        return ids

    def _learnt(self, chat: TrainingRow) -> int:
        if chat.text is not None:
            return len(self._count(chat.text.completion)) + 1
        # With its end token; calls of tools are learnt as their JSON.
        return sum(
            len(self._count(message.content + (json.dumps([*message.tool_calls]) if message.tool_calls else ""))) + 1
            for message in chat.messages
            if message.is_learnt
        )


def _by_characters(text: str) -> list[int]:
    return [0] * -(-len(text) // round(CHARACTERS_A_TOKEN))


def _tokenizer(base: Path) -> CountTokens:
    file = base / "tokenizer.json"
    if not file.is_file():
        return _by_characters
    from tokenizers import Tokenizer  # some megabytes that a resting gateway does without

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception:  # noqa: BLE001  # the library raises nothing narrower; the trainer reports a broken tokenizer
        return _by_characters

    def count(text: str) -> list[int]:
        # Half of a pair of surrogates is no text to the library.
        return list(tokenizer.encode(text.encode(errors="replace").decode(), add_special_tokens=False).ids)

    return count


def _template(base: Path) -> Callable[[TrainingRow], str | None] | None:
    """Return what renders a chat by the folder's template; None where there is none."""
    source = read_chat_template(base)
    if not source:
        return None
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: form
    marks = _special_tokens(base)
    try:
        template = environment.from_string(source)
    except TemplateError:
        return None

    def render(chat: TrainingRow) -> str | None:
        messages = [message.as_template_input() for message in chat.messages]
        try:
            return template.render(messages=messages, tools=[*chat.tools] or None, **marks)
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError):
            return None

    return render


def _refuse(message: str) -> None:
    raise ValueError(message)


def _special_tokens(base: Path) -> Mapping[str, Any]:
    try:
        config: Any = json.loads((base / "tokenizer_config.json").read_bytes())
    except (OSError, ValueError):
        return {}
    names = ("bos_token", "eos_token", "pad_token", "unk_token")
    found = {name: config.get(name) for name in names} if isinstance(config, dict) else {}
    return {name: value["content"] if isinstance(value, dict) else value for name, value in found.items() if value}
