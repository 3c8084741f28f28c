"""The HTTP face of a model that embeds or ranks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from time import monotonic, time
from typing import Any, Final

import orjson
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from engines.base_task import BaseTask
from engines.transformers.encoders.answers import cosines, embedding_list, ranking
from engines.transformers.encoders.bodies import EmbeddingRequest, RerankRequest
from engines.transformers.encoders.metrics import EncoderMetrics
from engines.transformers.encoders.model import EncoderRunner, LoadedEncoder
from engines.transformers.encoders.passes import Passes, Vectors
from engines.transformers.encoders.texts import TextReader
from engines.transformers.encoders.waiting import TokenRow
from engines.transformers.errors import ApiError, BadRequest, NoSuchResource, QueueFull
from engines.transformers.options import ServerOptions
from engines.transformers.requests.bodies import TokenizeRequest
from engines.transformers.requests.parsing import parse_body
from engines.transformers.requests.presence import CLIENT_LEFT, client_leaves
from engines.transformers.requests.refusals import RequireKey, json_response, refuse, refuse_route

RERANKING: Final = ("/v1/rerank", "/v2/rerank", "/rerank")
"""Paths of one and the same request: Jina's and Cohere's first, Cohere's second, and the one that vLLM and TEI have."""
PATHS: Final = {
    BaseTask.EMBED: ("/v1/embeddings", *RERANKING, "/tokenize"),
    BaseTask.RANK: (*RERANKING, "/tokenize"),
}
"""Paths of inference requests that a model answers, by what it is for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedEncoder:
    """The parts of the server that the routes use."""

    options: ServerOptions
    loaded: LoadedEncoder
    passes: Passes
    metrics: EncoderMetrics
    started_at: int

    @property
    def most_inside(self) -> int:
        """Requests that may be inside at a time."""
        return self.options.max_batch + self.options.max_queue


class EncoderRoutes:
    """Answers requests; for use from one event loop."""

    def __init__(self, served: ServedEncoder) -> None:
        self._served = served
        self._loaded = served.loaded
        self._texts = TextReader(served.loaded)
        self._inside = 0

    async def health(self, _http: Request) -> Response:
        """Answer 200 while the model can be run; the process ends when it no longer can."""
        return Response()

    async def metrics(self, _http: Request) -> Response:
        """Answer with the metrics, in Prometheus' text format."""
        return Response(self._served.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    async def models(self, _http: Request) -> Response:
        """List the one model."""
        return json_response({"object": "list", "data": [self._entry()]})

    async def model(self, http: Request) -> Response:
        """Show the model."""
        self._check_name(http.path_params["name"])
        return json_response(self._entry())

    async def tokenize(self, http: Request) -> Response:
        """`POST /tokenize`."""
        request = parse_body(TokenizeRequest, await http.body())
        self._check_name(request.model)
        if request.prompt is None:
            raise BadRequest("this model has no chats, send prompt in place of messages", param="messages")
        ids = await asyncio.to_thread(self._ids, request.prompt, request.add_special_tokens)
        return json_response({"count": len(ids), "max_model_len": self._loaded.context, "tokens": ids})

    async def embed(self, http: Request) -> Response:
        """`POST /v1/embeddings`."""
        request = await asyncio.to_thread(parse_body, EmbeddingRequest, await http.body())
        self._check_name(request.model)
        if request.dimensions is not None and request.dimensions > self._loaded.width:
            raise BadRequest(
                f"dimensions must be at most {self._loaded.width}, the length of this model's vectors, not "
                f"{request.dimensions}",
                param="dimensions",
            )

        async def answer() -> bytes:
            rows = await asyncio.to_thread(self._texts.inputs, request)
            vectors = await self._served.passes.encode(rows)
            return await asyncio.to_thread(self._embeddings, request, vectors, rows)

        return await self._unless_client_leaves(http, answer())

    async def rerank(self, http: Request) -> Response:
        """`POST /v1/rerank`: by a cross-encoder's score of each pair, else by the cosine of the vectors."""
        request = await asyncio.to_thread(parse_body, RerankRequest, await http.body())
        self._check_name(request.model)
        ranks = self._loaded.folder.task is BaseTask.RANK

        async def answer() -> bytes:
            rows = await asyncio.to_thread(self._texts.pairs if ranks else self._texts.apart, request)
            vectors = await self._served.passes.encode(rows)
            scores = vectors[:, 0] if ranks else cosines(vectors)
            return orjson.dumps(ranking(request, scores, tokens_of(rows)))

        return await self._unless_client_leaves(http, answer())

    def _ids(self, text: str, special: bool) -> list[int]:
        ids: list[int] = self._loaded.codec.encode(text, add_special_tokens=special).ids
        return ids

    def _embeddings(self, request: EmbeddingRequest, vectors: Vectors, rows: list[TokenRow]) -> bytes:
        normalizes = self._loaded.folder.normalizes
        answer = embedding_list(request, vectors, tokens_of(rows), normalizes=normalizes)
        return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)

    async def _unless_client_leaves(self, http: Request, answer: Coroutine[Any, Any, bytes]) -> Response:
        """Return the answer; an empty response, with the work dropped, when the client disconnects before."""
        began = monotonic()
        with self._place(answer):
            answering, leaving = asyncio.create_task(answer), asyncio.create_task(client_leaves(http))
            try:
                await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if not answering.done():
                    return Response(status_code=CLIENT_LEFT)
                body = answering.result()
            finally:
                answering.cancel()
                leaving.cancel()
        self._served.metrics.note_answer(monotonic() - began)
        return Response(body, media_type="application/json")

    @contextmanager
    def _place(self, answer: Coroutine[Any, Any, bytes]) -> Iterator[None]:
        """Count a request while it is inside; `QueueFull`."""
        if self._inside >= self._served.most_inside:
            answer.close()
            self._served.metrics.note_rejection()
            raise QueueFull(f"{self._served.most_inside} requests are read or wait; come again")
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    def _check_name(self, name: str) -> None:
        if name != self._served.options.base_name:
            raise NoSuchResource(f"the model {name!r} does not exist", param="model", code="model_not_found")

    def _entry(self) -> dict[str, Any]:
        options = self._served.options
        return {
            "id": options.base_name,
            "object": "model",
            "created": self._served.started_at,
            "owned_by": "lorry",
            "root": str(options.base_path),
            "parent": None,
            "max_model_len": self._loaded.context,
            "paths": PATHS[self._loaded.folder.task],
        }


def build_encoder_app(
    options: ServerOptions, loaded: LoadedEncoder, on_failure: Callable[[], None], key: str = ""
) -> Starlette:
    """Build the application, which wants *key* unless it is empty; *on_failure* is called when the model has failed."""
    metrics = EncoderMetrics()
    passes = Passes(
        EncoderRunner(loaded),
        metrics,
        width=loaded.width,
        pass_tokens=options.max_step_tokens,
        threads=options.threads,
    )
    routes = EncoderRoutes(
        ServedEncoder(options=options, loaded=loaded, passes=passes, metrics=metrics, started_at=int(time()))
    )

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        thread = passes.start(asyncio.get_running_loop(), on_failure)
        try:
            yield
        finally:
            passes.stop()
            await asyncio.to_thread(thread.join)

    answers = {path: routes.rerank for path in RERANKING} | {
        "/v1/embeddings": routes.embed,
        "/tokenize": routes.tokenize,
    }
    return Starlette(
        routes=[
            Route("/health", routes.health),
            Route("/metrics", routes.metrics),
            Route("/v1/models", routes.models),
            Route("/v1/models/{name:path}", routes.model),
            *(Route(path, answers[path], methods=["POST"]) for path in PATHS[loaded.folder.task]),
        ],
        exception_handlers={ApiError: refuse, HTTPException: refuse_route, Exception: refuse},
        lifespan=lifespan,
        middleware=[Middleware(RequireKey, key=key)] if key else [],
    )


def tokens_of(rows: list[TokenRow]) -> int:
    """Return how many tokens the model reads."""
    return sum(len(row.ids) for row in rows)
