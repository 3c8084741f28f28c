"""HTTP client for what engines with an OpenAI face share: readiness, the list of models, metrics, errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx2

from engines.address import authorization_of, shown_address
from engines.errors import EngineUnreachable


class OpenAiServer:
    """An inference server at *url*. A server that does not answer is `EngineUnreachable`."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        # `trust_env` off: a proxy that the environment names is not meant for the servers of a replica.
        self._http = httpx2.AsyncClient(
            base_url=shown_address(url),
            headers=authorization_of(url),
            timeout=timeout_s,
            verify=url.startswith("https:"),  # loading the certificates costs 20 ms
            trust_env=False,
        )

    async def answers_ok(self, path: str, timeout_s: float) -> bool:
        """Whether `GET path` is 200 within *timeout_s*."""
        try:
            answer = await self._http.get(path, timeout=timeout_s)
        except httpx2.HTTPError:
            return False
        return answer.status_code == httpx2.codes.OK

    async def adapters(self) -> dict[str, str]:
        """Return served name -> path of each loaded adapter: the entries of `/v1/models` that have a parent."""
        return {entry["id"]: entry["root"] for entry in await self.models() if entry.get("parent")}

    async def models(self) -> list[dict[str, Any]]:
        """Return the entries of `/v1/models`."""
        entries: list[dict[str, Any]] = (await self.get("/v1/models")).json()["data"]
        return entries

    async def metrics(self) -> str:
        """Return the text at `/metrics`."""
        return (await self.get("/metrics")).text

    async def get(self, path: str) -> httpx2.Response:
        """Return the answer to `GET path`; any status but 200 is `EngineUnreachable`."""
        answer = await self._request("GET", path, None)
        if answer.status_code != httpx2.codes.OK:
            raise EngineUnreachable(f"GET {path} answered {answer.status_code}: {reason_of(answer)}")
        return answer

    async def post(self, path: str, body: Mapping[str, str]) -> httpx2.Response:
        """Return the answer to `POST path`, whatever its status."""
        return await self._request("POST", path, body)

    async def aclose(self) -> None:
        """Close the pooled connections."""
        await self._http.aclose()

    async def _request(self, method: str, path: str, body: Mapping[str, str] | None) -> httpx2.Response:
        try:
            return await self._http.request(method, path, json=body)
        except httpx2.HTTPError as exc:
            raise EngineUnreachable(f"{method} {path}: {type(exc).__name__} {exc}") from exc


def reason_of(answer: httpx2.Response) -> str:
    """Return the message of an error: `error.message` (OpenAI), `error_message` (SGLang), `message`, else the text."""
    try:
        body: Any = answer.json()
        found = body["error"]["message"] if "error" in body else body.get("error_message") or body["message"]
        return str(found)
    except (ValueError, KeyError, TypeError, AttributeError):
        return answer.text
