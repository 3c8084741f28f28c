"""Further processes that Ray places: actors in one placement group, which also has the place of the first process.

They are not detached, so Ray ends them and gives their places back when this process, their driver, ends in any way.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import ray
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from trainer.errors import JobFailed
from trainer.order import ChildOrder
from trainer.progress import Noted, Report, StopAsked
from trainer.ranks.further_ranks import StartedRank
from trainer.ranks.rank_actor import RankActor, node_variables

SOURCES: Final = Path(__file__).parents[2]
TRIED_S: Final = 5.0
"""How long a placement group waits for room, before another strategy is tried."""
LOOK_S: Final = 0.5
LOST: Final = -signal.SIGKILL
"""Exit code of a process whose actor, or node, is gone."""
STRATEGIES: Final = ("STRICT_PACK", "SPREAD")
"""All processes on the first one's node where they fit, since the exchange is fastest there; else on several."""


class RayRank:
    """A further process in its actor."""

    def __init__(self, actor: Any, result: Any) -> None:
        self._actor = actor  # Ray ends an actor that nobody refers to
        self._result = result

    def poll(self) -> int | None:
        """Return its exit code, `LOST` if its actor is gone; None while it runs."""
        try:
            ready, _ = ray.wait([self._result], timeout=0)
            return int(ray.get(ready[0])) if ready else None
        except RayError:
            return LOST


class RayRanks:
    """The places of one job's processes on a Ray cluster."""

    def __init__(self, order: ChildOrder[Any], address: str, report: Report) -> None:
        """Connect to the cluster at *address*; `JobFailed` if that is not possible."""
        self._order = order
        self._report = report
        self._size = order.spec.process_count()
        _connect(address)
        self._node = ray.get_runtime_context().get_node_id()
        self._gpus = 1 if ray.cluster_resources().get("GPU", 0) else 0

    def start(self, order_path: Path, stop_asked: StopAsked) -> Sequence[StartedRank] | None:
        """Start the further processes, and make this one the first; None if a stop was asked for while all waited.

        `JobFailed` if the cluster could not have them all at a time, even if nothing else ran.
        """
        self._check_room()
        group = self._wait_for_room(stop_asked)
        if group is None:
            return None
        here = ray.util.get_node_ip_address()
        os.environ.update(node_variables(0, self._size, here, here))
        if self._gpus:
            # An actor holds the first process's GPU, which Ray would give to another one else.
            self._holder = self._actor(group, 0)
            os.environ["CUDA_VISIBLE_DEVICES"] = ray.get(self._holder.devices.remote())
        return [self._start(group, rank, order_path, here) for rank in range(1, self._size)]

    def _start(self, group: PlacementGroup, rank: int, order_path: Path, first_address: str) -> RayRank:
        actor = self._actor(group, rank)
        variables = ray.get(actor.variables.remote(rank, self._size, first_address))
        log_path = self._order.attempt_folder / f"rank-{rank}.log"
        return RayRank(actor, actor.run.remote(order_path, log_path, variables, self._order.threads))

    def _actor(self, group: PlacementGroup, bundle: int) -> Any:
        placed = PlacementGroupSchedulingStrategy(placement_group=group, placement_group_bundle_index=bundle)
        options = {"num_cpus": self._order.threads, "num_gpus": self._gpus, "scheduling_strategy": placed}
        return ray.remote(RankActor).options(**options).remote()

    def _wait_for_room(self, stop_asked: StopAsked) -> PlacementGroup | None:
        """Return a placement group with a bundle for each process, the first of them on this node."""
        bundle = {"CPU": self._order.threads, **({"GPU": self._gpus} if self._gpus else {})}
        selectors: list[Mapping[str, str]] = [{"ray.io/node-id": self._node}, *[{}] * (self._size - 1)]
        has_said = False
        for strategy in cycle(STRATEGIES):
            group = placement_group([bundle] * self._size, strategy, bundle_label_selector=selectors)
            waited = 0.0
            while not stop_asked() and waited < TRIED_S:
                if group.wait(LOOK_S):
                    return group
                waited += LOOK_S
            remove_placement_group(group)
            if stop_asked():
                return None
            if not has_said and strategy == STRATEGIES[-1]:
                has_said = True
                message = f"Waiting for room on the Ray cluster: {self._size} processes with {_named(bundle)} each"
                self._report(Noted(message=message))
        return None

    def _check_room(self) -> None:
        threads = self._order.threads
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        fitting = [int(min(node.get("CPU", 0) // threads, node.get("GPU", 0) if self._gpus else 64)) for node in nodes]
        if sum(fitting) < self._size:
            raise JobFailed(
                "no_room",
                f"the Ray cluster could have {sum(fitting)} processes of {threads} CPUs"
                f"{' and a GPU' if self._gpus else ''}, and the job asks for processes {self._size}",
                "hyperparameters",
            )


def _connect(address: str) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    try:
        # Ray's workers look for code in the folder that is current now, before all others: no other checkout.
        with contextlib.chdir(SOURCES):
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RayError, RuntimeError, ValueError) as exc:
        raise JobFailed("no_room", f"the Ray cluster at {address} cannot be reached: {exc}") from exc
    finally:
        signal.signal(signal.SIGTERM, handler)  # Ray's own would end this process without a checkpoint


def _named(bundle: Mapping[str, float]) -> str:
    return " and ".join(f"{amount:g} {name}" for name, amount in bundle.items())
