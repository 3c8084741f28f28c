"""Endpoints of other APIs that clients ask for and Lorry does not have, with what Lorry has for the purpose. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_CHAT: Final = "POST /v1/chat/completions"
_STORED: Final = (
    "Lorry stores no chats: send the whole conversation to POST /v1/chat/completions, or let POST /v1/responses keep it"
)
_CONVERSATIONS: Final = (
    "OpenAI's assistants and conversations are not in Lorry: POST /v1/responses goes on from previous_response_id, and "
    "an agent framework of yours calls the tools"
)
_PICTURES: Final = (
    "Lorry makes text only, no pictures or videos; a model that reads pictures takes them in the messages of "
    "POST /v1/chat/completions"
)
_SOUND: Final = (
    "Lorry makes text only, no sound; POST /v1/audio/transcriptions writes down what is said, where an engine offers it"
)
_TOKENS: Final = "POST /tokenize turns text into tokens; nothing turns them back"
_OLLAMA: Final = (
    "this is Ollama's API; Lorry has OpenAI's: POST /v1/chat/completions, POST /v1/embeddings, GET /v1/models"
)
_GENERATE: Final = f"{_CHAT} and POST /v1/completions generate text"
_RERANK: Final = "POST /v1/rerank compares a query with documents, where an engine offers it"
_KEYS: Final = (
    "an administrator makes keys with `lorry keys create` (/admin/keys), and GET /metrics counts what is used"
)
_INSTEAD: Final[Mapping[str, str]] = {
    "/v1/moderations": (
        "Lorry has no moderation: POST /v1/chat/completions asks a model for a verdict in an enforced form"
    ),
    "/v1/images": _PICTURES,
    "/v1/videos": _PICTURES,
    "/v1/audio": _SOUND,
    "/v1/realtime": f"Lorry has no realtime sessions: {_CHAT} with stream answers word by word",
    "/v1/assistants": _CONVERSATIONS,
    "/v1/threads": _CONVERSATIONS,
    "/v1/conversations": _CONVERSATIONS,
    "/v1/chatkit": _CONVERSATIONS,
    "/v1/vector_stores": ("Lorry stores no documents: POST /v1/embeddings makes vectors for a database of yours"),
    "/v1/evals": (
        "Lorry has no evals: POST /v1/fine_tuning/alpha/graders/run grades an answer, and a rollout judges a revision "
        "on live requests (/admin/rollouts)"
    ),
    "/v1/containers": "Lorry runs no code for models: a tool that the client offers in tools may",
    "/v1/skills": "Lorry runs no code for models: a tool that the client offers in tools may",
    "/v1/organization": _KEYS,
    "/v1/projects": _KEYS,
    "/v1/chat/completions": _STORED,
    "/v1/responses/compact": "send fewer items to POST /v1/responses where the context is full",
    "/v1/fine-tunes": "POST /v1/fine_tuning/jobs fine-tunes",
    "/v1/engines": "GET /v1/models lists models, whose name a request has in model",
    "/v1/edits": _GENERATE,
    "/v1/answers": _GENERATE,
    "/v1/complete": "POST /v1/messages is Anthropic's API of today",
    "/v1/messages/batches": "POST /v1/batches runs many requests; Anthropic's form of it is not in Lorry",
    "/v1/score": _RERANK,
    "/score": _RERANK,
    "/detokenize": _TOKENS,
    "/v1/detokenize": _TOKENS,
    "/v1/tokenize": "POST /tokenize turns text into tokens",
    "/generate": _GENERATE,
    "/generate_stream": _GENERATE,
    "/invocations": _GENERATE,
    "/v2/models": "GET /v1/models lists models",
    "/v1beta/models": f"this is Gemini's API; Lorry has OpenAI's: {_CHAT}",
    "/api/chat": _OLLAMA,
    "/api/generate": _OLLAMA,
    "/api/tags": _OLLAMA,
    "/api/show": _OLLAMA,
    "/api/embed": _OLLAMA,
    "/api/embeddings": _OLLAMA,
    "/api/pull": _OLLAMA,
    "/api/version": _OLLAMA,
    "/openai/deployments": (
        f"this is Azure's form of a path; a client for OpenAI, not for Azure, asks {_CHAT} with the deployment as model"
    ),
}
"""Beginning of a path -> what Lorry has instead; the longest that fits counts."""


def instead_of(path: str) -> str | None:
    """Return what Lorry has instead of the endpoint with this path; None for a path that no known API has."""
    beginning = path
    while beginning:
        if beginning in _INSTEAD:
            return _INSTEAD[beginning]
        beginning = beginning.rpartition("/")[0]
    return None
