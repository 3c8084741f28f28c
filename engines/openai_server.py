"""HTTP client for the routes that engines with an OpenAI face and vLLM's adapter routes share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2

from engines.errors import AdapterLoadFailed, AdapterNotLoaded, EngineUnavailable


class OpenAiServer:
    """One inference server at *url*. A server that does not answer is `EngineUnavailable`."""

    def __init__(self, url: str, *, health_timeout_s: float, admin_timeout_s: float) -> None:
        self._http = httpx2.AsyncClient(base_url=url, timeout=admin_timeout_s, trust_env=False)
        self._health_timeout_s = health_timeout_s

    async def is_healthy(self) -> bool:
        """Whether `GET /health` is 200."""
        try:
            answer = await self._http.get("/health", timeout=self._health_timeout_s)
        except httpx2.HTTPError:
            return False
        return answer.status_code == httpx2.codes.OK

    async def adapters(self) -> dict[str, str]:
        """Served name -> path of each loaded adapter: the entries of `/v1/models` that have a parent."""
        answer = await self._request("GET", "/v1/models", None)
        if answer.status_code != httpx2.codes.OK:
            raise EngineUnavailable(f"GET /v1/models answered {answer.status_code}: {reason_of(answer)}")
        return {entry["id"]: entry["root"] for entry in answer.json()["data"] if entry.get("parent")}

    async def load_adapter(self, served_name: str, path: Path) -> None:
        """Load it unless it is there from the same path; `AdapterLoadFailed` when the server refuses."""
        if (await self.adapters()).get(served_name) == str(path):
            return
        body = {"lora_name": served_name, "lora_path": str(path)}
        answer = await self._request("POST", "/v1/load_lora_adapter", body)
        if answer.status_code != httpx2.codes.OK:
            raise AdapterLoadFailed(f"{served_name} from {path}: {reason_of(answer)}")

    async def unload_adapter(self, served_name: str) -> None:
        """Unload it; `AdapterNotLoaded` when the server does not know it."""
        answer = await self._request("POST", "/v1/unload_lora_adapter", {"lora_name": served_name})
        if answer.status_code == httpx2.codes.NOT_FOUND:
            raise AdapterNotLoaded(f"{served_name}: {reason_of(answer)}")
        if answer.status_code != httpx2.codes.OK:
            raise EngineUnavailable(f"unloading {served_name} answered {answer.status_code}: {reason_of(answer)}")

    async def aclose(self) -> None:
        """Close the pooled connections."""
        await self._http.aclose()

    async def _request(self, method: str, path: str, body: dict[str, str] | None) -> httpx2.Response:
        try:
            return await self._http.request(method, path, json=body)
        except httpx2.HTTPError as exc:
            raise EngineUnavailable(f"{method} {path}: {type(exc).__name__} {exc}") from exc


def reason_of(answer: httpx2.Response) -> str:
    """The message of an OpenAI error body, else the text."""
    try:
        body: Any = answer.json()
        return str(body["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text
