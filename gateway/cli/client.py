"""The gateway as a command sees it: JSON in, JSON out, errors that say what to do."""

from __future__ import annotations

import getpass
import os
from typing import Any, Final

import httpx2

from gateway.cli.errors import CommandFailed

DEFAULT_URL: Final = "http://127.0.0.1:8080"


class Client:
    """Talks to the gateway at `LORRY_URL` with `LORRY_API_KEY`."""

    def __init__(self) -> None:
        self._url = os.environ.get("LORRY_URL", DEFAULT_URL).rstrip("/").removesuffix("/v1")
        headers = {"x-lorry-actor": getpass.getuser()}
        if key := os.environ.get("LORRY_API_KEY"):
            headers["authorization"] = f"Bearer {key}"
        self._http = httpx2.Client(base_url=self._url, headers=headers, timeout=120.0)

    def get(self, path: str, **params: Any) -> Any:
        """The JSON at *path*; `CommandFailed` otherwise."""
        return self._ask("GET", path, params={key: value for key, value in params.items() if value is not None})

    def post(self, path: str, body: Any = None) -> Any:
        """The JSON that answers *body*; `CommandFailed` otherwise."""
        return self._ask("POST", path, json=body)

    def post_bytes(self, path: str, content: bytes, **params: Any) -> Any:
        """The JSON that answers raw *content*; `CommandFailed` otherwise."""
        given = {key: value for key, value in params.items() if value is not None}
        return self._ask("POST", path, content=content, params=given)

    def upload(self, filename: str, content: bytes, purpose: str) -> Any:
        """The file object of an upload; `CommandFailed` otherwise."""
        return self._ask("POST", "/v1/files", files={"file": (filename, content)}, data={"purpose": purpose})

    def put(self, path: str, body: Any) -> Any:
        """The JSON that answers *body*; `CommandFailed` otherwise."""
        return self._ask("PUT", path, json=body)

    def delete(self, path: str, **params: Any) -> Any:
        """The JSON of a deletion; `CommandFailed` otherwise."""
        return self._ask("DELETE", path, params=params)

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        try:
            answer = self._http.request(method, path, **options)
        except httpx2.TransportError as exc:
            raise CommandFailed(
                f"no gateway answers at {self._url}; start one with `lorry up`, or set LORRY_URL to where it runs"
            ) from exc
        try:
            body = answer.json()
        except ValueError as exc:
            raise CommandFailed(f"{self._url} answered {answer.status_code} and no JSON; is it a Lorry?") from exc
        if answer.status_code == 401:
            raise CommandFailed(
                f"{_message(body, 401)}. Set LORRY_API_KEY; who has no key for admin left makes one on the gateway's "
                "machine: lorry keys create --home --name NAME --scopes admin"
            )
        if answer.status_code >= 400:
            raise CommandFailed(_message(body, answer.status_code))
        return body


def _message(body: Any, status: int) -> str:
    error = body.get("error") if isinstance(body, dict) else None
    return str(error["message"]) if error else f"the gateway answered {status}: {body}"
