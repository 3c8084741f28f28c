"""Messages of a conversation: text, and the tool calls of earlier turns, whatever else clients leave in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, Tag, ValidationInfo

from conversations.chat_template import ChatTemplate, TemplateRefused
from conversations.turns import Call, Turn, read_arguments, turn_role
from engines.transformers.errors import BadRequest
from engines.transformers.requests.parsing import WRONG_KIND, Fields, missing, must, shortened

_SIDE_FIELDS: Final = ConfigDict(extra="ignore")
"""Clients that speak with many providers leave members of others in messages, such as `cache_control`."""
_TEXT_PARTS: Final = ("text", "input_text", "output_text")
_UNREAD_PARTS: Final = ("thinking", "redacted_thinking", "reasoning")
"""Parts that hold what a model thought before it answered: passed over, as `reasoning_content` is."""


def _refuse_if_set(value: Any) -> None:
    if value:
        raise must("is not supported by this engine: it would change the answer")


NotTaken = Annotated[Any, AfterValidator(_refuse_if_set)]
"""A side field that asks for something, so that passing it over would change the answer in silence."""


def _known_part(kind: str) -> str:
    if kind not in (*_TEXT_PARTS, *_UNREAD_PARTS, "refusal"):
        raise must(f'must be "text", not "{shortened(kind)}": the models of this engine read text only')
    return kind


def _text_of_part(value: str | None, info: ValidationInfo) -> str | None:
    if value is None and info.data.get("type") in _TEXT_PARTS:
        raise missing()
    return value


class Part(Fields):
    """A part of a message's content."""

    model_config = _SIDE_FIELDS

    type: Annotated[str, AfterValidator(_known_part)]
    text: Annotated[str | None, AfterValidator(_text_of_part), Field(validate_default=True)] = None
    refusal: str | None = None

    @property
    def spoken(self) -> str:
        """The text that the model reads."""
        if self.type in _TEXT_PARTS:
            return self.text or ""
        return self.refusal or "" if self.type == "refusal" else ""


class FunctionCall(Fields):
    """A function with its arguments, as JSON in a string."""

    model_config = _SIDE_FIELDS

    name: str
    arguments: str = "{}"


class ToolCall(Fields):
    """A call of a tool in an earlier turn."""

    model_config = _SIDE_FIELDS

    id: str = ""
    type: Literal["function"] = "function"
    function: FunctionCall


def _kind_of_content(value: Any) -> str | None:
    if isinstance(value, list):
        return "several parts"
    return "one text" if isinstance(value, str) else None


Content = Annotated[
    Annotated[str, Tag("one text")] | Annotated[list[Part], Tag("several parts")],
    Discriminator(
        _kind_of_content,
        custom_error_type=WRONG_KIND,
        custom_error_message="must be a string or an array of text parts",
    ),
]


def _content_by_role(value: Any, info: ValidationInfo) -> Any:
    # An assistant may have called tools, or thought until its tokens were used up: then it has no text.
    if value is None and info.data.get("role") != "assistant":
        raise missing()
    return value


class Message(Fields):
    """A message of a conversation."""

    model_config = _SIDE_FIELDS

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Annotated[Content | None, AfterValidator(_content_by_role), Field(validate_default=True)] = None
    refusal: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(default_factory=list)]
    function_call: FunctionCall | None = None
    tool_call_id: str | None = None
    name: str | None = None
    audio: NotTaken = None
    images: NotTaken = None
    prefix: NotTaken = None
    partial: NotTaken = None

    @property
    def text(self) -> str:
        """The whole text of the message."""
        if isinstance(self.content, list):
            return "".join(part.spoken for part in self.content)
        return self.content or self.refusal or ""

    @property
    def calls(self) -> list[FunctionCall]:
        """The functions that an assistant called, in today's form or in the one before it."""
        return [call.function for call in self.tool_calls] or ([self.function_call] if self.function_call else [])


def as_turn(message: Message) -> Turn:
    """Return the message as conversations have it."""
    ids = [call.id for call in message.tool_calls] or [""]
    calls = (
        [
            Call(name=call.name, arguments=read_arguments(call.arguments), id=id_)
            for id_, call in zip(ids, message.calls, strict=True)
        ]
        if message.calls
        else []
    )
    return Turn(
        role=turn_role(message.role),
        content=message.text,
        name=message.name,
        calls=tuple(calls),
        call_id=message.tool_call_id,
    )


def render(
    template: ChatTemplate,
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] = (),
    *,
    opens_answer: bool = True,
    arguments: Mapping[str, Any] = MappingProxyType({}),
) -> list[int]:
    """Return the conversation in tokens; `BadRequest` where the model's chat template refuses it.

    *arguments* are further values for the template.
    """
    prepared = template.prepare([as_turn(message) for message in messages], tools)
    try:
        text = template.render(prepared.messages, prepared.tools, opens_answer=opens_answer, arguments=arguments)
    except TemplateRefused as exc:
        raise BadRequest(f"the model's chat template refuses them: {exc}", param="messages") from exc
    return template.ids(text)
