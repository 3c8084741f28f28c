"""Training methods. A recipe turns an order into an adapter; it imports heavy libraries, so only children load it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Final

from trainer.order import TrainingOrder
from trainer.progress import Finished, Progress, Stopped

Report = Callable[[Progress], None]
StopAsked = Callable[[], bool]
Recipe = Callable[[TrainingOrder, Report, StopAsked], Finished | Stopped]
"""Writes the adapter to the order's final folder and returns what it came to; raises `JobFailed` if it cannot."""

RECIPES: Final[Mapping[str, str]] = {"supervised": "trainer.recipes.sft"}
"""Method of a spec -> module with a `train` of the type `Recipe`."""


def load_recipe(method: str) -> Recipe:
    """The recipe for *method*, imported now."""
    recipe: Recipe = import_module(RECIPES[method]).train
    return recipe
