"""Facts of an answer: its choices, finish reasons, JSON, tool calls, tokens and times. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, TypeGuard

import orjson

from gateway.evidence.sse import EventReader
from registry.rollouts.tally import ErrorKind, Tally, bucket_of

_END: Final = b"[DONE]"
_JSON_FORMATS: Final = ("json_object", "json_schema")
_UNLIKE_AN_ANSWER: Final = (KeyError, TypeError, AttributeError, ValueError)
"""Errors of reading JSON that does not have the shape of an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The parts of a request that its answer is checked against."""

    json_format: str | None = None
    """`json_object`, `json_schema`, or None where text will do."""
    choices: int = 1
    keep_text: bool = False
    """Whether the text is needed afterwards."""

    @classmethod
    def of(cls, body: Mapping[str, Any], *, keep_text: bool = False) -> Asked:
        """Read the request's *body*; a field that no engine would accept counts as absent."""
        wanted = body.get("response_format")
        kind = wanted.get("type") if isinstance(wanted, dict) else None
        n, prompts = body.get("n"), body.get("prompt")
        each = int(n) if _is_number(n) and n >= 1 else 1
        # A list of numbers is one prompt in tokens, any other list is several prompts.
        many = isinstance(prompts, list) and not all(_is_number(token) for token in prompts)
        return cls(
            json_format=kind if kind in _JSON_FORMATS else None,
            choices=each * len(prompts) if prompts and many else each,
            keep_text=keep_text,
        )


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(slots=True, kw_only=True)
class _Choice:
    """A choice as far as it has arrived."""

    text: list[str] = field(default_factory=list)
    """Kept only if the check of JSON or a comparison needs it."""
    has_text: bool = False
    finish_reason: str | None = None
    calls_tools: bool = False
    tool_calls: dict[int, list[str]] = field(default_factory=dict)
    """Index of a tool call -> pieces of its arguments."""


class Reading(Protocol):
    """An answer that is being read."""

    def add_chunk(self, chunk: bytes, at: float) -> None:
        """Add bytes that arrived at the monotonic time *at*."""
        ...

    def read(self) -> None:
        """Parse the bytes added so far; never raises."""
        ...

    @property
    def is_whole(self) -> bool:
        """Whether the answer is complete, although the engine's connection may still be open."""
        ...

    def result(self, began: float) -> AnswerFacts:
        """Return the facts of the answer after its last byte; *began* is when its request arrived."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFacts:
    """The facts of one answer."""

    error: ErrorKind | None
    completion_id: str
    tally: Tally
    """Counts of this one request."""
    texts: tuple[str, ...] = ()
    """The text of each choice, if it was to be kept."""


class StreamReading:
    """Reads an answer in server-sent events."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._events = EventReader()
        self._unread: list[tuple[bytes, float]] = []
        self._choices: dict[int, _Choice] = {}
        self._id = ""
        self._tokens: int | None = None
        self._was_cached = False
        self._pieces = 0
        self._first_at: float | None = None
        self._last_at = 0.0
        self._ended = False
        self._error: ErrorKind | None = None

    def add_chunk(self, chunk: bytes, at: float) -> None:
        self._unread.append((chunk, at))

    def read(self) -> None:
        for chunk, at in self._unread:
            for event in self._events.feed(chunk):
                self._read_event(event, at)
        self._unread.clear()

    @property
    def is_whole(self) -> bool:
        self.read()
        finished = all(choice.finish_reason is not None for choice in self._choices.values())
        return self._ended or (finished and len(self._choices) >= self._asked.choices)

    def result(self, began: float) -> AnswerFacts:
        self.read()
        choices = [self._choices[index] for index in sorted(self._choices)]
        unfinished = not choices or any(choice.finish_reason is None for choice in choices)
        error = self._error or (ErrorKind.MALFORMED if unfinished else None)
        if error is not None:
            return AnswerFacts(error=error, completion_id=self._id, tally=failed(error))
        # Without usage each piece with output counts as one token.
        tokens = self._pieces if self._tokens is None else self._tokens
        times = _with_cached(self._times(began, tokens / len(choices)), was_cached=self._was_cached)
        return _facts(self._id, choices, self._asked, times.plus(Tally(output_tokens=tokens)))

    def _times(self, began: float, tokens_each: float) -> Tally:
        if self._first_at is None:
            return Tally()
        ttft = {bucket_of(self._first_at - began): 1}
        if self._pieces < 2 or tokens_each <= 1:
            return Tally(ttft=ttft)
        # A choice of n tokens has n - 1 gaps between them, and choices are generated side by side.
        return Tally(ttft=ttft, tpot={bucket_of((self._last_at - self._first_at) / (tokens_each - 1)): 1})

    def _read_event(self, event: bytes, at: float) -> None:
        if event == _END:
            self._ended = True
            return
        try:
            chunk = orjson.loads(event)
            if "error" in chunk:
                self._error = ErrorKind.ENGINE_ERROR
                return
            self._id = self._id or str(chunk.get("id") or "")
            self._tokens = _tokens_of(chunk, self._tokens)
            self._was_cached = self._was_cached or _was_cached(chunk)
            pieces = sum([self._read_choice(choice) for choice in chunk.get("choices") or ()])
        # The client has these bytes already; the answer only counts as malformed.
        except _UNLIKE_AN_ANSWER:
            self._error = self._error or ErrorKind.MALFORMED
            return
        if pieces:
            self._pieces += pieces
            self._last_at = at
            self._first_at = at if self._first_at is None else self._first_at

    def _read_choice(self, piece: Mapping[str, Any]) -> bool:
        """Add *piece* to its choice, and return whether it carries output."""
        index = int(piece.get("index", 0))
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice()
        choice.finish_reason = piece.get("finish_reason") or choice.finish_reason
        delta = piece.get("delta") or {}
        return _read_message(choice, delta, piece.get("text"), self._asked)


class WholeReading:
    """Reads an answer in one piece of JSON."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._parts: list[bytes] = []
        self._last_at = 0.0

    def add_chunk(self, chunk: bytes, at: float) -> None:
        self._parts.append(chunk)
        self._last_at = at

    def read(self) -> None:
        return

    @property
    def is_whole(self) -> bool:
        return False

    def result(self, began: float) -> AnswerFacts:
        try:
            answer = orjson.loads(b"".join(self._parts))
            completion_id = str(answer.get("id") or "")
            choices = [self._read_choice(choice) for choice in answer["choices"]]
            tokens, was_cached = _tokens_of(answer, 0) or 0, _was_cached(answer)
        except _UNLIKE_AN_ANSWER:
            choices = []
        if not choices:
            return AnswerFacts(error=ErrorKind.MALFORMED, completion_id="", tally=failed(ErrorKind.MALFORMED))
        # Choices are generated side by side, but the tokens are those of all choices.
        seconds = (self._last_at - began) * len(choices)
        times = Tally(tpot={bucket_of(seconds / tokens): 1}) if tokens else Tally()
        times = _with_cached(times, was_cached=was_cached)
        return _facts(completion_id, choices, self._asked, times.plus(Tally(output_tokens=tokens)))

    def _read_choice(self, whole: Mapping[str, Any]) -> _Choice:
        choice = _Choice(finish_reason=whole.get("finish_reason"))
        _read_message(choice, whole.get("message") or {}, whole.get("text"), self._asked)
        return choice


def failed(kind: ErrorKind) -> Tally:
    """Return the tally of one request that ended in *kind*; kinds in `NO_FAILURES` count as no request."""
    return Tally(requests=Tally(errors={kind: 1}).failures, errors={str(kind): 1})


def _read_message(choice: _Choice, message: Mapping[str, Any], text: str | None, asked: Asked) -> bool:
    """Add a message, or a piece of one, to the choice, and return whether it carries output."""
    content = message.get("content") or text or ""
    if content:
        choice.has_text = not content.isspace() or choice.has_text
        if asked.json_format or asked.keep_text:
            choice.text.append(content)
    calls = message.get("tool_calls") or ()
    for place, call in enumerate(calls):
        choice.calls_tools = True
        if function := call.get("function"):
            choice.tool_calls.setdefault(call.get("index", place), []).append(str(function.get("arguments") or ""))
    return bool(content or calls or message.get("reasoning_content") or message.get("reasoning"))


def _tokens_of(answer: Mapping[str, Any], default: int | None) -> int | None:
    usage = answer.get("usage")
    return default if usage is None else int(usage["completion_tokens"])


def _was_cached(answer: Mapping[str, Any]) -> bool:
    """Return whether at least half of the prompt came from the engine's cache; without a figure, none did."""
    usage = answer.get("usage") or {}
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return bool(cached) and 2 * int(cached) >= int(usage.get("prompt_tokens") or 0)


def _with_cached(times: Tally, *, was_cached: bool) -> Tally:
    return replace(times, ttft_cached=times.ttft, tpot_cached=times.tpot) if was_cached else times


def _facts(completion_id: str, choices: list[_Choice], asked: Asked, measured: Tally) -> AnswerFacts:
    texts = ["".join(choice.text) for choice in choices]
    calls = ["".join(pieces) for choice in choices for pieces in choice.tool_calls.values()]
    with_text = [text for choice, text in zip(choices, texts, strict=True) if choice.has_text]
    empty = sum(not choice.has_text and not choice.calls_tools for choice in choices)
    # An empty answer is no JSON either; a choice that only calls tools is left out.
    json_asked = len(with_text) + empty if asked.json_format else 0
    tally = Tally(
        requests=1,
        answers=len(choices),
        length_finishes=sum(choice.finish_reason == "length" for choice in choices),
        empty_answers=empty,
        json_asked=json_asked,
        json_invalid=json_asked - sum(_is_json(text, asked.json_format) for text in with_text) if json_asked else 0,
        tool_calls=len(calls),
        tool_calls_invalid=sum(not _is_json(arguments, "json_object") for arguments in calls),
    )
    kept = tuple(texts) if asked.keep_text else ()
    return AnswerFacts(error=None, completion_id=completion_id, tally=tally.plus(measured), texts=kept)


def _is_json(text: str, form: str | None) -> bool:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return form != "json_object" or isinstance(value, dict)
