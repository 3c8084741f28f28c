"""vLLM over two nodes answers as on one, and ends as a whole. Both nodes are this machine, by its loopback address."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from engines.catalog import build_engine
from engines.drivers.further_node import FurtherNode, PartEnd
from engines.drivers.server_process import free_port
from engines.drivers.several_nodes import SeveralNodesEngine
from engines.network.node_place import MeetingPoint, place_on_node
from engines.settings import EngineSettings
from tests.contract.engine_host import EngineHost, wait_until
from tests.contract.kinds import CASES
from tests.engines.random_adapter import write_adapter
from tests.trainer.tiny_base import save_base

ADDRESS = "127.0.0.1"
KINDS = pytest.mark.parametrize("kind", [CASES["vllm"]], indirect=True)


class LocalNodes:
    """A further node that is this machine too."""

    def __init__(self, settings: EngineSettings) -> None:
        self._node = FurtherNode(settings.model_copy(update={"log_path": settings.log_path.with_suffix(".node-1")}))

    async def start(self, meeting: MeetingPoint) -> None:
        await self._node.start(place_on_node(meeting, 1, ADDRESS, os.environ))

    async def wait_end(self) -> PartEnd:
        return await self._node.wait_exit()

    async def stop(self) -> None:
        await self._node.stop()


def over_two(settings: EngineSettings, adapters: Mapping[str, Path]) -> SeveralNodesEngine:
    """Return an engine with a part on each of two nodes."""
    meeting = MeetingPoint(nodes=2, address=ADDRESS, port=free_port(ADDRESS))
    first = build_engine(settings, adapters, place_on_node(meeting, 0, ADDRESS, os.environ))
    return SeveralNodesEngine(first, LocalNodes(settings), meeting)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model whose heads two nodes can share; the bundled one has nine."""
    folder = tmp_path_factory.mktemp("wide") / "base"
    save_base(folder, hidden=128)
    return folder


@pytest.fixture(scope="module")
def learnt(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two adapters with answers of their own."""
    root = tmp_path_factory.mktemp("learnt")
    return {f"{seed}@1": write_adapter(root / f"{seed}", base, seed, strength=0.5) for seed in (1, 2)}


@pytest.fixture(scope="module")
def over_one(base: Path, settings_of: Callable[..., EngineSettings]) -> Iterator[EngineHost]:
    """An engine on one node."""
    running = EngineHost(settings_of(base_path=base, max_adapters=2, precision="fp32"), {})
    yield running
    running.close()


@pytest.fixture(scope="module")
def wide(base: Path, settings_of: Callable[..., EngineSettings]) -> Iterator[EngineHost]:
    """An engine with half of every layer on each node."""
    settings = settings_of(base_path=base, max_adapters=2, precision="fp32", tensor_parallel=2)
    running = EngineHost(settings, {}, over_two)
    yield running
    running.close()


def parts() -> list[psutil.Process]:
    """Return the launcher of the further node's command and all below it, the command first of them."""
    children = psutil.Process().children(recursive=True)
    launcher = next(each for each in children if "lorry_vllm_rank" in " ".join(each.cmdline()))
    return [launcher, *launcher.children(), *launcher.children(recursive=True)[1:]]


@KINDS
def test_the_answers_are_those_of_one_node(over_one: EngineHost, wide: EngineHost, learnt: dict[str, Path]) -> None:
    assert wide.say() == over_one.say()
    for name, folder in learnt.items():
        for host in (over_one, wide):
            host.load(name, folder)
        assert wide.say(model=name) == over_one.say(model=name)
    assert len({wide.say(model=name) for name in ("base", *learnt)}) == 3, "each adapter answers in its own way"
    for name in learnt:
        wide.call(wide.engine.unload_adapter(name))
    assert wide.call(wide.engine.loaded_adapters()) == frozenset()


@KINDS
def test_the_end_of_the_further_part_ends_the_engine(wide: EngineHost) -> None:
    running = parts()
    assert len(running) > 2, "the command has a process that computes"
    running[1].kill()
    assert wide.call(wide.engine.wait_exit()) != 0
    assert f"the part on node {ADDRESS} ended" in wide.engine.last_log_lines()
    assert not wide.call(wide.engine.is_healthy())
    wide.call(wide.engine.stop(0.0))
    wait_until(lambda: not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in running))
