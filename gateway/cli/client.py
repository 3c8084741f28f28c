"""The gateway as commands use it: JSON objects in and out, errors with what to do."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from gateway.cli.errors import CommandFailed
from gateway.objects.problems import ErrorEnvelope

DEFAULT_URL: Final = "http://127.0.0.1:8080"

Answer = TypeVar("Answer", bound=BaseModel)
"""The object in the answer to a request."""


class Client:
    """Sends requests to the gateway at `LORRY_URL` with `LORRY_API_KEY`; every method raises `CommandFailed`."""

    def __init__(self, timeout_s: float = 120.0) -> None:
        """*timeout_s* is how long the gateway may be silent."""
        self._url = os.environ.get("LORRY_URL", DEFAULT_URL).rstrip("/").removesuffix("/v1")
        headers = {"x-lorry-actor": getpass.getuser()}
        if key := os.environ.get("LORRY_API_KEY"):
            headers["authorization"] = f"Bearer {key}"
        has_tls = self._url.startswith("https:")  # loading the certificates costs 20 ms
        self.options: dict[str, Any] = {
            "base_url": self._url,
            "headers": headers,
            "timeout": timeout_s,
            "verify": has_tls,
        }
        """What any client of httpx2 needs to ask the same gateway."""
        self._http = httpx2.Client(**self.options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, answer: type[Answer], **params: str | int | None) -> Answer:
        """Return the object at *path*."""
        return self._request(answer, "GET", path, params=_given(params))

    def post(self, path: str, answer: type[Answer], body: Any = None) -> Answer:
        """Send *body* as JSON and return the answer."""
        return self._request(answer, "POST", path, json=body)

    def post_stream(
        self, path: str, answer: type[Answer], content: Iterator[bytes], size_bytes: int, **params: str | None
    ) -> Answer:
        """Send the *size_bytes* of *content* piece by piece and return the answer."""
        headers = {"content-length": str(size_bytes)}
        return self._request(answer, "POST", path, content=content, headers=headers, params=_given(params))

    def upload(self, path: str, answer: type[Answer], filename: str, content: bytes, **fields: str) -> Answer:
        """Send a file as a form and return the answer."""
        return self._request(answer, "POST", path, files={"file": (filename, content)}, data=fields)

    def put(self, path: str, answer: type[Answer], body: Any) -> Answer:
        """Send *body* as JSON and return the answer."""
        return self._request(answer, "PUT", path, json=body)

    def delete(self, path: str, answer: type[Answer], **params: str | None) -> Answer:
        """Delete what is at *path* and return the answer."""
        return self._request(answer, "DELETE", path, params=_given(params))

    def _request(self, expected: type[Answer], method: str, path: str, **options: Any) -> Answer:
        try:
            response = self._http.request(method, path, **options)
        except httpx2.TransportError as exc:
            raise self.unreachable() from exc
        if response.status_code >= 400:
            raise self.failure(response)
        try:
            return expected.model_validate_json(response.content)
        except ValidationError as exc:
            raise self._no_lorry(response) from exc

    def unreachable(self) -> CommandFailed:
        """Return the error for a gateway that does not answer."""
        return CommandFailed(
            f"no gateway answers at {self._url}; start one with `lorry up`, or set LORRY_URL to where it runs"
        )

    def failure(self, response: httpx2.Response) -> CommandFailed:
        """Return the error that the gateway's answer tells."""
        try:
            message = ErrorEnvelope.model_validate_json(response.content).error.message
        except ValidationError:
            return self._no_lorry(response)
        if response.status_code == 401:
            message += (
                ". Set LORRY_API_KEY; if no admin key is left, make one on the gateway's machine: "
                "lorry keys create --home --name NAME --scopes admin"
            )
        return CommandFailed(message)

    def _no_lorry(self, response: httpx2.Response) -> CommandFailed:
        return CommandFailed(
            f"{self._url} answered {response.status_code} with something unexpected; is it a Lorry of this version?"
        )


def _given(params: dict[str, Any]) -> dict[str, Any]:
    """Return *params* without the members that are None."""
    return {name: value for name, value in params.items() if value is not None}
