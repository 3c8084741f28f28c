"""The simulation of the judge skips no abort and finds larger faults in fewer requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from gateway.rollouts.judge.bounds import Floats
from registry.rollouts.guardrail_names import Guardrail
from studies.canary.judged import MeanRun, abort_times
from studies.canary.simulate import run
from studies.canary.slow import SlowRun
from studies.canary.threshold_rule import Rule, rule_times, rule_values, tune
from studies.canary.traffic import Latency, Load, Scores, Setting, Share

GOOD = Share(guardrail=Guardrail.ERROR_RATE, stable=0.01, canary=0.01)
BAD = Share(guardrail=Guardrail.ERROR_RATE, stable=0.01, canary=0.10)


def setting(rollouts: int = 100, seconds: int = 600, seed: int = 1) -> Setting:
    return Setting(load=Load(seconds=seconds), rollouts=rollouts, rng=np.random.default_rng(seed))


def mean_run(quantity: Share | Scores, alpha: float = 0.05, rollouts: int = 100) -> MeanRun:
    return MeanRun(quantity=quantity, margin=0.0, alpha=alpha, load=Load(), rollouts=rollouts)


def test_a_regression_is_found_in_fewer_requests_the_larger_it_is() -> None:
    small = Share(guardrail=Guardrail.ERROR_RATE, stable=0.01, canary=0.05)
    medians = [float(np.median(abort_times(mean_run(each), setting()))) for each in (GOOD, small, BAD)]
    assert medians[0] == np.inf > medians[1] > medians[2] > 10


def test_what_is_skipped_to_save_time_would_not_have_aborted() -> None:
    class Thorough(SlowRun):
        def _crude(self, *_: object) -> Floats:
            return np.full((self.canary.shape[0], 30), np.inf)

    quantity = Latency(guardrail=Guardrail.TTFT_P95, spread=0.2, longer=0.2)
    times = []
    for kind in (SlowRun, Thorough):
        slow = kind(quantity=quantity, margin=0.0, alpha=0.2, load=Load(), rollouts=20)
        times.append(abort_times(slow, setting(rollouts=20, seconds=120)).tolist())
    assert times[0] == times[1]
    assert np.isfinite(times[0]).any()


def test_a_rule_fails_only_when_all_its_intervals_do() -> None:
    bad = np.array([[0, 0, 1, 1, 0, 0, 1, 1, 1, 1.0]])
    counts, totals = np.arange(11.0)[None], np.pad(np.cumsum(bad, axis=1), ((0, 0), (1, 0)))
    assert rule_values(counts, totals, 2, 1)[0].tolist() == [0, 0.5, 1, 0.5, 0, 0.5, 1, 1, 1]
    assert rule_values(counts, totals, 2, 2)[0].tolist() == [0, 0.5, 0, 0.5, 0, 0.5, 1]


@pytest.mark.parametrize("good", [GOOD, Scores(), Latency(guardrail=Guardrail.TTFT_P95, spread=0.4)])
def test_a_tuned_rule_keeps_the_false_alarms_it_was_tuned_for(good: Any) -> None:
    (rule,) = tune(good, ((60, 2),), 0.1, setting(rollouts=400))
    assert np.mean(np.isfinite(rule_times(rule, good, setting(rollouts=400, seed=2)))) < 0.16
    lower = Rule(interval_s=60, failures=2, threshold=rule.threshold * 0.9)
    assert np.mean(np.isfinite(rule_times(lower, good, setting(rollouts=400, seed=2)))) > 0.1


def invoke(*arguments: str) -> Any:
    app = typer.Typer()
    app.command()(run)
    return CliRunner().invoke(app, arguments)


def test_the_command_prints_what_it_found_and_draws_it(tmp_path: Path) -> None:
    result = invoke("--rollouts", "100", "--case", "json", "--json", "--plots", str(tmp_path))
    assert result.exit_code == 0, result.output
    (outcome,) = json.loads(result.stdout)
    assert outcome["aborted"] == 1.0
    assert 50 < outcome["median_requests"] < 300
    assert [rule["tuned_on"] for rule in outcome["rules"]] == ["steady", "hindsight", "bad_hour"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["aborts.svg", "bounds.svg", "peeking.svg"]


def test_the_same_seed_finds_the_same() -> None:
    first, again, other = (
        invoke("--rollouts", "100", "--case", "json", "--json", "--seed", seed).stdout for seed in ("7", "7", "8")
    )
    assert first == again != other


def test_an_unknown_case_is_told_the_right_ones() -> None:
    result = invoke("--case", "nothing")
    assert result.exit_code == 2
    assert "margin" in result.output
