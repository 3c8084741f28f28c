"""The needs of a pool's replicas as options of their Serve deployment."""

from __future__ import annotations

from typing import Any, Final

from gateway.pool_needs import PoolNeeds

_OF_A_TYPE: Final = 0.001
"""How much of a node's resource `accelerator_type:NAME` Ray takes for an actor."""


def placement_options(needs: PoolNeeds) -> dict[str, Any]:
    """Return the options by which Ray places a replica where *needs* are met, and reserves them for it.

    Serve reserves a CPU for each replica by default, and a small machine has fewer than Lorry has processes. The
    devices of an engine on one node are an actor's; those on several nodes are a placement group's, whose first bundle
    has the replica.
    """
    if needs.nodes > 1:
        return {"ray_actor_options": actor_options(needs), **_group_options(needs)}
    actor = actor_options(needs)
    if needs.accelerator_type is not None:
        actor["accelerator_type"] = needs.accelerator_type
    if needs.labels:
        actor["label_selector"] = dict(needs.labels)
    options: dict[str, Any] = {"ray_actor_options": actor}
    if needs.max_replicas_per_node is not None:
        options["max_replicas_per_node"] = needs.max_replicas_per_node
    return options


def actor_options(needs: PoolNeeds) -> dict[str, Any]:
    """Return the options of the actor that gets what *needs* reserve on its node."""
    actor: dict[str, Any] = {"num_cpus": 0}
    # A number of 0 is left out: an actor that asks for none keeps the devices that its process sees.
    if needs.gpus is not None:
        actor["num_gpus"] = needs.gpus
    if needs.resources:
        actor["resources"] = dict(needs.resources)
    return actor


def _group_options(needs: PoolNeeds) -> dict[str, Any]:
    """Return the options of a placement group with a bundle for each node."""
    bundle = dict(needs.resources)
    if needs.gpus is not None:
        bundle["GPU"] = needs.gpus
    if needs.accelerator_type is not None:
        # As Ray itself turns the option of an actor into a resource.
        bundle[f"accelerator_type:{needs.accelerator_type}"] = _OF_A_TYPE
    options: dict[str, Any] = {
        "placement_group_bundles": [bundle] * needs.nodes,
        "placement_group_strategy": "STRICT_SPREAD",
    }
    if needs.labels:
        options["placement_group_bundle_label_selector"] = [dict(needs.labels)] * needs.nodes
    return options
