"""The OpenAPI description: FastAPI's of its routes, with the relayed paths, the ways to send a key, and summaries."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from gateway.http.authentication import METRICS, OPEN, scopes_of
from gateway.http.description.field_texts import add_field_texts
from gateway.http.description.relayed_paths import TAG, relayed_operations, relayed_schemas

_ABOUT: Final = (
    "OpenAI's API with Lorry's additions, and the admin endpoints. A key is sent as a bearer token, or in one of two "
    "further headers; while no key exists, only this machine is served, without one."
)
_SCHEMES: Final[Mapping[str, Any]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key of Lorry's, `sk-lorry-...`."},
    "x_api_key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "As Anthropic's SDKs send it."},
    "api_key": {"type": "apiKey", "in": "header", "name": "api-key", "description": "As Azure's SDKs send it."},
}
TAGS: Final[Mapping[str, str]] = {
    TAG: "Requests to models: chats, completions, embeddings and others.",
    "responses": "Stored responses.",
    "models": "Names that a request may carry.",
    "files": "Files, and uploads in parts.",
    "batches": "Files of requests that are answered beside all others.",
    "fine-tuning": "OpenAI's fine-tuning jobs, checkpoints and graders.",
    "feedback": "Ratings of answers.",
    "adapters": "Adapters and their revisions.",
    "bases": "Base models, models from hubs, and checkpoints that jobs made.",
    "exports": "Models and revisions as files, to be used elsewhere.",
    "lineage": "What models came from, and what was made of them.",
    "evaluations": "Suites asked of models, their scores, and comparisons row by row.",
    "rollouts": "A rising share of the traffic for a revision.",
    "jobs": "Jobs of every kind, and results that are made again.",
    "replicas": "Inference servers.",
    "keys": "API keys.",
    "operating": "Status, audit log, health and metrics.",
}
"""Tag of a router -> what its endpoints are for, in the order of the page."""


def operation_name(route: APIRoute) -> str:
    """Return the name of an endpoint in generated clients: `list_models`, `admin_list_jobs`."""
    return f"admin_{route.name}" if route.path.startswith("/admin") else route.name


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the description of *app* and of the paths that are relayed before they reach it."""
    described = get_openapi(
        title="Lorry",
        version=version("lorry"),
        summary="Serve and train LoRA adapters over one address.",
        description=_ABOUT,
        routes=app.routes,
        tags=[{"name": name, "description": text} for name, text in TAGS.items()],
    )
    schemas = described["components"]["schemas"]
    add_field_texts(schemas)
    _mark_files(schemas)
    described["components"]["schemas"] = dict(sorted({**schemas, **relayed_schemas()}.items()))
    described["components"]["securitySchemes"] = dict(_SCHEMES)
    described["paths"] = {**relayed_operations(), **described["paths"]}
    for path, methods in described["paths"].items():
        for operation in methods.values():
            _finish(path, operation)
    return described


def _mark_files(schemas: Mapping[str, Any]) -> None:
    """Give the files in forms the format by which generators of clients know a file, beside today's keyword."""
    for schema in schemas.values():
        for field in schema.get("properties", {}).values():
            if field.get("contentMediaType") == "application/octet-stream":
                field["format"] = "binary"


def _finish(path: str, operation: dict[str, Any]) -> None:
    """Make the first paragraph of an endpoint's text its summary, and add who may ask."""
    if TAG not in operation["tags"]:
        first, _, rest = operation.get("description", "").partition("\n\n")
        operation["summary"] = " ".join(first.split())
        operation["description"] = rest
    if path in OPEN:
        operation["security"] = []
        return
    scopes = " or ".join(sorted(scopes_of(path)))
    needs = f"Scope: {scopes}." if path != METRICS else f"Scope: {scopes}; open where `metrics_need_key` is false."
    operation["description"] = f"{operation['description'].strip()}\n\n{needs}".strip()
    operation["security"] = [{name: []} for name in _SCHEMES]
