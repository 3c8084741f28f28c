"""The actor of a further process of a job. Ray pickles a class by its module's name, and imports this module alone."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psutil
from ray.util import get_node_ip_address

from trainer.processes.child_environment import child_environment
from trainer.ranks.rank_process import rank_variables, start_rank


class RankActor:
    """Runs one process of a job on its node; the process ends with this one, and this one with the job's first."""

    def variables(self, rank: int, size: int, first_address: str) -> dict[str, str]:
        """Return the variables of process *rank* on this actor's node."""
        return node_variables(rank, size, first_address, get_node_ip_address())

    def devices(self) -> str:
        """Return the GPUs that Ray gave to this actor, as CUDA counts them."""
        return os.environ.get("CUDA_VISIBLE_DEVICES", "")

    def run(self, order_path: Path, log_path: Path, variables: Mapping[str, str], threads: int) -> int:
        """Return the exit code of a process at work on the order, whose output goes to the file at *log_path*."""
        environment = child_environment(os.environ, threads) | dict(variables)
        with log_path.open("ab") as output:
            process: subprocess.Popen[bytes] = start_rank(order_path, environment, output)
        return process.wait()


def node_variables(rank: int, size: int, first_address: str, address: str) -> dict[str, str]:
    """Return the variables of process *rank* on a node with *address*, the only process of the job with its devices.

    *first_address* is that of the first process's node. The exchange goes over the interface that has *address*.
    """
    placed = {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": first_address}
    return rank_variables(rank, size) | placed | _interface_variables(address)


def _interface_variables(address: str) -> dict[str, str]:
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.family == socket.AF_INET and each.address == address for each in addresses):
            return {"GLOO_SOCKET_IFNAME": name, "NCCL_SOCKET_IFNAME": name}
    raise LookupError(f"no network interface of this node has the address {address}")
