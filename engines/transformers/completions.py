"""The two completion routes: body in, answer or stream out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from time import time
from typing import Any, Final
from uuid import uuid4

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from conversations.call_forms import CallForm
from engines.transformers.answers import AnswerFormat, ChatFormat, Echo, Json, TextFormat, Whole
from engines.transformers.calls.call_reader import CallReader
from engines.transformers.calls.tool_offer import tool_offer
from engines.transformers.constraints.constraint import Constraint
from engines.transformers.constraints.grammars import AnswerRule, GrammarCompiler, special_tokens
from engines.transformers.errors import ApiError, BadRequest
from engines.transformers.generation import Generation, GenerationDemand, GenerationIntake
from engines.transformers.model import LoadedModel
from engines.transformers.requests.bodies import ChatRequest, CompletionRequest, GenerationRequest
from engines.transformers.requests.messages import render
from engines.transformers.requests.parsing import parse_body
from engines.transformers.requests.presence import CLIENT_LEFT, client_leaves
from engines.transformers.sampling import PromptScores
from engines.transformers.text import TextStream, TokenTexts

COPY_HEADER: Final = "x-lorry-shadow"
OPENAI_DEFAULT_TOKENS: Final = 16


@dataclass(slots=True, frozen=True, kw_only=True)
class SubmittedAnswer:
    """A submitted request with all that the format of its answer needs."""

    request: GenerationRequest
    generation: Generation
    scores: list[PromptScores]
    format: AnswerFormat
    id: str
    created: int

    def envelope(self, kind: str, choices: list[Json]) -> Json:
        """Return the members that every body and chunk has."""
        head = {"id": self.id, "object": kind, "created": self.created, "model": self.request.model}
        return {**head, "choices": choices}


class Completions:
    """Answers both kinds of completion."""

    def __init__(self, loaded: LoadedModel, intake: GenerationIntake) -> None:
        self._loaded = loaded
        self._intake = intake
        self._tokens = TokenTexts(loaded.codec)
        self._grammars = GrammarCompiler(loaded.codec, loaded.vocabulary, loaded.end_tokens)
        form = loaded.template.call_form
        special = special_tokens(loaded.codec) if form else {}
        self._marks = {token: text for text, token in special.items() if form and form.has(text)}

    async def chat(self, http: Request) -> Response:
        """`POST /v1/chat/completions`."""
        request = parse_body(ChatRequest, await http.body())
        if request.top_logprobs and not request.logprobs:
            raise BadRequest("top_logprobs needs logprobs to be true", param="top_logprobs")
        offer = tool_offer(request, request.output_rule, self._loaded.template.call_form)
        prompts = [await asyncio.to_thread(self._render, request, offer.shown)]
        demand = GenerationDemand(
            request=request,
            prompts=prompts,
            limit=request.limit,
            default_limit=None,
            limit_param="max_completion_tokens" if request.max_completion_tokens else "max_tokens",
            prompt_param="messages",
            top_logprobs=request.top_logprobs or 0 if request.logprobs else None,
            is_copy=COPY_HEADER in http.headers,
            scores=scores_of(prompts, request.prompt_logprobs),
            constraints=await self._constraints(offer.rule),
            text_stream=partial(self._text_stream, request, offer.read_form),
        )
        return await self._answer(http, demand, ChatFormat(self._tokens, request.logprobs))

    async def text(self, http: Request) -> Response:
        """`POST /v1/completions`."""
        request = parse_body(CompletionRequest, await http.body())
        if request.max_tokens == 0 and not request.echo:
            raise BadRequest(
                "max_tokens must be at least 1, or 0 beside echo, for the prompt alone", param="max_tokens"
            )
        prompts = await asyncio.to_thread(self._tokenize, request.prompts)
        echoed = request.logprobs if request.echo else None
        wanted = [count for count in (echoed, request.prompt_logprobs) if count is not None]
        scores = scores_of(prompts, max(wanted, default=None))
        demand = GenerationDemand(
            request=request,
            prompts=prompts,
            limit=request.limit,
            default_limit=OPENAI_DEFAULT_TOKENS,
            limit_param="max_tokens",
            prompt_param="prompt",
            top_logprobs=request.logprobs,
            is_copy=COPY_HEADER in http.headers,
            scores=scores,
            constraints=await self._constraints(request.output_rule),
            text_stream=partial(self._text_stream, request),
        )
        echoes = await asyncio.to_thread(self._echoes, request.prompts, demand) if request.echo else []
        return await self._answer(http, demand, TextFormat(self._tokens, request.logprobs, request.n, echoes))

    async def _answer(self, http: Request, demand: GenerationDemand, wording: AnswerFormat) -> Response:
        generation = self._intake.submit(demand)
        answer = SubmittedAnswer(
            request=demand.request,
            generation=generation,
            scores=demand.scores,
            format=wording,
            id=wording.id_prefix + uuid4().hex,
            created=int(time()),
        )
        if demand.request.stream:
            return EventStream(answer)
        return await whole_or_gone(http, answer)

    async def _constraints(self, rule: AnswerRule | None) -> Callable[[], Constraint] | None:
        return None if rule is None else await asyncio.to_thread(self._grammars.constraints, rule)

    def _text_stream(self, request: GenerationRequest, form: CallForm | None = None) -> TextStream:
        reader = None if form is None else CallReader(form)
        return TextStream(self._loaded.codec, request.stop, reader, self._marks)

    def _render(self, request: ChatRequest, tools: Sequence[Mapping[str, Any]]) -> list[int]:
        return render(self._loaded.template, request.messages, tools, arguments=request.chat_template_kwargs)

    def _tokenize(self, prompts: list[str | list[int]]) -> list[list[int]]:
        codec = self._loaded.codec
        return [codec.encode(prompt).ids if isinstance(prompt, str) else prompt for prompt in prompts]

    def _echoes(self, given: list[str | list[int]], demand: GenerationDemand) -> list[Echo]:
        codec, found = self._loaded.codec, []
        for place, (prompt, tokens) in enumerate(zip(given, demand.prompts, strict=True)):
            text = prompt if isinstance(prompt, str) else codec.decode(prompt, skip_special_tokens=False)
            scores = demand.scores[place] if demand.scores else None
            found.append(Echo(text=text, spelled=self._tokens.spell_within(text, tokens), scores=scores))
        return found


def scores_of(prompts: list[list[int]], alternatives: int | None) -> list[PromptScores]:
    """Return the places of the prompts' logprobs; none where *alternatives* is None."""
    return [] if alternatives is None else [PromptScores.beginning(prompt, alternatives) for prompt in prompts]


class EventStream(StreamingResponse):
    """A streamed answer; it releases its places even if the client disconnects before the first byte."""

    def __init__(self, answer: SubmittedAnswer) -> None:
        super().__init__(stream(answer), media_type="text/event-stream")
        self._generation = answer.generation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the answer ends or the client leaves."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._generation.close()


async def whole_or_gone(http: Request, answer: SubmittedAnswer) -> Response:
    """Return the whole answer; an empty response, with the work dropped, when the client disconnects before."""
    collecting = asyncio.create_task(collect(answer))
    leaving = asyncio.create_task(client_leaves(http))
    try:
        await asyncio.wait({collecting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not collecting.done():
            return Response(status_code=CLIENT_LEFT)
        return Response(orjson.dumps(collecting.result()), media_type="application/json")
    finally:
        collecting.cancel()
        leaving.cancel()
        answer.generation.close()


async def collect(answer: SubmittedAnswer) -> Json:
    """Return the body of an answer that is not streamed."""
    generation = answer.generation
    wholes = [Whole() for _ in generation.sequences]
    async with aclosing(generation.deltas(answer.request.n)) as deltas:
        async for index, delta in deltas:
            wholes[index].add(delta)
    choices = [answer.format.whole(index, whole) for index, whole in enumerate(wholes)]
    body = {**answer.envelope(answer.format.object, choices), "usage": generation.usage.as_json()}
    wanted = answer.request.prompt_logprobs
    return body if wanted is None else answer.format.with_prompts(body, answer.scores, wanted)


async def stream(answer: SubmittedAnswer) -> AsyncIterator[bytes]:
    """Yield server-sent events; an answer that fails on the way ends with an error instead of `[DONE]`."""
    generation, options = answer.generation, answer.request.stream_options
    usage: Json = {"usage": None} if options.include_usage else {}
    is_continuous = options.include_usage and options.continuous_usage_stats
    begun: set[int] = set()
    try:
        async for index, delta in generation.deltas(answer.request.n):
            pieces = answer.format.pieces(index, delta, is_first=index not in begun)
            begun.add(index)
            if is_continuous:
                usage = {"usage": generation.usage.as_json()}
            chunks = [{**answer.envelope(answer.format.chunk_object, [piece]), **usage} for piece in pieces]
            yield b"".join(map(event, chunks))
        if options.include_usage:
            last = answer.envelope(answer.format.chunk_object, [])
            yield event({**last, "usage": generation.usage.as_json()})
        yield b"data: [DONE]\n\n"
    except ApiError as exc:
        yield event(exc.body)


def event(body: Json) -> bytes:
    """Return one server-sent event."""
    return b"data: " + orjson.dumps(body) + b"\n\n"
