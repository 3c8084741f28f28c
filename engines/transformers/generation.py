"""A request between its checked body and the pieces of its answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from functools import partial
from time import monotonic

from engines.transformers.constraints.constraint import Constraint
from engines.transformers.errors import BadRequest, NoSuchResource, QueueFull
from engines.transformers.lora import AdapterTable, LoadedAdapter
from engines.transformers.metrics import EngineMetrics
from engines.transformers.model import LoadedModel
from engines.transformers.requests.bodies import GenerationRequest
from engines.transformers.sampling import PromptScores, SamplingParams, chooser
from engines.transformers.sequence import Delta, Sequence
from engines.transformers.stepper import Stepper
from engines.transformers.text import TextStream


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """How many answers may run and wait, and the name of the base model."""

    base_name: str
    batch: int
    queue: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationDemand:
    """A request in tokens, with its limits."""

    request: GenerationRequest
    prompts: list[list[int]]
    limit: int | None
    """Most tokens of each answer as asked for."""
    default_limit: int | None
    """Most tokens when nothing was asked for; None: what the context leaves."""
    limit_param: str
    prompt_param: str
    top_logprobs: int | None
    is_copy: bool
    """The header `x-lorry-shadow` marks a request that no client waits for."""
    scores: list[PromptScores]
    """For each prompt where its logprobs go; empty where nobody wants them."""
    constraints: Callable[[], Constraint] | None
    """Makes the constraint of one answer; None for free text."""
    text_stream: Callable[[], TextStream]
    """Makes what turns the tokens of one answer into text."""


@dataclass(slots=True, kw_only=True)
class Usage:
    """Tokens of one request so far."""

    prompt: int
    generated: dict[int, int] = field(default_factory=dict)
    """Tokens generated, by answer."""
    reused: dict[int, int] = field(default_factory=dict)

    def note(self, index: int, delta: Delta, choices_per_prompt: int) -> None:
        """Count the tokens of *delta*, which belongs to answer *index*."""
        self.generated[index] = delta.generated
        # Further choices of a prompt reuse the first one's, which is not a hit of the cache for this request.
        if index % choices_per_prompt == 0:
            self.reused[index] = delta.reused

    def as_json(self) -> dict[str, object]:
        """Return OpenAI's `usage`."""
        completion = sum(self.generated.values())
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": completion,
            "total_tokens": self.prompt + completion,
            "prompt_tokens_details": {"cached_tokens": sum(self.reused.values())},
        }


class Generation:
    """Submitted sequences and their deltas; `close` releases what they hold, however they ended."""

    def __init__(self, intake: GenerationIntake, adapter: LoadedAdapter | None, usage: Usage) -> None:
        self.usage = usage
        self.sequences: list[Sequence] = []
        self._intake = intake
        self._adapter = adapter
        self._news: asyncio.Queue[tuple[int, Delta | Exception]] = asyncio.Queue()
        self._open: set[int] = set()
        self._is_closed = False

    def add(self, sequence: Sequence) -> None:
        """Add one more sequence, before submission."""
        self._open.add(len(self.sequences))
        self.sequences.append(sequence)

    def deliver(self, index: int, news: Delta | Exception) -> None:
        """Queue a delta or an error; the stepper calls this in the event loop."""
        self._news.put_nowait((index, news))

    async def deltas(self, choices_per_prompt: int) -> AsyncGenerator[tuple[int, Delta], None]:
        """Yield the index of an answer and its delta, until all have ended; raise the error of a failed engine."""
        while self._open:
            index, news = await self._news.get()
            if isinstance(news, Exception):
                raise news
            self.usage.note(index, news, choices_per_prompt)
            if news.finish is not None:
                self._open.discard(index)
            yield index, news

    def close(self) -> None:
        """Drop what has not ended and give back the places and the adapter; does not wait; a no-op the second time."""
        if self._is_closed:
            return
        self._is_closed = True
        self._intake.give_back([self.sequences[index] for index in self._open], len(self.sequences), self._adapter)


class GenerationIntake:
    """The entrance to the stepper: resolves names and limits how many enter. For use from the event loop only."""

    def __init__(
        self, loaded: LoadedModel, adapters: AdapterTable, stepper: Stepper, metrics: EngineMetrics, limits: QueueLimits
    ) -> None:
        self._loaded = loaded
        self._adapters = adapters
        self._stepper = stepper
        self._metrics = metrics
        self._limits = limits
        self._inside = 0

    def submit(self, demand: GenerationDemand) -> Generation:
        """Hand the request to the stepper; the caller closes what it gets.

        `BadRequest`, `NoSuchResource`, `QueueFull`.
        """
        request = demand.request
        wanted = len(demand.prompts) * request.n
        self._check(demand, wanted)
        # Acquired after every check that may refuse, as a refused request gives nothing back. There is no await up to
        # the end, so two requests cannot get the same last place.
        adapter = self._adapter_of(request.model)
        generation = Generation(self, adapter, Usage(prompt=sum(map(len, demand.prompts))))
        try:
            self._add_sequences(demand, generation, adapter.id if adapter else 0)
        except BaseException:
            if adapter is not None:
                self._adapters.release(adapter)
            raise
        self._inside += wanted
        self._stepper.submit(generation.sequences)
        return generation

    def _add_sequences(self, demand: GenerationDemand, generation: Generation, adapter: int) -> None:
        for place, prompt in enumerate(demand.prompts):
            leader = None
            for _ in range(demand.request.n):
                sequence = self._sequence(demand, prompt, generation, adapter)
                sequence.leader = leader
                if leader is None and demand.scores:
                    sequence.scores = demand.scores[place]
                leader = leader or sequence
                generation.add(sequence)

    def give_back(self, unfinished: list[Sequence], places: int, adapter: LoadedAdapter | None) -> None:
        """Release what a generation held."""
        # The stepper drops the sequences between two steps; until then it may compute tokens that nobody reads.
        self._stepper.drop(unfinished)
        self._inside -= places
        if adapter is not None:
            self._adapters.release(adapter)

    def _check(self, demand: GenerationDemand, wanted: int) -> None:
        most = self._limits.batch + self._limits.queue
        if wanted > most:
            raise BadRequest(f"{wanted} answers are more than the {most} that run and wait at a time", param="n")
        outside = [token for token in demand.request.token_bias if not 0 <= token < self._loaded.vocabulary]
        if outside:
            raise BadRequest(f"logit_bias: {self._no_token(outside[0])}", param="logit_bias")
        for place, prompt in enumerate(demand.prompts):
            name = demand.prompt_param if len(demand.prompts) == 1 else f"{demand.prompt_param}[{place}]"
            self._check_prompt(prompt, demand, name)
        if self._inside + wanted > most:
            self._metrics.note_rejection()
            raise QueueFull(f"{self._limits.batch} answers run and {self._limits.queue} may wait; come again")

    def _check_prompt(self, prompt: list[int], demand: GenerationDemand, name: str) -> None:
        context = self._loaded.context
        if not prompt:
            raise BadRequest(f"{name} has no token to begin with", param=name)
        if max(prompt) >= self._loaded.vocabulary:
            raise BadRequest(f"{name}: {self._no_token(max(prompt))}", param=name)
        longest = context if demand.limit == 0 else context - 1
        if len(prompt) > longest or len(prompt) + (demand.limit or 0) > context:
            asked = f" and {demand.limit} more were asked for by {demand.limit_param}" if demand.limit else ""
            # Clients recognise these words and shorten the conversation: LiteLLM the first ones, LangChain
            # "prompt is too long", Anthropic's.
            raise BadRequest(
                f"This model's maximum context length is {context} tokens. However, your {demand.prompt_param} resulted"
                f" in {len(prompt)} tokens{asked}: the prompt is too long. Please reduce the length of the"
                f" {demand.prompt_param}.",
                param=demand.limit_param if len(prompt) <= longest else None,
                code="context_length_exceeded",
            )

    def _no_token(self, token: int) -> str:
        return f"{token} is not a token of the vocabulary, whose ids are 0 to {self._loaded.vocabulary - 1}"

    def _adapter_of(self, name: str) -> LoadedAdapter | None:
        if name == self._limits.base_name:
            return None
        adapter = self._adapters.acquire(name)
        if adapter is None:
            raise NoSuchResource(f"the model {name!r} does not exist", param="model", code="model_not_found")
        return adapter

    def _sequence(self, demand: GenerationDemand, prompt: list[int], generation: Generation, adapter: int) -> Sequence:
        request, index = demand.request, len(generation.sequences)
        room = self._loaded.context - len(prompt)
        params = SamplingParams(
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=max(request.top_k, 0),
            min_p=request.min_p,
            repetition_penalty=request.repetition_penalty,
            min_tokens=request.min_tokens,
            seed=request.seed,
            presence_penalty=request.presence_penalty,
            frequency_penalty=request.frequency_penalty,
            logit_bias=request.token_bias,
            top_logprobs=demand.top_logprobs,
        )
        ends = self._loaded.end_tokens
        constraint = None if demand.constraints is None else demand.constraints()
        return Sequence(
            tokens=list(prompt),
            adapter=adapter,
            limit=min(demand.default_limit or room, room) if demand.limit is None else demand.limit,
            chooser=chooser(params, index % request.n, prompt=prompt, end_tokens=ends, constraint=constraint),
            text=demand.text_stream(),
            end_tokens=frozenset() if request.ignore_eos else ends,
            deliver=partial(generation.deliver, index),
            arrived_at=monotonic(),
            is_copy=demand.is_copy,
        )
