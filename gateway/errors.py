"""What can go wrong at the gateway, and the one table in which errors meet HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from registry import errors as registry_errors


class GatewayError(Exception):
    """Base of every error of this package; `param` names the field at fault, `retry_after_s` when to try again."""

    def __init__(self, message: str, param: str | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(message, param, retry_after_s)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.message


class InvalidRequest(GatewayError):
    """The request is wrong; the message says which field and what would be right."""


class BodyTooLarge(GatewayError):
    """The request body is above the limit."""


class ModelNotFound(GatewayError):
    """No base model, adapter, revision or alias has this name."""


class NothingStable(GatewayError):
    """The adapter exists, but no revision of it takes traffic yet."""


class EngineUnavailable(GatewayError):
    """No replica could answer within the time allowed."""


class Overloaded(GatewayError):
    """More requests wait than may, or than can be answered in time; the client is to come again later."""


class ClientLeft(EngineUnavailable):
    """The client closed its connection before the answer began; nobody reads this."""


class StillLoading(GatewayError):
    """The revision is not on every replica yet."""


class StartFailed(GatewayError):
    """`lorry up` cannot start; the message says what to do."""


HTTP_ERRORS: Final[Mapping[type[Exception], tuple[int, str]]] = {
    InvalidRequest: (400, "invalid_request"),
    BodyTooLarge: (413, "body_too_large"),
    ModelNotFound: (404, "model_not_found"),
    NothingStable: (503, "nothing_stable"),
    EngineUnavailable: (503, "engine_unavailable"),
    Overloaded: (429, "overloaded"),
    StillLoading: (409, "still_loading"),
    registry_errors.NotFound: (404, "not_found"),
    registry_errors.IllegalMove: (409, "illegal_move"),
    registry_errors.StaleState: (409, "stale_state"),
    registry_errors.LeaseLost: (409, "lease_lost"),
    registry_errors.InvalidPlan: (400, "invalid_plan"),
    registry_errors.RolloutOpen: (409, "rollout_open"),
    registry_errors.NotServable: (409, "not_servable"),
    registry_errors.Conflict: (409, "conflict"),
    registry_errors.AdapterRejected: (422, "adapter_rejected"),
    registry_errors.TrainingFileInvalid: (400, "invalid_training_file"),
    registry_errors.ArtifactCorrupt: (500, "artifact_corrupt"),
    registry_errors.StorageFull: (507, "storage_full"),
    registry_errors.RegistryUnavailable: (503, "registry_unavailable"),
}
"""Exception -> status and `code`. The `type` of the envelope follows from the status."""

_TYPES: Final[Mapping[int, str]] = {404: "invalid_request_error", 429: "rate_limit_error", 503: "service_unavailable"}


def envelope(status: int, code: str | None, message: str, param: str | None = None) -> dict[str, Any]:
    """OpenAI's error body, all four keys."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
