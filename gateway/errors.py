"""The errors of the gateway, and the one table that maps errors to HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from evaluation import errors as evaluation_errors
from graders import errors as grader_errors
from registry import errors as registry_errors


class GatewayError(Exception):
    """Base of every error of this package.

    `param` names the field at fault, `retry_after_s` is the time to wait before a retry, `headers` go into the answer.
    """

    def __init__(
        self,
        message: str,
        param: str | None = None,
        retry_after_s: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, param, retry_after_s, headers)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.headers = headers or {}

    def __str__(self) -> str:
        return self.message


class InvalidRequest(GatewayError):
    """The request is wrong; the message names the field and what would be right."""


class PreviousResponseNotFound(InvalidRequest):
    """The response that a request goes on from is not stored, or is another tenant's."""


class ThreadsNotOffered(InvalidRequest):
    """The request wants its conversation to be held by the server; Anthropic's SDKs send it again as a whole."""


class ToolMissing(GatewayError):
    """The environment of a tool that the job needs is not installed; the message has the command that installs it."""


class JobTooLarge(InvalidRequest):
    """No worker of the trainer has a device that could hold the job; the message has the numbers."""


class Unauthenticated(GatewayError):
    """The request carries no valid API key."""


class Forbidden(GatewayError):
    """Base of the errors for a valid key that may not do this."""


class ScopeMissing(Forbidden):
    """The key lacks the scope; the message names it."""


class ModelNotAllowed(Forbidden):
    """The key may not use this model; the message lists the models that it may use."""


class OriginNotAllowed(GatewayError):
    """The request comes from a web page whose origin `cors_origins` does not list."""


class JudgeRequired(Forbidden):
    """The key may start a rollout only if it is judged."""


class HostNotAllowed(GatewayError):
    """The request names a host that may be any web page's, and that `allowed_hosts` does not list."""


class UnsupportedMediaType(GatewayError):
    """The body's content type is not what the endpoint reads; the message names the right one."""


class UnsupportedEncoding(GatewayError):
    """The body is packed in a way that is not known here; the message lists the known ones."""


class RateLimited(GatewayError):
    """The key has used up a limit; the message names the limit, the headers have the rest of each limit."""


class BodyTooLarge(GatewayError):
    """The request body is above the limit."""


class MalformedRequest(GatewayError):
    """The bytes are not HTTP/1.1, or servers could read them in different ways."""


class MethodNotAllowed(GatewayError):
    """The endpoint is not for this method."""


class RequestTooSlow(GatewayError):
    """The request did not arrive whole in time."""


class HeadTooLarge(GatewayError):
    """The request's head is above the limit."""


class DeadlineExceeded(GatewayError):
    """The answer did not begin within the time that the request allows."""


class ModelNotFound(GatewayError):
    """No base model, adapter, revision or alias has this name."""


class EngineLacks(InvalidRequest):
    """Base of the errors for what an engine would pass over in silence; the message begins with the field."""


class NotEnforceable(EngineLacks):
    """The engines of the model do not enforce the form of the answer, or the arguments of calls, that is asked for."""


class CallsNotRead(EngineLacks):
    """The engines of the model would leave tool calls in the text, as they have no parser for them."""


class EndpointNotOffered(GatewayError):
    """No replica of the model answers requests of this path; the message lists pools with replicas that do."""


class NothingStable(GatewayError):
    """The adapter exists, but no revision of it takes traffic yet."""


class EngineUnavailable(GatewayError):
    """No replica could answer within the time allowed."""


class Overloaded(GatewayError):
    """More requests wait than are allowed or can be answered in time; the client should retry later."""


class StillLoading(GatewayError):
    """The revision is not on every replica yet."""


class PullRefused(GatewayError):
    """A model may not be pulled from a hub; the message has what may be."""


class GateUndecided(GatewayError):
    """The gate of the rollout has not let the canary through yet; the message has its progress."""


class StartFailed(GatewayError):
    """`lorry up` cannot start; the message has what to do."""


HTTP_ERRORS: Final[Mapping[type[Exception], tuple[int, str]]] = {
    InvalidRequest: (400, "invalid_request"),
    PreviousResponseNotFound: (400, "previous_response_not_found"),
    ThreadsNotOffered: (400, "thread_unsupported_request"),
    JobTooLarge: (400, "job_too_large"),
    ToolMissing: (409, "tool_missing"),
    Unauthenticated: (401, "invalid_api_key"),
    ScopeMissing: (403, "missing_scope"),
    ModelNotAllowed: (403, "model_not_allowed"),
    OriginNotAllowed: (403, "origin_not_allowed"),
    JudgeRequired: (403, "judge_required"),
    HostNotAllowed: (403, "host_not_allowed"),
    UnsupportedMediaType: (415, "unsupported_media_type"),
    UnsupportedEncoding: (415, "unsupported_encoding"),
    RateLimited: (429, "rate_limit_exceeded"),
    MalformedRequest: (400, "malformed_request"),
    MethodNotAllowed: (405, "method_not_allowed"),
    RequestTooSlow: (408, "request_too_slow"),
    BodyTooLarge: (413, "body_too_large"),
    HeadTooLarge: (431, "head_too_large"),
    ModelNotFound: (404, "model_not_found"),
    NotEnforceable: (400, "not_enforceable"),
    CallsNotRead: (400, "tool_calls_not_read"),
    EndpointNotOffered: (404, "endpoint_not_offered"),
    NothingStable: (503, "nothing_stable"),
    EngineUnavailable: (503, "engine_unavailable"),
    Overloaded: (429, "overloaded"),
    DeadlineExceeded: (504, "deadline_exceeded"),
    StillLoading: (409, "still_loading"),
    GateUndecided: (409, "gate_undecided"),
    grader_errors.TooManyRuns: (429, "overloaded"),
    registry_errors.NotFound: (404, "not_found"),
    registry_errors.IllegalMove: (409, "illegal_move"),
    registry_errors.StaleState: (409, "stale_state"),
    registry_errors.LeaseLost: (409, "lease_lost"),
    registry_errors.InvalidPlan: (400, "invalid_plan"),
    registry_errors.RolloutOpen: (409, "rollout_open"),
    registry_errors.NotServable: (409, "not_servable"),
    evaluation_errors.NotComparable: (409, "not_comparable"),
    registry_errors.NothingToRollBack: (409, "nothing_to_roll_back"),
    registry_errors.Conflict: (409, "conflict"),
    registry_errors.NotReproducible: (409, "not_reproducible"),
    registry_errors.NotQuantizable: (422, "not_quantizable"),
    registry_errors.NameTaken: (409, "name_taken"),
    registry_errors.AdapterRejected: (422, "adapter_rejected"),
    registry_errors.TrainingFileInvalid: (400, "invalid_training_file"),
    registry_errors.UploadRejected: (400, "upload_rejected"),
    registry_errors.ArtifactCorrupt: (500, "artifact_corrupt"),
    registry_errors.StorageFull: (507, "storage_full"),
    registry_errors.NotStorable: (400, "not_storable"),
    registry_errors.ArtifactsUnavailable: (503, "artifacts_unavailable"),
    registry_errors.RegistryUnavailable: (503, "registry_unavailable"),
}
"""Exception -> status and `code`. The `type` of the envelope follows from the status."""

_LONGEST_MESSAGE: Final = 2000
_LONGEST_PARAM: Final = 200
_TYPES: Final[Mapping[int, str]] = {404: "invalid_request_error", 429: "rate_limit_error", 503: "service_unavailable"}


def envelope(status: int, code: str | None, message: str, param: str | None = None) -> dict[str, Any]:
    """Return OpenAI's error body, with all four keys; a message that repeats a long name is cut in its middle."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    if len(message) > _LONGEST_MESSAGE:
        message = f"{message[: _LONGEST_MESSAGE // 2]} ... {message[-_LONGEST_MESSAGE // 2 :]}"
    param = None if param is None else param[:_LONGEST_PARAM]
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
