"""Languages are named where a text is long enough to tell, and `unclear` where it is not."""

from __future__ import annotations

import pytest

from corpus.findings.languages import UNCLEAR, LanguageFinder

FINDER = LanguageFinder()


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the refund policy of your shop?", "en"),
        ("THE REFUND IS ON ITS WAY TO YOU", "en"),
        ("Guten Tag, ich möchte bitte meine Bestellung stornieren.", "de"),
        ("Où est la bibliothèque ?\nElle est fermée.", "fr"),
        ("今天天气很好我们去公园吧", "zh"),
        ("Привет, как дела?", "ru"),
        ("Kérem, segítsen nekem ebben.", "hu"),
        ("", UNCLEAR),
        ("ok", UNCLEAR),
        ("\x00\n12345 67890", UNCLEAR),
        ("asdkj qweoiu zxcmn qlkwje", UNCLEAR),
    ],
)
def test_a_text_has_its_language(text: str, language: str) -> None:
    assert FINDER.language(text) == language
