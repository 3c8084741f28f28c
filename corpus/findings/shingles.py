"""Signatures of texts, by which equal and nearly equal ones are found (MinHash, by rensa)."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

PERMUTATIONS: Final = 128
_SEED: Final = 20_17
_WORDS: Final = 3
_LETTERS: Final = 5

Signatures = NDArray[np.uint32]


def plain(text: str) -> str:
    """Return the text without what makes no difference: capitals, and how much space is between words."""
    return " ".join(text.split()).lower()


def digest_of(text: str) -> int:
    """Return 64 bits by which equal texts are found."""
    return int.from_bytes(blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest())


def shingles(text: str) -> list[str]:
    """Return the runs of three words, or of five letters where words are not set apart by spaces."""
    words = text.split(" ")
    if len(words) * 12 < len(text) or len(words) < _WORDS:
        return [text[at : at + _LETTERS] for at in range(max(1, len(text) - _LETTERS + 1))]
    return list(map(" ".join, zip(*(words[at:] for at in range(_WORDS)), strict=False)))


def signatures_of(texts: Sequence[str]) -> Signatures:
    """Return a row of `PERMUTATIONS` minima for each text; the share of equal ones estimates Jaccard's similarity."""
    from rensa import RMinHash

    if not texts:
        return np.zeros((0, PERMUTATIONS), dtype=np.uint32)
    rows = RMinHash.digest_matrix_from_token_sets([shingles(text) for text in texts], PERMUTATIONS, _SEED).to_rows()
    return np.asarray(rows, dtype=np.uint32)
