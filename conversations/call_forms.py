"""The forms in which models write calls of functions, a row each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class CallForm:
    """The text around the name and the arguments of a call, which are JSON."""

    name: str
    begins: str
    """Text that begins the calls of an answer."""
    before_name: str
    """Text between this and the name of a function."""
    before_arguments: str
    after_arguments: str
    between: str | None
    """Text between a call and the `before_name` of the next; None where an answer has one call at most."""
    ends: str = ""
    """Text after the last call."""
    may_follow_text: bool = True
    """Whether an answer may have text before its calls."""
    has_short_ids: bool = False
    """Whether templates of this form take ids of nine letters and digits alone."""

    def has(self, text: str) -> bool:
        """Whether *text* is part of the form."""
        return any(text in part for part in (self.begins, self.after_arguments, self.between or "", self.ends))

    def is_in(self, rendered: str, function: str) -> bool:
        """Whether *rendered* has a call of *function* in this form."""
        return f"{self.begins}{self.before_name}{function}{self.before_arguments}" in rendered


HERMES: Final = CallForm(
    name="Hermes",
    begins="<tool_call>",
    before_name='\n{"name": "',
    before_arguments='", "arguments": ',
    after_arguments="}\n</tool_call>",
    between="\n<tool_call>",
)
MISTRAL: Final = CallForm(
    name="Mistral",
    begins="[TOOL_CALLS]",
    before_name=' [{"name": "',
    before_arguments='", "arguments": ',
    after_arguments="}",
    between=None,
    ends="]",
    has_short_ids=True,
)
MISTRAL_NEMO: Final = replace(MISTRAL, name="Mistral Nemo", before_name='[{"name": "')
LLAMA: Final = CallForm(
    name="Llama 3",
    begins='{"name": "',
    before_name="",
    before_arguments='", "parameters": ',
    after_arguments="}",
    between=None,
    may_follow_text=False,
)
CALL_FORMS: Final = (HERMES, MISTRAL, MISTRAL_NEMO, LLAMA)
"""Tried in this order: what the last one begins with is part of the others."""
