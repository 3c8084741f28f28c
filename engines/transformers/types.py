"""Requests as the OpenAI API has them, as far as this server can honour them; everything else is refused by name."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from engines.transformers.errors import BadRequest

STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)
Stop = Annotated[str, Field(min_length=1)]
TokenIds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
UNION_MEMBERS: Final = ("str", "int")
"""Identifiers that pydantic puts into a location for the member of a union that it tried."""
Parsed = TypeVar("Parsed", bound=BaseModel)


class StreamOptions(BaseModel):
    """The options of a stream."""

    model_config = STRICT

    include_usage: bool = False
    include_obfuscation: bool = False


class ResponseFormat(BaseModel):
    """Free text, or the wish for a JSON object: this server constrains no grammar, the model alone fulfils it."""

    model_config = STRICT

    type: Literal["text", "json_object"]


class TextPart(BaseModel):
    """A part of a message's content."""

    model_config = STRICT

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """A message of a conversation, text only."""

    model_config = STRICT

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str = ""
    refusal: None = None

    def as_template_input(self) -> dict[str, str]:
        """Return the message as chat templates expect it."""
        parts = [self.content] if isinstance(self.content, str) else [part.text for part in self.content]
        return {"role": "system" if self.role == "developer" else self.role, "content": "".join(parts)}


class GenerationRequest(BaseModel):
    """The fields that both kinds of completion share."""

    model_config = STRICT

    model: str
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    n: Annotated[int, Field(ge=1)] = 1
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] = []
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    seed: int | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=-1)] = 0
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] = {}
    ignore_eos: bool = False
    user: Any = None
    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None

    @property
    def stops(self) -> list[str]:
        """Return the stop strings."""
        return [self.stop] if isinstance(self.stop, str) else self.stop

    @property
    def token_bias(self) -> dict[int, float]:
        """Return `logit_bias` by token id; `BadRequest` for a key that is not one."""
        try:
            return {int(token): bias for token, bias in self.logit_bias.items()}
        except ValueError as exc:
            raise BadRequest(f"keys must be token ids: {exc}", param="logit_bias") from exc


class ChatRequest(GenerationRequest):
    """Body of `POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None

    def check_json_is_asked_for(self) -> None:
        """Raise `BadRequest` when only `response_format` asks for JSON: the model reads nothing but the messages."""
        wished = self.response_format is not None and self.response_format.type == "json_object"
        if wished and not any("json" in message.as_template_input()["content"].lower() for message in self.messages):
            raise BadRequest(
                "the messages must say that the answer is to be JSON when response_format is json_object: this engine "
                "does not force it on the model",
                param="messages",
            )


class CompletionRequest(GenerationRequest):
    """Body of `POST /v1/completions`."""

    prompt: str | TokenIds | Annotated[list[str] | list[TokenIds], Field(min_length=1)]
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: Literal[False] = False

    @property
    def prompts(self) -> list[str | list[int]]:
        """Return the prompts, each as text or as token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [[token for token in self.prompt if isinstance(token, int)]]
        return [prompt for prompt in self.prompt if not isinstance(prompt, int)]


class TokenizeRequest(BaseModel):
    """Body of `POST /tokenize`: either a prompt or messages."""

    model_config = STRICT

    model: str
    prompt: str | None = None
    add_special_tokens: bool = True
    messages: Annotated[list[Message], Field(min_length=1)] | None = None
    add_generation_prompt: bool = True

    @model_validator(mode="after")
    def _has_one(self) -> TokenizeRequest:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages")
        return self


class LoadAdapterRequest(BaseModel):
    """Body of `POST /v1/load_lora_adapter`."""

    model_config = STRICT

    lora_name: Annotated[str, Field(min_length=1)]
    lora_path: Annotated[str, Field(min_length=1)]


class UnloadAdapterRequest(BaseModel):
    """Body of `POST /v1/unload_lora_adapter`."""

    model_config = STRICT

    lora_name: str


def parse_body(model: type[Parsed], body: bytes) -> Parsed:
    """Parse *body* as *model*; a null field counts as absent; `BadRequest` names the first field that is wrong."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise BadRequest(f"the body is not JSON: {exc}", code="invalid_json") from exc
    if not isinstance(fields, dict):
        raise BadRequest("the body must be a JSON object", code="invalid_json")
    try:
        return model.model_validate({name: value for name, value in fields.items() if value is not None})
    except ValidationError as exc:
        raise refusal(model, exc) from exc


def field_path(location: tuple[int | str, ...]) -> str:
    """Return `messages[0].role` from pydantic's location, without the names of union members in it."""
    path = str(location[0]) if location else "body"
    for part in location[1:]:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part.isidentifier() and part not in UNION_MEMBERS:
            path += f".{part}"
    return path


def refusal(model: type[BaseModel], exc: ValidationError) -> BadRequest:
    """Return the message to the client about the first thing that is wrong."""
    first = exc.errors(include_url=False, include_input=False)[0]
    field, kind = field_path(first["loc"]), first["type"]
    if kind == "extra_forbidden" and len(first["loc"]) == 1:
        known = ", ".join(sorted(model.model_fields))
        message = f"{field} is not supported by this engine; it takes {known}"
        return BadRequest(message, param=field, code="unsupported_parameter")
    if kind == "missing":
        return BadRequest(f"{field} is required", param=field, code="missing_required_parameter")
    return BadRequest(f"{field}: {first['msg']}", param=field)
