"""What children do, by method. A recipe turns an order into a folder; only children load one, for it is heavy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Final

from trainer.order import Order
from trainer.progress import Finished, Progress, Stopped

Report = Callable[[Progress], None]
StopAsked = Callable[[], bool]
Recipe = Callable[[Order, Report, StopAsked], Finished | Stopped]
"""Writes the adapter, normalised and with its fingerprint, to the order's final folder and returns what it came to;
raises `JobFailed` if it cannot. A recipe is given orders of its own method only."""

RECIPES: Final[Mapping[str, str]] = {
    "supervised": "trainer.recipes.sft:train",
    "publish": "trainer.recipes.publish:prove",
}
"""Method of a spec -> `module:function` of the type `Recipe`."""


def load_recipe(method: str) -> Recipe:
    """The recipe for *method*, imported now."""
    module, _, function = RECIPES[method].partition(":")
    recipe: Recipe = vars(import_module(module))[function]
    return recipe
