"""Bodies of requests for vectors and ranks, under the names of OpenAI, Cohere, Jina and vLLM; the rest is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from engines.transformers.requests.bodies import TokenIds
from engines.transformers.requests.neutral import asks_for_nothing
from engines.transformers.requests.parsing import WRONG_KIND, Fields, Whole, json_kind, must

MOST_TEXTS: Final = 2048
"""Most texts of a request, OpenAI's own limit."""
WHOLE_CONTEXT: Final = -1
"""As `truncate_prompt_tokens`: as many tokens as the model reads."""


def _not_empty(text: str) -> str:
    if not text:
        raise must("must not be an empty string")
    return text


def _kind_of_input(value: Any) -> str | None:
    if not isinstance(value, list):
        return "one text" if isinstance(value, str) else None
    if value and isinstance(value[0], list):
        return "some texts in tokens"
    return "one text in tokens" if value and isinstance(value[0], int | float) else "some texts"


def _tokens_to_keep(value: int) -> int:
    if value == 0 or value < WHOLE_CONTEXT:
        raise must(f"must be a number of tokens, or {WHOLE_CONTEXT} for as many as the model reads, not {value}")
    return value


def _document(value: Any) -> Any:
    if isinstance(value, str):
        return {"text": value}
    if not isinstance(value, dict):
        raise must(f"must be a string or an object with text, not {json_kind(value)}")
    return value


Text = Annotated[str, AfterValidator(_not_empty)]
SomeTexts = Annotated[list[Text], Field(min_length=1, max_length=MOST_TEXTS)]
Input = Annotated[
    Annotated[Text, Tag("one text")]
    | Annotated[SomeTexts, Tag("some texts")]
    | Annotated[TokenIds, Tag("one text in tokens")]
    | Annotated[Annotated[list[TokenIds], Field(max_length=MOST_TEXTS)], Tag("some texts in tokens")],
    Discriminator(
        _kind_of_input,
        custom_error_type=WRONG_KIND,
        custom_error_message="must be a string, token ids, or an array of one of these",
    ),
]
_NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    "add_special_tokens": (True,),
    "embed_dtype": ("float32",),
    "endianness": ("native", "little"),
    "padding": ("do_not_pad",),
    "use_activation": (True,),
    "max_tokens_per_query": (0,),
    "rank_fields": (["text"], []),
    "stream": (False,),
}
"""Names of further fields, all vLLM's or Cohere's -> the values with which they ask for nothing."""


class ReadRequest(Fields):
    """The fields that all requests have whose texts are read and not continued."""

    model: str
    truncate_prompt_tokens: Annotated[Whole, AfterValidator(_tokens_to_keep)] | None = None
    """Tokens to which a longer text is cut, special ones among them; without it such a text is refused."""
    truncation_side: Literal["left", "right"] = "right"
    """The end at which tokens are cut off."""
    user: Any = None

    @model_validator(mode="before")
    @classmethod
    def _without_neutral(cls, members: Any) -> Any:
        if not isinstance(members, dict):
            return members
        return {
            name: value
            for name, value in members.items()
            if name in cls.model_fields or not (asks_for_nothing(name, value) or value in _NEUTRAL.get(name, ()))
        }


class EmbeddingRequest(ReadRequest):
    """Body of `POST /v1/embeddings`."""

    input: Input
    dimensions: Annotated[Whole, Field(ge=1)] | None = None
    encoding_format: Literal["float", "base64"] = "float"
    prompt_name: str | None = None
    """Name of one of the model's own prompts, such as `query`, to go before each text."""

    @property
    def inputs(self) -> list[str] | list[list[int]]:
        """Return the inputs: all as text, or all as token ids."""
        if isinstance(self.input, str):
            return [self.input]
        return [self.input] if isinstance(self.input[0], int) else self.input


class Document(Fields):
    """A document: its text, and whatever else its owner keeps with it, which goes back unread."""

    model_config = ConfigDict(extra="allow")

    text: str


class RerankRequest(ReadRequest):
    """Body of `POST /v1/rerank`."""

    query: Text
    documents: Annotated[
        list[Annotated[Document, BeforeValidator(_document)]], Field(min_length=1, max_length=MOST_TEXTS)
    ]
    top_n: Annotated[Whole, Field(ge=0)] = 0
    """Documents in the answer, the best ones; 0: all."""
    return_documents: bool = True
    max_tokens_per_doc: Annotated[Whole, Field(ge=0)] = 0
    """Tokens to which a longer document is cut; 0: none is."""
