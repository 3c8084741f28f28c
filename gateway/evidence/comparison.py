"""Comparison of two answers to one conversation by a judge model. Pure: builds questions, reads replies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from registry.rollouts.tally import Tally

_QUESTION: Final = (
    "Below are a conversation and two candidate answers to it, A and B. Decide which one serves the user better. "
    "Length alone is no merit. Reply with one word and nothing else: A, B, or TIE if neither is better."
)
_LONGEST_CONVERSATION: Final = 12_000
_LONGEST_ANSWER: Final = 6_000
_REPLY: Final = re.compile(r"\s*(A|B|TIE)\s*")


def question(body: Mapping[str, Any], answer_a: str, answer_b: str) -> dict[str, Any]:
    """Return a chat request about two answers to the request *body*; long texts are cut, conversations at the front."""
    text = (
        f"[conversation]\n{_conversation(body)[-_LONGEST_CONVERSATION:]}\n\n"
        f"[answer A]\n{answer_a[:_LONGEST_ANSWER]}\n\n[answer B]\n{answer_b[:_LONGEST_ANSWER]}"
    )
    messages = [{"role": "system", "content": _QUESTION}, {"role": "user", "content": text}]
    return {"messages": messages, "temperature": 0, "max_tokens": 4}


def preference_in(reply: str) -> float | None:
    """Return 1 if the *reply* prefers A, 0 for B, 0.5 for a tie, and None for any other reply."""
    word = _REPLY.fullmatch(reply)
    return None if word is None else {"A": 1.0, "B": 0.0, "TIE": 0.5}[word[1]]


def decided(canary_first: float, canary_second: float) -> Tally:
    """Return the tally of one pair from the preference for A with the canary first, then with stable first.

    Both orders are asked because judge models favour a position; one that always prefers the first place yields a tie.
    """
    score = (canary_first + 1.0 - canary_second) / 2
    return Tally(comparisons=1, win_sum=score, win_square_sum=score * score)


def _conversation(body: Mapping[str, Any]) -> str:
    messages = body.get("messages")
    if not isinstance(messages, list):
        return str(body.get("prompt", ""))
    turns = [message for message in messages if isinstance(message, dict)]
    return "\n".join(f"{turn.get('role')}: {_text(turn.get('content'))}" for turn in turns)


def _text(content: object) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")
