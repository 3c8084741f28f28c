"""A hundred replicas, a thousand adapters: prompts meet their prefixes, and nobody queues where others are idle."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from studies.balancing.requests import Crowd, requests_of
from studies.balancing.simulation import POLICIES, PolicyOutcome, run, simulate

CROWD = Crowd(requests=12_000, load=0.9)


@pytest.fixture(scope="module")
def outcomes() -> dict[str, PolicyOutcome]:
    return {policy: simulate(CROWD, policy) for policy in POLICIES}


def test_prompts_meet_their_prefixes_several_times_as_often_as_by_policies_that_do_not_look(
    outcomes: dict[str, PolicyOutcome],
) -> None:
    ours = outcomes["affinity, bounded"].hits
    for policy in ("least loaded", "round robin", "random"):
        assert ours > 2.5 * outcomes[policy].hits
    assert ours > 0.8 * outcomes["affinity alone"].hits


def test_the_tail_of_the_queue_is_that_of_least_loaded_and_not_that_of_affinity_alone(
    outcomes: dict[str, PolicyOutcome],
) -> None:
    ours = outcomes["affinity, bounded"].wait_p99_s
    assert ours <= outcomes["least loaded"].wait_p99_s + 0.05
    assert ours < outcomes["random"].wait_p99_s < outcomes["affinity alone"].wait_p99_s


def test_a_bound_nearer_to_the_average_trades_prefixes_for_evenness() -> None:
    tight, loose = (simulate(CROWD, "affinity, bounded", bound) for bound in (1.05, 2.0))
    assert (tight.hits < loose.hits) and (tight.highest < loose.highest)


def test_every_policy_is_asked_the_same() -> None:
    assert requests_of(CROWD) == requests_of(CROWD)
    rate = CROWD.requests / requests_of(CROWD)[-1].at
    assert abs(rate / CROWD.per_s - 1) < 0.05


def test_the_command_shows_every_policy_and_draws(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(run)
    told = CliRunner().invoke(app, ["--requests", "1000", "--json", "--plots", str(tmp_path)])
    assert told.exit_code == 0
    for policy in POLICIES:
        assert policy in told.stdout
    assert (tmp_path / "policies.svg").stat().st_size > 10_000
