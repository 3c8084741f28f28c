"""A chat with one or several models: each remembers its own answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.cli.client import Client
from gateway.cli.operating.streamed import Answer, Message, Question, ask


class Conversation:
    """Asks the same of all models, and keeps the messages of each."""

    def __init__(
        self,
        client: Client,
        models: Sequence[str],
        options: Mapping[str, Any],
        system: str | None,
        *,
        session: str,
    ) -> None:
        """*options* are further fields of every request; *session* names the chat to the gateway."""
        self.models = tuple(models)
        self._client = client
        self._options = options
        self._session = session
        self._system = system
        self._said: dict[int, list[Message]] = {}
        self.reset()

    def reset(self) -> None:
        """Forget all messages."""
        self._said = {at: [] for at in range(len(self.models))}

    def set_system(self, text: str | None) -> None:
        """Begin anew with another system prompt, None for no system prompt."""
        self._system = text
        self.reset()

    def say(self, text: str, show: Callable[[Sequence[Answer]], None]) -> list[Answer]:
        """Return the models' answers to *text*; *show* is called whenever more of them is there.

        After Ctrl-C the answers are what had arrived. An answer that failed is not remembered, nor what it answers.
        """
        question: Message = {"role": "user", "content": text}
        answers = [Answer(model=model) for model in self.models]
        questions = [
            Question(
                model=model,
                messages=[*self._opening(), *self._said[at], question],
                options=self._options,
                session=self._session,
            )
            for at, model in enumerate(self.models)
        ]
        try:
            ask(self._client, questions, answers, lambda: show(answers))
        except KeyboardInterrupt:
            for answer in answers:
                if answer.whole_s is None:
                    answer.finish_reason = "interrupted"
        for at, answer in enumerate(answers):
            if answer.error is None:
                self._said[at] += [question, {"role": "assistant", "content": answer.text}]
        return answers

    def _opening(self) -> list[Message]:
        return [] if self._system is None else [{"role": "system", "content": self._system}]


def remark_on(answer: Answer) -> str:
    """Return who answered, how long the answer is, and how fast it came."""
    if answer.error is not None:
        return f"{answer.model}: {answer.error}"
    parts = [answer.revision or answer.model]
    if answer.tokens is not None:
        parts.append(f"{answer.tokens} tokens")
    if answer.first_s is not None and answer.whole_s is not None:
        parts.append(f"first after {answer.first_s:.1f} s, {answer.whole_s:.1f} s in all")
    if answer.finish_reason not in ("stop", None):
        parts.append({"length": "cut at the token limit"}.get(answer.finish_reason, answer.finish_reason))
    return f"({', '.join(parts)})"
