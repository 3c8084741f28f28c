"""An answer in the making: a prompt, what was generated so far, and when it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from engines.transformers.calls.call_reader import CallPiece
from engines.transformers.sampling import Chooser, ChosenToken, PromptScores
from engines.transformers.text import Piece, TextStream


class SequenceState(StrEnum):
    """The states of a sequence."""

    WAITING = "waiting"  # for a slot
    RUNNING = "running"  # has a slot
    DONE = "done"  # ended, or dropped because nobody waits for it


class FinishReason(StrEnum):
    """Why an answer ended, in OpenAI's words."""

    STOP = "stop"  # the model or a stop string ended it
    LENGTH = "length"  # it may not grow further
    TOOL_CALLS = "tool_calls"  # the model ended it, or its form did, after calls of functions


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """The new part of an answer."""

    text: str
    calls: tuple[CallPiece, ...] = ()
    """The new parts of calls of functions, which come after the text."""
    choices: tuple[ChosenToken, ...]
    """The tokens behind it, where logprobs are wanted."""
    generated: int
    """Tokens generated so far."""
    reused: int
    """Tokens of the prompt that were not computed for it."""
    finish: FinishReason | None
    met_stop: str | None = None
    """The stop string that ended the answer."""


@dataclass(slots=True, eq=False, kw_only=True)
class Sequence:
    """State that the stepping thread owns once the sequence was submitted."""

    tokens: list[int]
    """Prompt, then what was generated."""
    adapter: int
    """Id of a loaded adapter, 0 for the base model."""
    limit: int
    """Most tokens to generate; 0 where only the prompt's own logprobs are wanted."""
    chooser: Chooser
    text: TextStream
    end_tokens: frozenset[int]
    deliver: Callable[[Delta | Exception], None]
    """Called in the event loop."""
    arrived_at: float
    is_copy: bool = False
    """No client waits for the sequence, so it leaves clients the slots that hold beginnings of their conversations."""
    scores: PromptScores | None = None
    """Filled by the runner while it computes the prompt, which then takes nothing from other slots."""
    leader: Sequence | None = None
    """A sequence with the same prompt; waiting until it is computed saves computing it twice."""
    state: SequenceState = SequenceState.WAITING
    slot: int = -1
    computed: int = 0
    """Number of tokens whose keys and values are in the slot, or will be after the step that runs."""
    reused: int = 0
    generated: int = 0
    last_token_at: float = 0.0
    unsent: list[ChosenToken] = field(default_factory=list)

    @property
    def uncomputed(self) -> int:
        """Number of tokens without keys and values."""
        return len(self.tokens) - self.computed

    @property
    def may_start(self) -> bool:
        """Whether no leader is about to compute the same prompt."""
        return self.leader is None or self.leader.generated > 0 or self.leader.state is SequenceState.DONE

    def accept(self, choice: ChosenToken) -> Delta | None:
        """Append the next token; return the delta for the client, None if nothing can be sent yet."""
        if self.limit == 0:
            return self._delta(Piece(""), FinishReason.LENGTH)
        self.tokens.append(choice.token)
        self.generated += 1
        constraint = self.chooser.constraint
        if choice.token in self.end_tokens:
            return self._delta(Piece(self.text.flush()), FinishReason.STOP)
        if choice.logprob is not None:
            self.unsent.append(choice)
        piece = self.text.push(choice.token)
        if piece.stopped:
            return self._delta(piece, FinishReason.STOP)
        if constraint is not None and constraint.is_complete:
            return self._delta(self._with_rest(piece), FinishReason.STOP)
        if self.generated == self.limit:
            return self._delta(self._with_rest(piece), FinishReason.LENGTH)
        return self._delta(piece, None) if piece.text or piece.calls else None

    def _with_rest(self, piece: Piece) -> Piece:
        return replace(piece, text=piece.text + self.text.flush())

    def _delta(self, piece: Piece, finish: FinishReason | None) -> Delta:
        choices, self.unsent = tuple(self.unsent), []
        if finish is FinishReason.STOP and self.text.has_called:
            finish = FinishReason.TOOL_CALLS
        return Delta(
            text=piece.text,
            calls=piece.calls,
            choices=choices,
            generated=self.generated,
            reused=self.reused,
            finish=finish,
            met_stop=self.text.met_stop if finish is FinishReason.STOP else None,
        )
