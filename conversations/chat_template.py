"""A model's chat template, and conversations with tools as it renders them: by its own words, or in Hermes' form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from jinja2 import TemplateError

from conversations.call_forms import CALL_FORMS, HERMES, CallForm
from conversations.hermes import as_plain_messages
from conversations.turns import Call, Turn, shown_tool

_NO_ARGUMENTS: Final[Mapping[str, Any]] = MappingProxyType({})
_FUNCTION: Final = "probe_function"
_ARGUMENT: Final = "probe argument"
_RESULT: Final = "probe result"
_SYSTEM: Final = "probe system"
_CALL_ID: Final = "probe0001"  # nine letters and digits: templates of Mistral refuse every other length
_TOOL: Final = {
    "type": "function",
    "function": {
        "name": _FUNCTION,
        "description": "Probe.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}
_ASKED: Final = Turn(role="user", content="probe question")
_CALLED: Final = (
    _ASKED,
    Turn(role="assistant", content="", calls=(Call(name=_FUNCTION, arguments={"place": _ARGUMENT}, id=_CALL_ID),)),
    Turn(role="tool", content=_RESULT, name=_FUNCTION, call_id=_CALL_ID),
)


class TemplateRefused(Exception):
    """The chat template does not take a conversation; the message has its reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A conversation as the template takes it."""

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]]
    """Tools that the template itself writes; empty where a message has them."""
    places: Sequence[int]
    """For each turn the place of the message that has it."""


class ChatTemplate:
    """The chat template of a tokenizer of transformers; a few renderings show what it can do."""

    def __init__(self, tokenizer: Any, as_content: Callable[[str], Any] = str) -> None:
        """*as_content* turns text into the content of a message, for templates that take parts alone."""
        self._tokenizer = tokenizer
        self._as_content = as_content
        called = self._try([turn.as_message() for turn in _CALLED], [_TOOL])
        offered = self._try([_ASKED.as_message()], [_TOOL])
        self.writes_tools = _FUNCTION in offered and _ARGUMENT in called and _RESULT in called
        """Whether the template shows tools, calls and results to the model."""
        self._takes_system = _SYSTEM in self._try([{"role": "system", "content": _SYSTEM}, _ASKED.as_message()], [])
        found = (form for form in CALL_FORMS if form.is_in(called, _FUNCTION))
        self.call_form: CallForm | None = next(found, None) if self.writes_tools else HERMES
        """The form of calls in this template; None where it is none of `CALL_FORMS`."""

    def prepare(self, turns: Sequence[Turn], tools: Sequence[Mapping[str, Any]] = ()) -> Prepared:
        """Return *turns* with *tools* on offer; a template without tools gets them as text."""
        if self.writes_tools:
            messages, places = [turn.as_message() for turn in turns], list(range(len(turns)))
        else:
            messages, places = as_plain_messages(turns, tools, takes_system=self._takes_system)
        own = [shown_tool(tool) for tool in tools] if self.writes_tools else []
        return Prepared(messages=[self._with_content(message) for message in messages], tools=own, places=places)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        opens_answer: bool = False,
        arguments: Mapping[str, Any] = _NO_ARGUMENTS,
    ) -> str:
        """Return the text of prepared messages; `TemplateRefused`. *arguments* are further values for the template."""
        try:
            text: str = self._tokenizer.apply_chat_template(
                [*messages], tools=[*tools] or None, tokenize=False, add_generation_prompt=opens_answer, **arguments
            )
        # A template is a program: whatever it does with a part that it did not expect is a refusal.
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as exc:
            raise TemplateRefused(str(exc)) from exc
        return text

    def ids(self, text: str) -> list[int]:
        """Return a rendered text in tokens."""
        # The template writes the special tokens itself; the tokenizer would add the first one a second time.
        found: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    def _with_content(self, message: Mapping[str, Any]) -> dict[str, Any]:
        content = message["content"]
        return {**message, "content": self._as_content(content) if isinstance(content, str) else content}

    def _try(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> str:
        try:
            return self.render([self._with_content(message) for message in messages], tools)
        except TemplateRefused:
            return ""
