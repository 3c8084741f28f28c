"""Answers with vectors and ranks, in the forms of OpenAI, and of Cohere, Jina and vLLM."""

from __future__ import annotations

import base64
from typing import Any
from uuid import uuid4

import numpy as np

from engines.transformers.encoders.bodies import EmbeddingRequest, RerankRequest
from engines.transformers.encoders.passes import Vectors

Json = dict[str, Any]


def embedding_list(request: EmbeddingRequest, vectors: Vectors, tokens: int, *, normalizes: bool) -> Json:
    """Return the answer to a request for *vectors*, cut to the dimensions that were asked for."""
    if request.dimensions is not None and request.dimensions < vectors.shape[1]:
        vectors = vectors[:, : request.dimensions]
        if normalizes:
            vectors = normalized(vectors)
    written = [encoded(vector) if request.encoding_format == "base64" else vector for vector in vectors]
    data = [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(written)]
    return {"object": "list", "data": data, "model": request.model, "usage": usage_of(tokens)}


def ranking(request: RerankRequest, scores: Vectors, tokens: int) -> Json:
    """Return the documents with their scores, the best first; equal ones in the order of the request."""
    best = np.argsort(-scores, kind="stable")[: request.top_n or None]
    results = []
    for index in map(int, best):
        result: Json = {"index": index, "relevance_score": float(scores[index])}
        if request.return_documents:
            result["document"] = request.documents[index].model_dump()
        results.append(result)
    return {"id": f"rerank-{uuid4().hex}", "model": request.model, "results": results, "usage": usage_of(tokens)}


def cosines(vectors: Vectors) -> Vectors:
    """Return the cosine of the first vector with each of the others, [rows - 1]."""
    lengths = normalized(vectors)
    found: Vectors = lengths[1:] @ lengths[0]
    return found


def normalized(vectors: Vectors) -> Vectors:
    """Return the vectors with length 1; one that is all zeros stays."""
    lengths: Vectors = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
    return vectors / lengths


def encoded(vector: Vectors) -> str:
    """Return the numbers as little-endian float32 in base64, which OpenAI's clients ask for and read."""
    return base64.b64encode(np.ascontiguousarray(vector, "<f4").tobytes()).decode()


def usage_of(tokens: int) -> Json:
    """Return OpenAI's `usage` of a request that generates nothing."""
    return {"prompt_tokens": tokens, "total_tokens": tokens}
