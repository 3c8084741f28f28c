"""Rows that are unlike the others: by a robust distance of each feature from the file's middle."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

FEATURES: Final = (
    "length of the answer",
    "length of the prompt",
    "share of signs",
    "variety of the text",
    "number of turns",
)
"""By which a row may be unlike the others."""
MOST: Final = 10
_FAR: Final = 2.0
"""Distances up to this many deviations are usual."""
_FEWEST_ROWS: Final = 10


def oddest(features: NDArray[np.float32]) -> list[tuple[int, float, list[str]]]:
    """Return the places of the ten oddest rows with their scores, and by which features they are odd.

    A feature's distance is measured in median absolute deviations (1.4826 of them are a normal standard deviation), so
    that odd rows do not widen what counts as usual. A score is the sum of what goes beyond 2 deviations.
    """
    if len(features) < _FEWEST_ROWS:
        return []
    middle = np.median(features, axis=0)
    spread = 1.4826 * np.median(np.abs(features - middle), axis=0)
    distances = (features - middle) / np.maximum(spread, 0.05 * np.abs(middle) + 1e-3)
    excess = np.minimum(np.maximum(np.abs(distances) - _FAR, 0.0), 50.0)
    scores = excess.sum(axis=1)
    found = np.argsort(-scores, kind="stable")[:MOST]
    return [
        (int(place), float(scores[place]), _why(distances[place], excess[place]))
        for place in found
        if scores[place] > 0
    ]


def _why(distances: NDArray[np.float32], excess: NDArray[np.float32]) -> list[str]:
    order = [int(at) for at in np.argsort(-excess) if excess[at] > 0]
    return [f"{'high' if distances[at] > 0 else 'low'} {FEATURES[at]}" for at in order[:3]]
