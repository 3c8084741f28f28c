"""ASGI middleware that vLLM imports from its own environment: its key guards `/v1` alone, this guards the rest too."""

import hmac
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
REFUSAL = b'{"error": {"message": "this server wants its key", "code": "invalid_api_key"}}'


class RequireKey:
    """Answers 401 unless the header `authorization` has the key that vLLM has in its environment."""

    def __init__(self, app: Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]) -> None:
        self._app = app
        self._wanted = f"Bearer {os.environ['VLLM_API_KEY']}".encode()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        # vLLM has sockets below `/v1` alone, which it guards itself.
        if scope["type"] != "http" or scope["path"] == "/health" or self._knows(scope):
            await self._app(scope, receive, send)
            return
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(REFUSAL))]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": REFUSAL})

    def _knows(self, scope: MutableMapping[str, Any]) -> bool:
        sent: bytes = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        return hmac.compare_digest(sent, self._wanted)
