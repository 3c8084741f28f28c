"""From rules to grammars: each is compiled once and copied for every answer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from copy import copy
from threading import Lock
from typing import Final

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, grammar_from
from tokenizers import Tokenizer

from engines.transformers.constraints.constraint import Constraint
from engines.transformers.constraints.output_rules import OutputRule
from engines.transformers.errors import BadRequest

_KEPT: Final = 64
"""How many compiled grammars are kept, those that were asked for last."""
_LIMITS: Final = LLParserLimits(verbose_errors=False)


class GrammarCompiler:
    """Compiles rules for one model; from any thread."""

    def __init__(self, codec: Tokenizer, vocabulary: int, end_tokens: Iterable[int]) -> None:
        self._codec = codec
        self._vocabulary = vocabulary
        self._end_tokens = sorted(end_tokens)
        self._lock = Lock()
        self._tokenizer: LLTokenizer | None = None
        self._compiled: OrderedDict[tuple[str, str], LLMatcher] = OrderedDict()

    def constraints(self, rule: OutputRule) -> Callable[[], Constraint]:
        """Return what makes the constraint of one more answer. `BadRequest` names what cannot be enforced.

        The first call takes about a second, and complex rules take a tenth of one: not for the event loop.
        """
        with self._lock:
            matcher = self._compiled.pop((rule.kind, rule.text), None) or self._compile(rule)
            self._compiled[rule.kind, rule.text] = matcher
            if len(self._compiled) > _KEPT:
                self._compiled.popitem(last=False)
        return lambda: Constraint(matcher.deep_copy(), self._vocabulary, rule.param)

    def _compile(self, rule: OutputRule) -> LLMatcher:
        if self._tokenizer is None:
            self._tokenizer = self._read_tokenizer()
        try:
            grammar = _grammar(rule)
        except ValueError as exc:
            raise BadRequest(f"{rule.param} cannot be enforced: {exc}", param=rule.param) from exc
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=_LIMITS)
        if matcher.is_error():
            raise BadRequest(f"{rule.param} cannot be enforced: {_reason(matcher.get_error())}", param=rule.param)
        return matcher

    def _read_tokenizer(self) -> LLTokenizer:
        codec = copy(self._codec)
        codec.no_padding()
        codec.no_truncation()
        return LLTokenizer(codec.to_str(), n_vocab=self._vocabulary, eos_token=self._end_tokens)


def _grammar(rule: OutputRule) -> str:
    if rule.kind == "json_schema":
        # A small model that may write blanks without end does: each place of JSON has one way to be written here.
        return LLMatcher.grammar_from_json_schema(
            rule.text,
            overrides={
                "item_separator": ", ",
                "key_separator": ": ",
                "whitespace_flexible": False,
                "coerce_one_of": False,
                "lenient": False,
            },
        )
    return grammar_from(rule.kind, rule.text)


def _reason(error: str) -> str:
    return error.strip().splitlines()[0].removeprefix("ERROR: ")
