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
    """`float` unless set; OpenAI's own clients ask for `base64` and turn it into numbers."""
    dimensions: int | None = None
    """Numbers of each vector, at most the model's; a shorter vector has length 1 again."""
    user: str | None = None
    truncate_prompt_tokens: int | None = None
    """Tokens to which a longer text is cut; -1 is as many as the model reads. Without it such a text is refused."""
    truncation_side: Literal["left", "right"] | None = None
    """The end at which tokens are cut off; `right` unless set."""
    prompt_name: str | None = None
    """Lorry's own engine: name of one of the model's prompts, such as `query`, to go before each text."""


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
    """Each a string, or an object with `text`, whose other members come back unread."""
    top_n: int | None = None
    """Documents in the answer, the best ones; all unless set."""
    return_documents: bool | None = None
    """Whether the answer has the documents; true unless set to false."""
    max_tokens_per_doc: int | None = None
    """Tokens to which a longer document is cut."""
    truncate_prompt_tokens: int | None = None
    """Tokens to which query and document together are cut; -1 is as many as the model reads."""
    truncation_side: Literal["left", "right"] | None = None
    """The end at which tokens are cut off; `right` unless set."""
    user: str | None = None


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
    usage: TokenUsage | None = None
