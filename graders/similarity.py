"""The metrics of text similarity, each from 0 to 1.

Tokens are words and marks in lower case for ROUGE, and as they are for BLEU, GLEU and METEOR.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

LONGEST_TEXT: Final = 20_000
"""Characters of each text that are compared; the time of some metrics grows with the product of both lengths."""
_WORD: Final = re.compile(r"\w+", re.UNICODE)
_TOKEN: Final = re.compile(r"\w+|[^\w\s]", re.UNICODE)


class _NoSynonyms:
    """A WordNet without words, whose real data is in no package: METEOR then matches words and their stems."""

    def synsets(self, _: str) -> Sequence[Any]:
        """Return no synonyms."""
        return ()


def similarity(metric: str, text: str, reference: str) -> float:
    """Return the likeness of *text* to *reference* by one of `METRICS`."""
    return float(METRICS[metric](text[:LONGEST_TEXT], reference[:LONGEST_TEXT]))


def _fuzzy_match(text: str, reference: str) -> float:
    """Return the normalised InDel similarity: twice the longest common subsequence over the sum of the lengths."""
    from rapidfuzz import fuzz

    return fuzz.ratio(text, reference) / 100


def _bleu(text: str, reference: str) -> float:
    """Return sentence BLEU of up to 4-grams (Papineni et al. 2002), smoothed by Chen and Cherry's method 1."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    tokens, wanted = _TOKEN.findall(text), _TOKEN.findall(reference)
    if not tokens or not wanted:
        return float(tokens == wanted)
    longest = min(4, len(tokens), len(wanted))
    weights = (1 / longest,) * longest
    return float(sentence_bleu([wanted], tokens, weights=weights, smoothing_function=SmoothingFunction().method1))


def _gleu(text: str, reference: str) -> float:
    """Return GLEU (Wu et al. 2016): the smaller of precision and recall of 1- to 4-grams."""
    from nltk.translate.gleu_score import sentence_gleu

    tokens, wanted = _TOKEN.findall(text), _TOKEN.findall(reference)
    return float(sentence_gleu([wanted], tokens)) if tokens and wanted else float(tokens == wanted)


def _meteor(text: str, reference: str) -> float:
    """Return METEOR (Banerjee and Lavie 2005) over words and their Porter stems, without synonyms."""
    from nltk.translate.meteor_score import meteor_score

    tokens, wanted = _TOKEN.findall(text), _TOKEN.findall(reference)
    if not tokens or not wanted:
        return float(tokens == wanted)
    return float(meteor_score([wanted], tokens, wordnet=_NoSynonyms()))


def _rouge_n(size: int, text: str, reference: str) -> float:
    """Return the F1 of ROUGE-N (Lin 2004): n-grams of *size* words that both texts have."""
    found, wanted = _grams(text, size), _grams(reference, size)
    if not found or not wanted:
        # No text of fewer than *size* words has such n-grams; equal words are equal anyway.
        return float(_words(text) == _words(reference))
    return 2 * (found & wanted).total() / (found.total() + wanted.total())


def _rouge_l(text: str, reference: str) -> float:
    """Return the F1 of ROUGE-L (Lin 2004): the longest common subsequence of words."""
    from rapidfuzz.distance import LCSseq

    found, wanted = _words(text), _words(reference)
    if not found or not wanted:
        return float(found == wanted)
    return 2 * LCSseq.similarity(found, wanted) / (len(found) + len(wanted))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _grams(text: str, size: int) -> Counter[tuple[str, ...]]:
    words = _words(text)
    return Counter(tuple(words[at : at + size]) for at in range(len(words) - size + 1))


METRICS: Final[Mapping[str, Callable[[str, str], float]]] = {
    "fuzzy_match": _fuzzy_match,
    "bleu": _bleu,
    "gleu": _gleu,
    "meteor": _meteor,
    **{f"rouge_{size}": partial(_rouge_n, size) for size in range(1, 6)},
    "rouge_l": _rouge_l,
}
"""`evaluation_metric` -> its function of text and reference."""
