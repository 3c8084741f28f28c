"""Which engine serves a base model on a machine, in which precision and sizes, and why: `choose`, a pure function."""

from __future__ import annotations

from typing import Any

from engines.base_task import BaseTask
from engines.catalog import kind_of
from engines.errors import DoesNotFit
from engines.hardware.fit import Fit, degrees
from engines.hardware.machine import Machine
from engines.hardware.rules import Candidate, candidates, has_adapters, obstacle, precisions, why_no_adapters
from engines.hardware.shape import ModelShape
from engines.hardware.wishes import Choice, Wishes
from engines.kinds import Precision


def choose(hardware: Machine, model: ModelShape, wishes: Wishes) -> Choice:
    """Return the first engine that can serve *model* as wished, with its sizes; `DoesNotFit` has each one's numbers."""
    group = hardware.largest_group()
    refused = []
    too_large = False
    for candidate in candidates(group, hardware.processor, model, wishes):
        if too_large and not candidate.place.devices:
            break  # a CPU in place of accelerators that are too small would be a surprise: somebody must ask for it
        where = f"{candidate.kind} on {candidate.place.name}"
        if problem := obstacle(candidate, model, wishes) or _wish_problem(candidate, model, wishes):
            refused.append(f"{where}: {problem}")
            continue
        tries = [Fit(candidate, model, wishes, *found) for found in _wished_precisions(candidate, model, wishes)]
        for attempt in tries:
            choice = attempt.choice()
            if choice is not None:
                return choice
        refused.append(f"{where}: {tries[-1].shortage()}")
        too_large = bool(candidate.place.devices)
    raise DoesNotFit("; ".join(refused))


def engine_defaults(choice: Choice) -> dict[str, Any]:
    """Return the fields of `EngineSettings` that follow from a choice.

    How much memory keys and values get is left to engines on accelerators, which measure it when they start.
    """
    # A server that starts without LoRA alone must not be given places for adapters; others have at least one.
    least = 0 if choice.hardware == "cpu" and choice.precision is Precision.INT8 else 1
    fields: dict[str, Any] = {
        "kind": choice.kind,
        "max_context": choice.context,
        "max_batch": choice.batch,
        "max_adapters": max(least, choice.adapters) if choice.task is BaseTask.GENERATE else 0,
        "max_rank": choice.rank,
    }
    row = kind_of(choice.kind)
    if row.hardware.vendors:  # on the processor alone there is nothing to choose
        fields |= {
            "hardware": choice.hardware,
            "precision": str(choice.precision),
            "tensor_parallel": choice.tensor_parallel,
            "extra_args": choice.extra_args,
        }
    if "batch_adapters" not in row.unhonoured:
        fields["batch_adapters"] = max(1, choice.adapters)
    if "kv_memory_gib" not in row.unhonoured and choice.hardware == "cpu":
        fields["kv_memory_gib"] = round(choice.memory.kv / 2**30, 2)
    return fields


def _wished_precisions(candidate: Candidate, model: ModelShape, wishes: Wishes) -> list[tuple[Precision, str]]:
    options = precisions(candidate, model)
    if wishes.precision is not None:
        return [(wishes.precision, "it was asked for")]
    return [(option.precision, option.why) for option in options if not option.is_asked_for]


def _wish_problem(candidate: Candidate, model: ModelShape, wishes: Wishes) -> str | None:
    """Return why a wish cannot be granted there, whatever the memory; None when it can."""
    possible = [option.precision for option in precisions(candidate, model)]
    if wishes.precision is not None and wishes.precision not in possible:
        hint = "; int4 needs a checkpoint of 4-bit weights" if wishes.precision is Precision.INT4 else ""
        return f"{wishes.precision} is not one of {', '.join(possible)}{hint}"
    if wishes.adapters and not has_adapters(candidate, model):
        return why_no_adapters(model)
    if wishes.context is not None and wishes.context > model.max_context:
        return f"a context of {wishes.context} is above the model's own {model.max_context}"
    return _degree_problem(candidate, model, wishes.tensor_parallel)


def _degree_problem(candidate: Candidate, model: ModelShape, degree: int | None) -> str | None:
    if degree is None or degree == 1:
        return None
    if degree > len(candidate.place.devices):
        return f"{degree} devices were asked for, {len(candidate.place.devices)} are there"
    if degree not in degrees(candidate, model):
        return f"its {model.heads} heads ({model.kv_heads} of keys) cannot be shared out to {degree} devices"
    return None
