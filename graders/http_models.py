"""Models of this Lorry by way of its gateway, which routes, counts and limits these requests like any other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import httpx2

from graders.errors import Fault, GradingFailed
from graders.grade import ModelAnswer

TIME_S: Final = 120.0
_SHOWN: Final = 500


class HttpModels:
    """Asks the gateway at *url* for chat completions."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        """Make no connection yet; *headers* have the key, if the gateway wants one."""
        has_tls = url.startswith("https:")
        # Without `trust_env` no proxy of the environment sees the key.
        self._http = httpx2.Client(base_url=url, headers=dict(headers), timeout=TIME_S, verify=has_tls, trust_env=False)

    def answer(self, body: Mapping[str, Any]) -> ModelAnswer:
        """Return the answer to the chat completion *body*; `GradingFailed` with the gateway's message if it refuses."""
        try:
            response = self._http.post("/v1/chat/completions", json=body)
            answer = response.json()
        except (httpx2.HTTPError, ValueError) as exc:
            message = f"the gateway at {self._http.base_url} did not answer for {body['model']}: {exc}"
            raise GradingFailed(Fault.MODEL_SERVER, message) from exc
        return read_answer(response.status_code, answer)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()


def read_answer(status: int, answer: Any) -> ModelAnswer:
    """Return the answer in a chat completion; `GradingFailed` for an error or a refusal."""
    try:
        if status != 200:
            raise GradingFailed(Fault.MODEL_SERVER, f"{status}: {str(answer['error']['message'])[:_SHOWN]}")
        message, usage = answer["choices"][0]["message"], answer.get("usage") or {}
        if message.get("refusal"):
            raise GradingFailed(Fault.MODEL_REFUSAL, str(message["refusal"])[:_SHOWN])
        counts = {name: usage[name] for name in _COUNTS if isinstance(usage.get(name), int)}
        return ModelAnswer(text=str(message.get("content") or ""), usage=counts)
    except (KeyError, IndexError, TypeError, AttributeError) as exc:
        raise GradingFailed(Fault.MODEL_SERVER, f"{status}: the answer is not a chat completion") from exc


_COUNTS: Final = ("prompt_tokens", "completion_tokens", "total_tokens")
