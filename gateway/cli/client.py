"""The gateway as commands use it: JSON objects in and out, errors with what to do."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote

import httpx2
from pydantic import BaseModel, ValidationError

from gateway.cli.errors import CommandFailed
from gateway.cli.flag_words import in_flags
from gateway.cli.gateway_address import actor, gateway_url, key_of
from gateway.cli.output import warn
from gateway.objects.problems import WARNING_HEADER, ErrorEnvelope

_START_ONE: Final = "start one with `lorry up`, or set LORRY_URL to where it runs"
Answer = TypeVar("Answer", bound=BaseModel)
"""The object in the answer to a request."""


class Client:
    """Sends requests to the gateway at `LORRY_URL` with `LORRY_API_KEY`; every method raises `CommandFailed`."""

    def __init__(self, timeout_s: float = 120.0, flags: Mapping[str, str] | None = None) -> None:
        """*timeout_s* is how long the gateway may be silent, *flags* has the flag of each field that is sent."""
        self._url, self._timeout_s, self._flags = gateway_url(os.environ), timeout_s, flags or {}
        self._has_warned = False
        headers = {"x-lorry-actor": actor()}
        if key := key_of(os.environ):
            headers["authorization"] = f"Bearer {key}"
        has_tls = self._url.startswith("https:")  # loading the certificates costs 20 ms
        self.options: dict[str, Any] = {
            "base_url": self._url,
            "headers": headers,
            "timeout": timeout_s,
            "verify": has_tls,
        }
        """The arguments by which any client of httpx2 asks the same gateway."""
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

    def download(self, path: str) -> Iterator[bytes]:
        """Yield the bytes at *path* piece by piece."""
        try:
            with self._http.stream("GET", path) as response:
                if response.status_code >= 400:
                    response.read()
                    raise self.failure(response)
                yield from response.iter_bytes()
        except httpx2.TransportError as exc:
            raise self.unreachable(exc) from exc

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
            raise self.unreachable(exc) from exc
        if (warning := response.headers.get(WARNING_HEADER)) and not self._has_warned:
            self._has_warned = True
            warn(warning)
        if response.status_code >= 400:
            raise self.failure(response)
        try:
            return expected.model_validate_json(response.content)
        except ValidationError as exc:
            raise self._no_lorry(response) from exc

    def unreachable(self, exc: httpx2.TransportError) -> CommandFailed:
        """Return the error for a gateway that does not answer: why, and what to do."""
        return CommandFailed(self._why_unreachable(exc))

    def _why_unreachable(self, exc: httpx2.TransportError) -> str:
        reasons = [str(each) for each in _causes(exc) if isinstance(each, ssl.SSLError)]
        if any("WRONG_VERSION" in reason or "record layer" in reason for reason in reasons):
            return f"{self._url} does not speak TLS; write http:// in LORRY_URL"
        if reasons:
            return f"{self._url} has no certificate that can be trusted: {reasons[0]}"
        if isinstance(exc, httpx2.TimeoutException):
            return f"no gateway answers at {self._url} within {self._timeout_s:g} s; {_START_ONE}"
        if isinstance(exc, httpx2.ProtocolError):
            other = "https" if self._url.startswith("http:") else "http"
            return f"{self._url} does not answer as a gateway does ({exc}); is it {other}:// in LORRY_URL?"
        reason = str(exc).partition("] ")[2] or str(exc)
        return f"no gateway answers at {self._url} ({reason.lower()}); {_START_ONE}"

    def failure(self, response: httpx2.Response) -> CommandFailed:
        """Return the error that the gateway's answer reports."""
        try:
            problem = ErrorEnvelope.model_validate_json(response.content).error
        except ValidationError:
            return self._no_lorry(response)
        message = in_flags(problem.message, self._flags)
        if response.status_code == 401:
            message += (
                ". Set LORRY_API_KEY; if no admin key is left, make one on the gateway's machine: "
                "lorry keys create --home --name NAME --scopes admin"
            )
        return CommandFailed(message)

    def _no_lorry(self, response: httpx2.Response) -> CommandFailed:
        kind = response.headers.get("content-type", "").partition(";")[0]
        if kind == "application/json":
            return CommandFailed(
                f"{self._url} answered {response.status_code} with JSON that is not known here; "
                "is it a Lorry of this version?"
            )
        sender = f", sent by {server}" if (server := response.headers.get("server")) else ""
        return CommandFailed(
            f"{self._url} answered {response.status_code} with {kind or 'no content type'}{sender}: that is a proxy or "
            "another server, and not a Lorry; check host, port and path in LORRY_URL"
        )


def part(name: str) -> str:
    """Return *name* as a part of a path."""
    return quote(name, safe="@:")


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__


def _given(params: dict[str, Any]) -> dict[str, Any]:
    """Return *params* without the members that are None."""
    return {name: value for name, value in params.items() if value is not None}
