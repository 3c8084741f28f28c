"""An engine on several nodes starts, drains and ends as a whole."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engines.drivers.further_node import FurtherNode, PartEnd
from engines.drivers.several_nodes import SeveralNodesEngine
from engines.errors import EngineStartFailed, EngineUnreachable, SettingRefused
from engines.network.node_place import MeetingPoint, place_on_node
from engines.settings import EngineSettings
from tests.engines.replica.scripted_engine import Script

pytestmark = pytest.mark.anyio
MEETING = MeetingPoint(nodes=2, address="10.0.0.1", port=29500)
OUT_OF_MEMORY = PartEnd(node="10.0.0.2", code=1, last_log_lines="out of memory\n")


class ScriptedNodes:
    """One further node, whose part ends on demand."""

    def __init__(self) -> None:
        self.met: list[MeetingPoint] = []
        self.is_running = False
        self.ended: asyncio.Future[PartEnd] = asyncio.get_running_loop().create_future()
        self.when_stopped: Callable[[], None] = lambda: None

    async def start(self, meeting: MeetingPoint) -> None:
        self.met.append(meeting)
        self.is_running = True

    async def wait_end(self) -> PartEnd:
        return await asyncio.shield(self.ended)

    async def stop(self) -> None:
        self.when_stopped()
        self.is_running = False


async def test_the_parts_start_together_and_the_first_ones_end_is_the_engines() -> None:
    script, nodes = Script(), ScriptedNodes()
    engine = SeveralNodesEngine(script.build({}), nodes, MEETING)
    await engine.start()
    assert (nodes.met, nodes.is_running, script.engine.is_running) == ([MEETING], True, True)
    assert await engine.is_healthy()
    script.engine.die()
    assert (await engine.wait_exit(), engine.last_log_lines()) == (-9, "Killed\n")


async def test_a_part_that_ends_is_the_end_of_the_engine_with_its_log() -> None:
    script, nodes = Script(), ScriptedNodes()
    engine = SeveralNodesEngine(script.build({}), nodes, MEETING)
    await engine.start()
    nodes.ended.set_result(OUT_OF_MEMORY)
    assert await engine.wait_exit() == 1
    assert engine.last_log_lines() == "the part on node 10.0.0.2 ended with 1; its log:\nout of memory\n"
    assert not await engine.is_healthy(), "the first node's server alone answers nobody"


async def test_a_start_does_not_wait_for_a_part_that_has_ended() -> None:
    script, nodes = Script(), ScriptedNodes()
    script.may_start.clear()  # the first node's server waits for the others
    engine = SeveralNodesEngine(script.build({}), nodes, MEETING)
    nodes.ended.set_result(OUT_OF_MEMORY)
    with pytest.raises(EngineStartFailed, match=r"node 10\.0\.0\.2 ended with 1; its log:\nout of memory"):
        await engine.start()
    await engine.stop(0.0)
    assert not nodes.is_running and not script.engine.is_running


async def test_the_other_parts_run_until_the_requests_of_the_first_are_done() -> None:
    script, nodes = Script(), ScriptedNodes()
    engine = SeveralNodesEngine(script.build({}), nodes, MEETING)
    await engine.start()
    drained_before: list[bool] = []
    nodes.when_stopped = lambda: drained_before.append(script.engine.drained)
    await engine.stop(5.0)
    assert drained_before == [True]


@pytest.fixture
def settings(tmp_path: Path) -> EngineSettings:
    """Settings of vLLM with an interpreter that has no vLLM."""
    config = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64, "max_position_embeddings": 512}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return EngineSettings(
        kind="vllm",
        base_path=tmp_path,
        base_name="tiny",
        log_path=tmp_path / "log",
        interpreter=Path(sys.executable),
        tensor_parallel=2,
    )


async def test_a_node_tells_how_its_process_has_ended(settings: EngineSettings) -> None:
    node = FurtherNode(settings)
    with pytest.raises(EngineUnreachable, match="was never started"):
        await node.wait_exit()
    await node.stop()
    await node.start(place_on_node(MEETING, 1, "127.0.0.1", {}))
    end = await asyncio.wait_for(node.wait_exit(), 60.0)
    assert (end.node, end.code) == ("127.0.0.1", 1)
    assert "No module named 'vllm'" in end.last_log_lines


@pytest.mark.parametrize("kind", ["sglang", "lmdeploy", "transformers"])
async def test_a_kind_that_has_all_devices_on_one_node_has_no_part_elsewhere(
    settings: EngineSettings, kind: str
) -> None:
    with pytest.raises(SettingRefused, match=f"the {kind} engine cannot have its devices on several nodes"):
        FurtherNode(settings.model_copy(update={"kind": kind}))


async def test_the_exchange_uses_the_interface_of_the_nodes_address_unless_the_node_has_another() -> None:
    names = {"GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"}
    assert place_on_node(MEETING, 1, "127.0.0.1", {}).variables == dict.fromkeys(names, "lo")
    chosen = place_on_node(MEETING, 1, "127.0.0.1", {"NCCL_SOCKET_IFNAME": "ib0"})
    assert chosen.variables == {"GLOO_SOCKET_IFNAME": "lo"}
    assert place_on_node(MEETING, 1, "192.0.2.1", {}).variables == {}
