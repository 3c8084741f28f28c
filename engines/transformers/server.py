"""The HTTP face: routes, errors, and the life of the stepping thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import time
from typing import Any, Final

import orjson
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from engines.transformers.completions import Completions
from engines.transformers.errors import ApiError, BadRequest, NoSuchResource
from engines.transformers.generation import GenerationIntake, QueueLimits
from engines.transformers.lora import AdapterTable
from engines.transformers.metrics import EngineMetrics
from engines.transformers.model import LoadedModel, ModelRunner
from engines.transformers.options import ServerOptions
from engines.transformers.requests.bodies import LoadAdapterRequest, UnloadAdapterRequest
from engines.transformers.requests.parsing import parse_body
from engines.transformers.requests.refusals import RequireKey, json_response, refuse, refuse_route
from engines.transformers.scheduler import Scheduler
from engines.transformers.stepper import Stepper
from engines.transformers.tokenize import Tokenize

PATHS: Final = ("/v1/chat/completions", "/v1/completions", "/tokenize")
"""Paths of inference requests that a model which generates text answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The parts of the server that the routes use."""

    options: ServerOptions
    loaded: LoadedModel
    adapters: AdapterTable
    metrics: EngineMetrics
    started_at: int


class Routes:
    """Everything but the completions."""

    def __init__(self, served: Served) -> None:
        self._served = served

    async def health(self, _http: Request) -> Response:
        """Answer 200 while the model can be run; the process ends when it no longer can."""
        return Response()

    async def metrics(self, _http: Request) -> Response:
        """Answer with the metrics, in Prometheus' text format."""
        self._served.metrics.adapters.set(len(self._served.adapters.listing()))
        return Response(self._served.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    async def models(self, _http: Request) -> Response:
        """List the base model with the paths that it answers, and the adapters; `root` is where each was read from."""
        options = self._served.options
        entries = [{**self._entry(options.base_name, str(options.base_path), None), "paths": PATHS}]
        entries += [self._entry(one.name, one.path, options.base_name) for one in self._served.adapters.listing()]
        return json_response({"object": "list", "data": entries})

    async def model(self, http: Request) -> Response:
        """Show one model."""
        listing = orjson.loads((await self.models(http)).body)
        name = http.path_params["name"]
        for entry in listing["data"]:
            if entry["id"] == name:
                return json_response(entry)
        raise NoSuchResource(f"the model {name!r} does not exist", param="model", code="model_not_found")

    async def load(self, http: Request) -> Response:
        """Load an adapter and answer once it can be used."""
        request = parse_body(LoadAdapterRequest, await http.body())
        if request.lora_name == self._served.options.base_name:
            raise BadRequest("this name is the base model's", param="lora_name")
        await self._served.adapters.load(request.lora_name, request.lora_path)
        return Response(f"Success: LoRA adapter '{request.lora_name}' added successfully.", media_type="text/plain")

    async def unload(self, http: Request) -> Response:
        """Unload an adapter and answer once its requests have ended."""
        request = parse_body(UnloadAdapterRequest, await http.body())
        await self._served.adapters.unload(request.lora_name)
        return Response(f"Success: LoRA adapter '{request.lora_name}' removed successfully.", media_type="text/plain")

    def _entry(self, name: str, root: str, parent: str | None) -> dict[str, Any]:
        return {
            "id": name,
            "object": "model",
            "created": self._served.started_at,
            "owned_by": "lorry",
            "root": root,
            "parent": parent,
            "max_model_len": self._served.loaded.context,
        }


def build_app(options: ServerOptions, loaded: LoadedModel, on_failure: Callable[[], None], key: str = "") -> Starlette:
    """Build the application, which wants *key* unless it is empty; *on_failure* is called when the model has failed."""
    metrics = EngineMetrics()
    scheduler = Scheduler(options.max_batch, options.max_step_tokens)
    stepper = Stepper(ModelRunner(loaded), scheduler, metrics, options.threads)
    adapters = AdapterTable(loaded.layers, max_adapters=options.max_adapters, max_rank=options.max_rank)
    limits = QueueLimits(base_name=options.base_name, batch=options.max_batch, queue=options.max_queue)
    completions = Completions(loaded, GenerationIntake(loaded, adapters, stepper, metrics, limits))
    routes = Routes(Served(options=options, loaded=loaded, adapters=adapters, metrics=metrics, started_at=int(time())))

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        thread = stepper.start(asyncio.get_running_loop(), on_failure)
        try:
            yield
        finally:
            stepper.stop()
            # The thread ends after its step, which may take seconds; the event loop must not block for it.
            await asyncio.to_thread(thread.join)

    return Starlette(
        routes=[
            Route("/health", routes.health),
            Route("/metrics", routes.metrics),
            Route("/v1/models", routes.models),
            Route("/v1/models/{name:path}", routes.model),
            Route("/v1/chat/completions", completions.chat, methods=["POST"]),
            Route("/v1/completions", completions.text, methods=["POST"]),
            Route("/tokenize", Tokenize(loaded, adapters, options.base_name).tokenize, methods=["POST"]),
            Route("/v1/load_lora_adapter", routes.load, methods=["POST"]),
            Route("/v1/unload_lora_adapter", routes.unload, methods=["POST"]),
        ],
        exception_handlers={ApiError: refuse, HTTPException: refuse_route, Exception: refuse},
        lifespan=lifespan,
        middleware=[Middleware(RequireKey, key=key)] if key else [],
    )
