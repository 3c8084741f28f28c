"""The needs of a pool's replicas: what Ray must find on a node, and give to the replica alone, to place one there."""

from __future__ import annotations

import re
from math import prod
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from engines.catalog import ENGINES
from registry.wording.known_fields import KnownFields

PARALLEL: Final = ("tensor_parallel", "pipeline_parallel", "data_parallel")
"""Fields of the engine whose product is the number of devices that it computes on."""
_MOST_PER_NODE: Final = 100
"""Ray Serve's bound."""
_OTHER_FIELDS: Final = {
    "GPU": "gpus",
    "CPU": "no setting: engines share the processors of their node",
    "memory": "no setting: engines share the memory of their node",
    "object_store_memory": "no setting: no request passes through Ray",
}
_NAME: Final = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_KEY: Final = re.compile(rf"([a-z0-9.-]{{1,253}}/)?{_NAME}")
_CONDITION: Final = re.compile(rf"!?{_NAME}|!?in\({_NAME}(, ?{_NAME})*\)")


def _checked_gpus(gpus: float) -> float:
    if gpus > 1 and gpus != int(gpus):
        raise ValueError(f"{gpus:g} is neither a whole number nor a share of one device, such as 0.5")
    return gpus


def _checked_resources(resources: dict[str, float]) -> dict[str, float]:
    for name in resources:
        if name in _OTHER_FIELDS:
            raise ValueError(f"{name} is Ray's own; in place of it there is {_OTHER_FIELDS[name]}")
        if name.startswith("accelerator_type"):
            raise ValueError(f"{name} is Ray's own; in place of it there is accelerator_type")
    return resources


def _checked_labels(labels: dict[str, str]) -> dict[str, str]:
    for key, condition in labels.items():
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is not the key of a label, such as zone or ray.io/node-id")
        if not _CONDITION.fullmatch(condition):
            raise ValueError(
                f"{key} = {condition!r} is not a condition; give a value, `!value`, `in(one, two)` or `!in(one, two)`"
            )
    return labels


def _counted(devices: int) -> str:
    return f"{devices} device{'s' * (devices > 1)} ({' x '.join(PARALLEL)})"


class PoolNeeds(KnownFields):
    """The settings of a pool by which Ray chooses a node for each replica."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    nodes: PositiveInt = 1
    """Nodes that the devices of each replica's engine are on; its other needs are those of each of these nodes."""
    gpus: Annotated[PositiveFloat, AfterValidator(_checked_gpus)] | None = None
    """GPUs that each replica has for itself, or the share of one, such as 0.5; None reserves none."""
    accelerator_type: Annotated[str, Field(pattern=rf"^{_NAME}$")] | None = None
    """Ray's name of the accelerator that a node must have, such as `H100` or `A100-80G`; needs `gpus`."""
    resources: Annotated[dict[str, PositiveFloat], AfterValidator(_checked_resources)] = Field(default_factory=dict)
    """Custom Ray resources that each replica takes of its node, such as `{ NPU = 1 }`."""
    max_replicas_per_node: Annotated[int, Field(ge=1, le=_MOST_PER_NODE)] | None = None
    """Most replicas of the pool on one node; None lets Ray place them as it likes."""
    labels: Annotated[dict[str, str], AfterValidator(_checked_labels)] = Field(default_factory=dict)
    """Conditions on labels of a node, such as `{ zone = "in(a, b)" }`; nodes that do not meet them get no replica."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.accelerator_type is not None and self.gpus is None:
            raise ValueError("accelerator_type needs gpus, the number of them that each replica has")
        if self.nodes > 1:
            self._check_nodes()
        return self

    def _check_nodes(self) -> None:
        """Raise `ValueError` for needs that cannot be those of a replica on several nodes."""
        if self.max_replicas_per_node is not None:
            raise ValueError(
                f"max_replicas_per_node cannot be set with nodes = {self.nodes}; resources of which a node has enough "
                "for so many bound them too"
            )
        if self.gpus is None and not self.resources:
            raise ValueError(f"nodes = {self.nodes} needs gpus or resources, which Ray reserves on each of the nodes")
        if self.gpus is not None and self.gpus < 1:
            raise ValueError(
                f"gpus = {self.gpus:g} is a share of one device, and nodes = {self.nodes} needs whole ones"
            )

    def check_kind(self, kind: str, *, is_open: bool) -> None:
        """Raise `ValueError` where engines of *kind* must have all devices on one node and the pool has several.

        An open choice is made for the devices of one node. An unknown kind is refused elsewhere.
        """
        if self.nodes == 1 or (kind not in ENGINES and not is_open):
            return
        able = [name for name, row in ENGINES.items() if row.several_nodes is not None]
        if is_open or kind not in able:
            what = "the kind is not set" if is_open else f"kind {kind!r} has all devices of an engine on one node"
            raise ValueError(f"nodes = {self.nodes}: {what}; kinds that may have several are {', '.join(able)}")

    def check_devices(self, engine: dict[str, Any], *, is_open: bool) -> None:
        """Raise `ValueError` unless *engine* computes on as many devices as `gpus` reserves on all `nodes`.

        Where the choice of the engine *is_open* and names no devices, the choice keeps to them.
        """
        said = [value for value in (engine.get(field) for field in PARALLEL) if value is not None]
        if (is_open and not said) or not all(type(value) is int for value in said):
            return
        if self.nodes > 1:
            self._check_split(engine, prod(said))
        elif self.gpus is not None and prod(said) != max(self.gpus, 1):
            raise ValueError(f"gpus = {self.gpus:g} does not fit an engine on {_counted(prod(said))}")

    def _check_split(self, engine: dict[str, Any], devices: int) -> None:
        """Raise `ValueError` unless so many devices are the same number on each node."""
        if engine.get("data_parallel", 1) != 1:
            raise ValueError(f"data_parallel cannot be set with nodes = {self.nodes}; more replicas are more copies")
        if self.gpus is not None and devices != self.gpus * self.nodes:
            raise ValueError(
                f"gpus = {self.gpus:g} on each of nodes = {self.nodes} does not fit an engine on {_counted(devices)}; "
                f"tensor_parallel = {self.gpus:g} and pipeline_parallel = {self.nodes} would fit"
            )
        if devices % self.nodes:
            raise ValueError(f"nodes = {self.nodes} cannot share an engine on {_counted(devices)} evenly")
