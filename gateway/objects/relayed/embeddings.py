"""`POST /v1/embeddings` and `POST /v1/rerank`: models that do not chat."""

from __future__ import annotations

from typing import Any, Literal

from gateway.objects.relayed.described import Relayed, TokenUsage


class EmbeddingRequest(Relayed):
    """The body that asks for embeddings."""

    model: str
    input: str | list[str] | list[int] | list[list[int]]
    """Text or token ids, one or several."""
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: str | None = None


class Embedding(Relayed):
    """The vector of one input."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str
    """Numbers, or little-endian float32 in base64."""


class EmbeddingList(Relayed):
    """The vectors of all inputs."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: TokenUsage


class RerankRequest(Relayed):
    """The body that asks for an order of documents."""

    model: str
    query: str
    documents: list[str | dict[str, Any]]
    top_n: int | None = None
    return_documents: bool | None = None


class RankedDocument(Relayed):
    """A document with its score."""

    index: int
    """Place of the document in the request."""
    relevance_score: float
    document: dict[str, Any] | str | None = None


class Reranking(Relayed):
    """The documents, the most relevant first."""

    id: str | None = None
    model: str | None = None
    results: list[RankedDocument]
