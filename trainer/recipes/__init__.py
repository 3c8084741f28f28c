"""Recipes turn an order into a folder. Only children import one, because a recipe loads torch."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.job_spec import JobSpec
from trainer.order import ChildOrder
from trainer.progress import RecipeFinished, RecipeStopped, Report, StopAsked

if TYPE_CHECKING:
    from trainer.data.dataset import ChatEncoder
    from trainer.training.objective import Objective

Recipe = Callable[[ChildOrder[Any], Report, StopAsked], RecipeFinished | RecipeStopped]
"""Writes the adapter, normalised and with its fingerprint, to the order's final folder and returns the outcome.

Raises `JobFailed` if it cannot. A recipe gets orders of those kinds only whose spec names its module.
"""

MakeObjective = Callable[[ChildOrder[Any], Report, "ChatEncoder | None"], "Objective[Any]"]
"""Makes the objective of an order, for a run on a base model that other jobs use too, and perhaps its encoder."""


def load_recipe(spec: JobSpec) -> Recipe:
    """Import the module of `trainer.recipes` that *spec* names and return its `RECIPE`."""
    recipe: Recipe = vars(import_module(f"trainer.recipes.{spec.recipe}"))["RECIPE"]
    return recipe


def load_objective(spec: FineTuneSpec) -> MakeObjective:
    """Import the module of `trainer.recipes` that *spec* names and return its `OBJECTIVE`, which light jobs have."""
    make: MakeObjective = vars(import_module(f"trainer.recipes.{spec.recipe}"))["OBJECTIVE"]
    return make
