"""`POST /v1/feedback`: ratings of answers, joined to the revision that gave the answer, and files made of them."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter
from pydantic import Field

from gateway.deps import AuthorDep, CallerDep, Gateway, GatewayDep
from gateway.errors import InvalidRequest
from gateway.objects.evidence import FeedbackObject
from gateway.objects.files import FileObject
from gateway.openai.files import file_object
from gateway.openai.types import Body
from registry.contracts.training_formats import RATED_CHATS, LineParser
from registry.contracts.uploads.file_purposes import TRAINING
from registry.errors import NotFound, TrainingFileInvalid
from registry.rollouts.feedback import Feedback, adapter_of

router = APIRouter(tags=["feedback"])

LABELS: Final = {"good": 1.0, "bad": 0.0}
MOST_CHAT_BYTES: Final = 262144
"""Longest chat that a rating may bring, as JSON."""


class Rating(Body):
    """Body of `POST /v1/feedback`: one of `score` and `label`."""

    completion_id: Annotated[str, Field(min_length=1, max_length=256)]
    score: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    label: Literal["good", "bad"] | None = None
    comment: Annotated[str, Field(max_length=4000)] = ""
    messages: list[Any] | None = None
    """The rated chat, which ends with the answer; kept to learn from."""
    tools: list[Any] | None = None


@router.post("/v1/feedback")
async def give_feedback(body: Rating, gateway: GatewayDep, caller: CallerDep) -> FeedbackObject:
    """Store the rating in place of an earlier rating of the same answer; 404 if this answer cannot be rated."""
    score, chat = _score_of(body), _chat_of(body)
    rate = partial(gateway.registry.feedback.rate, body.completion_id, score, body.comment, caller.tenant, chat=chat)
    feedback = await _rate(gateway, rate)
    if feedback.cell is not None:
        gateway.metrics.rollouts.rate(adapter_of(feedback.served_name), feedback.cell.side, feedback.score)
    return feedback_object(feedback)


class RatedFile(Body):
    """Body of `POST /v1/files/feedback`."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    """An adapter, one of its revisions, or a base model."""


@router.post("/v1/files/feedback")
async def make_file_of_ratings(body: RatedFile, gateway: GatewayDep, author: AuthorDep) -> FileObject:
    """Store the chats that came with ratings of a model as a training file for the method `kto`."""
    feedback, caller = gateway.registry.feedback, author.caller
    rated = await gateway.ask(partial(feedback.rated_chats, body.model, caller.sees))
    content = "".join(json.dumps(chat) + "\n" for chat in rated).encode()

    def store() -> FileObject:
        try:
            TRAINING.check(io.BytesIO(content))
        except TrainingFileInvalid as exc:
            message = f"{len(rated)} ratings of {body.model[:64]!r} came with their messages: {exc}"
            raise InvalidRequest(message, param="model") from exc
        return file_object(
            gateway.registry.files.add(
                [content],
                filename="feedback.jsonl",
                purpose=TRAINING.name,
                owner=author.name,
                tenant=caller.tenant,
                expires_after_s=None,
            )
        )

    return await asyncio.to_thread(store)


def _chat_of(body: Rating) -> dict[str, Any] | None:
    """Return the chat of a rating as a training file has it; `InvalidRequest` names the field."""
    if body.messages is None:
        if body.tools is not None:
            raise InvalidRequest("tools go with messages, the chat that was rated", param="tools")
        return None
    given = {"messages": body.messages, "tools": body.tools}
    chat = {name: value for name, value in given.items() if value is not None}
    line = json.dumps({**chat, "label": True}).encode()
    if len(line) > MOST_CHAT_BYTES:
        raise InvalidRequest(
            f"messages and tools have {len(line)} bytes, more than {MOST_CHAT_BYTES}", param="messages"
        )
    try:
        LineParser((RATED_CHATS,)).parse(line, 1)
    except TrainingFileInvalid as exc:
        raise InvalidRequest(str(exc).removeprefix("line 1: "), param="messages") from exc
    return chat


def _score_of(body: Rating) -> float:
    if body.score is not None and body.label is None:
        return body.score
    if body.label is not None and body.score is None:
        return LABELS[body.label]
    raise InvalidRequest("give either score, from 0 to 1, or label, good or bad", param="score")


async def _rate(gateway: Gateway, rate: Callable[[], Feedback]) -> Feedback:
    """Store the rating; try again after each way in which a very recent answer reaches the registry.

    Such an answer is known only to its gateway until the gateway reports it to the registry.
    """
    try:
        return await gateway.ask(rate)
    except NotFound:
        await gateway.tally_reporter.flush()
    try:
        return await gateway.ask(rate)
    except NotFound:
        await asyncio.sleep(1.5 * gateway.settings.observe_flush_s)
    return await gateway.ask(rate)


def feedback_object(feedback: Feedback) -> FeedbackObject:
    """Return the JSON object of a rating."""
    cell = feedback.cell
    return FeedbackObject(
        completion_id=feedback.completion_id,
        tenant=feedback.tenant,
        revision=feedback.served_name,
        rollout=None if cell is None else cell.rollout_id,
        step=None if cell is None else cell.step,
        side=None if cell is None else cell.side,
        replica=feedback.replica,
        score=feedback.score,
        comment=feedback.comment,
        at=feedback.at,
    )
