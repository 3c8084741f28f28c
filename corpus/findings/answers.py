"""Answers that a model should rather not learn: empty ones, refusals, broken-off ones, and those that go in circles."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

PLACEHOLDERS: Final = frozenset(
    {"n/a", "na", "none", "null", "nan", "nil", "todo", "tbd", "undefined", "empty", "unknown"}
)
_REFUSAL_FIRST: Final = re.compile(
    r"\W*(?:(?:(?:i['\u2019]?m|i am) (?:very |so |truly |really )?sorry\b|sorry,? (?:but )?i\b"
    r"|i apologi[sz]e\b|unfortunately,? i\b)"
    r"[^.\n]{0,60}?\b(?:can(?:no|['\u2019])?t|can not|unable|won['\u2019]?t|not able|not allowed)\b"
    r"|(?:i (?:cannot|can['\u2019]t|can not|won['\u2019]t|am unable to|am not able to|must decline)"
    r"|i['\u2019]m (?:unable|not able|not allowed) to)\b"
    r"[^.\n]{0,40}?\b(?:help|assist|provide|fulfil|comply|answer|support|do that|discuss|generate|create|share|engage)"
    r"|(?:es tut mir leid|tut mir leid|entschuldigung)\b[^.\n]{0,80}\b(?:nicht|kein)"
    r"|(?:je suis désolée?|désolée?)\b[^.\n]{0,80}\b(?:ne (?:peux|puis)|pas)\b"
    r"|lo siento\b[^.\n]{0,80}\bno puedo\b"
    r"|(?:抱歉|对不起|很抱歉|非常抱歉)[^。\n]{0,30}(?:无法|不能|没有办法))",
    re.IGNORECASE,
)
_REFUSAL_WITHIN: Final = re.compile(
    r"\bas an? (?:ai|artificial intelligence|(?:large )?language model)\b[^.\n]{0,80}\b(?:can|not|don|unable)"
    r"|作为(?:一个|一名)?(?:人工智能|AI)[^。\n]{0,30}(?:无法|不能)",
    re.IGNORECASE,
)
_READ_FOR_REFUSAL: Final = 300
_LONG_WORDS: Final = 12
_LOOP_WORDS: Final = 40
_GRAM: Final = 4
_OPEN_ENDS: Final = ",;:-([{/\\&"
_PROSE: Final = re.compile(r"[.!?\u3002\uff01\uff1f…]")


def faults_of_answer(answer: str) -> tuple[str, ...]:
    """Return what is wrong with the answer: of `empty`, `refusing`, `truncated`, `looping`."""
    text = answer.strip()
    if is_empty(text):
        return ("empty",)
    found = []
    read = text[:_READ_FOR_REFUSAL]
    if _REFUSAL_FIRST.match(read) or _REFUSAL_WITHIN.search(read):
        found.append("refusing")
    if is_truncated(text):
        found.append("truncated")
    if is_looping(text):
        found.append("looping")
    return tuple(found)


def is_empty(text: str) -> bool:
    """Return whether the answer has nothing to learn: no letter, digit or sign of its own, or a placeholder's word."""
    bare = text.strip().strip(".-_*[]<>(){}#\"' \t\r\n").lower()
    return not bare or bare in PLACEHOLDERS


def is_truncated(text: str) -> bool:
    """Return whether the answer breaks off: an open block of code, or prose whose last sentence has no end."""
    if text.count("```") % 2:
        return True
    last = text[-1]
    if last in _OPEN_ENDS and len(text.split()) > 3 and not text.endswith("---"):
        return True
    words = text.split()
    if len(words) < _LONG_WORDS or not last.isalnum():
        return False
    # The end of a list, of a table or of code needs no full stop; that of a paragraph with sentences does.
    paragraph = text.rsplit("\n", 1)[-1]
    return len(paragraph.split()) >= _LONG_WORDS and bool(_PROSE.search(text[:-1])) and not _is_item(paragraph)


def _is_item(paragraph: str) -> bool:
    return bool(re.match(r"\s*(?:[-*•|>#]|\d+[.)]|\w+:)", paragraph))


def is_looping(text: str) -> bool:
    """Return whether most of the answer's runs of four words occur again in it."""
    words = text.lower().split()
    if len(words) < _LOOP_WORDS:
        return False
    grams = list(zip(*(words[at:] for at in range(_GRAM)), strict=False))
    # Each repeated run occurs twice or more: more than 0.7 of the runs being different leaves too few for a loop.
    if len(set(grams)) > 0.7 * len(grams):
        return False
    return sum(count for count in Counter(grams).values() if count > 1) > 0.6 * len(grams)
