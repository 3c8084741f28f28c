"""The errors of the server: those of requests in OpenAI's format, and that of a model."""

from __future__ import annotations

from typing import Any


class UnsupportedModel(Exception):
    """The folder holds a model that this server cannot serve; the message has the reason."""


class ApiError(Exception):
    """An answer other than 200, with its body."""

    status = 500
    kind = "server_error"
    default_code: str | None = None

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or self.default_code

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers beside the body."""
        return {}

    @property
    def body(self) -> dict[str, Any]:
        """Return OpenAI's envelope, all four keys."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


class BadRequest(ApiError):
    """The request is not valid; `param` names the field."""

    status = 400
    kind = "invalid_request_error"
    default_code = "invalid_value"


class NoSuchResource(ApiError):
    """No model, adapter or route has this name."""

    status = 404
    kind = "invalid_request_error"
    default_code = "not_found"


class MethodNotAllowed(ApiError):
    """The route is for another method."""

    status = 405
    kind = "invalid_request_error"
    default_code = "method_not_allowed"


class QueueFull(ApiError):
    """All places are taken, and the queue is full."""

    status = 429
    kind = "rate_limit_error"
    default_code = "queue_full"

    @property
    def headers(self) -> dict[str, str]:
        """Return when to retry: an answer takes seconds."""
        return {"Retry-After": "1"}


class EngineFailed(ApiError):
    """The model could not be run; the process is about to end."""

    default_code = "engine_failed"
