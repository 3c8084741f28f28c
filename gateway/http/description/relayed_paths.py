"""The relayed paths in OpenAPI: a row for each, since they never reach FastAPI, which describes the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.objects.problems import ErrorEnvelope
from gateway.objects.relayed.audio import TRANSCRIPTION_FORM, Transcription, TranscriptionEvent
from gateway.objects.relayed.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionRequest
from gateway.objects.relayed.completions import Completion, CompletionRequest, Tokenization, TokenizationRequest
from gateway.objects.relayed.described import StreamEvent
from gateway.objects.relayed.embeddings import EmbeddingList, EmbeddingRequest, Reranking, RerankRequest
from gateway.objects.relayed.messages import AnthropicError, CountRequest, MessageRequest, ModelMessage, TokenCount
from gateway.objects.relayed.responses import ModelResponse, ResponseInputTokens, ResponseRequest
from gateway.routing.paths import HOT_PATHS

TAG: Final = "inference"
_REF: Final = "#/components/schemas/{model}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayedPath:
    """The description of a relayed path for OpenAPI."""

    operation: str
    """Name of the function in generated clients."""
    summary: str
    body: type[BaseModel] | Mapping[str, Any]
    """Model of the JSON body, or the schema of a form."""
    answer: type[BaseModel]
    event: type[BaseModel] | None = None
    """Model of the data of each event of a stream; None where the path does not stream."""
    is_anthropics: bool = False
    """Requests of the path are translated to a chat's, and errors have Anthropic's form."""


RELAYED: Final[Mapping[str, RelayedPath]] = {
    "/v1/chat/completions": RelayedPath(
        operation="create_chat_completion",
        summary="Answer the last message of a chat.",
        body=ChatCompletionRequest,
        answer=ChatCompletion,
        event=ChatCompletionChunk,
    ),
    "/v1/completions": RelayedPath(
        operation="create_completion",
        summary="Go on with a text.",
        body=CompletionRequest,
        answer=Completion,
        event=Completion,
    ),
    "/v1/responses": RelayedPath(
        operation="create_response",
        summary="Answer in the form of OpenAI's Responses.",
        body=ResponseRequest,
        answer=ModelResponse,
        event=StreamEvent,
    ),
    "/v1/responses/input_tokens": RelayedPath(
        operation="count_response_tokens",
        summary="Count the tokens of a response's prompt, by the model's own tokenizer.",
        body=ResponseRequest,
        answer=ResponseInputTokens,
    ),
    "/v1/messages": RelayedPath(
        operation="create_message",
        summary="Answer in the form of Anthropic's Messages.",
        body=MessageRequest,
        answer=ModelMessage,
        event=StreamEvent,
        is_anthropics=True,
    ),
    "/v1/messages/count_tokens": RelayedPath(
        operation="count_message_tokens",
        summary="Count the tokens of a message's prompt, by the model's own tokenizer.",
        body=CountRequest,
        answer=TokenCount,
        is_anthropics=True,
    ),
    "/v1/embeddings": RelayedPath(
        operation="create_embedding",
        summary="Return the vectors of texts.",
        body=EmbeddingRequest,
        answer=EmbeddingList,
    ),
    "/v1/rerank": RelayedPath(
        operation="create_reranking",
        summary="Order documents by how well they answer a query.",
        body=RerankRequest,
        answer=Reranking,
    ),
    "/v2/rerank": RelayedPath(
        operation="create_second_reranking",
        summary="Order documents, on the path of Cohere's second API.",
        body=RerankRequest,
        answer=Reranking,
    ),
    "/rerank": RelayedPath(
        operation="create_reranking_unprefixed",
        summary="Order documents, on the path that vLLM and TEI have without a prefix.",
        body=RerankRequest,
        answer=Reranking,
    ),
    "/tokenize": RelayedPath(
        operation="tokenize",
        summary="Return the tokens of a text or of a chat.",
        body=TokenizationRequest,
        answer=Tokenization,
    ),
    "/v1/audio/transcriptions": RelayedPath(
        operation="create_transcription",
        summary="Write speech down.",
        body=TRANSCRIPTION_FORM,
        answer=Transcription,
        event=TranscriptionEvent,
    ),
}
"""Path -> its description, for every path of `HOT_PATHS`."""

_REQUEST_HEADERS: Final[Mapping[str, str]] = {
    "x-request-id": "Names the request in answers and logs.",
    "x-request-timeout": "Seconds until the answer must begin.",
    "x-session-id": "Names the conversation, which stays on its side of a rollout.",
    "x-lorry-side": "`canary` or `stable`: the side of the open rollout that is to answer.",
    "x-lorry-priority": "`high`, `normal` or `low`; may only lower the priority of the key.",
}
_ANSWER_HEADERS: Final[Mapping[str, str]] = {
    "x-request-id": "Name of the request.",
    "x-lorry-revision": "The revision that answered.",
    "x-lorry-replica": "The replica that answered.",
}
_REMARK: Final = (
    "The request is relayed to a replica whose engine offers the path; fields that are not listed here go on to it "
    "unchanged. An error has the envelope of all errors."
)
_TRANSLATED_REMARK: Final = (
    "The request is translated, so that models, adapters and rollouts answer as in a chat; a field that is not listed "
    "here is refused. An error has Anthropic's form."
)


def relayed_operations() -> dict[str, Any]:
    """Return the path items of the relayed paths."""
    return {kind.path: {"post": _operation(RELAYED[kind.path])} for kind in HOT_PATHS.values()}


def relayed_schemas() -> dict[str, Any]:
    """Return the schemas that these path items refer to, by name."""
    models = [
        model for row in RELAYED.values() for model in (row.body, row.answer, row.event) if isinstance(model, type)
    ]
    models.append(AnthropicError)
    _, schema = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    found: dict[str, Any] = schema["$defs"]
    return found


def _operation(row: RelayedPath) -> dict[str, Any]:
    if isinstance(row.body, type):
        body = {"application/json": {"schema": _ref(row.body)}}
    else:
        body = {"multipart/form-data": {"schema": dict(row.body)}}
    answers = {"application/json": {"schema": _ref(row.answer)}}
    if row.event is not None:
        answers["text/event-stream"] = {"schema": {"type": "string", "description": _stream_of(row.event)}}
    error = {"application/json": {"schema": _ref(AnthropicError if row.is_anthropics else ErrorEnvelope)}}
    headers = {name: {"description": text, "schema": {"type": "string"}} for name, text in _ANSWER_HEADERS.items()}
    return {
        "tags": [TAG],
        "summary": row.summary,
        "description": _TRANSLATED_REMARK if row.is_anthropics else _REMARK,
        "operationId": row.operation,
        "parameters": [
            {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}
            for name, text in _REQUEST_HEADERS.items()
        ],
        "requestBody": {"required": True, "content": body},
        "responses": {
            "200": {"description": "The answer.", "headers": headers, "content": answers},
            "4XX": {"description": "The request cannot be answered; `error` has why.", "content": error},
            "5XX": {"description": "No replica could answer.", "content": error},
        },
    }


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


def _stream_of(event: type[BaseModel]) -> str:
    return f"With `stream: true`: server-sent events, the data of each a {event.__name__}."
