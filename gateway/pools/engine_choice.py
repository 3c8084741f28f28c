"""`--engine auto`: the engine that suits this machine, where nobody has chosen one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil
from pathlib import Path

from engines.environments.record import ready_environments
from engines.hardware.choice import choose, engine_defaults
from engines.hardware.machine import Machine
from engines.hardware.shape import read_shape
from engines.hardware.wishes import Choice, Wishes
from engines.kinds import Vendor
from gateway.engines_settings import PoolSettings


def chosen_pool(
    pool: PoolSettings, home: Path, base_folder: Path, read: Callable[[], Machine]
) -> tuple[PoolSettings, Choice | None]:
    """Return *pool* with the kind and sizes that suit the machine, and the choice that they come from.

    Unchanged, without a choice, when a kind was asked for, and on a machine without an accelerator that engines are
    made for: the transformers engine starts fastest there and needs nothing installed. Values of its `engine` table
    replace chosen ones. `DoesNotFit`, `ModelUnreadable`.
    """
    if "kind" in pool.model_fields_set:
        return pool, None
    hardware = _given(read(), pool.gpus)
    if all(device.vendor is Vendor.APPLE for device in hardware.devices):
        return pool, None
    choice = choose(hardware, read_shape(base_folder), Wishes(ready=ready_environments(home)))
    fields = engine_defaults(choice)
    kind = fields.pop("kind")
    return pool.model_copy(update={"kind": kind, "engine": fields | pool.engine}), choice


def _given(hardware: Machine, gpus: float | None) -> Machine:
    """Return the machine as a replica has it for which so many GPUs are reserved, or a share of one."""
    if gpus is None:
        return hardware
    devices = hardware.largest_group()[: ceil(gpus)]
    share = min(gpus, 1.0)
    return replace(
        hardware, devices=tuple(replace(each, memory_bytes=int(each.memory_bytes * share)) for each in devices)
    )
