"""Texts and pairs of texts as rows of tokens, within the length that the model reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tokenizers import Encoding, Tokenizer

from engines.transformers.encoders.bodies import WHOLE_CONTEXT, EmbeddingRequest, ReadRequest, RerankRequest
from engines.transformers.encoders.model import LoadedEncoder
from engines.transformers.encoders.waiting import TokenRow
from engines.transformers.errors import BadRequest


@dataclass(frozen=True, slots=True)
class Cut:
    """How long a row may be, and what becomes of a longer one."""

    tokens: int
    side: Literal["left", "right"]
    """The end at which tokens are cut off."""
    is_asked_for: bool
    """Longer rows are cut, else refused."""


class TextReader:
    """Turns the texts of requests into rows; safe to use from several threads."""

    def __init__(self, loaded: LoadedEncoder) -> None:
        self._loaded = loaded
        self._codec = loaded.codec
        self._edges = edges_of(loaded.codec)

    def inputs(self, request: EmbeddingRequest) -> list[TokenRow]:
        """Return the rows of the inputs; `BadRequest`."""
        cut, inputs = self._cut(request, pair=False), request.inputs
        prompt = self._prompt(request)
        names = [f"input[{place}]" if isinstance(request.input, list) else "input" for place in range(len(inputs))]
        if isinstance(inputs[0], str):
            return self.texts([f"{prompt}{text}" for text in inputs], cut, names)
        if request.prompt_name is not None:
            raise BadRequest("prompt_name is for texts: send input as text, not as token ids", param="prompt_name")
        return [self._of_tokens(tokens, cut, name) for tokens, name in zip(inputs, names, strict=True)]

    def texts(self, texts: Sequence[str], cut: Cut, names: Sequence[str]) -> list[TokenRow]:
        """Return the row of each text; *names* are those of the fields that the texts came in. `BadRequest`."""
        encodings = self._codec.encode_batch_fast(list(texts))
        pairs = zip(texts, encodings, names, strict=True)
        return [TokenRow(self._within(text, encoding.ids, cut, name)) for text, encoding, name in pairs]

    def pairs(self, request: RerankRequest) -> list[TokenRow]:
        """Return the row of the query with each document; `BadRequest`."""
        cut = self._cut(request, pair=True)
        texts = [request.query, *(document.text for document in request.documents)]
        query, *documents = self._codec.encode_batch(texts, add_special_tokens=False)
        return [self._pair(query, document, cut, request, place) for place, document in enumerate(documents)]

    def apart(self, request: RerankRequest) -> list[TokenRow]:
        """Return the row of the query, then that of each document, for a model that embeds; `BadRequest`."""
        cut, prompts = self._cut(request, pair=False), self._loaded.folder.prompts
        documents = [document.text for document in request.documents]
        if request.max_tokens_per_doc:
            documents = [self._shortened(text, request.max_tokens_per_doc) for text in documents]
        before = next((prompts[name] for name in ("document", "passage", "corpus") if name in prompts), "")
        texts = [prompts.get("query", "") + request.query, *(before + text for text in documents)]
        return self.texts(texts, cut, ["query", *(f"documents[{place}]" for place in range(len(documents)))])

    def _cut(self, request: ReadRequest, *, pair: bool) -> Cut:
        asked, context = request.truncate_prompt_tokens, self._loaded.context
        if asked is None or asked == WHOLE_CONTEXT:
            return Cut(context, request.truncation_side, asked is not None)
        special = self._codec.num_special_tokens_to_add(pair)
        if not special < asked <= context:
            raise BadRequest(
                f"truncate_prompt_tokens must be above the {special} special tokens and at most {context}, the model's "
                f"own limit, not {asked}; {WHOLE_CONTEXT} stands for that limit",
                param="truncate_prompt_tokens",
            )
        return Cut(asked, request.truncation_side, is_asked_for=True)

    def _prompt(self, request: EmbeddingRequest) -> str:
        name, prompts = request.prompt_name or self._loaded.folder.default_prompt, self._loaded.folder.prompts
        if name is None:
            return ""
        if name not in prompts:
            known = f"it has {', '.join(sorted(prompts))}" if prompts else "it has none"
            raise BadRequest(f"the model has no prompt of the name in prompt_name; {known}", param="prompt_name")
        return prompts[name]

    def _of_tokens(self, tokens: list[int], cut: Cut, name: str) -> TokenRow:
        largest, (begin, end) = max(tokens), self._edges
        fault = None
        if largest >= self._loaded.vocabulary:
            fault = f"{largest} is not a token of this model, whose ids are 0 to {self._loaded.vocabulary - 1}"
        elif tokens[: len(begin)] != begin or tokens[len(tokens) - len(end) :] != end:
            # OpenAI's ids would otherwise be read as other words, and the vectors be wrong in silence.
            fault = f"the tokens of a text begin with {begin} and end with {end} here, as POST /tokenize returns them"
        if fault is not None:
            raise BadRequest(
                f"{name}: {fault}. Token ids must be of the model's own tokenizer, not OpenAI's; send text instead (in "
                "LangChain by check_embedding_ctx_length=False)",
                param=name,
            )
        if len(tokens) <= cut.tokens:
            return TokenRow(tokens)
        self._refuse_unless_asked(len(tokens), cut, name)
        return TokenRow(tokens[: cut.tokens] if cut.side == "right" else tokens[-cut.tokens :])

    def _within(self, text: str, ids: list[int], cut: Cut, name: str) -> list[int]:
        if len(ids) <= cut.tokens:
            return ids
        self._refuse_unless_asked(len(ids), cut, name)
        bare = self._codec.encode(text, add_special_tokens=False)
        bare.truncate(cut.tokens - self._codec.num_special_tokens_to_add(is_pair=False), direction=cut.side)
        kept: list[int] = self._codec.post_process(bare).ids
        return kept

    def _pair(self, query: Encoding, document: Encoding, cut: Cut, request: RerankRequest, place: int) -> TokenRow:
        room = cut.tokens - self._codec.num_special_tokens_to_add(is_pair=True)
        asked_length = request.max_tokens_per_doc or len(document.ids)
        if len(document.ids) > asked_length:
            document.truncate(asked_length)
        if len(query.ids) + len(document.ids) > room:
            self._refuse_unless_asked(
                cut.tokens - room + len(query.ids) + len(document.ids), cut, f"documents[{place}]"
            )
            kept = kept_of_pair(len(query.ids), len(document.ids), room)
            query = self._codec.encode(request.query, add_special_tokens=False)  # the shared one stays whole
            query.truncate(kept[0], direction=cut.side)
            document.truncate(kept[1], direction=cut.side)
        pair = self._codec.post_process(query, document)
        return TokenRow(pair.ids, pair.type_ids if self._loaded.takes_types else None)

    def _shortened(self, text: str, tokens: int) -> str:
        offsets = self._codec.encode(text, add_special_tokens=False).offsets
        return text if len(offsets) <= tokens else text[: offsets[tokens - 1][1]]

    def _refuse_unless_asked(self, length: int, cut: Cut, name: str) -> None:
        if not cut.is_asked_for:
            # Clients recognise these words, OpenAI's own.
            raise BadRequest(
                f"This model's maximum context length is {cut.tokens} tokens. However, your {name} resulted in {length}"
                f" tokens. Please reduce the length of the {name}, or have it cut by truncate_prompt_tokens: -1.",
                param=name,
                code="context_length_exceeded",
            )


def edges_of(codec: Tokenizer) -> tuple[list[int], list[int]]:
    """Return the special tokens before and behind every text."""
    whole = codec.encode("a").ids
    bare = codec.encode("a", add_special_tokens=False).ids
    before = next((place for place in range(len(whole)) if whole[place : place + len(bare)] == bare), 0)
    return whole[:before], whole[before + len(bare) :]


def kept_of_pair(first: int, second: int, room: int) -> tuple[int, int]:
    """Return how many tokens of each text stay: the longer one is cut first, as `longest_first` of tokenizers does."""
    shorter = min(first, second)
    if 2 * shorter > room:
        shorter = room // 2
    longer = room - shorter
    return (longer, shorter) if first > second else (shorter, longer)
