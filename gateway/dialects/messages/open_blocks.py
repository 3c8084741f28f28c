"""The blocks of a streamed answer as they open and close, in Anthropic's events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from gateway.dialects.messages.blocks import SIGNATURE, call_block, call_id, text_block, thinking_block
from gateway.dialects.messages.request import Thinking

Event = bytes
Json = dict[str, Any]


def event(body: Mapping[str, Any]) -> Event:
    """Return a server-sent event, whose name is the type of its *body*."""
    return b"event: %b\ndata: %b\n\n" % (str(body["type"]).encode(), orjson.dumps(body))


@dataclass(slots=True)
class _Call:
    """A call, whose block opens when its name has come."""

    id: str
    name: str = ""
    index: int | None = None
    waiting: list[str] = field(default_factory=list)


class OpenBlocks:
    """At most one block is open at a time; what belongs to another one closes it."""

    def __init__(self, thinking: Thinking, token: str) -> None:
        self._thinking = thinking
        self._token = token
        self._calls: dict[int, _Call] = {}
        self._count = 0
        self._open = ""
        """Type of the open block, with the place of a call; empty while none is open."""

    @property
    def has_calls(self) -> bool:
        """Whether the answer calls tools."""
        return bool(self._calls)

    def think(self, thoughts: str) -> Iterator[Event]:
        """Add to the thoughts, which a client that wants none does not see."""
        if self._thinking.is_wanted is False:
            return
        yield from self._turn_to("thinking", thinking_block("", ""))
        if self._thinking.is_shown:
            yield self._delta({"type": "thinking_delta", "thinking": thoughts})

    def say(self, text: str) -> Iterator[Event]:
        """Add to the text."""
        yield from self._turn_to("text", text_block(""))
        yield self._delta({"type": "text_delta", "text": text})

    def call(self, piece: Mapping[str, Any], place: int) -> Iterator[Event]:
        """Add a piece of a call; *place* names the call where the piece does not."""
        place = int(piece.get("index", place))
        function = piece.get("function") or {}
        call = self._calls.get(place)
        if call is None:
            call = self._calls[place] = _Call(piece.get("id") or call_id(self._token, place))
        call.name = call.name or function.get("name") or ""
        if arguments := function.get("arguments"):
            call.waiting.append(arguments)
        if not call.name:
            return
        if call.index is None:
            yield from self._turn_to(f"call {place}", call_block(call.id, call.name))
            call.index = self._count - 1
        pieces, call.waiting = call.waiting, []
        for arguments in pieces:
            # A client adds by the index, so that a late piece of an earlier call finds its block.
            yield self._delta({"type": "input_json_delta", "partial_json": arguments}, call.index)

    def close(self) -> Iterator[Event]:
        """Close the open block."""
        if not self._open:
            return
        if self._open == "thinking":
            yield self._delta({"type": "signature_delta", "signature": SIGNATURE})
        self._open = ""
        yield event({"type": "content_block_stop", "index": self._count - 1})

    def _turn_to(self, kind: str, block: Json) -> Iterator[Event]:
        """Open a block of this kind, unless it is open."""
        if self._open == kind:
            return
        yield from self.close()
        self._open = kind
        self._count += 1
        yield event({"type": "content_block_start", "index": self._count - 1, "content_block": block})

    def _delta(self, delta: Json, index: int | None = None) -> Event:
        index = self._count - 1 if index is None else index
        return event({"type": "content_block_delta", "index": index, "delta": delta})
