"""The cost of a fleet's readers is counted on a real PostgreSQL, and a change costs less than the whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from studies.scale.counted import Cost
from studies.scale.measure import Fleet, measure
from tests.postgres_server import NoPostgres, postgres_server

Costs = dict[tuple[str, str], Cost]


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Costs]:
    folder: Path = tmp_path_factory.mktemp("fleet")
    try:
        with postgres_server() as server:
            fleet = Fleet(server, folder, adapters=1_200, replicas=20)
            try:
                yield {(each.who, each.step): each.cost for each in measure(fleet)}
            finally:
                fleet.relay.close()
                fleet.writer.close()
    except NoPostgres as exc:
        pytest.skip(str(exc))


def test_every_step_asks_the_database_and_its_bytes_are_counted(costs: Costs) -> None:
    assert {who for who, _ in costs} == {"gateway", "replica", "controller"}
    for (who, step), cost in costs.items():
        assert cost.statements > 0, (who, step)
        assert min(cost.sent_bytes, cost.received_bytes) > 0, (who, step)


@pytest.mark.parametrize(
    ("who", "first", "again"),
    [
        ("gateway", "first reading", "whole reading, nothing changed"),
        ("gateway", "first reading", "reading after a replica's change"),
        ("replica", "first placement", "placement, nothing changed"),
        ("controller", "first step", "step, nothing changed"),
    ],
)
def test_a_later_reading_receives_a_small_part_of_the_first(costs: Costs, who: str, first: str, again: str) -> None:
    assert costs[who, again].received_bytes * 4 < costs[who, first].received_bytes


def test_looking_for_changes_is_one_statement(costs: Costs) -> None:
    assert costs["gateway", "look for changes"].statements == 1
