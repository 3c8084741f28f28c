"""The needs of a pool's replicas as options of their Serve deployment."""

from __future__ import annotations

from typing import Any

from gateway.pool_needs import PoolNeeds


def placement_options(needs: PoolNeeds) -> dict[str, Any]:
    """Return the options by which Ray places a replica where *needs* are met, and reserves them for it.

    Serve reserves a CPU for each replica by default, and a small machine has fewer than Lorry has processes. All
    devices of an engine are on one node, as they are an actor's.
    """
    actor: dict[str, Any] = {"num_cpus": 0}
    # A number of 0 is left out: an actor that asks for none keeps the devices that its process sees.
    if needs.gpus is not None:
        actor["num_gpus"] = needs.gpus
    if needs.accelerator_type is not None:
        actor["accelerator_type"] = needs.accelerator_type
    if needs.resources:
        actor["resources"] = dict(needs.resources)
    if needs.labels:
        actor["label_selector"] = dict(needs.labels)
    options: dict[str, Any] = {"ray_actor_options": actor}
    if needs.max_replicas_per_node is not None:
        options["max_replicas_per_node"] = needs.max_replicas_per_node
    return options
