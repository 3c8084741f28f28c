"""Which tokens the next step computes: admits waiting sequences to slots and forms one batch of all that run."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence as Ordered
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from engines.transformers.sequence import Sequence, SequenceState

SHORTEST_REUSE: Final = 8
"""Fewer common tokens than this are computed again rather than copied."""


class PrefixCopy(NamedTuple):
    """Keys and values that one slot takes from another before the step."""

    source: int
    target: int
    length: int


class Row(NamedTuple):
    """Tokens `start` to `start + length` of one sequence."""

    sequence: Sequence
    start: int
    length: int

    @property
    def is_last(self) -> bool:
        """Whether the sequence's next token follows from this row."""
        return self.start + self.length == len(self.sequence.tokens)

    @property
    def foretold(self) -> list[int]:
        """Tokens of the prompt whose logprobs are wanted, each behind its token of this row."""
        # The first token of the answer is not there yet when the last row of the prompt is planned.
        sequence = self.sequence
        return [] if sequence.scores is None else sequence.tokens[self.start + 1 : self.start + self.length + 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """A forward pass; each part is sorted by adapter."""

    copies: tuple[PrefixCopy, ...]
    decodes: tuple[Row, ...]
    prompts: tuple[Row, ...]

    @property
    def size(self) -> int:
        """Tokens that the step computes."""
        return len(self.decodes) + sum(row.length for row in self.prompts)

    @property
    def is_for_copies(self) -> bool:
        """Whether no client waits for any of the step."""
        return all(row.sequence.is_copy for row in (*self.decodes, *self.prompts))

    def undo(self) -> None:
        """Take back that the step was run, which `Scheduler.plan` assumed."""
        for row in (*self.decodes, *self.prompts):
            row.sequence.computed = row.start


@dataclass(slots=True)
class SlotContent:
    """The tokens that a slot's keys and values were computed from; kept after the sequence ended."""

    adapter: int = 0
    tokens: Ordered[int] = ()
    computed: int = 0


@dataclass(slots=True)
class Scheduler:
    """Waiting and running sequences; used by one thread, holds no tensor."""

    slots: int
    max_step_tokens: int
    waiting: deque[Sequence] = field(default_factory=deque)
    running: dict[int, Sequence] = field(default_factory=dict)
    contents: list[SlotContent] = field(init=False)

    def __post_init__(self) -> None:
        self.contents = [SlotContent() for _ in range(self.slots)]

    def add(self, sequence: Sequence) -> None:
        """Let a sequence wait for a slot."""
        self.waiting.append(sequence)

    def drop(self, sequence: Sequence) -> None:
        """Remove a sequence and free its place, running or waiting; a no-op when it has ended."""
        if sequence.state is SequenceState.WAITING:
            self.waiting.remove(sequence)
            sequence.state = SequenceState.DONE
        elif sequence.state is SequenceState.RUNNING:
            self.release(sequence)

    def release(self, sequence: Sequence) -> None:
        """Free the slot of a running sequence; what was computed there may serve others."""
        del self.running[sequence.slot]
        self.contents[sequence.slot] = SlotContent(sequence.adapter, tuple(sequence.tokens), sequence.computed)
        sequence.state = SequenceState.DONE

    def plan(self) -> StepPlan | None:
        """Plan the next step, None when nothing is to be done; the caller is expected to run it."""
        # Admission comes first, so that prefixes are copied only from what earlier steps have computed.
        copies = self._admit()
        if not self.running:
            return None
        # Running answers come first, a token each, so that a long prompt delays none; prompts share the rest.
        prompts, decodes, budget = [], [], self.max_step_tokens
        for sequence in self.running.values():
            if sequence.uncomputed == 1:
                decodes.append(Row(sequence, sequence.computed, 1))
        budget -= len(decodes)
        for sequence in self.running.values():
            if sequence.uncomputed > 1 and budget > 0:
                length = min(sequence.uncomputed, budget)
                prompts.append(Row(sequence, sequence.computed, length))
                budget -= length
        for row in (*decodes, *prompts):
            row.sequence.computed += row.length
        return StepPlan(copies=copies, decodes=by_adapter(decodes), prompts=by_adapter(prompts))

    def _admit(self) -> tuple[PrefixCopy, ...]:
        # Copies run in the order of admission: a slot may be read for one sequence and then be given to the next.
        copies = []
        free = sorted(set(range(self.slots)) - set(self.running))
        # Sequences whose leader still computes their prompt are passed over, so that those behind them need not wait.
        for sequence in [one for one in self.waiting if one.may_start][: len(free)]:
            self.waiting.remove(sequence)
            # Copies take slots from the end, clients from the beginning: what clients computed is overwritten last.
            copies += self._place(sequence, free.pop(-1 if sequence.is_copy else 0))
        return tuple(copies)

    def _place(self, sequence: Sequence, slot: int) -> list[PrefixCopy]:
        contents = [self._content(place) for place in range(self.slots)]
        shared = [shared_length(content, sequence) for content in contents]
        # Of equally long beginnings the one in the slot itself is best: nothing has to be copied.
        source = max(range(self.slots), key=lambda place: (shared[place], place == slot))
        reused = shared[source] if shared[source] >= SHORTEST_REUSE else 0
        sequence.slot, sequence.computed, sequence.reused = slot, reused, reused
        sequence.state = SequenceState.RUNNING
        self.running[slot] = sequence
        return [PrefixCopy(source, slot, reused)] if reused and source != slot else []

    def _content(self, slot: int) -> SlotContent:
        sequence = self.running.get(slot)
        if sequence is None:
            return self.contents[slot]
        return SlotContent(sequence.adapter, sequence.tokens, sequence.computed)


def shared_length(content: SlotContent, sequence: Sequence) -> int:
    """Return how many first tokens of *sequence* the slot holds; never those whose logits are needed."""
    if content.adapter != sequence.adapter or sequence.scores is not None:
        return 0
    most = min(content.computed, len(sequence.tokens) - 1)
    pairs = zip(content.tokens[:most], sequence.tokens, strict=False)
    return next((place for place, (old, new) in enumerate(pairs) if old != new), most)


def by_adapter(rows: list[Row]) -> tuple[Row, ...]:
    """Sort rows of one adapter side by side, slots in order within."""
    return tuple(sorted(rows, key=lambda row: (row.sequence.adapter, row.sequence.slot)))
