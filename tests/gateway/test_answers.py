"""Every JSON answer of every endpoint has a schema with fields in `/docs`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

JSON = "application/json"


def answers(description: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Endpoint, status and content of every answer."""
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            for status, answer in operation["responses"].items():
                yield f"{method.upper()} {path}", status, answer.get("content", {})


def is_described(schema: dict[str, Any], schemas: dict[str, Any]) -> bool:
    """True when *schema* is an object with fields, or any one of such objects."""
    if "$ref" in schema:
        return is_described(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if "anyOf" in schema:
        return all(is_described(each, schemas) for each in schema["anyOf"])
    return bool(schema.get("properties"))


def test_every_json_answer_has_a_schema_with_fields(described: dict[str, Any]) -> None:
    schemas = described["components"]["schemas"]
    contents = [(endpoint, status, content) for endpoint, status, content in answers(described) if JSON in content]
    assert len({endpoint for endpoint, _, _ in contents}) > 30
    bare = [
        (endpoint, status)
        for endpoint, status, content in contents
        if not is_described(content[JSON]["schema"], schemas)
    ]
    assert bare == []


def test_answers_that_are_no_json_are_described_as_they_are(described: dict[str, Any]) -> None:
    succeeded = {endpoint: content for endpoint, status, content in answers(described) if status == "200"}
    others = {endpoint: list(content) for endpoint, content in succeeded.items() if JSON not in content}
    assert others == {
        "GET /-/healthz": ["text/plain"],
        "GET /admin/archives/{name}": ["application/x-tar"],
        "GET /admin/evaluations/{evaluation_id}/report": ["text/html"],
        "GET /health": [],
        "GET /metrics": ["text/plain"],
        "GET /v1/files/{file_id}/content": ["application/octet-stream"],
    }


def test_errors_are_described_in_the_form_of_the_paths_makers(described: dict[str, Any]) -> None:
    found = {"200", "201", "202", "503"}
    for endpoint, status, content in answers(described):
        if status not in found and JSON in content:
            assert status in ("4XX", "5XX"), endpoint
            form = "AnthropicError" if "/v1/messages" in endpoint else "ErrorEnvelope"
            assert content[JSON]["schema"] == {"$ref": f"#/components/schemas/{form}"}, endpoint
