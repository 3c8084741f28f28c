"""The output of a response, item by item, as a stream of events and as what stands there in the end. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

Item = dict[str, Any]
_CALL, _MESSAGE, _REASONING = "function_call", "message", "reasoning"
_PREFIXES: Final = {_CALL: "fc", _MESSAGE: "msg", _REASONING: "rs"}
_PARTS: Final = {"output_text": "text", "refusal": "refusal", "reasoning_text": "text"}
"""Type of a part -> its member with the text."""


class ResponseOutput:
    """Takes an answer in piece by piece; every method returns the events that the pieces become."""

    def __init__(self, token: str) -> None:
        self.items: list[Item] = []
        self._token = token
        self._number = 0
        self._open: Item | None = None
        """The item that is being written: the last of `items`."""
        self._part: Item | None = None
        """The part of it that is being written: the last of its content."""
        self._texts: list[str] = []
        """Pieces of what is being written: the text of the part, or a call's arguments."""
        self._logprobs: list[Mapping[str, Any]] = []
        self._held = ""
        """Blanks before anything else of a message, which is none if a call follows."""
        self._call_at: object = None
        """The engine's index of the call that is being written."""

    def event(self, kind: str, **members: Any) -> bytes:
        """Return an event of the stream, with its number."""
        body = {"type": kind, "sequence_number": self._number} | members
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps(body))

    def add_reasoning(self, text: str) -> bytes:
        """Add to what the model thinks aloud."""
        return self._add(_REASONING, "reasoning_text", text)

    def add_refusal(self, text: str) -> bytes:
        """Add to the text by which the model declines."""
        return self._add(_MESSAGE, "refusal", text)

    def add_text(self, text: str, logprobs: Sequence[Mapping[str, Any]] = ()) -> bytes:
        """Add to the text of the answer; *logprobs* belong to its tokens."""
        self._logprobs += [_logprob(each) for each in logprobs]
        is_begun = self._open is not None and self._open["type"] == _MESSAGE
        if not is_begun and not (self._held + text).strip():
            self._held += text
            return b""
        text, self._held = self._held + text, ""
        return self._add(_MESSAGE, "output_text", text) if text else b""

    def add_call(self, at: object, call: Mapping[str, Any]) -> bytes:
        """Add to the call that the engine gives the index *at*; `ValueError` where a call has no name."""
        function = call.get("function") or {}
        out = b""
        if self._open is None or self._open["type"] != _CALL or self._call_at != at:
            out = self.close("completed")
            self._held, self._call_at = "", at
            name = function.get("name")
            if not name or not isinstance(name, str):
                raise ValueError("a tool call without a name, or one that had ended")
            call_id = call.get("id") or f"call_{self._token}_{len(self.items)}"
            out += self._begin({"type": _CALL, "call_id": call_id, "name": name, "arguments": ""})
        if piece := function.get("arguments"):
            self._texts.append(piece)
            out += self._piece("response.function_call_arguments.delta", delta=piece)
        return out

    def finish(self, status: str) -> bytes:
        """End the last item with *status*; an answer without anything else has a message."""
        is_empty = not any(item["type"] != _REASONING for item in self.items)
        out = b""
        if is_empty and (self._held or not self.items):
            text, self._held = self._held, ""
            out = self._add(_MESSAGE, "output_text", text)
        return out + self.close(status)

    def close(self, status: str) -> bytes:
        """End the item that is being written, if there is one."""
        item = self._open
        if item is None:
            return b""
        out = self._close_part()
        item["status"] = status
        if item["type"] == _CALL:
            item["arguments"] = "".join(self._texts)
            out += self._piece("response.function_call_arguments.done", arguments=item["arguments"])
        out += self.event("response.output_item.done", output_index=len(self.items) - 1, item=item)
        self._open = None
        self._texts = []
        return out

    def _add(self, kind: str, part: str, text: str) -> bytes:
        out = b""
        if self._open is None or self._open["type"] != kind:
            out += self.close("completed")
            own: Item = {"role": "assistant", "content": []} if kind == _MESSAGE else {"summary": [], "content": []}
            out += self._begin({"type": kind} | own)
        if self._part is None or self._part["type"] != part:
            out += self._close_part() + self._begin_part(part)
        if not text:
            return out
        self._texts.append(text)
        beside = {"logprobs": self._unsent_logprobs()} if part == "output_text" else {}
        return out + self._part_piece(f"response.{part}.delta", delta=text, **beside)

    def _begin(self, item: Item) -> bytes:
        prefix = _PREFIXES[item["type"]]
        self._open = {"id": f"{prefix}_{self._token}_{len(self.items)}"} | item | {"status": "in_progress"}
        self.items.append(self._open)
        return self.event("response.output_item.added", output_index=len(self.items) - 1, item=self._open)

    def _begin_part(self, kind: str) -> bytes:
        assert self._open is not None  # noqa: S101 - an item was begun
        beside: Item = {"annotations": [], "logprobs": []} if kind == "output_text" else {}
        self._part = {"type": kind, _PARTS[kind]: ""} | beside
        self._open["content"].append(self._part)
        return self._part_piece("response.content_part.added", part=self._part)

    def _close_part(self) -> bytes:
        part = self._part
        if part is None:
            return b""
        kind, text = part["type"], "".join(self._texts)
        member = _PARTS[kind]
        part[member] = text
        beside = {}
        if kind == "output_text":
            self._unsent_logprobs()  # of tokens without text, such as the last one
            beside = {"logprobs": _as_sent(part["logprobs"])}
        out = self._part_piece(f"response.{kind}.done", **{member: text}, **beside)
        out += self._part_piece("response.content_part.done", part=part)
        self._part = None
        self._texts = []
        return out

    def _unsent_logprobs(self) -> list[Mapping[str, Any]]:
        """Return the logprobs for the next event, and keep them with the part that is being written."""
        assert self._part is not None  # noqa: S101 - a part was begun
        unsent, self._logprobs = self._logprobs, []
        self._part["logprobs"] += unsent
        return _as_sent(unsent)

    def _piece(self, kind: str, **members: Any) -> bytes:
        assert self._open is not None  # noqa: S101 - an item was begun
        return self.event(kind, item_id=self._open["id"], output_index=len(self.items) - 1, **members)

    def _part_piece(self, kind: str, **members: Any) -> bytes:
        assert self._open is not None  # noqa: S101 - an item was begun
        return self._piece(kind, content_index=len(self._open["content"]) - 1, **members)


def _logprob(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a token's logprob as a response has it: with bytes, which engines may leave out."""
    return _token(given) | {"top_logprobs": [_token(each) for each in given.get("top_logprobs") or ()]}


def _token(given: Mapping[str, Any]) -> dict[str, Any]:
    token = given["token"]
    sent = given.get("bytes")
    return {"token": token, "bytes": list(token.encode()) if sent is None else sent, "logprob": given["logprob"]}


def _as_sent(logprobs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return logprobs as events have them: without bytes."""

    def bare(each: Mapping[str, Any]) -> dict[str, Any]:
        return {"token": each["token"], "logprob": each["logprob"]}

    return [bare(each) | {"top_logprobs": [bare(top) for top in each["top_logprobs"]]} for each in logprobs]
