"""Which engines' load counts for training on a machine."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.contracts.publish_spec import PublishSpec
from registry.database import Registry
from registry.states import ReplicaState
from tests.gateway.replica_rows import replica_row
from trainer.devices.local_engines import load_at, niceness
from trainer.settings import TrainerSettings

HERE = frozenset({"127.0.0.1", "10.0.0.5"})
BUSY = replica_row("engine-1", url="http://127.0.0.1:8100", load=3)


def test_the_loads_of_the_engines_on_the_machine_add_up_and_others_do_not_count() -> None:
    by_address = replace(BUSY, url="http://10.0.0.5:8101", load=2)
    elsewhere = replace(BUSY, url="http://10.0.0.6:8100")
    assert load_at([BUSY, by_address, elsewhere], HERE) == 5


def test_an_engine_that_is_gone_or_does_not_answer_holds_nothing_up() -> None:
    gone = [replace(BUSY, state=state) for state in (ReplicaState.GONE, ReplicaState.UNHEALTHY)]
    assert load_at(gone, HERE) == 0


def test_training_beside_an_engine_has_its_own_niceness(
    registry: Registry, settings: TrainerSettings, spec: SupervisedSpec
) -> None:
    assert niceness(registry, settings, spec) == settings.nice == 5
    registry.replicas.report(BUSY)
    assert niceness(registry, settings, spec) == settings.nice_beside_engines == 19


def test_an_upload_is_proved_beside_engines_that_are_never_idle(registry: Registry, settings: TrainerSettings) -> None:
    registry.replicas.report(BUSY)
    upload = PublishSpec(base="tiny", base_digest="d", adapter="support", artifact="a")
    assert niceness(registry, settings, upload) == settings.nice == 5


@pytest.mark.long
def test_the_highest_niceness_uses_idle_processors_alone() -> None:
    code = "import os; from trainer.child.process import go_behind; go_behind({}); print(os.sched_getscheduler(0))"
    found = [
        int(subprocess.run([sys.executable, "-c", code.format(nice)], capture_output=True, check=True).stdout)
        for nice in (18, 19)
    ]
    assert found == [os.SCHED_OTHER, os.SCHED_IDLE]
