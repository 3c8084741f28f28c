"""Errors in Anthropic's form."""

from __future__ import annotations

import pytest

from gateway.dialects.messages.refusals import refusal_of, status_of
from gateway.errors import envelope


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_request", "invalid_request_error"),
        (401, "invalid_api_key", "authentication_error"),
        (403, "model_not_allowed", "permission_error"),
        (404, "model_not_found", "not_found_error"),
        (405, "method_not_allowed", "invalid_request_error"),
        (408, "request_too_slow", "timeout_error"),
        (413, "body_too_large", "request_too_large"),
        (429, "rate_limit_exceeded", "rate_limit_error"),
        (429, "overloaded", "overloaded_error"),
        (500, "internal_error", "api_error"),
        (503, "engine_unavailable", "api_error"),
        (504, "deadline_exceeded", "timeout_error"),
    ],
)
def test_an_error_has_the_type_that_clients_branch_on(status: int, code: str, kind: str) -> None:
    assert refusal_of(status, envelope(status, code, "why"), "req-1") == {
        "type": "error",
        "error": {"type": kind, "message": "why", "details": {"error_code": code}},
        "request_id": "req-1",
    }


def test_only_a_full_queue_is_overload() -> None:
    assert status_of(429, "overloaded") == 529
    assert status_of(429, "rate_limit_exceeded") == 429


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            "This model's maximum context length is 2048 tokens. However, your messages resulted in 1900 tokens and "
            "500 more were asked for by max_tokens. Please reduce the length of the messages.",
            "input length and `max_tokens` exceed context limit: 1900 + 500 > 2048, decrease input length or "
            "`max_tokens` and try again",
        ),
        (
            "This model's maximum context length is 2048 tokens. However, your messages resulted in 3000 tokens and "
            "500 more were asked for by max_tokens. Please reduce the length of the messages.",
            "prompt is too long: 3000 tokens > 2048 maximum",
        ),
        (
            "Requested token count exceeds the model's maximum context length of 4096 tokens. You requested a total of "
            "4200 tokens: 4000 tokens from the input messages and 200 tokens for the completion.",
            "input length and `max_tokens` exceed context limit: 4000 + 200 > 4096, decrease input length or "
            "`max_tokens` and try again",
        ),
        (
            "This model's maximum context length is 2048 tokens. However, your prompt contains 5000 input tokens, "
            "which exceeds this limit even without any output tokens.",
            "prompt is too long: 5000 tokens > 2048 maximum",
        ),
    ],
)
def test_a_conversation_that_is_too_long_is_refused_in_the_words_that_clients_read(message: str, words: str) -> None:
    assert refusal_of(400, envelope(400, "context_length_exceeded", message))["error"]["message"] == words


def test_an_envelope_of_another_shape_is_still_an_error() -> None:
    assert refusal_of(502, {"error": "no"})["error"] == {"type": "api_error", "message": "no"}
    assert refusal_of(500, {})["error"]["type"] == "api_error"
