"""Every token is scored once, with as much before it as the window has."""

from __future__ import annotations

import pytest

from trainer.scoring.bundled_texts import TEXTS
from trainer.scoring.perplexity import spans


@pytest.mark.parametrize(
    ("length", "window", "stride"), [(1, 8, 4), (2, 8, 4), (8, 8, 4), (9, 8, 4), (100, 8, 4), (100, 8, 7), (101, 7, 3)]
)
def test_every_token_but_the_first_is_scored_once(length: int, window: int, stride: int) -> None:
    scored: list[int] = []
    for begin, end, first in spans(length, window, stride):
        assert begin < first < end <= length
        assert end - begin <= window
        assert begin == 0 or first - begin >= window - stride
        scored.extend(range(first, end))
    assert scored == list(range(1, length))


def test_windows_must_overlap() -> None:
    with pytest.raises(ValueError, match="stride 8 must be below window 8"):
        list(spans(100, 8, 8))


def test_the_bundled_texts_are_there_and_in_their_languages() -> None:
    english, chinese = (TEXTS[name].read_text("utf-8") for name in ("english", "chinese"))
    assert 2000 < len(english) < 5000
    assert sum("\u4e00" <= letter <= "\u9fff" for letter in chinese) > 700
    assert not any("\u4e00" <= letter <= "\u9fff" for letter in english)
