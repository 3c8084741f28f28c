"""The language of a text, by the model that py3langid brings."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

UNCLEAR: Final = "unclear"
_READ: Final = 240
"""Characters that decide; more of them only cost time."""
_FEWEST_LETTERS: Final = 12
_SURE: Final = 0.5
_NO_LANGUAGE: Final = "zxx"


class LanguageFinder:
    """Names languages; built once for a process, since its model takes 0.5 s to load."""

    @cached_property
    def _identifier(self) -> Any:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier

        return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

    def language(self, text: str) -> str:
        """Return the code of the language (ISO 639), or `unclear` where the text is too short or too mixed."""
        read = text[:_READ]
        letters = sum(map(str.isalpha, read))
        # Signs beyond are words of their own.
        if letters < _FEWEST_LETTERS and letters + 3 * sum(letter > "\u2e7f" for letter in read) < _FEWEST_LETTERS:
            return UNCLEAR
        code, certainty = self._identifier.classify(read)
        return str(code) if certainty >= _SURE and code != _NO_LANGUAGE else UNCLEAR
