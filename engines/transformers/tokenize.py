"""`POST /tokenize`: what a prompt comes to in tokens, without running the model."""

from __future__ import annotations

import asyncio

import orjson
from jinja2 import TemplateError
from starlette.requests import Request
from starlette.responses import Response

from engines.transformers.errors import BadRequest, NoSuchResource
from engines.transformers.lora import AdapterTable
from engines.transformers.model import LoadedModel
from engines.transformers.types import TokenizeRequest, parse_body


class Tokenize:
    """Tokenizes text, or messages under the model's chat template; an adapter has the tokens of its base model."""

    def __init__(self, loaded: LoadedModel, adapters: AdapterTable, base_name: str) -> None:
        self._loaded = loaded
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
        messages = [message.as_template_input() for message in request.messages]
        try:
            tokens = self._loaded.tokenizer.apply_chat_template(
                messages, add_generation_prompt=request.add_generation_prompt, return_dict=False
            )
        except TemplateError as exc:
            raise BadRequest(f"the model's chat template refuses them: {exc}", param="messages") from exc
        return list(tokens)
