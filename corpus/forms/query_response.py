"""Query and response, as ModelScope's data sets have them: with `system` and `history`; a rejected one makes a pair."""

from __future__ import annotations

from typing import Any, Final

from corpus.forms.alpaca import past_turns
from corpus.forms.form import SYSTEM_FIELDS, Form, Row, chat, needed_text, text_of

_QUESTIONS: Final = ("query", "question")
_ANSWERS: Final = ("response", "answer")
_REJECTED: Final = ("rejected_response", "rejected")


def _fits(row: Row) -> bool:
    return any(name in row for name in _QUESTIONS) and any(name in row for name in _ANSWERS)


def _line(row: Row) -> dict[str, Any]:
    turns = [*past_turns(row), {"role": "user", "content": needed_text(row, *_QUESTIONS)}]
    answer = {"role": "assistant", "content": needed_text(row, *_ANSWERS)}
    system = text_of(row, *SYSTEM_FIELDS)
    rejected = text_of(row, *_REJECTED)
    if rejected:
        other = {"role": "assistant", "content": rejected}
        return {"input": chat(system, turns), "preferred_output": [answer], "non_preferred_output": [other]}
    return chat(system, [*turns, answer])


QUERY_RESPONSE: Final = Form(name="query-response", fields="query and response", fits=_fits, line=_line)
