"""Tools that a chat offers to the model, and which of them it may or must call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from re import fullmatch
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag

from engines.transformers.errors import BadRequest
from engines.transformers.requests.messages import Message
from engines.transformers.requests.parsing import WRONG_KIND, Fields, must, shown

MOST_TOOLS: Final = 128
_NAME: Final = "[a-zA-Z0-9_-]{1,64}"
_WORDS: Final = ("none", "auto", "required")


def _checked_name(name: str) -> str:
    if not fullmatch(_NAME, name):
        raise must(f"must match the pattern ^{_NAME}$, not {shown(name)}")
    return name


def _of_an_object(schema: dict[str, Any]) -> dict[str, Any]:
    kind = schema.get("type", "object")
    if kind not in ("object", ["object"]):
        raise must(f'must be a JSON Schema whose type is "object", not {shown(kind)}')
    return schema


Name = Annotated[str, AfterValidator(_checked_name)]


class ToolFunction(Fields):
    """A function that the model may call."""

    name: Name
    description: str | None = None
    parameters: Annotated[dict[str, Any], AfterValidator(_of_an_object)] | None = None
    """JSON Schema of the arguments; without it the function takes none."""
    strict: bool = False
    """Refuse a schema that cannot be enforced whole."""


class Tool(Fields):
    """A tool of the only kind that there is here."""

    type: Literal["function"]
    function: ToolFunction
    cache_control: Any = None
    """Clients of Anthropic leave it here; a prompt's beginning is kept anyway."""

    def as_declared(self) -> dict[str, Any]:
        """Return the tool as a client wrote it, for the template."""
        return {"type": "function", "function": self.function.model_dump(exclude_none=False)}


class FunctionName(Fields):
    """The name of a function."""

    name: Name


class OneFunction(Fields):
    """The function that the model must call, or one that it may."""

    type: Literal["function"]
    function: FunctionName


class AllowedTools(Fields):
    """The tools that count for this answer."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[OneFunction], Field(min_length=1)]


class AllowedChoice(Fields):
    """The choice among some of the tools."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


def _kind_of_choice(value: Any) -> str | None:
    if isinstance(value, str) and value in _WORDS:
        return "a word"
    if not isinstance(value, dict):
        return None
    return "some tools" if value.get("type") == "allowed_tools" else "one function"


Choice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("a word")]
    | Annotated[OneFunction, Tag("one function")]
    | Annotated[AllowedChoice, Tag("some tools")],
    Discriminator(
        _kind_of_choice,
        custom_error_type=WRONG_KIND,
        custom_error_message='must be "none", "auto", "required" or an object that names a function',
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """The functions that an answer may call, and how many calls it may have."""

    functions: tuple[tuple[int, ToolFunction], ...]
    """Each with its place among the tools."""
    is_required: bool
    may_call: bool
    may_be_several: bool


class ToolFields(Fields):
    """The fields of a chat about tools."""

    tools: Annotated[list[Tool], Field(max_length=MOST_TOOLS, default_factory=list)]
    tool_choice: Choice | None = None
    parallel_tool_calls: bool = True

    @property
    def tool_use(self) -> ToolUse | None:
        """Which tools the answer may call, None for a chat without tools."""
        if not self.tools:
            return None
        choice, names = self.tool_choice or "auto", [tool.function.name for tool in self.tools]
        allowed, mode, may_be_several = names, choice, self.parallel_tool_calls
        if isinstance(choice, OneFunction):
            allowed, mode, may_be_several = [choice.function.name], "required", False
        elif isinstance(choice, AllowedChoice):
            allowed = [one.function.name for one in choice.allowed_tools.tools]
            mode = choice.allowed_tools.mode
        return ToolUse(
            functions=tuple((at, tool.function) for at, tool in enumerate(self.tools) if tool.function.name in allowed),
            is_required=mode == "required",
            may_call=mode != "none",
            may_be_several=may_be_several,
        )


def check_tools(fields: ToolFields) -> None:
    """Raise `BadRequest` for names that are there twice and for a choice of what is not there."""
    names = [tool.function.name for tool in fields.tools]
    for at, name in enumerate(names):
        if name in names[:at]:
            param = f"tools[{at}].function.name"
            raise BadRequest(f'{param} "{name}" is the name of tools[{names.index(name)}] too', param=param)
    choice = fields.tool_choice
    if choice not in (None, "none", "auto") and not names:
        raise BadRequest("tool_choice is only allowed when tools are specified", param="tool_choice")
    chosen: list[tuple[str, OneFunction]] = []
    if isinstance(choice, OneFunction):
        chosen = [("tool_choice.function.name", choice)]
    elif isinstance(choice, AllowedChoice):
        of_list = enumerate(choice.allowed_tools.tools)
        chosen = [(f"tool_choice.allowed_tools.tools[{at}].function.name", one) for at, one in of_list]
    for param, one in chosen:
        if one.function.name not in names:
            known = ", ".join(names)
            raise BadRequest(f'{param} "{one.function.name}" is not among the tools: {known}', param=param)


def check_results(messages: Sequence[Message]) -> None:
    """Raise `BadRequest` for a result of a tool that answers no call before it."""
    called: set[str] = set()
    for at, message in enumerate(messages):
        called |= {call.id for call in message.tool_calls}
        if message.role != "tool":
            continue
        param = f"messages[{at}].tool_call_id"
        if message.tool_call_id is None:
            raise BadRequest(f"{param} is required", param=param, code="missing_required_parameter")
        if message.tool_call_id not in called:
            known = f"; the calls are {', '.join(sorted(called))}" if called else ", as there is none"
            wording = f"{param} {shown(message.tool_call_id)} is not the id of a call in an earlier message{known}"
            raise BadRequest(wording, param=param)
