"""The OpenAPI description has every endpoint, relayed ones too, and the page that shows it needs nothing else."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pytest
from pydantic import BaseModel

from engines.transformers.encoders.bodies import EmbeddingRequest, RerankRequest
from engines.transformers.requests import bodies
from gateway.app import build_app, build_gateway
from gateway.http.authentication import OPEN
from gateway.http.description.openapi import TAGS
from gateway.http.description.relayed_paths import RELAYED, relayed_schemas
from gateway.routing.paths import HOT_PATHS
from gateway.settings import GatewaySettings
from registry.database import Registry
from tests.gateway.served import ServedGateway

WITHOUT_BODY = {
    *("cancel_upload", "cancel_batch", "cancel_response", "cancel_job", "pause_job", "resume_job", "admin_cancel_job"),
    "admin_pause_job",
    *("admin_cancel_evaluation", "admin_resume_evaluation"),
    *("admin_resume_job", "admin_pause_rollout", "admin_resume_rollout", "admin_abort_rollout"),
}
"""Names of the POST endpoints that take no body."""


@pytest.fixture
def gateway(sqlite_registry: Registry) -> Iterator[ServedGateway]:
    with ServedGateway(GatewaySettings(), sqlite_registry) as served:
        yield served


def operations(described: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_every_endpoint_says_what_it_does_in_which_group_for_whom_and_how_it_fails(described: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(described)]
    assert len(names) == len(set(names)) > 70
    for path, method, operation in operations(described):
        name = operation["operationId"]
        assert re.fullmatch(r"[a-z_]+", name), name
        assert operation["tags"][0] in TAGS, name
        assert re.fullmatch(r"[A-Z].*\.", operation["summary"]), name
        assert bool(operation["security"]) == (path not in OPEN), name
        assert {"4XX", "5XX"} <= operation["responses"].keys(), name
        assert ("requestBody" in operation) == (method in ("post", "put") and name not in WITHOUT_BODY), name
    used = {scheme for _, _, operation in operations(described) for each in operation["security"] for scheme in each}
    assert used == described["components"]["securitySchemes"].keys()


def test_every_relayed_path_has_body_answer_and_stream(described: dict[str, Any]) -> None:
    assert RELAYED.keys() == {kind.path for kind in HOT_PATHS.values()}
    for kind in HOT_PATHS.values():
        operation = described["paths"][kind.path]["post"]
        form = "multipart/form-data" if kind.is_multipart else "application/json"
        assert list(operation["requestBody"]["content"]) == [form]
        answers = operation["responses"]["200"]["content"]
        assert ("text/event-stream" in answers) == kind.may_stream
        assert answers["application/json"]["schema"]["$ref"].rpartition("/")[2] in described["components"]["schemas"]
    chat = described["components"]["schemas"]["ChatCompletionRequest"]
    assert chat["required"] == ["model", "messages"]
    assert chat["additionalProperties"] is True, "engines take further fields"
    assert chat["properties"]["model"]["description"].startswith("A base model, an adapter")


def test_what_our_engine_takes_is_described() -> None:
    taken: dict[str, type[BaseModel]] = {
        "/v1/chat/completions": bodies.ChatRequest,
        "/v1/completions": bodies.CompletionRequest,
        "/tokenize": bodies.TokenizeRequest,
        "/v1/embeddings": EmbeddingRequest,
        "/v1/rerank": RerankRequest,
    }
    for path, model in taken.items():
        body = RELAYED[path].body
        assert isinstance(body, type)
        assert model.model_fields.keys() - body.model_fields.keys() == set(), path


@pytest.mark.long
def test_no_relayed_object_takes_the_name_of_another(sqlite_registry: Registry) -> None:
    app = build_app(build_gateway(GatewaySettings(), sqlite_registry))
    assert app.openapi()["components"]["schemas"].keys().isdisjoint(relayed_schemas())


def test_no_object_has_the_name_of_another(described: dict[str, Any]) -> None:
    """Two of one name are described under names of modules, which generators of clients leave out."""
    assert [name for name in described["components"]["schemas"] if "__" in name] == []


def test_every_reference_leads_to_an_object(described: dict[str, Any]) -> None:
    named = set(re.findall(r"#/components/schemas/(\w+)", str(described)))
    assert named <= described["components"]["schemas"].keys()


def test_files_in_forms_are_files_to_generators_of_clients(described: dict[str, Any]) -> None:
    schemas = described["components"]["schemas"]
    files = {
        f"{name}.{field}"
        for name, schema in schemas.items()
        for field, kind in schema.get("properties", {}).items()
        if kind.get("format") == "binary"
    }
    assert files == {"Body_upload_file.file", "Body_add_part.data"}


def test_fields_have_the_sentences_that_stand_below_them(described: dict[str, Any]) -> None:
    schemas = described["components"]["schemas"]
    assert schemas["ReplicaObject"]["properties"]["capacity"]["description"] == "How many adapters the server can hold."
    assert schemas["CreateJob"]["properties"]["priority"].get("description", "").startswith("A field of Lorry's")


@pytest.mark.long
def test_the_page_needs_nothing_from_anywhere_else(gateway: ServedGateway) -> None:
    answer = gateway.client.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = answer.text
    assert "<script" not in page
    assert re.findall(r"(?:src|href)=\"(?!#)([^\"]+)\"", page) == ["openapi.json"]
    style = re.search(r"<style>(.*)</style>", page, re.DOTALL)
    assert style is not None
    digest = b64encode(sha256(style[1].encode()).digest()).decode()
    assert answer.headers["content-security-policy"].startswith(f"default-src 'none'; style-src 'sha256-{digest}'")
    document = gateway.client.get("/openapi.json").json()
    for path, _, operation in operations(document):
        assert path in page
        assert f'id="{operation["operationId"]}"' in page
    targets = set(re.findall(r"href=\"#([^\"]+)\"", page))
    assert targets <= set(re.findall(r"id=\"([^\"]+)\"", page))
