"""Messages of a training chat: roles, text, tool calls, and which of them are learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from registry.contracts.pictures.picture_part import PICTURE_TYPES, PicturePart, parse_picture, refuse_part
from registry.contracts.training_json import check_text, json_kind, parse_arguments, shown
from registry.errors import TrainingFileInvalid

ROLES: Final = ("system", "developer", "user", "assistant", "tool")
MESSAGE_FIELDS: Final = ("role", "content", "name", "weight", "tool_calls", "tool_call_id")
IGNORED_FIELDS: Final = ("annotations", "cache_control", "reasoning", "reasoning_content")
"""Fields that clients of other vendors store with a message; no chat template of a request gets them either."""
NOT_SUPPORTED: Final[Mapping[str, str]] = {
    "function_call": "give tool_calls, the field that took its place",
    "refusal": "give the words of a refusal as content",
    "audio": "a message is text",
}
"""Fields of OpenAI's messages that cannot be trained on, with what to do."""
CALL_FIELDS: Final = ("id", "type", "function", "index")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """A turn of a chat."""

    role: str
    content: str
    name: str | None = None
    is_learnt: bool
    """True for an assistant turn whose weight is not 0: only such turns carry loss."""
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    """Calls of an assistant turn, their arguments as objects."""
    tool_call_id: str | None = None
    ignored: tuple[str, ...] = ()
    """Fields of the message that training leaves out."""
    parts: tuple[str | PicturePart, ...] = ()
    """Texts and pictures in their order, of a message that has a picture; empty otherwise."""

    @property
    def pictures(self) -> tuple[PicturePart, ...]:
        """Pictures of the message, in their order."""
        return tuple(part for part in self.parts if not isinstance(part, str))

    def as_parts(self) -> list[dict[str, str]]:
        """Return the content as templates that take a list of parts do."""
        parts = self.parts or ((self.content,) if self.content else ())
        return [{"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in parts]

    def as_template_input(self) -> dict[str, Any]:
        """Return the message as chat templates take it; engines render the role developer as system too."""
        role = "system" if self.role == "developer" else self.role
        further = {"name": self.name, "tool_calls": [*self.tool_calls] or None, "tool_call_id": self.tool_call_id}
        return {"role": role, "content": self.content} | {
            name: value for name, value in further.items() if value is not None
        }


def parse_message(entry: object, where: str, *, may_have_pictures: bool = False) -> ChatMessage:
    """Return the message of a JSON value without nulls; `TrainingFileInvalid` names the field after *where*."""
    if not isinstance(entry, dict):
        raise TrainingFileInvalid(f"{where} must be an object with role and content")
    _check_fields(entry, where)
    role = entry["role"]
    if role not in ROLES:
        raise TrainingFileInvalid(f"{where}.role {shown(role)} is unknown; roles are {', '.join(ROLES)}")
    calls = _parse_calls(entry.get("tool_calls", []), role, f"{where}.tool_calls")
    parts = _parse_parts(entry.get("content"), role, f"{where}.content", may_have_pictures=may_have_pictures)
    has_picture = any(not isinstance(part, str) for part in parts)
    may_be_empty = bool(calls) or has_picture or role not in ("user", "assistant")
    details = [part.detail for part in parts if not isinstance(part, str)]
    return ChatMessage(
        role=role,
        content=_parse_content(entry, parts, where, may_be_empty=may_be_empty),
        parts=parts if has_picture else (),
        name=_optional_text(entry, "name", where),
        is_learnt=_parse_weight(entry, where) == 1 and role == "assistant",
        tool_calls=calls,
        tool_call_id=_parse_call_id(entry, role, where),
        ignored=(*(name for name in IGNORED_FIELDS if name in entry), *({"detail"} if set(details) - {"auto"} else ())),
    )


def parse_tools(tools: object, where: str) -> tuple[Mapping[str, Any], ...]:
    """Return the declared tools of a line; `TrainingFileInvalid` names the field after *where*."""
    if not isinstance(tools, list):
        raise TrainingFileInvalid(f"{where} must be a list, not {json_kind(tools)}")
    for at, tool in enumerate(tools):
        _check_function(tool, f"{where}[{at}]")
    return tuple(tools)


def _check_fields(entry: Mapping[str, Any], where: str) -> None:
    for key in entry:
        if key in NOT_SUPPORTED:
            raise TrainingFileInvalid(f"{where}.{key} is not supported; {NOT_SUPPORTED[key]}")
        if key not in MESSAGE_FIELDS and key not in IGNORED_FIELDS:
            known = ", ".join(MESSAGE_FIELDS)
            raise TrainingFileInvalid(f"{where}: unknown field {shown(key)}; a message has {known}")
    if "role" not in entry:
        raise TrainingFileInvalid(f"{where}.role is missing")


def _parse_content(
    entry: Mapping[str, Any], parts: Sequence[str | PicturePart], where: str, *, may_be_empty: bool
) -> str:
    """Return the text of a message, that of its parts joined as engines join them."""
    # An assistant that only calls tools has no content; every other message has one.
    if "content" not in entry and not (may_be_empty and entry["role"] == "assistant"):
        raise TrainingFileInvalid(f"{where}.content is missing")
    content = entry.get("content", "")
    text = "".join(part for part in parts if isinstance(part, str)) if isinstance(content, list) else content
    if not isinstance(text, str):
        raise TrainingFileInvalid(
            f"{where}.content must be a string or a list of text parts and pictures, not {json_kind(text)}"
        )
    if not text.strip() and not may_be_empty:
        needs = "an assistant answer needs text" if entry["role"] == "assistant" else "a user message needs text"
        raise TrainingFileInvalid(f"{where}.content is empty; {needs}")
    return text


def _parse_parts(content: object, role: str, where: str, *, may_have_pictures: bool) -> tuple[str | PicturePart, ...]:
    """Return the texts and pictures of a content that is a list of parts; nothing for any other content."""
    found: list[str | PicturePart] = []
    for at, part in enumerate(content if isinstance(content, list) else ()):
        here = f"{where}[{at}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            if unknown := sorted(set(part) - {"type", "text", *IGNORED_FIELDS}):
                raise TrainingFileInvalid(f"{here}: unknown field {shown(unknown[0])}; a part has type and text")
            found.append(check_text(part.get("text"), f"{here}.text"))
        elif kind in PICTURE_TYPES:
            if not may_have_pictures:
                raise TrainingFileInvalid(f"{here} is a picture; pictures are learnt by the method supervised alone")
            if role != "user":
                raise TrainingFileInvalid(
                    f"{here} is a picture; only a user message has pictures, and this one is {role}"
                )
            found.append(parse_picture(part, here))
        else:
            raise refuse_part(part, here)
    return tuple(found)


def _optional_text(entry: Mapping[str, Any], field: str, where: str) -> str | None:
    return check_text(entry[field], f"{where}.{field}") if field in entry else None


def _parse_weight(entry: Mapping[str, Any], where: str) -> float:
    weight = entry.get("weight", 1)
    # Exports of tables write 1 as 1.0.
    if type(weight) not in (int, float) or weight not in (0, 1):
        raise TrainingFileInvalid(f"{where}.weight must be 0 or 1, not {shown(weight)}")
    if weight and "weight" in entry and entry["role"] != "assistant":
        raise TrainingFileInvalid(f"{where}.weight is for assistant messages only; this one is {entry['role']}")
    return float(weight)


def _parse_call_id(entry: Mapping[str, Any], role: str, where: str) -> str | None:
    call_id = _optional_text(entry, "tool_call_id", where)
    if call_id and role != "tool":
        raise TrainingFileInvalid(f"{where}.tool_call_id is for tool messages only; this one is {role}")
    return call_id or None


def _parse_calls(calls: object, role: str, where: str) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(calls, list):
        raise TrainingFileInvalid(f"{where} must be a list, not {json_kind(calls)}")
    if calls and role != "assistant":
        raise TrainingFileInvalid(f"{where} is for assistant messages only; this one is {role}")
    return tuple(_parse_call(call, f"{where}[{at}]") for at, call in enumerate(calls))


def _parse_call(call: Any, where: str) -> Mapping[str, Any]:
    function = _check_function(call, where)
    if unknown := sorted(set(call) - set(CALL_FIELDS)):
        raise TrainingFileInvalid(f"{where}: unknown field {shown(unknown[0])}; a call has {', '.join(CALL_FIELDS)}")
    _optional_text(call, "id", where)
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        # Templates write the arguments themselves, so they take an object, as engines hand it to them.
        arguments = parse_arguments(arguments, f"{where}.function.arguments") if arguments.strip() else {}
    if not isinstance(arguments, dict):
        raise TrainingFileInvalid(f"{where}.function.arguments must be a JSON object, not {json_kind(arguments)}")
    return {**call, "type": "function", "function": {"name": function["name"], "arguments": arguments}}


def _check_function(entry: object, where: str) -> Mapping[str, Any]:
    """Return the member `function` of a tool or of a call; `TrainingFileInvalid` unless it has a name."""
    shape = '{"type": "function", "function": {"name": ...}}'
    if not isinstance(entry, dict) or not isinstance(entry.get("function"), dict):
        raise TrainingFileInvalid(f"{where} must be {shape}")
    if entry.get("type", "function") != "function":
        raise TrainingFileInvalid(f"{where}.type {shown(entry['type'])} is unknown; a tool is {shape}")
    function: Mapping[str, Any] = entry["function"]
    if not check_text(function.get("name"), f"{where}.function.name"):
        raise TrainingFileInvalid(f"{where}.function.name is empty")
    return function
