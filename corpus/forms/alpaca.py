"""Alpaca: `instruction`, `input` and `output`, with `system` and `history` where the data set has them."""

from __future__ import annotations

from typing import Any, Final

from corpus.forms.form import SYSTEM_FIELDS, Form, Row, RowRefused, as_json, chat, needed_text, text_of


def _fits(row: Row) -> bool:
    return "instruction" in row and ("output" in row or {"chosen", "rejected"} <= row.keys())


def _line(row: Row) -> dict[str, Any]:
    asked = needed_text(row, "instruction")
    given = text_of(row, "input")
    turns = [*past_turns(row), {"role": "user", "content": f"{asked}\n\n{given}" if given.strip() else asked}]
    system = text_of(row, *SYSTEM_FIELDS)
    if row.get("chosen") and row.get("rejected"):
        return {
            "input": chat(system, turns),
            "preferred_output": [{"role": "assistant", "content": needed_text(row, "chosen")}],
            "non_preferred_output": [{"role": "assistant", "content": needed_text(row, "rejected")}],
        }
    return chat(system, [*turns, {"role": "assistant", "content": needed_text(row, "output")}])


def past_turns(row: Row) -> list[dict[str, Any]]:
    """Return the turns of `history`, pairs of a question and its answer; `RowRefused`."""
    history = as_json(row.get("history"), "history") or []
    if not isinstance(history, list):
        raise RowRefused("history must be a list of questions with their answers")
    turns = []
    for at, pair in enumerate(history):
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise RowRefused(f"history[{at}] must be a question and its answer")
        turns += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    return turns


ALPACA: Final = Form(name="alpaca", fields="instruction, input and output", fits=_fits, line=_line)
