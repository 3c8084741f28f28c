"""A replica keeps its engine running and its adapters right, against an engine that fails on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from engines.replica.replica import EngineReplica
from engines.replica.report import Phase, SlotPhase
from tests.engines.replica.scripted_engine import PACE, TICK_S, Notebook, Script, until

Story = Callable[[Script, Notebook], Coroutine[object, object, None]]


def run(story: Story, *wanted: str, script: Script | None = None) -> None:
    """Tell *story* of the engines and the journal that wants *wanted* of them, while the replica runs."""

    async def tell() -> None:
        engines, notebook = script or Script(), Notebook(*wanted)
        replica = EngineReplica(engines.source, notebook, engines.prove, PACE)
        running = asyncio.create_task(replica.run())
        await story(engines, notebook)
        assert not running.done()
        running.cancel()
        await replica.drain(0.0, 1.0)
        assert engines.running == []

    asyncio.run(tell())


def test_what_is_wanted_is_loaded_proven_and_reported_with_the_numbers() -> None:
    async def story(script: Script, notebook: Notebook) -> None:
        await until(lambda: notebook.ready == {"support@1", "support@2"})
        assert script.engine.loaded == {"support@1", "support@2"}
        assert notebook.last.slots["support@1"].proof == {"mean_difference": 0.001}
        assert notebook.last.url == script.engine.base_url
        await until(lambda: notebook.last.load == 5)

    run(story, "support@1", "support@2")


def test_a_replica_is_not_ready_before_everything_that_is_wanted_was_tried() -> None:
    async def story(script: Script, notebook: Notebook) -> None:
        script.may_load.clear()
        script.may_prove.clear()
        await until(lambda: notebook.reports and "support@2" in notebook.last.slots)
        assert notebook.last.slots["support@2"].phase is SlotPhase.LOADING
        script.may_load.set()
        await until(lambda: notebook.last.slots["support@2"].phase is SlotPhase.PROVING)
        assert {report.phase for report in notebook.reports} == {Phase.STARTING}
        script.may_prove.set()
        await until(lambda: notebook.ready == {"support@2"})
        first_ready = next(report for report in notebook.reports if report.phase is Phase.READY)
        assert {slot.phase for slot in first_ready.slots.values()} == {SlotPhase.READY, SlotPhase.FAILED}

    run(story, "support@1", "support@2", script=Script(refused={"support@1"}))


def test_an_adapter_that_answers_unlike_the_trainer_takes_no_traffic_and_leaves_the_engine() -> None:
    async def story(script: Script, notebook: Notebook) -> None:
        await until(lambda: notebook.ready == {"support@2"})
        failed = notebook.failed("support@1")
        assert failed is not None
        assert (failed.reason, failed.message) == ("fingerprint_mismatch", "mean difference 0.9")
        assert failed.proof == {"mean_difference": 0.9}
        assert script.engine.loaded == {"support@2"}

    run(story, "support@1", "support@2", script=Script(unlike_the_trainer={"support@1"}))


def test_an_adapter_without_a_fingerprint_takes_no_traffic_and_says_what_to_do() -> None:
    async def story(script: Script, notebook: Notebook) -> None:
        await until(lambda: notebook.ready == {"support@2"})
        failed = notebook.failed("support@1")
        assert failed is not None
        assert failed.reason == "no_fingerprint"
        assert "publish it again" in failed.message

    run(story, "support@1", "support@2", script=Script(without_fingerprint={"support@1"}))


@pytest.mark.long
def test_a_server_that_does_not_answer_once_is_asked_again_before_an_adapter_is_blamed() -> None:
    async def story(script: Script, notebook: Notebook) -> None:
        await until(lambda: notebook.ready == {"support@1", "support@2"})
        phases = {report.slots["support@1"].phase for report in notebook.reports if "support@1" in report.slots}
        assert SlotPhase.FAILED not in phases

    run(story, "support@1", "support@2", script=Script(unanswered={"support@1": 2}))


@pytest.mark.long
def test_a_server_that_never_answers_for_an_adapter_fails_it_and_holds_up_no_other() -> None:
    async def story(script: Script, notebook: Notebook) -> None:
        await until(lambda: notebook.ready == {"support@2"})
        failed = notebook.failed("support@1")
        assert failed is not None
        assert failed.reason == "not_proven"

    run(story, "support@1", "support@2", script=Script(unanswered={"support@1": 99}))


@pytest.mark.long
def test_an_engine_that_dies_is_unhealthy_replaced_by_a_new_one_and_its_adapters_are_proven_again() -> None:
    async def story(script: Script, notebook: Notebook) -> None:
        await until(lambda: notebook.ready == {"support@1"})
        script.engine.die()
        await until(lambda: notebook.last.phase is Phase.UNHEALTHY)
        assert notebook.last.message == "engine exited with code -9; log:\nKilled\n"
        await until(lambda: notebook.last.slots == {})
        await until(lambda: notebook.ready == {"support@1"})
        assert script.proven == [("http://127.0.0.1:1", "support@1"), ("http://127.0.0.1:2", "support@1")]
        assert [engine.is_running for engine in script.built] == [False, True]

    run(story, "support@1")


def test_an_engine_that_misses_a_few_probes_gets_no_new_request_until_it_answers_again() -> None:
    async def story(script: Script, notebook: Notebook) -> None:
        await until(lambda: notebook.ready == {"support@1"})
        script.engine.silent_probes = 3
        await until(lambda: any(report.phase is Phase.UNHEALTHY for report in notebook.reports))
        await until(lambda: notebook.ready == {"support@1"})
        assert len(script.built) == 1

    run(story, "support@1")


@pytest.mark.long
def test_an_engine_that_stops_answering_is_started_again_though_it_owes_an_answer_about_its_load() -> None:
    async def story(script: Script, notebook: Notebook) -> None:
        await until(lambda: notebook.ready == {"support@1"})
        script.may_tell_load.clear()
        script.engine.answers = False
        await until(lambda: notebook.last.phase is Phase.UNHEALTHY)
        await until(lambda: notebook.ready == {"support@1"})
        assert len(script.built) == 2

    run(story, "support@1")


@pytest.mark.long
def test_an_engine_that_does_not_start_is_tried_again_and_says_why() -> None:
    async def story(script: Script, notebook: Notebook) -> None:
        await until(lambda: any(report.message == "out of memory" for report in notebook.reports))
        await until(lambda: notebook.ready == {"support@1"})
        assert len(script.built) == 2

    run(story, "support@1", script=Script(failing_starts={1}))


def test_a_refused_adapter_is_failed_with_the_engines_words_and_hinders_no_other() -> None:
    async def story(script: Script, notebook: Notebook) -> None:
        await until(lambda: notebook.ready == {"support@2"})
        failed = notebook.failed("support@1")
        assert failed is not None
        assert (failed.reason, failed.message) == ("load_failed", "rank 400 is above the limit")

    run(story, "support@1", "support@2", script=Script(refused={"support@1"}))


def test_an_artifact_whose_bytes_changed_is_not_loaded() -> None:
    async def story(script: Script, notebook: Notebook) -> None:
        notebook.corrupt = {"support@1"}
        notebook.wanted_names = ["support@1", "support@2"]
        await until(lambda: notebook.ready == {"support@2"})
        assert script.engine.loaded == {"support@2"}

    run(story)


def test_an_adapter_leaves_the_report_before_it_leaves_the_engine() -> None:
    async def story(script: Script, notebook: Notebook) -> None:
        await until(lambda: notebook.ready == {"support@1", "support@2"})
        notebook.wanted_names = ["support@2"]
        await until(lambda: notebook.ready == {"support@2"})
        assert "support@1" in script.engine.loaded
        await until(lambda: script.engine.loaded == {"support@2"})

    run(story, "support@1", "support@2")


def test_an_adapter_that_is_wanted_again_while_it_leaves_is_back_at_once() -> None:
    async def story(script: Script, notebook: Notebook) -> None:
        await until(lambda: notebook.ready == {"support@1", "support@2"})
        notebook.wanted_names = ["support@2"]
        await until(lambda: notebook.ready == {"support@2"})
        notebook.wanted_names = ["support@1", "support@2"]
        await until(lambda: notebook.ready == {"support@1", "support@2"})
        assert len(script.proven) == 2

    run(story, "support@1", "support@2")


def test_a_new_adapter_waits_until_the_one_that_makes_room_has_left() -> None:
    async def story(script: Script, notebook: Notebook) -> None:
        await until(lambda: notebook.ready == {"support@1", "support@2"})
        notebook.wanted_names = ["support@3", "support@2"]
        await until(lambda: "support@3" in notebook.last.slots)
        assert notebook.last.slots["support@3"].phase is SlotPhase.LOADING
        assert "support@1" not in notebook.last.slots
        await until(lambda: notebook.ready == {"support@2", "support@3"})  # the engine refuses a third at any time

    run(story, "support@1", "support@2", script=Script(max_adapters=2))


def test_while_the_journal_is_away_everything_stays() -> None:
    async def story(script: Script, notebook: Notebook) -> None:
        await until(lambda: notebook.ready == {"support@1"})
        notebook.is_away = True
        known = len(notebook.reports)
        await asyncio.sleep(10 * TICK_S)
        assert script.engine.loaded == {"support@1"}
        notebook.is_away = False
        await until(lambda: len(notebook.reports) > known)
        assert len(script.built) == 1

    run(story, "support@1")


def test_a_report_that_fails_unforeseen_is_made_again_and_costs_no_engine() -> None:
    async def story(script: Script, notebook: Notebook) -> None:
        await until(lambda: notebook.ready == {"support@1"})
        notebook.broken = "report"
        await asyncio.sleep(10 * TICK_S)
        notebook.broken, known = "", len(notebook.reports)
        await until(lambda: len(notebook.reports) > known)
        assert len(script.built) == 1

    run(story, "support@1")


@pytest.mark.long
def test_an_unforeseen_error_leaves_one_engine_that_is_looked_after() -> None:
    async def story(script: Script, notebook: Notebook) -> None:
        await until(lambda: notebook.ready == {"support@1"})
        notebook.broken = "wanted"
        await until(lambda: notebook.last.phase is Phase.UNHEALTHY)
        assert notebook.last.message.startswith("an error of Lorry")
        notebook.broken = ""
        await until(lambda: notebook.ready == {"support@1"})
        assert len(script.running) == 1
        script.engine.die()  # the new one is watched too
        await until(lambda: notebook.last.message.startswith("engine exited"))

    run(story, "support@1")


def test_a_replica_that_drains_says_so_before_its_engine_ends() -> None:
    async def tell() -> None:
        script, notebook = Script(), Notebook("support@1")
        script.is_idle.clear()
        replica = EngineReplica(script.source, notebook, script.prove, PACE)
        running = asyncio.create_task(replica.run())
        await until(lambda: notebook.ready == {"support@1"})
        running.cancel()
        draining = asyncio.create_task(replica.drain(4 * TICK_S, 1.0))
        await until(lambda: notebook.last.phase is Phase.DRAINING)
        assert script.engine.is_running
        script.is_idle.set()
        await draining
        assert script.engine.drained
        assert notebook.last.phase is Phase.DRAINING

    asyncio.run(tell())
