"""Requests as the OpenAI API has them, as far as this server can honour them; everything else is refused by name."""

from __future__ import annotations

from re import fullmatch
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, ValidationInfo, model_validator

from engines.transformers.constraints.output_rules import OutputRules
from engines.transformers.requests.messages import Message
from engines.transformers.requests.neutral import without_neutral
from engines.transformers.requests.parsing import WRONG_KIND, Fields, Whole, must, shortened, shown, whole_number
from engines.transformers.requests.tools import Tool, ToolFields, check_results, check_tools

_TEMPLATE_ARGUMENTS: Final = frozenset(
    {"conversation", "messages", "tools", "documents", "chat_template", "add_generation_prompt"}
    | {"continue_final_message", "tokenize", "padding", "truncation", "max_length", "return_tensors", "return_dict"}
    | {"return_assistant_tokens_mask", "tokenizer_kwargs"}
)
_BIAS_KEY: Final = r"-?[0-9]{1,18}"
"""A token id as the key of an object; Python would also take `1_0`, and refuse thousands of digits in its own words."""


def _token_id(value: Any) -> Any:
    token = whole_number(value)
    if type(token) is not int or token < 0:
        raise must(f"must be a token id, a whole number from 0 on, not {shown(value)}")
    return token


def _list_of_stops(stop: Any) -> Any:
    texts = [stop] if isinstance(stop, str) else stop
    if not isinstance(texts, list):
        raise must(f"must be a string or an array of strings, not {shown(stop)}")
    # An empty string is how clients send that they have none.
    return [text for text in texts if text != ""]


def _unless_false(value: Any) -> Any:
    return None if value is False else value


def _with_token_keys(bias: dict[str, float]) -> dict[str, float]:
    for token in bias:
        if not fullmatch(_BIAS_KEY, token):
            raise must(f'must have token ids as keys, not "{shortened(token)}"')
    return bias


def _without_our_own(arguments: dict[str, Any]) -> dict[str, Any]:
    taken = sorted(_TEMPLATE_ARGUMENTS & arguments.keys())
    if taken:
        raise must(f"must not have {taken[0]}, which this server decides")
    return arguments


def _as_many_as_n(best_of: int | None, info: ValidationInfo) -> int | None:
    if best_of not in (None, info.data.get("n")):
        raise must("must equal n: this engine returns every answer that it generates")
    return best_of


def _kind_of_prompt(value: Any) -> str | None:
    if not isinstance(value, list):
        return "one text" if isinstance(value, str) else None
    if value and isinstance(value[0], list):
        return "some prompts in tokens"
    return "one prompt in tokens" if value and isinstance(value[0], int | float) else "some texts"


TokenIds = Annotated[list[Annotated[int, BeforeValidator(_token_id)]], Field(min_length=1)]
Texts = Annotated[list[str], Field(min_length=1)]
Prompt = Annotated[
    Annotated[str, Tag("one text")]
    | Annotated[Texts, Tag("some texts")]
    | Annotated[TokenIds, Tag("one prompt in tokens")]
    | Annotated[list[TokenIds], Tag("some prompts in tokens")],
    Discriminator(
        _kind_of_prompt,
        custom_error_type=WRONG_KIND,
        custom_error_message="must be a string, token ids, or an array of one of these",
    ),
]
Bias = Annotated[float, Field(ge=-100, le=100)]
AnswerTokens = Annotated[Whole, Field(ge=1)]


class StreamOptions(Fields):
    """The options of a stream."""

    include_usage: bool = False
    continuous_usage_stats: bool = False
    """With `include_usage`: every chunk has the usage so far."""
    include_obfuscation: bool = False


class GenerationRequest(OutputRules):
    """The fields that both kinds of completion share."""

    model: str
    max_tokens: AnswerTokens | None = None
    n: Annotated[Whole, Field(ge=1)] = 1
    best_of: Annotated[Whole | None, AfterValidator(_as_many_as_n)] = None
    stop: Annotated[list[str], BeforeValidator(_list_of_stops), Field(max_length=4, default_factory=list)]
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    seed: Whole | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(ge=0, le=1)] = 1.0
    """0: the likeliest token alone."""
    top_k: Annotated[Whole, Field(ge=-1)] = 0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] = 1.0
    min_tokens: Annotated[Whole, Field(ge=0)] = 0
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    logit_bias: Annotated[dict[str, Bias], AfterValidator(_with_token_keys), Field(default_factory=dict)]
    ignore_eos: bool = False
    prompt_logprobs: Annotated[Whole, Field(ge=0, le=20)] | None = None
    """Alternatives beside the logprob of each token of the prompt, which the answer then has in vLLM's form."""
    user: Any = None
    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None

    @model_validator(mode="before")
    @classmethod
    def _without_neutral(cls, members: Any) -> Any:
        return without_neutral(members, cls.model_fields) if isinstance(members, dict) else members

    @model_validator(mode="after")
    def _ends_in_order(self) -> Self:
        limit = self.limit
        if limit is not None and self.min_tokens > limit:
            raise must(f"must not have min_tokens above the most tokens, {limit}")
        if self.prompt_logprobs is not None and self.stream:
            raise must("must not have prompt_logprobs beside stream: only a whole answer has a place for them")
        if self.min_tokens and self.output_rule is not None:
            raise must(f"must not have min_tokens beside {self.output_rule.param}, which decides where the answer ends")
        return self

    @property
    def limit(self) -> int | None:
        """Most tokens of an answer, as asked for."""
        return self.max_tokens

    @property
    def token_bias(self) -> dict[int, float]:
        """Return `logit_bias` by token id."""
        return {int(token): bias for token, bias in self.logit_bias.items()}


class ChatRequest(GenerationRequest, ToolFields):
    """Body of `POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: AnswerTokens | None = None
    chat_template_kwargs: Annotated[dict[str, Any], AfterValidator(_without_our_own), Field(default_factory=dict)]
    """Variables of the model's chat template beside the messages, such as `enable_thinking`."""
    logprobs: bool = False
    top_logprobs: Annotated[Whole, Field(ge=0, le=20)] | None = None

    @model_validator(mode="after")
    def _has_tools_in_order(self) -> Self:
        check_tools(self)
        check_results(self.messages)
        if self.min_tokens and self.tools:
            raise must("must not have min_tokens beside tools: an answer ends with its calls")
        return self

    @property
    def limit(self) -> int | None:
        """Most tokens of an answer, as asked for."""
        return self.max_completion_tokens or self.max_tokens


class CompletionRequest(GenerationRequest):
    """Body of `POST /v1/completions`."""

    prompt: Prompt
    echo: bool = False
    """The answer begins with the prompt, its tokens' logprobs too where `logprobs` asks for them."""
    max_tokens: Annotated[Whole, Field(ge=0)] | None = None
    """0 beside `echo`: the prompt alone."""
    logprobs: Annotated[Annotated[Whole, Field(ge=0, le=20)] | None, BeforeValidator(_unless_false)] = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """Return the prompts, each as text or as token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [[token for token in self.prompt if isinstance(token, int)]]
        return [prompt for prompt in self.prompt if not isinstance(prompt, int)]


class TokenizeRequest(Fields):
    """Body of `POST /tokenize`: either a prompt or messages."""

    model: str
    prompt: str | None = None
    add_special_tokens: bool = True
    messages: Annotated[list[Message], Field(min_length=1)] | None = None
    tools: Annotated[list[Tool], Field(default_factory=list)]
    """Counted with the messages."""
    chat_template_kwargs: Annotated[dict[str, Any], AfterValidator(_without_our_own), Field(default_factory=dict)]
    add_generation_prompt: bool = True

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise must("must have either prompt or messages")
        if self.tools and self.messages is None:
            raise must("must not have tools beside prompt")
        return self


class LoadAdapterRequest(Fields):
    """Body of `POST /v1/load_lora_adapter`."""

    lora_name: Annotated[str, Field(min_length=1)]
    lora_path: Annotated[str, Field(min_length=1)]


class UnloadAdapterRequest(Fields):
    """Body of `POST /v1/unload_lora_adapter`."""

    lora_name: str
