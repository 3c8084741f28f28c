"""Pairs as preference data sets have them: `prompt`, `chosen` and `rejected`, as texts or as lists of messages."""

from __future__ import annotations

from typing import Any, Final

from corpus.forms.form import SYSTEM_FIELDS, Form, Row, RowRefused, as_json, chat, text_of


def _fits(row: Row) -> bool:
    return {"chosen", "rejected"} <= row.keys()


def _line(row: Row) -> dict[str, Any]:
    prompt, chosen, rejected = (_turns(row, name, role) for name, role in _ROLES.items())
    if not prompt:  # both answers are whole chats, which share their beginning
        shared = next(
            (at for at, pair in enumerate(zip(chosen, rejected, strict=False)) if pair[0] != pair[1]),
            min(len(chosen), len(rejected)),
        )
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    else:
        chosen, rejected = _after(prompt, chosen), _after(prompt, rejected)
    if not prompt:
        raise RowRefused("there is no prompt: prompt is missing, and chosen and rejected share no beginning")
    if not chosen or not rejected:
        raise RowRefused("chosen or rejected has no answer")
    return {
        "input": chat(text_of(row, *SYSTEM_FIELDS), prompt),
        "preferred_output": chosen,
        "non_preferred_output": rejected,
    }


_ROLES: Final = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}


def _turns(row: Row, name: str, role: str) -> list[dict[str, Any]]:
    value = row.get(name)
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        value = as_json(value, name)
    if isinstance(value, list):
        if not all(isinstance(turn, dict) and {"role", "content"} <= turn.keys() for turn in value):
            raise RowRefused(f"{name} must be a text or a list of messages with role and content")
        return [{"role": turn["role"], "content": turn["content"]} for turn in value]
    return [{"role": role, "content": text}] if (text := text_of(row, name)).strip() else []


def _after(prompt: list[dict[str, Any]], turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return turns[len(prompt) :] if turns[: len(prompt)] == prompt else turns


PREFERENCE: Final = Form(name="chosen-rejected", fields="prompt, chosen and rejected", fits=_fits, line=_line)
