"""The system prompt and the messages of a request, as those of a chat."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import orjson

from gateway.dialects.messages.members import Members, fault, shown

_ROLES: Final = ("user", "assistant", "system")
_IMAGE_TYPES: Final = ("image/jpeg", "image/png", "image/gif", "image/webp")
_THOUGHTS: Final = ("thinking", "redacted_thinking")
_BILLING: Final = "x-anthropic-billing-header"
"""Begins a block of Claude Code's that is there for Anthropic's bills alone, and other in each request."""
_REFUSED: Final[Mapping[str, str]] = {
    "document": "documents are not supported: send their text as a text block",
    "search_result": "search results are not supported: send their text as a text block",
    "container_upload": "there are no containers here",
    "tool_reference": "tools that are loaded later are not supported: name every tool in tools",
}
"""Type of a block that is not supported -> why."""
_BY_ROLE: Final[Mapping[str, tuple[str, ...]]] = {
    "user": ("text", "image", "tool_result"),
    "assistant": ("text", "tool_use", *_THOUGHTS),
    "system": ("text",),
}

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where in the request a message of the chat comes from; an engine names its own fields."""

    path: str
    parts: tuple[str, ...] = ()
    """The blocks that its parts come from."""
    calls: tuple[str, ...] = ()


class Conversation(NamedTuple):
    """The messages of a chat, each with its origin."""

    messages: list[Json]
    origins: list[Origin]


@dataclass(slots=True)
class _Turn:
    """Messages of one role that follow each other: to the model they are one turn. Each part has its path beside it."""

    role: str
    path: str
    parts: list[tuple[Json, str]] = field(default_factory=list)
    calls: list[tuple[Json, str]] = field(default_factory=list)
    results: list[tuple[Json, str]] = field(default_factory=list)


def conversation_of(body: Members) -> Conversation:
    """Return the conversation of *body* as a chat has it; `InvalidRequest`."""
    if not body.entries("messages"):
        raise fault("messages", "is required, and must have at least one message")
    system = _system_texts(body, "system")
    turns: list[_Turn] = []
    names: dict[str, str] = {}
    for message in body.each("messages"):
        role = message.word("role", _ROLES)
        if role is None:
            raise fault(message.path("role"), "is required")
        if role == "system":
            # A chat template may refuse a system message further on, and only there it has a system's authority.
            system += _system_texts(message, "content")
            continue
        if not turns or turns[-1].role != role:
            turns.append(_Turn(role, message.name))
        _read_blocks(message, turns[-1], names)
    if not turns or turns[-1].role == "assistant":
        raise fault("messages", "must end with a message of the role user: an answer cannot be begun by the request")
    found = [({"role": "system", "content": "\n".join(system)}, Origin(path="system"))] if system else []
    found += [each for turn in turns for each in _chat_turn(turn)]
    return Conversation([message for message, _ in found], [origin for _, origin in found])


def _system_texts(holder: Members, name: str) -> list[str]:
    value = holder.value(name)
    if isinstance(value, str):
        return [value] if value else []
    texts = []
    for block in holder.each(name) if value is not None else []:
        _check_type(block, "system")
        if (text := block.required_text("text")) and not text.startswith(_BILLING):
            texts.append(text)
    return texts


def _read_blocks(message: Members, turn: _Turn, names: dict[str, str]) -> None:
    """Add the blocks of a message to its *turn*; *names* maps the id of each call to its tool."""
    content = message.value("content")
    if isinstance(content, str):
        turn.parts.append(({"type": "text", "text": content}, message.path("content")))
        return
    if not isinstance(content, list):
        what = "is required" if content is None else f"must be a string or an array of blocks, not {shown(content)}"
        raise fault(message.path("content"), what)
    for block in message.each("content"):
        match _check_type(block, turn.role):
            case "text":
                turn.parts.append((_text(block), block.name))
            case "image":
                turn.parts.append((_image(block), block.name))
            case "tool_use":
                turn.calls.append((_call(block, names), block.name))
            case "tool_result":
                result, images = _result(block, names)
                turn.results.append((result, block.name))
                turn.parts += images


def _check_type(block: Members, role: str) -> str:
    kind = block.required_text("type")
    if kind not in _BY_ROLE[role]:
        known = " or ".join(f'"{each}"' for each in _BY_ROLE[role])
        why = _REFUSED.get(kind, f"a message of the role {role} takes {known}")
        raise fault(block.path("type"), f"must not be {shown(kind)}: {why}")
    return kind


def _text(block: Members) -> Json:
    return {"type": "text", "text": block.required_text("text")}


def _image(block: Members) -> Json:
    source = block.members("source")
    if source is None:
        raise fault(block.path("source"), "is required")
    if source.required_text("type") == "base64":
        kind = source.word("media_type", _IMAGE_TYPES)
        if kind is None:
            raise fault(source.path("media_type"), "is required")
        url = f"data:{kind};base64,{source.required_text('data')}"
    elif source.value("type") == "url":
        url = source.required_text("url")
    else:
        raise fault(source.path("type"), f'must be "base64" or "url", not {shown(source.value("type"))}')
    return {"type": "image_url", "image_url": {"url": url}}


def _call(block: Members, names: dict[str, str]) -> Json:
    call_id, name = block.required_text("id"), block.required_text("name")
    names[call_id] = name
    arguments = orjson.dumps(block.required_mapping("input")).decode()
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _result(block: Members, names: Mapping[str, str]) -> tuple[Json, list[tuple[Json, str]]]:
    """Return a tool's result, and its images with their paths, which the message of a tool cannot hold."""
    call_id = block.required_text("tool_use_id")
    if call_id not in names:
        raise fault(block.path("tool_use_id"), f"must be the id of a tool_use block before it, not {shown(call_id)}")
    content = block.value("content")
    texts, images = [content] if isinstance(content, str) else [], []
    for part in block.each("content") if not isinstance(content, str) else []:
        if part.value("type") == "image":
            images.append((_image(part), part.name))
        else:
            _check_type(part, "system")
            texts.append(part.required_text("text"))
    text = "\n".join(texts)
    if block.flag("is_error"):
        text = f"Error: {text}"
    return {"role": "tool", "tool_call_id": call_id, "name": names[call_id], "content": text}, images


def _chat_turn(turn: _Turn) -> Iterable[tuple[Json, Origin]]:
    parts, paths = [part for part, _ in turn.parts], tuple(path for _, path in turn.parts)
    if turn.role == "assistant":
        # Blocks of an answer are pieces of one text; those of a user are texts of their own.
        message: Json = {"role": "assistant", "content": "".join(part["text"] for part in parts)}
        if turn.calls:
            message["tool_calls"] = [call for call, _ in turn.calls]
        yield message, Origin(path=turn.path, calls=tuple(path for _, path in turn.calls))
        return
    yield from ((result, Origin(path=path)) for result, path in turn.results)
    if parts or not turn.results:
        yield {"role": "user", "content": _content(parts)}, Origin(path=turn.path, parts=paths)


def _content(parts: list[Json]) -> str | list[Json]:
    """Return text alone as a string, as engines join parts in different ways."""
    if any(part["type"] != "text" for part in parts):
        return parts
    return "\n".join(part["text"] for part in parts)
