"""`lorry eval` and the gate's flags of `lorry rollout`, against a gateway before a scripted engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.rollouts.controller import reconcile
from tests.gateway.cli.lorry_command import lorry
from tests.gateway.evaluations.answers_by_model import by_prompt
from tests.gateway.rollouts.rollout_scene import SETTINGS, RolloutScene
from tests.waiting import wait_for

pytestmark = pytest.mark.long

ROWS = [
    {"prompt": str(at), "check": {"kind": "exact", "expect": str(at)}, "tags": ["even" if at % 2 == 0 else "odd"]}
    for at in range(1, 5)
]


def suite_file(folder: Path) -> str:
    path = folder / "numbers.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    return str(path)


def test_a_suite_of_a_file_is_scored_listed_compared_and_written_as_a_page(scene: RolloutScene, tmp_path: Path) -> None:
    scene.add_replica(by_prompt(lambda model, prompt, _: "no" if (model, prompt) == ("support@1", "2") else prompt))
    url, suite = str(scene.client().base_url), suite_file(tmp_path)
    told = lorry(url, "eval", "support", "--suite", suite, "--html", str(tmp_path / "page.html"))
    assert "support@1" in told and "0.750, 95 % from" in told and "even" in told
    assert "<svg" in (tmp_path / "page.html").read_text()
    found = json.loads(lorry(url, "eval", "support@2", "--suite", suite, "--json"))
    assert found["beside_stable"]["only_first"] == ["2"]
    assert "numbers" in lorry(url, "eval", "list", "--adapter", "support")
    shown = lorry(url, "eval", "show", found["beside_stable"]["second"], "--answers")
    assert "no" in shown and "1 of 2" in shown
    assert "+0.250" in lorry(url, "eval", "compare", "support@2", "support@1", "--suite", suite)
    assert "builtin:core" in lorry(url, "eval", "suites")
    assert "is removed" in lorry(url, "eval", "delete", found["id"][5:12])


def test_what_cannot_be_evaluated_is_refused_with_what_would_be_right(scene: RolloutScene, tmp_path: Path) -> None:
    scene.add_replica(by_prompt(lambda _model, prompt, _: None if prompt == "3" else prompt))
    url, suite = str(scene.client().base_url), suite_file(tmp_path)
    assert "has no score: 1 of 4 rows" in lorry(url, "eval", "support", "--suite", suite, code=1)
    assert "did you mean 'core'" in lorry(url, "eval", "support", "--suite", "builtin:cor", code=1)
    (tmp_path / "bad.jsonl").write_text('{"prompt": "x"}\n')
    assert "line 1: check: is missing" in lorry(url, "eval", "support", "--suite", str(tmp_path / "bad.jsonl"), code=1)
    nowhere = {"LORRY_HOME": str(tmp_path / "home")}
    assert "lorry envs install evaluate" in lorry(url, "eval", "support", "--suite", "lm-eval:x", code=1, **nowhere)


def test_a_gate_of_the_flags_stops_the_canary_and_the_page_shows_its_scores(
    scene: RolloutScene, tmp_path: Path
) -> None:
    scene.add_replica(by_prompt(lambda model, prompt, _: "no" if model == "support@2" else prompt))
    url = str(scene.client().base_url)
    gated = ("--gate", suite_file(tmp_path), "--gate-min", "0.5", "--gate-margin", "0.1")
    lorry(url, "rollout", "start", "support@2", "--steps", "50,100", "--no-judge", *gated)

    def is_decided() -> bool:
        reconcile(scene.registry, SETTINGS, scene.registry.transactions.now())
        return scene.registry.rollouts.open_for("support") is None

    wait_for(is_decided)
    page = lorry(url, "rollout", "status", "support")
    assert "gate_below_min" in page and "scores 0.000" in page and "0 of 4 passed" in page
    assert "no gate" not in page
    refused = lorry(url, "rollout", "start", "support@2", "--gate-min", "0.5", code=2)
    assert "--gate SUITE" in refused
