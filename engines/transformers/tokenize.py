"""`POST /tokenize`: what a prompt comes to in tokens, without running the model."""

from __future__ import annotations

import asyncio

import orjson
from starlette.requests import Request
from starlette.responses import Response

from engines.transformers.errors import NoSuchResource
from engines.transformers.lora import AdapterTable
from engines.transformers.model import LoadedModel
from engines.transformers.requests.bodies import TokenizeRequest
from engines.transformers.requests.messages import render
from engines.transformers.requests.parsing import parse_body


class Tokenize:
    """Tokenizes text, or messages under the model's chat template; an adapter has the tokens of its base model."""

    def __init__(self, loaded: LoadedModel, adapters: AdapterTable, base_name: str) -> None:
        self._loaded = loaded
        self._template = loaded.template
        self._adapters = adapters
        self._base_name = base_name

    async def tokenize(self, http: Request) -> Response:
        """`POST /tokenize`."""
        request = parse_body(TokenizeRequest, await http.body())
        if request.model not in {self._base_name, *(adapter.name for adapter in self._adapters.listing())}:
            raise NoSuchResource(f"the model {request.model!r} does not exist", param="model", code="model_not_found")
        tokens = await asyncio.to_thread(self._tokens, request)
        body = {"count": len(tokens), "max_model_len": self._loaded.context, "tokens": tokens}
        return Response(orjson.dumps(body), media_type="application/json")

    def _tokens(self, request: TokenizeRequest) -> list[int]:
        if request.messages is None:
            encoded = self._loaded.codec.encode(request.prompt or "", add_special_tokens=request.add_special_tokens)
            return list(encoded.ids)
        tools = [tool.as_declared() for tool in request.tools]
        return render(
            self._template,
            request.messages,
            tools,
            opens_answer=request.add_generation_prompt,
            arguments=request.chat_template_kwargs,
        )
