"""From rules to grammars: each is compiled once and copied for every answer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from threading import Lock
from typing import Final, Protocol

from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from tokenizers import Tokenizer

from engines.transformers.constraints.constraint import Constraint
from engines.transformers.errors import BadRequest

_KEPT: Final = 64
"""How many compiled grammars are kept, those that were asked for last."""
_LIMITS: Final = LLParserLimits(verbose_errors=False)


class AnswerRule(Protocol):
    """A form that answers must have; equal rules have equal hashes."""

    @property
    def param(self) -> str:
        """The field that has the rule, for messages about it."""
        ...

    def grammar(self, explain: Callable[[str], str], special: Mapping[str, int], /) -> str:
        """Return the grammar for llguidance; `ValueError` or `BadRequest` says why there is none.

        *explain* returns why a grammar cannot be compiled, nothing if it can. *special* has the special tokens.
        """
        ...


class GrammarCompiler:
    """Compiles rules for one model; from any thread."""

    def __init__(self, codec: Tokenizer, vocabulary: int, end_tokens: Iterable[int]) -> None:
        self._codec = codec
        self._vocabulary = vocabulary
        self._end_tokens = sorted(end_tokens)
        self._special = special_tokens(codec)
        self._lock = Lock()
        self._tokenizer: LLTokenizer | None = None
        self._compiled: OrderedDict[AnswerRule, LLMatcher] = OrderedDict()

    def constraints(self, rule: AnswerRule) -> Callable[[], Constraint]:
        """Return what makes the constraint of one more answer. `BadRequest` names what cannot be enforced.

        The first call takes about a second, and complex rules take a tenth of one: not for the event loop.
        """
        with self._lock:
            matcher = self._compiled.pop(rule, None) or self._compile(rule)
            self._compiled[rule] = matcher
            if len(self._compiled) > _KEPT:
                self._compiled.popitem(last=False)
        return lambda: Constraint(matcher.deep_copy(), self._vocabulary, rule.param)

    def _compile(self, rule: AnswerRule) -> LLMatcher:
        try:
            grammar = rule.grammar(self._explain, self._special)
        except ValueError as exc:
            raise BadRequest(f"{rule.param} cannot be enforced: {exc}", param=rule.param) from exc
        matcher = self._matcher(grammar)
        if matcher.is_error():
            raise BadRequest(f"{rule.param} cannot be enforced: {_reason(matcher.get_error())}", param=rule.param)
        return matcher

    def _explain(self, grammar: str) -> str:
        matcher = self._matcher(grammar)
        return _reason(matcher.get_error()) if matcher.is_error() else ""

    def _matcher(self, grammar: str) -> LLMatcher:
        if self._tokenizer is None:
            self._tokenizer = self._read_tokenizer()
        return LLMatcher(self._tokenizer, grammar, log_level=0, limits=_LIMITS)

    def _read_tokenizer(self) -> LLTokenizer:
        codec = copy(self._codec)
        codec.no_padding()
        codec.no_truncation()
        return LLTokenizer(codec.to_str(), n_vocab=self._vocabulary, eos_token=self._end_tokens)


def special_tokens(codec: Tokenizer) -> Mapping[str, int]:
    """Return the tokens that stand for no text, by what they are called."""
    return {added.content: token for token, added in codec.get_added_tokens_decoder().items() if added.special}


def _reason(error: str) -> str:
    return error.strip().splitlines()[0].removeprefix("ERROR: ")
