"""An evaluation at this gateway, from its claim to its end, or until the lease is lost or given back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from evaluation.checks.checking import Answered, check_answer
from evaluation.scores import ScoredRow, scores_of
from evaluation.suite import Suite, SuiteRow
from gateway.batches.front_door import FrontDoor
from gateway.batches.held_tasks import work_while_held
from gateway.batches.registry_calls import FIRST_PAUSE_S, RegistryCalls
from gateway.edge.parts import Gateway
from gateway.evaluations.asking import EvaluationChats, JudgeChats, KeyGone, NoAnswer
from gateway.routing.pinned_weights import why_changed
from graders.errors import GradingFailed
from registry.errors import LeaseLost, NotFound, RegistryError
from registry.evaluations.evaluation import Evaluation, EvaluationAnswer, EvaluationHold

log = logging.getLogger(__name__)

_RENEW_EVERY_S: Final = 2.0
_MOST_FAULTS: Final = 10
"""Rows without an answer after which no further row is asked."""


class EvaluationRun:
    """Moves one evaluation to its end."""

    def __init__(self, gateway: Gateway, door: FrontDoor, hold: EvaluationHold) -> None:
        self._gateway = gateway
        self._door = door
        self._store = gateway.registry.evaluations
        self._hold = hold
        self._calls = RegistryCalls(hold.evaluation_id)
        self._chats: EvaluationChats | None = None
        self._faults: dict[str, str] = {}
        """Id of a row without an answer -> why."""

    async def run(self) -> None:
        """Return when the evaluation has ended, or is another gateway's; a cancelled caller leaves it as it is."""
        try:
            await work_while_held(self._keep_lease(), self._work())
        except LeaseLost as exc:
            extra = {"evaluation": self._hold.evaluation_id, "why": str(exc)}
            log.info("an evaluation is not this gateway's any more", extra=extra)

    async def _keep_lease(self) -> None:
        """Renew the lease until cancelled. Raises `LeaseLost`."""
        while True:
            try:
                await asyncio.to_thread(self._store.renew, self._hold, self._waits_for())
            except LeaseLost:
                raise
            except RegistryError as exc:
                log.warning("lease of an evaluation not renewed, trying again", extra={"error": str(exc)})
            await asyncio.sleep(FIRST_PAUSE_S if self._calls.problem else _RENEW_EVERY_S)

    def _waits_for(self) -> str:
        return self._calls.problem or ("" if self._chats is None else self._chats.problem)

    async def _work(self) -> None:
        """Ask what has no answer yet, and end the evaluation. Raises `LeaseLost`."""
        evaluation = await self._calls.kept(self._store.get, self._hold.evaluation_id)
        try:
            stored = await self._calls.kept(self._gateway.registry.suites.get, evaluation.suite_digest)
        except NotFound as exc:
            await self._fail("suite_gone", str(exc))
            return
        suite = await asyncio.to_thread(Suite.model_validate_json, stored.content)
        if await self._fails_as_changed(evaluation):
            return
        try:
            await self._ask_rows(evaluation, suite)
        except KeyGone as exc:
            await self._fail("key_revoked", str(exc))
            return
        if await self._fails_as_changed(evaluation):
            return
        if self._faults:
            row, why = next(iter(self._faults.items()))
            count = f"{len(self._faults)} of {evaluation.total} rows have no answer"
            await self._fail("rows_unanswered", f"{count}, so there is no score; row {row}: {why}")
            return
        answers = await self._calls.kept(self._store.answers, evaluation.id)
        scores = await asyncio.to_thread(scores_of, [scored(each) for each in answers])
        await self._calls.kept(self._store.complete, self._hold, scores.as_json())
        self._gateway.metrics.evaluations.ended.labels("completed").inc()

    async def _fails_as_changed(self, evaluation: Evaluation) -> bool:
        """Fail the evaluation if the weights of its model or of a judge changed; return whether they did."""
        for model in (evaluation.model, *evaluation.judges.values()):
            if (changed := await self._calls.kept(why_changed, self._gateway.registry, model)) is not None:
                await self._fail("model_changed", changed)
                return True
        return False

    async def _fail(self, code: str, message: str) -> None:
        await self._calls.kept(self._store.fail, self._hold, code, message)
        self._gateway.metrics.evaluations.ended.labels("failed").inc()

    async def _ask_rows(self, evaluation: Evaluation, suite: Suite) -> None:
        """Ask the rows without an answer, so many at a time. Raises `KeyGone`."""
        answered = {each.row for each in await self._calls.kept(self._store.answers, evaluation.id)}
        rows = iter([(at, row) for at, row in enumerate(suite.numbered_rows, 1) if at not in answered])
        chats = self._chats = EvaluationChats(self._door, self._gateway.keyring, evaluation)
        judges = JudgeChats(chats, asyncio.get_running_loop())

        async def ask_further() -> None:
            for at, row in rows:
                if len(self._faults) >= _MOST_FAULTS:
                    return
                await self._ask_row(evaluation, suite, (at, row), judges)

        asking = [asyncio.create_task(ask_further()) for _ in range(evaluation.concurrency)]
        try:
            await asyncio.gather(*asking)
        finally:
            judges.close()
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    async def _ask_row(
        self, evaluation: Evaluation, suite: Suite, numbered: tuple[int, SuiteRow], judges: JudgeChats
    ) -> None:
        at, row = numbered
        messages = row.conversation()
        body = {"model": evaluation.model.served_name, "messages": messages, **_sampling(suite, row)}
        metric = self._gateway.metrics.evaluations.rows
        try:
            found = await judges.chats.ask(body)
            answered = Answered(messages=messages, text=found.text, models=judges)
            checked = await asyncio.to_thread(check_answer, row.checks(), answered)
        except (NoAnswer, GradingFailed) as exc:
            self._faults[row.id] = str(exc)
            metric.labels("unanswered").inc()
            return
        answer = EvaluationAnswer(
            row=at,
            row_id=row.id,
            answer=found.text,
            score=checked.score,
            has_passed=checked.has_passed,
            why=checked.why,
            weight=row.weight,
            tags=row.tags,
            prompt=shown_prompt(messages),
            target="",
            finish_reason=found.finish_reason,
            prompt_tokens=found.prompt_tokens,
            completion_tokens=found.completion_tokens,
            seconds=found.seconds,
        )
        await self._calls.kept(self._store.record, self._hold, [answer])
        metric.labels("passed" if checked.has_passed else "not_passed").inc()


def _sampling(suite: Suite, row: SuiteRow) -> dict[str, object]:
    asked = suite.sampling.model_dump()
    if row.max_tokens is not None:
        asked["max_tokens"] = row.max_tokens
    if row.response_format is not None:
        asked["response_format"] = row.response_format
    return asked


def scored(answer: EvaluationAnswer) -> ScoredRow:
    """Return the part of an answer that scores are computed from."""
    return ScoredRow(
        id=answer.row_id,
        score=answer.score,
        has_passed=answer.has_passed,
        weight=answer.weight,
        tags=tuple(answer.tags),
    )


def shown_prompt(messages: Sequence[dict[str, str]]) -> str:
    """Return a conversation as text for people."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n".join(f"{message['role']}: {message['content']}" for message in messages)
