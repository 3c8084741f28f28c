"""A replica whose engine has fixed adapters replaces the process and loses no request."""

from __future__ import annotations

import pytest

from engines.replica.report import SlotPhase
from tests.engines.replica.scripted_engine import Notebook, Script, until
from tests.engines.replica.test_replica import run


def launched(**fields: object) -> Script:
    script = Script(live=False)
    for name, value in fields.items():
        setattr(script, name, value)
    return script


def test_it_starts_with_what_is_wanted_and_proves_it() -> None:
    async def story(script: Script, notebook: Notebook) -> None:
        await until(lambda: notebook.ready == {"support@1", "support@2"})
        assert [sorted(engine.loaded) for engine in script.built] == [["support@1", "support@2"]]

    run(story, "support@1", "support@2", script=launched())


def test_another_set_is_proven_in_a_new_process_before_the_old_one_drains() -> None:
    async def story(script: Script, notebook: Notebook) -> None:
        await until(lambda: notebook.ready == {"support@1"})
        script.is_idle.clear()
        old = script.engine
        notebook.wanted_names = ["support@1", "support@2"]
        await until(lambda: notebook.ready == {"support@1", "support@2"})
        assert notebook.last.url == script.engine.base_url != old.base_url
        assert old.is_running
        script.is_idle.set()
        await until(lambda: old.drained)
        assert [engine.is_running for engine in script.built] == [False, True]
        for report in notebook.reports:
            for name, slot in report.slots.items():
                if slot.phase is SlotPhase.READY:
                    assert (report.url, name) in script.proven
        served = [report for report in notebook.reports if report.url == script.engine.base_url]
        assert served[0].slots["support@1"].phase is SlotPhase.READY

    run(story, "support@1", script=launched())


def test_changes_that_come_together_take_one_replacement() -> None:
    async def story(script: Script, notebook: Notebook) -> None:
        await until(lambda: notebook.ready == {"support@1"})
        notebook.wanted_names.append("support@2")
        await until(lambda: "support@2" in notebook.last.slots)
        notebook.wanted_names.append("support@3")
        await until(lambda: notebook.ready == {"support@1", "support@2", "support@3"})
        assert len(script.built) == 2

    run(story, "support@1", script=launched())


def test_there_are_never_three_processes() -> None:
    async def story(script: Script, notebook: Notebook) -> None:
        await until(lambda: notebook.ready == {"support@1"})
        script.is_idle.clear()
        notebook.wanted_names.append("support@2")
        await until(lambda: notebook.ready == {"support@1", "support@2"})
        notebook.wanted_names.append("support@3")
        await until(lambda: "support@3" in notebook.last.slots)
        script.is_idle.set()
        await until(lambda: notebook.ready == {"support@1", "support@2", "support@3"})
        assert script.most_at_once == 2

    run(story, "support@1", script=launched())


def test_what_is_no_longer_wanted_leaves_the_report_and_costs_no_process() -> None:
    async def story(script: Script, notebook: Notebook) -> None:
        await until(lambda: notebook.ready == {"support@1", "support@2"})
        notebook.wanted_names = ["support@2"]
        await until(lambda: notebook.ready == {"support@2"})
        notebook.wanted_names = ["support@2", "support@1"]
        await until(lambda: notebook.ready == {"support@1", "support@2"})
        assert len(script.built) == 1
        notebook.wanted_names = ["support@2", "support@3"]
        await until(lambda: notebook.ready == {"support@2", "support@3"})
        assert script.engine.loaded == {"support@2", "support@3"}

    run(story, "support@1", "support@2", script=launched())


def test_a_set_that_fails_its_proof_leaves_the_old_process_serving() -> None:
    async def story(script: Script, notebook: Notebook) -> None:
        await until(lambda: notebook.ready == {"support@1"})
        old = script.engine
        notebook.wanted_names.append("support@2")
        await until(lambda: notebook.failed("support@2"))
        failed = notebook.failed("support@2")
        assert failed is not None
        assert failed.reason == "fingerprint_mismatch"
        await until(lambda: script.running == [old])
        assert notebook.ready == {"support@1"}
        assert {report.url for report in notebook.reports if report.slots} == {old.base_url}

    run(story, "support@1", script=launched(unlike_the_trainer={"support@2"}))


def test_the_one_that_keeps_a_process_from_starting_is_found_and_the_others_are_served() -> None:
    async def story(script: Script, notebook: Notebook) -> None:
        await until(lambda: notebook.ready == {"support@1"})
        notebook.wanted_names += ["support@2", "support@3", "support@4"]
        await until(lambda: notebook.ready == {"support@1", "support@2", "support@4"})
        await until(lambda: notebook.failed("support@3"))
        failed = notebook.failed("support@3")
        assert failed is not None
        assert (failed.reason, failed.message) == ("load_failed", "rank of support@3 is above the limit")
        assert script.most_at_once == 2

    run(story, "support@1", script=launched(refused={"support@3"}))


def test_a_first_start_that_fails_for_an_adapter_serves_the_base_and_the_others() -> None:
    async def story(script: Script, notebook: Notebook) -> None:
        await until(lambda: notebook.ready == {"support@1"})
        assert notebook.failed("support@2")
        assert script.built[1].loaded == set()

    run(story, "support@1", "support@2", script=launched(refused={"support@2"}))


def test_an_adapter_that_was_served_and_would_be_lost_keeps_the_old_process() -> None:
    async def story(script: Script, notebook: Notebook) -> None:
        await until(lambda: notebook.ready == {"support@1"})
        old = script.engine
        script.unlike_the_trainer = {"support@1"}
        notebook.wanted_names.append("support@2")
        await until(lambda: notebook.failed("support@2"))
        failed = notebook.failed("support@2")
        assert failed is not None
        assert "support@1 no longer passes" in failed.message
        assert notebook.ready == {"support@1"}
        assert script.running == [old]

    run(story, "support@1", script=launched())


def test_an_adapter_that_is_served_stays_when_its_folder_cannot_be_fetched_again() -> None:
    async def story(script: Script, notebook: Notebook) -> None:
        await until(lambda: notebook.ready == {"support@1"})
        notebook.corrupt = {"support@1"}
        notebook.wanted_names.append("support@2")
        await until(lambda: notebook.ready == {"support@1", "support@2"})
        assert script.engine.loaded == {"support@1", "support@2"}
        for report in notebook.reports:
            assert report.slots.get("support@1") is None or report.slots["support@1"].phase is not SlotPhase.FAILED

    run(story, "support@1", script=launched())


@pytest.mark.long
def test_a_process_that_dies_while_another_is_prepared_is_replaced_with_all_that_is_wanted() -> None:
    async def story(script: Script, notebook: Notebook) -> None:
        await until(lambda: notebook.ready == {"support@1"})
        old = script.engine
        script.may_start.clear()
        notebook.wanted_names.append("support@2")
        await until(lambda: len(script.running) == 2)
        old.die()
        await until(lambda: len(script.built) == 3)
        script.may_start.set()
        await until(lambda: notebook.ready == {"support@1", "support@2"})
        assert script.running == [script.engine]

    run(story, "support@1", script=launched())
