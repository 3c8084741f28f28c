"""Items of a conversation: read from `input`, kept as OpenAI lists them, and made the messages of a chat. Pure.

An item's id holds the token of the response that it belongs to, so a reference leads to the response without an index.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from gateway.dialects.responses.fields import as_object, member, needed, one_of, shown, unsupported, wrong
from gateway.errors import InvalidRequest
from registry.responses.types import StoredResponse

Item = dict[str, Any]
_ROLES: Final = ("user", "assistant", "system", "developer")
_DETAILS: Final = ("low", "high", "auto", "original")
_ID: Final = re.compile(r"[a-z]{1,4}_([0-9a-f]{16,64})_i?[0-9]+")
_SEND_IT: Final = "send the item itself"


def response_id_of(token: str) -> str:
    """Return the id of the response that was made with *token*."""
    return f"resp_{token}"


def referenced_in(items: Any) -> frozenset[str]:
    """Return the ids of the responses that hold the items which *items* refer to."""
    if not isinstance(items, list):
        return frozenset()
    found = (_ID.fullmatch(str(item.get("id"))) for item in items if isinstance(item, dict) and _is_reference(item))
    return frozenset(response_id_of(match[1]) for match in found if match is not None)


class ItemReader:
    """Reads the items of one request; each gets the id by which it is listed, unless it brings one."""

    def __init__(self, token: str, referenced: Mapping[str, StoredResponse]) -> None:
        self._token = token
        self._referenced = referenced

    def read(self, given: Any) -> list[Item]:
        """Return the items of `input`; `InvalidRequest` names what is wrong."""
        if given is None:
            return []
        if isinstance(given, str):
            return [self._message({"role": "user", "content": given}, "input", 0)]
        if not isinstance(given, list):
            raise wrong("input", "a text or a list of items", given)
        return [self._item(each, f"input[{at}]", at) for at, each in enumerate(given)]

    def _item(self, given: Any, where: str, at: int) -> Item:
        item = as_object(given, where)
        if _is_reference(item):
            return self._referred(item, where)
        kind = member(item, "type", str, where) or "message"
        read = self._kinds().get(kind)
        if read is None:
            known = ", ".join((*self._kinds(), "item_reference"))
            raise InvalidRequest(
                f"{where}.type {shown(kind)} is not supported here; the types are {known}", param=f"{where}.type"
            )
        return read(item, where, at)

    def _kinds(self) -> Mapping[str, Callable[[Mapping[str, Any], str, int], Item]]:
        return {
            "message": self._message,
            "function_call": self._call,
            "function_call_output": self._output,
            "reasoning": self._reasoning,
        }

    def _message(self, item: Mapping[str, Any], where: str, at: int) -> Item:
        role = one_of(needed(item, "role", str, where), _ROLES, f"{where}.role")
        read = _answer_part if role == "assistant" else _input_part
        parts = _parts_of(item, "content", where)
        if isinstance(parts, str):
            parts = [{"type": "output_text" if role == "assistant" else "input_text", "text": parts}]
        content = [read(part, f"{where}.content[{place}]") for place, part in enumerate(parts)]
        return self._kept(item, "msg", where, at) | {"type": "message", "role": role, "content": content}

    def _call(self, item: Mapping[str, Any], where: str, at: int) -> Item:
        texts = {name: needed(item, name, str, where) for name in ("call_id", "name", "arguments")}
        return self._kept(item, "fc", where, at) | {"type": "function_call"} | texts

    def _output(self, item: Mapping[str, Any], where: str, at: int) -> Item:
        parts = _parts_of(item, "output", where)
        output: Any = parts
        if not isinstance(parts, str):
            output = [_output_part(part, f"{where}.output[{place}]") for place, part in enumerate(parts)]
        call_id = needed(item, "call_id", str, where)
        kept = self._kept(item, "fco", where, at)
        return kept | {"type": "function_call_output", "call_id": call_id, "output": output}

    def _reasoning(self, item: Mapping[str, Any], where: str, at: int) -> Item:
        kept = self._kept(item, "rs", where, at) | {"type": "reasoning", "summary": member(item, "summary", list) or []}
        return kept | {name: item[name] for name in ("content", "encrypted_content") if item.get(name) is not None}

    def _kept(self, item: Mapping[str, Any], prefix: str, where: str, at: int) -> Item:
        status = member(item, "status", str, where) or "completed"
        return {"id": member(item, "id", str, where) or f"{prefix}_{self._token}_i{at}", "status": status}

    def _referred(self, item: Mapping[str, Any], where: str) -> Item:
        named = needed(item, "id", str, where)
        match = _ID.fullmatch(named)
        stored = None if match is None else self._referenced.get(response_id_of(match[1]))
        found = () if stored is None else (*stored.input_items, *stored.body["output"])
        for each in found:
            if each["id"] == named:
                return dict(each)
        raise InvalidRequest(
            f"Item with id {shown(named)} not found: only items of stored responses can be referred to; {_SEND_IT}",
            param=f"{where}.id",
        )


def messages_of(instructions: str | None, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the chat's messages; `InvalidRequest` where calls and their outputs do not belong together.

    Instructions and the system's and developer's texts at the beginning become one system message, as the templates of
    many models take no second one. Reasoning is passed over.
    """
    _check_calls(items)
    messages: list[dict[str, Any]] = [] if not instructions else [{"role": "system", "content": instructions}]
    for item in items:
        for message in _messages_of(item):
            last = messages[-1] if messages else None
            if last is None or not _joined(last, message):
                messages.append(message)
    return messages


def _messages_of(item: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    match item["type"]:
        case "message":
            role = "system" if item["role"] == "developer" else item["role"]
            yield {"role": role, "content": _chat_content(item["content"], is_text=role != "user")}
        case "function_call":
            function = {"name": item["name"], "arguments": item["arguments"]}
            call = {"id": item["call_id"], "type": "function", "function": function}
            yield {"role": "assistant", "content": None, "tool_calls": [call]}
        case "function_call_output":
            output = item["output"]
            text = output if isinstance(output, str) else "".join(part["text"] for part in output)
            yield {"role": "tool", "tool_call_id": item["call_id"], "content": text}


def _joined(last: dict[str, Any], message: Mapping[str, Any]) -> bool:
    """Add *message* to the *last* one if they are parts of one turn, and return whether they are."""
    if last["role"] == message["role"] == "system":
        last["content"] = f"{last['content']}\n\n{message['content']}"
        return True
    if last["role"] == "assistant" and "tool_calls" in message:
        last["tool_calls"] = [*last.get("tool_calls", ()), *message["tool_calls"]]
        return True
    return False


def _check_calls(items: Sequence[Mapping[str, Any]]) -> None:
    asked: dict[str, None] = {}
    answered = set()
    for item in items:
        if item["type"] == "function_call":
            asked[item["call_id"]] = None
        elif item["type"] == "function_call_output":
            if item["call_id"] not in asked:
                raise InvalidRequest(
                    f"No tool call found for function call output with call_id {shown(item['call_id'])}.", param="input"
                )
            answered.add(item["call_id"])
    for call_id in asked:
        if call_id not in answered:
            raise InvalidRequest(f"No tool output found for function call {shown(call_id)}.", param="input")


def _chat_content(parts: Sequence[Mapping[str, Any]], *, is_text: bool) -> Any:
    if is_text or (len(parts) <= 1 and all("text" in part for part in parts)):
        return "".join(part.get("text", part.get("refusal", "")) for part in parts)
    return [_chat_part(part) for part in parts]


def _chat_part(part: Mapping[str, Any]) -> dict[str, Any]:
    if part["type"] == "input_image":
        return {"type": "image_url", "image_url": {"url": part["image_url"], "detail": part["detail"]}}
    return {"type": "text", "text": part["text"]}


def _parts_of(item: Mapping[str, Any], name: str, where: str) -> str | list[Any]:
    given = item.get(name)
    if isinstance(given, str | list):
        return given
    raise wrong(f"{where}.{name}", "a text or a list of parts", given)


def _input_part(given: Any, where: str) -> Item:
    part = as_object(given, where)
    kind = needed(part, "type", str, where)
    if kind in ("input_text", "text", "output_text"):
        return {"type": "input_text", "text": needed(part, "text", str, where)}
    if kind == "input_image":
        if part.get("file_id") is not None:
            raise unsupported(f"{where}.file_id", "send the picture in image_url, as an address or a data: URL")
        detail = one_of(member(part, "detail", str, where) or "auto", _DETAILS, f"{where}.detail")
        return {"type": "input_image", "image_url": needed(part, "image_url", str, where), "detail": detail}
    raise unsupported(f"{where}.type", "the types are input_text and input_image", kind)


def _answer_part(given: Any, where: str) -> Item:
    part = as_object(given, where)
    kind = needed(part, "type", str, where)
    if kind in ("output_text", "text", "input_text"):
        return {"type": "output_text", "text": needed(part, "text", str, where), "annotations": [], "logprobs": []}
    if kind == "refusal":
        return {"type": "refusal", "refusal": needed(part, "refusal", str, where)}
    raise unsupported(f"{where}.type", "the types of an assistant's parts are output_text and refusal", kind)


def _output_part(given: Any, where: str) -> Item:
    part = as_object(given, where)
    kind = needed(part, "type", str, where)
    if kind in ("input_text", "text", "output_text"):
        return {"type": "input_text", "text": needed(part, "text", str, where)}
    raise unsupported(f"{where}.type", "the output of a function is text (input_text)", kind)


def _is_reference(item: Mapping[str, Any]) -> bool:
    return item.get("type") == "item_reference" or (item.keys() <= {"id", "type"} and item.get("type") is None)
