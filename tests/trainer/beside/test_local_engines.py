"""Which engines' load counts for training on a machine."""

from __future__ import annotations

from dataclasses import replace

from registry.types import ReplicaState
from tests.gateway.replica_rows import replica_row
from trainer.devices.local_engines import load_at

HERE = frozenset({"127.0.0.1", "10.0.0.5"})
BUSY = replica_row("engine-1", url="http://127.0.0.1:8100", load=3)


def test_the_loads_of_the_engines_on_the_machine_add_up_and_others_do_not_count() -> None:
    by_address = replace(BUSY, url="http://10.0.0.5:8101", load=2)
    elsewhere = replace(BUSY, url="http://10.0.0.6:8100")
    assert load_at([BUSY, by_address, elsewhere], HERE) == 5


def test_an_engine_that_is_gone_or_does_not_answer_holds_nothing_up() -> None:
    gone = [replace(BUSY, state=state) for state in (ReplicaState.GONE, ReplicaState.UNHEALTHY)]
    assert load_at(gone, HERE) == 0
