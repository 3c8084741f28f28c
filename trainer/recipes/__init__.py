"""Recipes turn an order into a folder. Only children import one, because a recipe loads torch."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from registry.contracts.job_spec import JobSpec
from trainer.order import ChildOrder
from trainer.progress import RecipeFinished, RecipeStopped, Report, StopAsked

Recipe = Callable[[ChildOrder[Any], Report, StopAsked], RecipeFinished | RecipeStopped]
"""Writes the adapter, normalised and with its fingerprint, to the order's final folder and returns the outcome.

Raises `JobFailed` if it cannot. A recipe gets orders of those kinds only whose spec names its module.
"""


def load_recipe(spec: JobSpec) -> Recipe:
    """Import the module of `trainer.recipes` that *spec* names and return its `RECIPE`."""
    recipe: Recipe = vars(import_module(f"trainer.recipes.{spec.recipe}"))["RECIPE"]
    return recipe
